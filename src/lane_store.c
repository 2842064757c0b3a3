/*
 * lane_store.c - reads and writes the rows of lanes.
 *
 * Owns:    where the lane that was loaded or saved last is in its table, and a copy of its mapping.
 * Locking: a lane has a lock of the lock manager, which whoever works on it or notes its failure takes first, without
 *          waiting.  Writing looks at the checkpoint, too, so a lane that was deleted or made anew is left alone.
 * Runs in: workers and schedulers.
 *
 * Each turn begins with reading and ends with writing, mostly after some sleep, so that what it costs is cold code: hence without
 * the executor, which took a third of a small turn.
 *
 * While somebody holds an old snapshot no version of a lane's row can be removed, and the index would lead through all of them.  So
 * the row is looked for where this worker has left it, and only when it is not there by its key.
 *
 * A worker mostly goes on with the mapping that it knows.  Whoever changes a mapping invalidates the table's cache entry
 * (worker_pool.c), and messages are read when a turn's first lock is taken: a change that was committed before is seen.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "error_report.h"
#include "lane_store.h"
#include "name_check.h"
#include "restore_finish.h"
#include "sql_run.h"
#include "stream_lookup.h"

/* Columns of kinesis.event_source_mapping and kinesis.mapping_lane, in the order of the install script. */
enum
{
	MAPPING_UUID = 1,
	MAPPING_OWNER,
	MAPPING_STREAM,
	MAPPING_SOURCE,
	MAPPING_SCHEMA,
	MAPPING_FUNCTION,
	MAPPING_TAKES_RECORDS,
	MAPPING_FUNCTION_OWNER,
	MAPPING_POSITION,
	MAPPING_POSITION_TIME,
	MAPPING_BATCH_SIZE,
	MAPPING_BATCHING_WINDOW,
	MAPPING_FACTOR,
	MAPPING_MAXIMUM_AGE,
	MAPPING_MAXIMUM_RETRIES,
	MAPPING_BISECTS,
	MAPPING_ON_FAILURE,
	MAPPING_ON_FAILURE_OWNER,
	MAPPING_REPORTS_FAILURES,
	MAPPING_TUMBLING_WINDOW,
	MAPPING_FILTER,
	MAPPING_ENABLED,
	MAPPING_TRANSITION,
	MAPPING_REASON,
	MAPPING_MODIFIED,
	MAPPING_HOME,
	MAPPING_COLUMNS = MAPPING_HOME
};

enum
{
	LANE_ID = 1,
	LANE_UUID,
	LANE_STREAM,
	LANE_SHARD,
	LANE_LANE,
	LANE_LANES,
	LANE_CHECKPOINT,
	LANE_STOP_AT,
	LANE_ENDED,
	LANE_ENDS,
	LANE_ATTEMPTS,
	LANE_CRASHES,
	LANE_FAILING_SINCE,
	LANE_RETRY_AT,
	LANE_WINDOW_START,
	LANE_WINDOW_STATE,
	LANE_WINDOW_FULL,
	LANE_LAST_RESULT,
	LANE_PROCESSED_AT,
	LANE_LAST_ERROR,
	LANE_INVOCATIONS,
	LANE_FAILURES,
	LANE_RECORDS,
	LANE_DISCARDED,
	LANE_COLUMNS = LANE_DISCARDED
};

/* A row's columns, which count from 1. */
typedef struct Row
{
	Datum values[Max(MAPPING_COLUMNS, LANE_COLUMNS) + 1];
	bool nulls[Max(MAPPING_COLUMNS, LANE_COLUMNS) + 1];
} Row;

/* Where the lane that was loaded or saved last is, or was. */
static int64 known_lane;
static ItemPointerData known_place;

/* The mapping that was loaded last, and whether it has not been changed since. */
static KinLane known_mapping;
static bool mapping_is_known;
static MemoryContext mapping_memory;
static Oid mapping_table;
static uint64 invalidations; /* of the table's cache entry, counted */


static Relation
open_table(const char *name, LOCKMODE mode, int columns)
{
	Relation rel = table_open(get_relname_relid(name, get_namespace_oid("kinesis", false)), mode);

	kin_require_columns(RelationGetDescr(rel), columns);
	return rel;
}

bool
kin_lane_lock(int64 lane_id)
{
	LOCKTAG tag;
	Oid lanes = get_relname_relid("mapping_lane", get_namespace_oid("kinesis", false));

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, lanes, (uint32) lane_id, (uint16) (lane_id >> 32));
	if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	PopActiveSnapshot();
	PushActiveSnapshot(GetLatestSnapshot());
	return true;
}

/* ---- Finding rows ---- */

/* The row whose key is this, as a copy; NULL when there is none that the snapshot sees. */
static HeapTuple
find_by_key(Relation rel, const char *index, RegProcedure equal, Datum value, Snapshot snapshot)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, equal, value);
	scan = systable_beginscan(rel, get_relname_relid(index, RelationGetNamespace(rel)), true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	return tuple;
}

static int64
lane_id_of(Relation lanes, HeapTuple tuple)
{
	bool isnull;

	return DatumGetInt64(heap_getattr(tuple, LANE_ID, RelationGetDescr(lanes), &isnull));
}

static HeapTuple
find_lane(Relation lanes, int64 lane_id, Snapshot snapshot)
{
	HeapTuple tuple = NULL;

	/* The table may have become shorter. */
	if (known_lane == lane_id && ItemPointerGetBlockNumber(&known_place) < RelationGetNumberOfBlocks(lanes))
	{
		TupleTableSlot *slot = table_slot_create(lanes, NULL);

		if (table_tuple_fetch_row_version(lanes, &known_place, snapshot, slot))
			tuple = ExecCopySlotHeapTuple(slot);
		ExecDropSingleTupleTableSlot(slot);
	}
	if (tuple == NULL || lane_id_of(lanes, tuple) != lane_id)
		tuple = find_by_key(lanes, "mapping_lane_pkey", F_INT8EQ, Int64GetDatum(lane_id), snapshot);
	if (tuple)
	{
		known_lane = lane_id;
		known_place = tuple->t_self;
	}
	return tuple;
}

/* ---- Reading ---- */

static void
read_row(Relation rel, HeapTuple tuple, Row *row)
{
	heap_deform_tuple(tuple, RelationGetDescr(rel), row->values + 1, row->nulls + 1);
}

static int64
int64_or(const Row *row, int column, int64 if_null)
{
	return row->nulls[column] ? if_null : DatumGetInt64(row->values[column]);
}

static Oid
oid_or_invalid(const Row *row, int column)
{
	return row->nulls[column] ? InvalidOid : DatumGetObjectId(row->values[column]);
}

static char *
text_or_null(const Row *row, int column)
{
	return row->nulls[column] ? NULL : TextDatumGetCString(row->values[column]);
}

static Jsonb *
jsonb_or_null(const Row *row, int column)
{
	/* Detoasted here, where there is a snapshot. */
	return row->nulls[column] ? NULL : DatumGetJsonbPCopy(row->values[column]);
}

/* As extract(epoch) counts, by which the settings were checked. */
static int64
interval_us(const Row *row, int column, int64 if_null)
{
	const Interval *i = row->nulls[column] ? NULL : DatumGetIntervalP(row->values[column]);

	if (i == NULL)
		return if_null;
	return i->time + (int64) (((i->month / MONTHS_PER_YEAR) * DAYS_PER_YEAR +
							   (i->month % MONTHS_PER_YEAR) * DAYS_PER_MONTH + i->day) *
							  USECS_PER_DAY);
}

static void
read_ends(KinLane *lane, const Row *row)
{
	Datum *ends = NULL;
	int n = 0;

	if (!row->nulls[LANE_ENDS])
		deconstruct_array(DatumGetArrayTypeP(row->values[LANE_ENDS]), INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
						  &ends, NULL, &n);
	lane->nends = n;
	lane->ends = palloc((n + 2) * sizeof(int64));
	for (int i = 0; i < n; i++)
		lane->ends[i] = DatumGetInt64(ends[i]);
}

/* What load_mapping() has left to be read: mapping and stream are there already, and the rest is zero. */
static void
read_lane(KinLane *lane, const Row *row)
{
	lane->lane_id = DatumGetInt64(row->values[LANE_ID]);
	lane->shard_index = DatumGetInt32(row->values[LANE_SHARD]);
	lane->shard_id = pstrdup(kin_shard_id(lane->shard_index));
	lane->lane = DatumGetInt32(row->values[LANE_LANE]);
	lane->lanes = DatumGetInt32(row->values[LANE_LANES]);
	lane->checkpoint = lane->loaded_checkpoint = DatumGetInt64(row->values[LANE_CHECKPOINT]);
	lane->invoked = DatumGetInt64(row->values[LANE_INVOCATIONS]);
	lane->stop_at = int64_or(row, LANE_STOP_AT, PG_INT64_MAX);
	read_ends(lane, row);
	lane->attempts = DatumGetInt32(row->values[LANE_ATTEMPTS]);
	lane->crashes = DatumGetInt32(row->values[LANE_CRASHES]);
	lane->failing_since = int64_or(row, LANE_FAILING_SINCE, 0);
	lane->retry_at = int64_or(row, LANE_RETRY_AT, 0);
	lane->window_start = int64_or(row, LANE_WINDOW_START, 0);
	lane->window_state = jsonb_or_null(row, LANE_WINDOW_STATE);
	lane->window_full = DatumGetBool(row->values[LANE_WINDOW_FULL]);
	lane->processed_at = int64_or(row, LANE_PROCESSED_AT, 0);
	lane->last_result = TextDatumGetCString(row->values[LANE_LAST_RESULT]);
	lane->last_error = jsonb_or_null(row, LANE_LAST_ERROR);
}

/* False when it does not run: it is disabled, or another copy of the database's. */
static bool
read_mapping(KinLane *lane, const Row *row)
{
	if (!DatumGetBool(row->values[MAPPING_ENABLED]) || row->nulls[MAPPING_HOME] ||
		strcmp(TextDatumGetCString(row->values[MAPPING_HOME]), kin_home_name()) != 0)
		return false;
	lane->owner = DatumGetObjectId(row->values[MAPPING_OWNER]);
	lane->event_source_arn = TextDatumGetCString(row->values[MAPPING_SOURCE]);
	lane->function_schema = pstrdup(NameStr(*DatumGetName(row->values[MAPPING_SCHEMA])));
	lane->function_name = pstrdup(NameStr(*DatumGetName(row->values[MAPPING_FUNCTION])));
	lane->takes_records = DatumGetBool(row->values[MAPPING_TAKES_RECORDS]);
	lane->function_owner = oid_or_invalid(row, MAPPING_FUNCTION_OWNER);
	lane->batch_size = DatumGetInt32(row->values[MAPPING_BATCH_SIZE]);
	lane->batching_window_us = interval_us(row, MAPPING_BATCHING_WINDOW, 0);
	lane->maximum_age_us = interval_us(row, MAPPING_MAXIMUM_AGE, -1);
	lane->maximum_retries = DatumGetInt32(row->values[MAPPING_MAXIMUM_RETRIES]);
	lane->bisects = DatumGetBool(row->values[MAPPING_BISECTS]);
	lane->on_failure = text_or_null(row, MAPPING_ON_FAILURE);
	lane->on_failure_owner = oid_or_invalid(row, MAPPING_ON_FAILURE_OWNER);
	lane->reports_failures = DatumGetBool(row->values[MAPPING_REPORTS_FAILURES]);
	lane->tumbling_us = interval_us(row, MAPPING_TUMBLING_WINDOW, 0);
	lane->filter = jsonb_or_null(row, MAPPING_FILTER);
	return true;
}

static void
table_invalidated(Datum arg, Oid relid)
{
	if (OidIsValid(relid) && relid != mapping_table)
		return;
	mapping_is_known = false;
	invalidations++;
}

/* Makes the lane's mapping the known one; false when there is nothing to do for it. */
static bool
know_mapping(const pg_uuid_t *uuid, int64 stream_id)
{
	MemoryContext caller = CurrentMemoryContext;
	Relation mappings;
	Snapshot snapshot;
	HeapTuple tuple;
	uint64 before;
	bool runs = false;

	if (mapping_memory == NULL)
	{
		mapping_memory = AllocSetContextCreate(TopMemoryContext, "kinesis mapping", ALLOCSET_SMALL_SIZES);
		CacheRegisterRelcacheCallback(table_invalidated, (Datum) 0);
	}
	mapping_is_known = false;
	MemoryContextReset(mapping_memory);
	mappings = open_table("event_source_mapping", AccessShareLock, MAPPING_COLUMNS);
	mapping_table = RelationGetRelid(mappings);
	/* Of changes whose messages were read by now this snapshot sees all; messages of others come later, maybe while we read. */
	before = invalidations;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	tuple = find_by_key(mappings, "event_source_mapping_pkey", F_UUID_EQ, UUIDPGetDatum(uuid), snapshot);
	if (tuple)
	{
		Row row;

		MemoryContextSwitchTo(mapping_memory);
		memset(&known_mapping, 0, sizeof(known_mapping));
		known_mapping.uuid = *uuid;
		known_mapping.stream_id = stream_id;
		read_row(mappings, tuple, &row);
		runs =
			read_mapping(&known_mapping, &row) && (known_mapping.stream_name = kin_stream_name_of(stream_id)) != NULL;
		MemoryContextSwitchTo(caller);
	}
	UnregisterSnapshot(snapshot);
	table_close(mappings, AccessShareLock);
	mapping_is_known = runs && before == invalidations;
	return runs;
}

static char *
copy(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

/* Fills in what the mapping says, as copies: an error is noted long after the known mapping may be another one. */
static bool
load_mapping(KinLane *lane, const Row *row)
{
	const pg_uuid_t *uuid = DatumGetUUIDP(row->values[LANE_UUID]);
	int64 stream_id = DatumGetInt64(row->values[LANE_STREAM]);

	if (!(mapping_is_known && memcmp(&known_mapping.uuid, uuid, sizeof(*uuid)) == 0 &&
		  known_mapping.stream_id == stream_id) &&
		!know_mapping(uuid, stream_id))
		return false;
	*lane = known_mapping;
	lane->event_source_arn = copy(known_mapping.event_source_arn);
	lane->function_schema = copy(known_mapping.function_schema);
	lane->function_name = copy(known_mapping.function_name);
	lane->on_failure = copy(known_mapping.on_failure);
	lane->stream_name = copy(known_mapping.stream_name);
	if (known_mapping.filter)
		lane->filter = (Jsonb *) PG_DETOAST_DATUM_COPY(JsonbPGetDatum(known_mapping.filter));
	return true;
}

KinLane *
kin_lane_load(int64 lane_id)
{
	Relation lanes = open_table("mapping_lane", AccessShareLock, LANE_COLUMNS);
	HeapTuple tuple = find_lane(lanes, lane_id, GetActiveSnapshot());
	KinLane *lane = NULL;
	Row row;

	if (tuple)
	{
		read_row(lanes, tuple, &row);
		lane = palloc(sizeof(KinLane));
	}
	table_close(lanes, AccessShareLock);
	if (lane == NULL || DatumGetBool(row.values[LANE_ENDED]) || !load_mapping(lane, &row))
		return NULL;
	read_lane(lane, &row);
	return lane;
}

/* ---- Writing ---- */

static void
set(Row *row, int column, Datum value)
{
	row->values[column] = value;
	row->nulls[column] = false;
}

static void
set_or_null(Row *row, int column, Datum value, bool isnull)
{
	row->values[column] = value;
	row->nulls[column] = isnull;
}

static void
set_time(Row *row, int column, TimestampTz time)
{
	set_or_null(row, column, TimestampTzGetDatum(time), time == 0);
}

static void
set_jsonb(Row *row, int column, Jsonb *value)
{
	set_or_null(row, column, PointerGetDatum(value), value == NULL);
}

static void
add(Row *row, int column, int64 more)
{
	set(row, column, Int64GetDatum(DatumGetInt64(row->values[column]) + more));
}

static Datum
ends_array(const KinLane *lane)
{
	Datum *ends = palloc(lane->nends * sizeof(Datum));

	for (int i = 0; i < lane->nends; i++)
		ends[i] = Int64GetDatum(lane->ends[i]);
	return PointerGetDatum(construct_array(ends, lane->nends, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* What a turn may change of this version of the row; NULL when it is no longer at the checkpoint that was loaded. */
static HeapTuple
changed(Relation lanes, HeapTuple tuple, const KinLane *lane)
{
	Row row;

	read_row(lanes, tuple, &row);
	if (DatumGetInt64(row.values[LANE_CHECKPOINT]) != lane->loaded_checkpoint)
		return NULL;
	set(&row, LANE_CHECKPOINT, Int64GetDatum(lane->checkpoint));
	set(&row, LANE_ENDED, BoolGetDatum(lane->ended));
	set_or_null(&row, LANE_ENDS, ends_array(lane), lane->nends == 0);
	set(&row, LANE_ATTEMPTS, Int32GetDatum(lane->attempts));
	set(&row, LANE_CRASHES, Int32GetDatum(lane->crashes));
	set_time(&row, LANE_FAILING_SINCE, lane->failing_since);
	set_time(&row, LANE_RETRY_AT, lane->retry_at);
	set_time(&row, LANE_WINDOW_START, lane->window_start);
	set_jsonb(&row, LANE_WINDOW_STATE, lane->window_state);
	set(&row, LANE_WINDOW_FULL, BoolGetDatum(lane->window_full));
	set(&row, LANE_LAST_RESULT, CStringGetTextDatum(lane->last_result));
	set_time(&row, LANE_PROCESSED_AT, lane->processed_at);
	set_jsonb(&row, LANE_LAST_ERROR, lane->last_error);
	add(&row, LANE_INVOCATIONS, lane->invocations);
	add(&row, LANE_FAILURES, lane->failures);
	add(&row, LANE_RECORDS, lane->records);
	add(&row, LANE_DISCARDED, lane->discarded);
	return heap_form_tuple(RelationGetDescr(lanes), row.values + 1, row.nulls + 1);
}

/* Has somebody given the table triggers, or indexes that need the executor? */
static bool
needs_executor(Relation lanes, CatalogIndexState indexes)
{
	if (lanes->trigdesc != NULL)
		return true;
	for (int i = 0; i < indexes->ri_NumIndices; i++)
	{
		const IndexInfo *index = indexes->ri_IndexRelationInfo[i];

		if (index->ii_Expressions != NIL || index->ii_Predicate != NIL || index->ii_ExclusionOps != NULL)
			return true;
	}
	return false;
}

static void
write_row(Relation lanes, ItemPointer place, HeapTuple tuple)
{
	CatalogIndexState indexes = CatalogOpenIndexes(lanes);

	if (needs_executor(lanes, indexes))
	{
		const Oid type = RelationGetForm(lanes)->reltype;
		const Datum row = heap_copy_tuple_as_datum(tuple, RelationGetDescr(lanes));

		CatalogCloseIndexes(indexes);
		kin_run_sql("_save_lane", 1, &type, &row);
		return;
	}
	CatalogTupleUpdateWithInfo(lanes, place, tuple, indexes);
	CatalogCloseIndexes(indexes);
	known_place = tuple->t_self;
}

/*
 * As an UPDATE would, it waits for whoever is changing the row, and changes what that one has left: a stop that was set meanwhile
 * stays.
 */
bool
kin_lane_save(const KinLane *lane)
{
	Relation lanes = open_table("mapping_lane", RowExclusiveLock, LANE_COLUMNS);
	TupleTableSlot *slot = table_slot_create(lanes, NULL);
	Snapshot snapshot;
	HeapTuple tuple;
	TM_FailureData failure;

	/* What the function has done to the row itself is seen. */
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	tuple = find_lane(lanes, lane->lane_id, snapshot);
	if (tuple &&
		table_tuple_lock(lanes, &tuple->t_self, snapshot, slot, GetCurrentCommandId(false), LockTupleNoKeyExclusive,
						 LockWaitBlock, TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure) != TM_Ok)
		tuple = NULL; /* deleted while we waited */
	if (tuple)
		tuple = changed(lanes, ExecFetchSlotHeapTuple(slot, false, NULL), lane);
	if (tuple)
	{
		write_row(lanes, &slot->tts_tid, tuple);
		CommandCounterIncrement();
	}
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	/* The lock stays until the end, as any writer's does: REINDEX CONCURRENTLY counts on that. */
	table_close(lanes, NoLock);
	return tuple != NULL;
}
