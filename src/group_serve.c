/*
 * group_serve.c - what the SQL code of consumer groups needs from C: reading behind a checkpoint, waiting, waking.
 *
 * Owns:    the list of groups that are to be told when this session ends.
 * Locking: as shard_watch.c and shard_await.c.
 * Runs in: backends of a primary.
 *
 * A group has a slot like a shard has one, under the table of groups; nobody writes records through it, but whoever changes
 * the group counts as a writer, so that its members are woken when that transaction ends.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "call_scan.h"
#include "commit_wake.h"
#include "compat.h"
#include "error_report.h"
#include "position_find.h"
#include "session_live.h"
#include "shard_await.h"
#include "shard_watch.h"
#include "slice_append.h"

#define LEASE_BYTES_MAX (INT64CONST(10) * 1024 * 1024)

PG_FUNCTION_INFO_V1(kin_lease_read);
PG_FUNCTION_INFO_V1(kin_start_position);
PG_FUNCTION_INFO_V1(kin_greatest_number);
PG_FUNCTION_INFO_V1(kin_watch_group);
PG_FUNCTION_INFO_V1(kin_watch_shards);
PG_FUNCTION_INFO_V1(kin_watch_news);
PG_FUNCTION_INFO_V1(kin_ring_group);
PG_FUNCTION_INFO_V1(kin_ring_group_at_exit);

static KinShardKey *rung_at_exit;
static int rung_count;

static KinShardKey
group_key(int64 group_id)
{
	Oid groups = get_relname_relid("consumer_group", get_namespace_oid("kinesis", false));

	return (KinShardKey){.stream_id = group_id, .database = MyDatabaseId, .table = groups};
}

static void
lease_read(const KinArguments *given, TupleDesc columns, Datum *values, bool *nulls)
{
	KinReading reading = {.max_bytes = LEASE_BYTES_MAX,
						  .type = get_element_type(TupleDescAttr(columns, 0)->atttypid),
						  .stream_id = DatumGetInt64(given->values[0]),
						  .shard_index = DatumGetInt32(given->values[1]),
						  .after = DatumGetInt64(given->values[2]),
						  .max_records = DatumGetInt32(given->values[3])};

	/* The caller may have waited: what is committed by now is to be seen, whatever its snapshot. */
	PushActiveSnapshot(GetLatestSnapshot());
	kin_reading_look(&reading, GetActiveSnapshot());
	PopActiveSnapshot();
	values[0] = kin_records_finish(&reading.records);
	values[1] = Int64GetDatum(reading.last);
	values[2] = Int64GetDatum(kin_reading_behind(&reading));
	values[3] = BoolGetDatum(reading.at_end);
}

/* kinesis._lease_read(stream_id, shard_index, after, max_records): (records, last, millis_behind_latest, at_end). */
Datum
kin_lease_read(PG_FUNCTION_ARGS)
{
	return kin_row_call(fcinfo, lease_read);
}

/* kinesis._start_position(stream_id, shard_index, type, "timestamp"): records with greater numbers come next. */
Datum
kin_start_position(PG_FUNCTION_ARGS)
{
	KinReading reading = {.stream_id = PG_GETARG_INT64(0), .shard_index = PG_GETARG_INT32(1)};
	KinStart start = {.operation = "CreateGroup", .field = "initialPosition"};

	start.type = text_to_cstring(PG_GETARG_TEXT_PP(2));
	start.has_time = !PG_ARGISNULL(3);
	start.time = start.has_time ? PG_GETARG_TIMESTAMPTZ(3) : 0;
	kin_position_check(&start);
	kin_reading_open(&reading);
	PG_RETURN_INT64(kin_position_find(reading.stream, reading.shard, &start));
}

/* kinesis._greatest_number(stream_id, shard_index): that was ever given out. */
Datum
kin_greatest_number(PG_FUNCTION_ARGS)
{
	KinReading reading = {.stream_id = PG_GETARG_INT64(0), .shard_index = PG_GETARG_INT32(1)};
	KinShardSlot *slot;
	int64 number;

	kin_reading_open(&reading);
	slot = kin_shard_lock(reading.stream, reading.shard);
	number = slot->last_number;
	kin_slot_unlock(slot);
	PG_RETURN_INT64(number);
}

static void
watch(const KinShardKey *key)
{
	KinShardSlot *slot = kin_slot_acquire(key);

	kin_watch_add(slot);
	kin_slot_unlock(slot);
}

/* kinesis._watch_group(group_id): watches the group, and nothing else any more; null: nothing at all. */
Datum
kin_watch_group(PG_FUNCTION_ARGS)
{
	KinShardKey key;

	kin_watch_end();
	if (!PG_ARGISNULL(0))
	{
		key = group_key(PG_GETARG_INT64(0));
		watch(&key);
	}
	PG_RETURN_VOID();
}

/* kinesis._watch_shards(stream_ids, shard_indexes): watches these shards, too. */
Datum
kin_watch_shards(PG_FUNCTION_ARGS)
{
	Datum *ids;
	Datum *indexes;
	int n;
	int m;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &ids, NULL, &n);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), INT4OID, 4, true, TYPALIGN_INT, &indexes, NULL, &m);
	if (n != m)
		elog(ERROR, "arrays of shards have different lengths");
	for (int i = 0; i < n; i++)
	{
		KinReading reading = {.stream_id = DatumGetInt64(ids[i]), .shard_index = DatumGetInt32(indexes[i])};

		CHECK_FOR_INTERRUPTS();
		kin_reading_open(&reading);
		watch(&reading.shard->key);
	}
	PG_RETURN_VOID();
}

/* kinesis._watch_news(timeout_ms): sleeps until there is news of what is watched; false when the time is over. */
Datum
kin_watch_news(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(kin_watch_sleep(PG_GETARG_INT32(0)));
}

/* kinesis._ring_group(group_id): members that wait look up when this transaction ends. */
Datum
kin_ring_group(PG_FUNCTION_ARGS)
{
	KinShardKey key = group_key(PG_GETARG_INT64(0));
	KinShardSlot *slot;

	kin_reserve_writer();
	slot = kin_slot_acquire(&key);
	kin_join_writers(slot);
	kin_slot_unlock(slot);
	PG_RETURN_VOID();
}

static void
ring_all(int code, Datum arg)
{
	kin_session_end();
	for (int i = 0; i < rung_count; i++)
	{
		KinShardSlot *slot = kin_slot_peek(&rung_at_exit[i]);

		if (slot)
			kin_watch_wake(slot);
	}
}

/* kinesis._ring_group_at_exit(group_id): the others are to share our leases at once when this session is gone. */
Datum
kin_ring_group_at_exit(PG_FUNCTION_ARGS)
{
	KinShardKey key = group_key(PG_GETARG_INT64(0));

	for (int i = 0; i < rung_count; i++)
		if (memcmp(&rung_at_exit[i], &key, sizeof(key)) == 0)
			PG_RETURN_VOID();
	if (rung_at_exit == NULL)
	{
		rung_at_exit = MemoryContextAlloc(TopMemoryContext, sizeof(KinShardKey));
		on_shmem_exit(ring_all, (Datum) 0);
	}
	else
		rung_at_exit = repalloc(rung_at_exit, (rung_count + 1) * sizeof(KinShardKey));
	rung_at_exit[rung_count++] = key;
	PG_RETURN_VOID();
}
