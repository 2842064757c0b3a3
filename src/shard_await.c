/*
 * shard_await.c - reads the next records of a shard from a position, and waits for them where there are none.
 *
 * Owns:    nothing.
 * Locking: none while it waits: no slice, no snapshot of its own.  It waits on the shard's condition variable, which the
 *          end of every transaction that wrote to the shard broadcasts.
 * Runs in: backends, on a primary or a standby.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "compat.h"
#include "error_report.h"
#include "memory_keep.h"
#include "sequence_number.h"
#include "shard_await.h"
#include "shard_walk.h"

/* On a standby nobody tells us of commits: look at the replay position this often. */
#define STANDBY_STEP_MS 5

void
kin_reading_open(KinReading *reading)
{
	reading->stream = kin_stream_open_by_id(reading->stream_id);
	reading->shard = reading->stream ? kin_shard_by_index(reading->stream, reading->shard_index) : NULL;
	if (reading->shard == NULL)
		kin_refuse_shard(reading->shard_index, reading->stream ? reading->stream->name : "(deleted)");
}

void
kin_reading_look(KinReading *reading, Snapshot snapshot)
{
	KinShardWalk walk;
	HeapTupleHeader tuple;
	int64 number;
	bool closed;

	/*
	 * The map is read before the first page.  A shard that is closed now got its last record before, and that is in the
	 * heap: when the walk comes to the end without meeting an open transaction, there is nothing left to come.
	 */
	kin_reading_open(reading);
	closed = reading->shard->ending_number >= 0;
	reading->last = reading->after;
	reading->more = false;
	kin_records_begin(&reading->records, reading->type);
	kin_walk_begin(&walk, reading->stream, reading->shard, snapshot, reading->after);
	while ((tuple = kin_walk_next(&walk, &number)) != NULL)
	{
		KinWanted wanted = reading->wanted ? reading->wanted(reading->wanted_arg, tuple, number) : KIN_TAKE;

		if (wanted == KIN_SKIP)
		{
			reading->last = number;
			continue;
		}
		if (wanted == KIN_STOP || reading->records.count == reading->max_records ||
			!kin_records_add(&reading->records, tuple, number, reading->max_bytes))
		{
			reading->more = true;
			break;
		}
		reading->last = number;
	}
	reading->blocked = walk.blocked;
	reading->at_end = closed && tuple == NULL && !walk.blocked;
	kin_walk_end(&walk);
}

static void
leave_waiters(int code, Datum arg)
{
	KinShardSlot *slot = (KinShardSlot *) DatumGetPointer(arg);

	ConditionVariableCancelSleep();
	pg_atomic_fetch_sub_u32(&slot->waiters, 1);
}

/* Sleeps until the shard may have something new, or the time is over. */
static void
wait_for_news(KinShardSlot *slot, long timeout_ms)
{
	if (RecoveryInProgress())
	{
		XLogRecPtr replayed = GetXLogReplayRecPtr(NULL);
		TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);

		do
		{
			ConditionVariableTimedSleep(&slot->readable, Min(timeout_ms, STANDBY_STEP_MS), PG_WAIT_EXTENSION);
		} while (RecoveryInProgress() && GetXLogReplayRecPtr(NULL) == replayed && GetCurrentTimestamp() < until);
	}
	else
		ConditionVariableTimedSleep(&slot->readable, timeout_ms, PG_WAIT_EXTENSION);
}

void
kin_reading_wait(KinReading *reading, int wait_ms, void (*check)(void *arg), void *arg)
{
	KinShardSlot *slot;
	KinShardKey key = reading->shard->key;
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);

	slot = kin_slot_acquire(&key);
	pg_atomic_fetch_add_u32(&slot->waiters, 1);
	kin_slot_unlock(slot);

	PG_ENSURE_ERROR_CLEANUP(leave_waiters, PointerGetDatum(slot));
	{
		/* Stand in line before looking: a commit between look and sleep must not be missed.  A sleep that ends leaves us there. */
		ConditionVariablePrepareToSleep(&slot->readable);
		for (;;)
		{
			long left;

			if (check)
				check(arg);
			pfree(reading->records.buffer);
			PushActiveSnapshot(GetLatestSnapshot());
			kin_reading_look(reading, GetActiveSnapshot());
			PopActiveSnapshot();
			if (reading->records.count > 0 || reading->at_end)
				break;
			left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
			if (left <= 0)
				break;
			wait_for_news(slot, left);
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(leave_waiters, PointerGetDatum(slot));
	leave_waiters(0, PointerGetDatum(slot));
}

/* Shards made of this one, each with all its parents. */
static Datum
child_shards(KinStream *stream, KinShard *shard, Oid array_type)
{
	Oid type = get_element_type(array_type);
	TupleDesc columns = lookup_rowtype_tupdesc(type, -1);
	Datum *children = palloc(stream->nshards * sizeof(Datum));
	int n = 0;
	ArrayType *result;

	kin_require_columns(columns, 4);
	for (int i = 0; i < stream->nshards; i++)
	{
		KinShard *child = &stream->shards[i];
		Datum parents[2];
		Datum values[4];
		bool nulls[4] = {false, false, false, false};

		if (child->parent != shard->index && child->adjacent_parent != shard->index)
			continue;
		parents[0] = CStringGetTextDatum(kin_shard_id(child->parent));
		if (child->adjacent_parent >= 0)
			parents[1] = CStringGetTextDatum(kin_shard_id(child->adjacent_parent));
		values[0] = CStringGetTextDatum(kin_shard_id(child->index));
		values[1] = PointerGetDatum(
			construct_array(parents, child->adjacent_parent >= 0 ? 2 : 1, TEXTOID, -1, false, TYPALIGN_INT));
		values[2] = kin_hash_key_to_numeric(child->starting_hash_key);
		values[3] = kin_hash_key_to_numeric(child->ending_hash_key);
		children[n++] = HeapTupleGetDatum(heap_form_tuple(columns, values, nulls));
	}
	ReleaseTupleDesc(columns);
	result = construct_array(children, n, type, -1, false, TYPALIGN_DOUBLE);
	return PointerGetDatum(result);
}

int
kin_wait_argument(const Interval *wait, const char *name, int max_ms)
{
	double ms = wait->time / 1000.0 + wait->day * (SECS_PER_DAY * 1000.0) +
				wait->month * (DAYS_PER_MONTH * SECS_PER_DAY * 1000.0);

	if (ms < 0 || ms > max_ms)
		ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT),
						errmsg("%s must be between 0 and %d seconds", name, max_ms / 1000)));
	return (int) ms;
}

/* Zero says "caught up", so whoever is not must not read zero, even if the clock went back. */
int64
kin_reading_behind(const KinReading *reading)
{
	return reading->more ? Max(kin_now_ms() - kin_ms_of_number(reading->last), 1) : 0;
}

bool
kin_reading_answer(KinReading *reading, TupleDesc columns, Datum *values, bool *nulls)
{
	if (reading->records.used >= KIN_LARGE_CALL)
		kin_keep_memory();
	values[0] = kin_records_finish(&reading->records);
	values[2] = Int64GetDatum(kin_reading_behind(reading));
	nulls[1] = reading->at_end;
	nulls[3] = !reading->at_end;
	if (reading->at_end)
		values[3] = child_shards(reading->stream, reading->shard, TupleDescAttr(columns, 3)->atttypid);
	return reading->at_end;
}
