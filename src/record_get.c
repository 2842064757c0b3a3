/*
 * record_get.c - get_records: the read road, with long polling.
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
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "access_check.h"
#include "call_scan.h"
#include "compat.h"
#include "error_report.h"
#include "iterator_seal.h"
#include "memory_keep.h"
#include "record_form.h"
#include "record_get.h"
#include "sequence_number.h"
#include "settings_define.h"
#include "shard_walk.h"
#include "throttle_take.h"

#define GET_RECORDS_MAX 10000
#define GET_BYTES_MAX   (INT64CONST(10) * 1024 * 1024)
#define WAIT_MAX_MS     60000

/* On a standby nobody tells us of commits: look at the replay position this often. */
#define STANDBY_STEP_MS 5

PG_FUNCTION_INFO_V1(kin_get_records);

typedef struct ReadResult
{
	KinStream *stream;
	KinShard *shard;
	KinRecordArray records;
	int64 last;  /* number of the last record, or where reading began */
	bool more;   /* a readable record lies behind */
	bool at_end; /* the shard is closed and read to its end */
} ReadResult;

static void
open_shard(const KinIterator *iterator, ReadResult *result)
{
	result->stream = kin_stream_open_by_id(iterator->stream_id);
	result->shard = result->stream ? kin_shard_by_index(result->stream, iterator->shard_index) : NULL;
	if (result->shard == NULL)
		kin_refuse_shard(iterator->shard_index, result->stream ? result->stream->name : "(deleted)");
}

/* One look at the shard, from the iterator's position on. */
static void
read_once(const KinIterator *iterator, int max_records, Oid type, Snapshot snapshot, ReadResult *result)
{
	KinShardWalk walk;
	HeapTupleHeader tuple;
	int64 number;
	bool closed;

	/*
	 * The map is read before the first page.  A shard that is closed now got its last record before, and that is in the
	 * heap: when the walk comes to the end without meeting an open transaction, there is nothing left to come.
	 */
	open_shard(iterator, result);
	closed = result->shard->ending_number >= 0;
	result->last = iterator->after;
	result->more = false;
	kin_records_begin(&result->records, type);
	kin_walk_begin(&walk, result->stream, result->shard, snapshot, iterator->after);
	while ((tuple = kin_walk_next(&walk, &number)) != NULL)
	{
		if (result->records.count == max_records || !kin_records_add(&result->records, tuple, number, GET_BYTES_MAX))
		{
			result->more = true;
			break;
		}
		result->last = number;
	}
	result->at_end = closed && tuple == NULL && !walk.blocked;
	kin_walk_end(&walk);
}

/* Takes the call, or the bytes it has returned, from the shard's limits. */
static void
throttle_read(KinStream *stream, KinShard *shard, int64 bytes)
{
	KinShardSlot *slot;
	int64 now = GetCurrentTimestamp();
	bool allowed = true;

	if (stream->read_calls_rate < 0 && stream->read_bytes_rate < 0)
		return;
	do
	{
		slot = kin_slot_find(&shard->key);
	} while (!kin_slot_lock(slot, &shard->key));
	kin_bucket_refill(&slot->read_calls, stream->read_calls_rate, now);
	kin_bucket_refill(&slot->read_bytes, stream->read_bytes_rate, now);
	if (bytes > 0)
		kin_bucket_take(&slot->read_bytes, stream->read_bytes_rate, bytes);
	else
	{
		/* A large answer takes the bucket into debt; the calls after it wait until that is paid. */
		allowed = kin_bucket_allows(&slot->read_calls, stream->read_calls_rate, 1) &&
				  kin_bucket_allows(&slot->read_bytes, stream->read_bytes_rate, 1);
		if (allowed)
			kin_bucket_take(&slot->read_calls, stream->read_calls_rate, 1);
	}
	kin_slot_unlock(slot);
	if (!allowed)
		ereport(ERROR,
				(kin_errcode(KIN_THROUGHPUT_EXCEEDED), errmsg_internal("%s", kin_throttled_message(stream, shard)),
				 errhint(
					 "Read less often or wait in get_records, or change the limits with kinesis.set_shard_limits.")));
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

/* Waits until there is a record, the shard has come to its end, or the time is over. */
static void
wait_and_read(const KinIterator *iterator, int max_records, Oid type, int wait_ms, ReadResult *result)
{
	KinShardSlot *slot;
	KinShardKey key = result->shard->key;
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);

	do
	{
		slot = kin_slot_find(&key);
	} while (!kin_slot_lock(slot, &key));
	pg_atomic_fetch_add_u32(&slot->waiters, 1);
	kin_slot_unlock(slot);

	PG_ENSURE_ERROR_CLEANUP(leave_waiters, PointerGetDatum(slot));
	{
		/* Stand in line before looking: a commit between look and sleep must not be missed.  A sleep that ends leaves us there. */
		ConditionVariablePrepareToSleep(&slot->readable);
		for (;;)
		{
			long left;

			pfree(result->records.buffer);
			PushActiveSnapshot(GetLatestSnapshot());
			read_once(iterator, max_records, type, GetActiveSnapshot(), result);
			PopActiveSnapshot();
			if (result->records.count > 0 || result->at_end)
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

static int
wait_argument(const Interval *wait)
{
	double ms = wait->time / 1000.0 + wait->day * (SECS_PER_DAY * 1000.0) +
				wait->month * (DAYS_PER_MONTH * SECS_PER_DAY * 1000.0);
	if (ms < 0 || ms > WAIT_MAX_MS)
		ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT),
						errmsg("wait must be between 0 and %d seconds", WAIT_MAX_MS / 1000)));
	return (int) ms;
}

/* One call; the values are the columns of get_records. */
static void
get_records(const KinArguments *given, TupleDesc columns, Datum *values, bool *nulls)
{
	KinIterator iterator;
	ReadResult result;
	Oid record_type = get_element_type(TupleDescAttr(columns, 0)->atttypid);
	int max_records = given->nulls[1] ? GET_RECORDS_MAX : DatumGetInt32(given->values[1]);
	int wait_ms = given->nulls[2] ? 0 : wait_argument(DatumGetIntervalP(given->values[2]));

	if (given->nulls[0])
		kin_refuse_null("shardIterator");
	if (max_records < 1)
		ereport(ERROR, (kin_errcode(KIN_VALIDATION),
						errmsg("1 validation error detected: Value '%d' at 'limit' failed to satisfy "
							   "constraint: Member must have value greater than or equal to 1",
							   max_records)));
	if (max_records > GET_RECORDS_MAX)
		ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT),
						errmsg("max_records must be between 1 and %d, not %d", GET_RECORDS_MAX, max_records)));
	iterator = kin_iterator_open(TextDatumGetCString(given->values[0]));

	open_shard(&iterator, &result);
	kin_require_right(result.stream, GetUserId(), KIN_RIGHT_CONSUMER, "GetRecords");
	throttle_read(result.stream, result.shard, 0);
	read_once(&iterator, max_records, record_type, GetActiveSnapshot(), &result);
	if (wait_ms > 0 && result.records.count == 0 && !result.at_end)
		wait_and_read(&iterator, max_records, record_type, wait_ms, &result);
	if (result.records.count > 0)
		throttle_read(result.stream, result.shard, result.records.bytes);

	if (result.records.used >= KIN_LARGE_CALL)
		kin_keep_memory();
	values[0] = kin_records_finish(&result.records);
	if (result.at_end)
	{
		nulls[1] = true;
		values[3] = child_shards(result.stream, result.shard, TupleDescAttr(columns, 3)->atttypid);
	}
	else
	{
		iterator.after = result.last;
		iterator.made_at = kin_now_timestamp();
		values[1] = PointerGetDatum(kin_iterator_seal(&iterator));
		nulls[3] = true;
	}
	/* Zero says "caught up", so whoever is not must not read zero, even if the clock went back. */
	values[2] = Int64GetDatum(result.more ? Max(kin_now_ms() - kin_ms_of_number(result.last), 1) : 0);
}

/* kinesis.get_records(shard_iterator, max_records, wait) */
Datum
kin_get_records(PG_FUNCTION_ARGS)
{
	KinArguments given = kin_arguments(fcinfo);
	TupleDesc columns;
	Datum values[4] = {0};
	bool nulls[4] = {false, false, false, false};

	if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "get_records must return a row");
	get_records(&given, columns, values, nulls);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(columns), values, nulls)));
}

typedef struct GetScan
{
	KinCallScan call;
	bool returned;
	Datum values[4];
	bool nulls[4];
} GetScan;

static void
scan_begin(KinCallScan *call)
{
	GetScan *scan = (GetScan *) call;

	scan->returned = false;
	memset(scan->nulls, 0, sizeof(scan->nulls));
	get_records(&call->given, call->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor, scan->values, scan->nulls);
}

static bool
scan_next(KinCallScan *call, Datum *values, bool *nulls)
{
	GetScan *scan = (GetScan *) call;

	if (scan->returned)
		return false;
	scan->returned = true;
	memcpy(values, scan->values, sizeof(scan->values));
	memcpy(nulls, scan->nulls, sizeof(scan->nulls));
	return true;
}

static void
scan_rewind(KinCallScan *call)
{
	((GetScan *) call)->returned = false;
}

void
kin_record_get_init(void)
{
	static KinScannable scannable = {.symbol = "kin_get_records",
									 .label = "KinesisGetRecords",
									 .arguments = 3,
									 .returns_set = false,
									 .state_size = sizeof(GetScan),
									 .begin = scan_begin,
									 .next = scan_next,
									 .rewind = scan_rewind};

	kin_call_scan_register(&scannable);
}
