/*
 * failure_note.c - writes down that a lane has failed, and what is to be tried next.
 *
 * Owns:    nothing.
 * Locking: a worker takes the lane's lock; when that is gone its scheduler writes.
 * Runs in: workers and schedulers.
 *
 * A batch that failed is pinned by its end, so that the same records are tried again.  Halves are pinned on top of it: their
 * end is worked on first, and when the checkpoint has come there the next end counts.  Cutting takes no retry; what can't be
 * cut any more does.  Only what the function does counts: when it can't be called, or the destination fails, the lane waits.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "batch_call.h"
#include "failure_note.h"
#include "failure_send.h"
#include "name_check.h"
#include "settings_define.h"
#include "sql_run.h"
#include "worker_pool.h"
#include "worker_start.h"

#define FIRST_RETRY_US    100000
#define UNNOTED_RETRY_US  1000000
#define LOST_LOCK_TIMEOUT "100ms"
#define TEXT_MAX          2000 /* bytes of a message that are kept */
#define CRASHES_MAX       3
#define CALL_FAILED       "PROBLEM: Function call failed"

TimestampTz
kin_failure_retry_at(const KinLane *lane)
{
	TimestampTz now = GetCurrentTimestamp();
	int64 most = kin_max_retry_backoff_setting * INT64CONST(1000);
	int64 wait = Min(Max(now - lane->failing_since, FIRST_RETRY_US), most);

	return now + (int64) (wait * (0.5 + pg_prng_double(&pg_global_prng_state) / 2));
}

static void
push_text(JsonbParseState **state, const char *name, const char *text)
{
	JsonbValue value = {.type = jbvString};

	if (text == NULL)
		return;
	value.val.string.val = (char *) name;
	value.val.string.len = strlen(name);
	pushJsonbValue(state, WJB_KEY, &value);
	value.val.string.val = (char *) text;
	value.val.string.len = pg_mbcliplen(text, strlen(text), TEXT_MAX);
	pushJsonbValue(state, WJB_VALUE, &value);
}

static Jsonb *
error_json(const ErrorData *error)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_text(&state, "sqlstate", unpack_sql_state(error->sqlerrcode));
	push_text(&state, "message", error->message);
	push_text(&state, "detail", error->detail);
	push_text(&state, "hint", error->hint);
	push_text(&state, "context", error->context);
	push_text(&state, "at", timestamptz_to_str(GetCurrentTimestamp()));
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static void
count_failure(KinLane *lane, const KinBatch *batch)
{
	int n = batch ? batch->n : 0;

	lane->invocations++;
	lane->failures++;
	if (n > 0)
		kin_lane_pin(lane, batch->numbers[n - 1]);
	if (lane->bisects && n > 1)
	{
		kin_lane_pin(lane, batch->numbers[n / 2 - 1]);
		lane->attempts = 0;
		lane->retry_at = 0;
		return;
	}
	lane->attempts++;
	lane->retry_at = kin_failure_retry_at(lane);
	if (kin_lane_exhausted(lane))
		lane->retry_at = 0; /* it is discarded at once */
}

/* Writes down how a lane fails, and returns when it is to be tried again. */
static TimestampTz
save_failure(KinLane *lane, const char *result, const ErrorData *error)
{
	TimestampTz now = GetCurrentTimestamp();

	lane->last_result = result;
	lane->last_error = error_json(error);
	lane->processed_at = now;
	(void) kin_lane_save(lane);
	return Max(now, lane->retry_at);
}

TimestampTz
kin_failure_note(int64 lane_id, const KinLane *failed, const KinBatch *batch, KinPhase phase, const ErrorData *error)
{
	MemoryContext caller = CurrentMemoryContext;
	KinLane *lane;
	TimestampTz retry_at = 0;
	bool unchanged;

	kin_worker_begin();
	MemoryContextSwitchTo(caller);
	if (!kin_lane_lock(lane_id))
	{
		/* Another worker, of a later scheduler, is at it: it will see for itself. */
		kin_worker_commit();
		return GetCurrentTimestamp() + FIRST_RETRY_US;
	}
	lane = kin_lane_load(lane_id);
	unchanged = lane && failed && failed->loaded_checkpoint == lane->checkpoint;
	if (lane && failed && !unchanged)
		retry_at = GetCurrentTimestamp(); /* another worker has brought it further: no failure of what is there now */
	else if (lane)
	{
		if (lane->failing_since == 0)
			lane->failing_since = GetCurrentTimestamp();
		switch (phase)
		{
			case KIN_PHASE_CALL:
			case KIN_PHASE_SAVE:
			case KIN_PHASE_GONE:
				count_failure(lane, batch);
				retry_at = save_failure(lane, CALL_FAILED, error);
				break;
			case KIN_PHASE_DISCARD:
				lane->retry_at = kin_failure_retry_at(lane);
				retry_at = save_failure(lane, "PROBLEM: The destination failed", error);
				break;
			default:
				lane->retry_at = kin_failure_retry_at(lane);
				retry_at = save_failure(lane, "PROBLEM: The function could not be called", error);
				break;
		}
	}
	kin_worker_commit();
	return retry_at;
}

static void
disable_mapping(const KinLane *lane)
{
	const Oid types[2] = {UUIDARRAYOID, TEXTOID};
	Datum uuid = UUIDPGetDatum(&lane->uuid);
	Datum values[2];

	values[0] = PointerGetDatum(construct_array(&uuid, 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	values[1] =
		CStringGetTextDatum(psprintf("The server crashed %d times in a row while the function ran", lane->crashes));
	kin_run_sql("_disable_mappings", 2, types, values);
}

/* Notes that nobody came back from a call; crash: that of the server, NULL when only the worker has ended. */
static TimestampTz
note_lost(int64 lane_id, int64 end, const KinCallMark *crash)
{
	KinLane *lane;
	TimestampTz retry_at = GetCurrentTimestamp() + FIRST_RETRY_US;
	ErrorData error = {
		.sqlerrcode = crash ? ERRCODE_CRASH_SHUTDOWN : ERRCODE_ADMIN_SHUTDOWN,
		.message =
			crash ? "the server crashed while the function ran" : "the worker was terminated while the function ran",
	};

	kin_worker_begin();
	/* Somebody may hold the rows in a transaction that takes its time. */
	(void) set_config_option("lock_timeout", LOST_LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
							 false);
	lane = kin_lane_lock(lane_id) ? kin_lane_load(lane_id) : NULL;
	/* The call may have been committed, and the server have ended before the worker could take its mark away. */
	if (lane && (crash == NULL || crash->invoked == lane->invoked))
	{
		if (lane->failing_since == 0)
			lane->failing_since = GetCurrentTimestamp();
		/* Pinned, as any that fails: what has come meanwhile was not tried, and must not be given up with it. */
		if (end > lane->checkpoint)
			kin_lane_pin(lane, end);
		/* Suspects run one at a time: whose fault it is not has its next attempt without one whose fault it may be. */
		if (crash && !crash->alone && lane->crashes == 0)
		{
			lane->invocations++;
			lane->failures++;
		}
		else
			count_failure(lane, NULL);
		if (crash)
		{
			lane->crashes++;
			lane->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 500 << Min(lane->crashes, 6));
		}
		/* The mapping's row before the lane's, as whoever updates a mapping takes them. */
		if (lane->crashes >= CRASHES_MAX)
			disable_mapping(lane);
		retry_at = save_failure(lane, CALL_FAILED, &error);
	}
	kin_worker_commit();
	return retry_at;
}

/* A scheduler has other lanes to see to: what can't be noted is tried again without being counted. */
static TimestampTz
try_to_note_lost(int64 lane_id, int64 end, const KinCallMark *crash)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile TimestampTz retry_at = 0;

	PG_TRY();
	{
		retry_at = note_lost(lane_id, end, crash);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
		retry_at = GetCurrentTimestamp() + UNNOTED_RETRY_US;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return retry_at;
}

TimestampTz
kin_failure_lost(int64 lane_id, int64 end)
{
	return end == KIN_NO_CALL ? GetCurrentTimestamp() + FIRST_RETRY_US : try_to_note_lost(lane_id, end, NULL);
}

void
kin_failure_crashed(const KinCallMark *call)
{
	(void) try_to_note_lost(call->lane_id, call->end, call);
}

void
kin_failure_discard(const KinLane *lane, Datum records, const char *condition)
{
	Oid type = ((ArrayType *) DatumGetPointer(records))->elemtype;
	const Oid types[8] = {UUIDOID, TEXTOID, TEXTOID, INT4OID, get_array_type(type), TEXTOID, INT4OID, JSONBOID};
	Datum values[8];
	Jsonb *record;

	if (lane->on_failure == NULL)
		return;
	values[0] = UUIDPGetDatum(&lane->uuid);
	values[1] = CStringGetTextDatum(quote_qualified_identifier(lane->function_schema, lane->function_name));
	values[2] = CStringGetTextDatum(kin_stream_arn(lane->stream_name));
	values[3] = Int32GetDatum(lane->shard_index);
	values[4] = records;
	values[5] = CStringGetTextDatum(condition);
	values[6] = Int32GetDatum(lane->attempts);
	values[7] =
		lane->last_error ? JsonbPGetDatum(lane->last_error) : DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
	record = DatumGetJsonbP(kin_run_sql("_invocation_record", 8, types, values));
	kin_call_begin(lane, KIN_NO_CALL);
	kin_failure_send(lane->on_failure, lane->on_failure_owner, record);
	kin_call_check_deferred();
}
