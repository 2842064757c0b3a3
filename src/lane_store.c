/*
 * lane_store.c - reads and writes the rows of lanes.
 *
 * Owns:    four saved plans, and where the lane that was written last is in its table.
 * Locking: a lane has a lock of the lock manager, which whoever works on it or notes its failure takes first, without
 *          waiting.  Writing finds the row by its checkpoint, too, so a lane that was deleted or made anew is left alone.
 * Runs in: workers and schedulers.
 *
 * The user's function runs in the same session, so nothing here trusts the session's settings: see kin_pin_settings().
 *
 * A lane's row is written at each turn, and while somebody holds an old snapshot no version of it can be removed: the index
 * would lead through all of them.  So the row is looked for where this worker has left it, and only when it is not there by its key.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "lane_store.h"
#include "name_check.h"
#include "sql_run.h"

#define LOAD                                                                                                           \
	"SELECT m.uuid, m.owner::pg_catalog.oid, m.event_source_arn, m.function_schema::text, m.function_name::text, "     \
	"m.takes_records, m.batch_size, extract(epoch FROM m.maximum_batching_window)::float8, "                           \
	"extract(epoch FROM m.maximum_record_age)::float8, m.maximum_retry_attempts, m.bisect_batch_on_function_error, "   \
	"m.on_failure, m.report_batch_item_failures, extract(epoch FROM m.tumbling_window)::float8, m.filter_criteria, "   \
	"l.stream_id, s.stream_name, l.shard_index, l.lane, l.lanes, l.checkpoint, l.stop_at, l.batch_ends, l.attempts, "  \
	"l.crashes, l.failing_since, l.retry_at, l.window_start, l.window_state, l.window_full, l.processed_at, "          \
	"l.last_result, l.last_error, l.ctid, m.function_owner::pg_catalog.oid "                                           \
	"FROM kinesis.mapping_lane l JOIN kinesis.event_source_mapping m USING (uuid) "                                    \
	"JOIN kinesis.stream s ON s.stream_id = l.stream_id "                                                              \
	"WHERE l.lane_id = $1 AND m.enabled AND NOT l.ended AND m.home = kinesis._home()"

#define SAVE                                                                                                           \
	"UPDATE kinesis.mapping_lane SET checkpoint = $2, batch_ends = $3, attempts = $4, crashes = $5, "                  \
	"failing_since = $6, retry_at = $7, window_start = $8, window_state = $9, window_full = $10, ended = $11, "        \
	"last_result = $12, processed_at = $13, last_error = $14, invocations = invocations + $15, "                       \
	"failures = failures + $16, records = records + $17, discarded = discarded + $18 "                                 \
	"WHERE lane_id = $1 AND checkpoint = $19"
#define RETURN_PLACE " RETURNING ctid"

/* The place comes as the last parameter. */
#define LOAD_AT LOAD " AND l.ctid = $2"
#define SAVE_AT SAVE " AND ctid = $20"

static SPIPlanPtr load_plan;
static SPIPlanPtr load_at_plan;
static SPIPlanPtr save_plan;
static SPIPlanPtr save_at_plan;

/* Where the lane that was loaded or saved last is, or was. */
static int64 known_lane;
static ItemPointerData known_place;

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

/* The session as the extension's own code wants it. */
typedef struct Session
{
	Oid user;
	int context;
	int nest;
} Session;

static Session
enter(void)
{
	Session session;

	GetUserIdAndSecContext(&session.user, &session.context);
	SetUserIdAndSecContext(kin_extension_owner(), session.context | SECURITY_LOCAL_USERID_CHANGE);
	session.nest = kin_pin_settings();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	return session;
}

static void
leave(Session session)
{
	SPI_finish();
	AtEOXact_GUC(true, session.nest);
	SetUserIdAndSecContext(session.user, session.context);
}

static SPIPlanPtr
prepare(const char *sql, int n, const Oid *types)
{
	SPIPlanPtr plan = SPI_prepare(sql, n, (Oid *) types);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare a statement about lanes: %s", SPI_result_code_string(SPI_result));
	return plan;
}

/* Column of the one row, copied to the caller's memory; false for null. */
static bool
column(int number, Datum *value)
{
	bool isnull;
	Form_pg_attribute attribute = TupleDescAttr(SPI_tuptable->tupdesc, number - 1);

	*value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number, &isnull);
	if (isnull)
		return false;
	*value = SPI_datumTransfer(*value, attribute->attbyval, attribute->attlen);
	return true;
}

static int64
int_column(int number, int64 if_null)
{
	Datum value;

	if (!column(number, &value))
		return if_null;
	switch (TupleDescAttr(SPI_tuptable->tupdesc, number - 1)->atttypid)
	{
		case BOOLOID:
			return DatumGetBool(value);
		case INT4OID:
			return DatumGetInt32(value);
		case OIDOID:
			return DatumGetObjectId(value);
		case FLOAT8OID: /* seconds, as microseconds */
			return (int64) (DatumGetFloat8(value) * USECS_PER_SEC);
		default:
			return DatumGetInt64(value);
	}
}

static char *
text_column(int number)
{
	Datum value;

	return column(number, &value) ? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number) : NULL;
}

static Jsonb *
jsonb_column(int number)
{
	Datum value;

	/* Detoasted here, where there is a snapshot, into the memory of the turn. */
	return column(number, &value) ? DatumGetJsonbPCopy(value) : NULL;
}

static void
read_ends(KinLane *lane, int number)
{
	Datum value;
	Datum *ends = NULL;
	int n = 0;

	if (column(number, &value))
		deconstruct_array(DatumGetArrayTypeP(value), INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &ends, NULL, &n);
	lane->nends = n;
	lane->ends = palloc((n + 2) * sizeof(int64));
	for (int i = 0; i < n; i++)
		lane->ends[i] = DatumGetInt64(ends[i]);
}

/* Runs one of two plans: the first for the place that is known, the second when nothing is there any more. */
static void
execute(SPIPlanPtr at_place, SPIPlanPtr by_key, Datum *values, const char *nulls, bool known, bool read_only)
{
	int expected = read_only ? SPI_OK_SELECT : SPI_OK_UPDATE_RETURNING;

	if (known)
	{
		if (SPI_execute_plan(at_place, values, nulls, read_only, 0) != expected)
			elog(ERROR, "could not read or write a lane");
		if (SPI_processed > 0)
			return;
	}
	if (SPI_execute_plan(by_key, values, nulls, read_only, 0) != expected)
		elog(ERROR, "could not read or write a lane");
}

static void
know_place(int64 lane_id, int column)
{
	bool isnull;

	known_place =
		*(ItemPointer) DatumGetPointer(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull));
	known_lane = lane_id;
}

KinLane *
kin_lane_load(int64 lane_id)
{
	const Oid types[2] = {INT8OID, TIDOID};
	Datum values[2] = {Int64GetDatum(lane_id), PointerGetDatum(&known_place)};
	MemoryContext caller = CurrentMemoryContext;
	KinLane *lane = NULL;
	Session session = enter();

	if (load_plan == NULL)
	{
		load_at_plan = prepare(LOAD_AT, 2, types);
		load_plan = prepare(LOAD, 1, types);
	}
	execute(load_at_plan, load_plan, values, NULL, known_lane == lane_id, true);
	if (SPI_processed == 1)
	{
		MemoryContext spi = MemoryContextSwitchTo(caller);
		Datum uuid;

		know_place(lane_id, 34);

		lane = palloc0(sizeof(KinLane));
		lane->lane_id = lane_id;
		if (column(1, &uuid))
			lane->uuid = *DatumGetUUIDP(uuid);
		lane->owner = (Oid) int_column(2, InvalidOid);
		lane->event_source_arn = text_column(3);
		lane->function_schema = text_column(4);
		lane->function_name = text_column(5);
		lane->takes_records = int_column(6, false);
		lane->function_owner = (Oid) int_column(35, InvalidOid);
		lane->batch_size = (int) int_column(7, 1);
		lane->batching_window_us = int_column(8, 0);
		lane->maximum_age_us = int_column(9, -1);
		lane->maximum_retries = (int) int_column(10, -1);
		lane->bisects = int_column(11, false);
		lane->on_failure = text_column(12);
		lane->reports_failures = int_column(13, false);
		lane->tumbling_us = int_column(14, 0);
		lane->filter = jsonb_column(15);
		lane->stream_id = int_column(16, 0);
		lane->stream_name = text_column(17);
		lane->shard_index = (int32) int_column(18, 0);
		lane->shard_id = pstrdup(kin_shard_id(lane->shard_index));
		lane->lane = (int) int_column(19, 0);
		lane->lanes = (int) int_column(20, 1);
		lane->checkpoint = lane->loaded_checkpoint = int_column(21, 0);
		lane->stop_at = int_column(22, PG_INT64_MAX);
		read_ends(lane, 23);
		lane->attempts = (int) int_column(24, 0);
		lane->crashes = (int) int_column(25, 0);
		lane->failing_since = int_column(26, 0);
		lane->retry_at = int_column(27, 0);
		lane->window_start = int_column(28, 0);
		lane->window_state = jsonb_column(29);
		lane->window_full = int_column(30, false);
		lane->processed_at = int_column(31, 0);
		lane->last_result = text_column(32);
		lane->last_error = jsonb_column(33);
		MemoryContextSwitchTo(spi);
	}
	leave(session);
	return lane;
}

static Datum
ends_array(const KinLane *lane)
{
	Datum *ends = palloc(lane->nends * sizeof(Datum));

	for (int i = 0; i < lane->nends; i++)
		ends[i] = Int64GetDatum(lane->ends[i]);
	return PointerGetDatum(construct_array(ends, lane->nends, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

bool
kin_lane_save(const KinLane *lane)
{
	const Oid types[20] = {INT8OID,        INT8OID,  INT8ARRAYOID, INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
						   TIMESTAMPTZOID, JSONBOID, BOOLOID,      BOOLOID, TEXTOID, TIMESTAMPTZOID, JSONBOID,
						   INT8OID,        INT8OID,  INT8OID,      INT8OID, INT8OID, TIDOID};
	Datum values[20] = {0};
	char nulls[] = "                    ";
	bool saved;
	Session session = enter();

	if (save_plan == NULL)
	{
		save_at_plan = prepare(SAVE_AT RETURN_PLACE, 20, types);
		save_plan = prepare(SAVE RETURN_PLACE, 19, types);
	}
	values[0] = Int64GetDatum(lane->lane_id);
	values[1] = Int64GetDatum(lane->checkpoint);
	values[2] = ends_array(lane);
	values[3] = Int32GetDatum(lane->attempts);
	values[4] = Int32GetDatum(lane->crashes);
	values[5] = TimestampTzGetDatum(lane->failing_since);
	values[6] = TimestampTzGetDatum(lane->retry_at);
	values[7] = TimestampTzGetDatum(lane->window_start);
	values[8] = PointerGetDatum(lane->window_state);
	values[9] = BoolGetDatum(lane->window_full);
	values[10] = BoolGetDatum(lane->ended);
	values[11] = CStringGetTextDatum(lane->last_result);
	values[12] = TimestampTzGetDatum(lane->processed_at);
	values[13] = PointerGetDatum(lane->last_error);
	values[14] = Int64GetDatum(lane->invocations);
	values[15] = Int64GetDatum(lane->failures);
	values[16] = Int64GetDatum(lane->records);
	values[17] = Int64GetDatum(lane->discarded);
	values[18] = Int64GetDatum(lane->loaded_checkpoint);
	values[19] = PointerGetDatum(&known_place);
	if (lane->nends == 0)
		nulls[2] = 'n';
	for (int i = 0; i < 19; i++)
		if ((types[i] == TIMESTAMPTZOID || types[i] == JSONBOID) && values[i] == 0)
			nulls[i] = 'n';
	execute(save_at_plan, save_plan, values, nulls, known_lane == lane->lane_id, false);
	saved = SPI_processed == 1;
	if (saved)
		know_place(lane->lane_id, 1);
	leave(session);
	return saved;
}
