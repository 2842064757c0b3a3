/*
 * batch_call.c - calls a user's function with a batch, as the mapping's owner.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: workers.
 *
 * The worker's session is a superuser's.  The function runs as the owner under SECURITY_LOCAL_USERID_CHANGE, which forbids
 * SET ROLE and SET SESSION AUTHORIZATION.  Deferred triggers and WITH HOLD cursors run at the end of the transaction, so the
 * owner stays the current user, and the time limited, until it has ended.  search_path is the function's schema; a function
 * that needs another one is created with SET search_path.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/portal.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "access_check.h"
#include "batch_call.h"
#include "compat.h"
#include "error_report.h"
#include "event_form.h"
#include "settings_define.h"
#include "sql_run.h"
#include "worker_pool.h"

/* A function that ignores its cancellation is given so long before its worker is terminated. */
#define GRACE_MS 5000

#define CONTEXT_COLUMNS 9

static bool under_way; /* the owner's code may be running, or still be to run in this transaction */

Oid
kin_batch_function(const KinLane *lane)
{
	List *name = list_make2(makeString(lane->function_schema), makeString(lane->function_name));
	KinStream *stream = kin_stream_open_by_id(lane->stream_id);
	Oid types[2];
	int n = 1;
	Oid function;

	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(lane->owner)))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("the owner of the event source mapping, role %u, does not exist", lane->owner)));
	if (stream == NULL)
		ereport(ERROR, (kin_errcode(KIN_RESOURCE_NOT_FOUND), errmsg("Stream not found.")));
	kin_require_right(stream, lane->owner, KIN_RIGHT_CONSUMER, "GetRecords");
	types[0] = JSONBOID;
	if (lane->takes_records)
	{
		types[0] = get_array_type(kin_type("record"));
		types[1] = kin_type("batch_context");
		n = 2;
	}
	function =
		OidIsValid(get_namespace_oid(lane->function_schema, true)) ? LookupFuncName(name, n, types, true) : InvalidOid;
	if (!OidIsValid(function))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("function %s(%s) does not exist", NameListToString(name),
							   lane->takes_records ? "kinesis.record[], kinesis.batch_context" : "jsonb"),
						errdetail("The event source mapping waits until it is there again.")));
	if (get_func_retset(function) || get_func_prokind(function) != PROKIND_FUNCTION ||
		(get_func_rettype(function) != JSONBOID && !(lane->takes_records && get_func_rettype(function) == VOIDOID)))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("function %s must return jsonb%s", NameListToString(name),
															lane->takes_records ? " or void" : "")));
	kin_require_chosen(kin_function_owner(function), lane->function_owner, lane->owner,
					   psprintf("function %s", NameListToString(name)));
	if (!kin_may_execute(function, lane->owner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("role %s may not execute function %s", GetUserNameFromId(lane->owner, false),
							   NameListToString(name))));
	return function;
}

static Datum
context_row(const KinLane *lane, const KinCallWindow *window)
{
	Oid type = kin_type("batch_context");
	TupleDesc columns = lookup_rowtype_tupdesc(type, -1);
	Datum values[CONTEXT_COLUMNS] = {0};
	bool nulls[CONTEXT_COLUMNS] = {false};
	Datum row;

	kin_require_columns(columns, CONTEXT_COLUMNS);
	values[0] = UUIDPGetDatum(&lane->uuid);
	values[1] = CStringGetTextDatum(lane->stream_name);
	values[2] = CStringGetTextDatum(lane->shard_id);
	values[3] = Int32GetDatum(lane->attempts + 1);
	for (int i = 4; i < CONTEXT_COLUMNS; i++)
		nulls[i] = window == NULL;
	if (window)
	{
		values[4] = TimestampTzGetDatum(window->start);
		values[5] = TimestampTzGetDatum(window->end);
		values[6] = lane->window_state ? JsonbPGetDatum(lane->window_state)
									   : DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
		values[7] = BoolGetDatum(window->final_invoke);
		values[8] = BoolGetDatum(window->terminated_early);
	}
	row = HeapTupleGetDatum(heap_form_tuple(columns, values, nulls));
	ReleaseTupleDesc(columns);
	return row;
}

static Datum
event(const KinLane *lane, Datum records, const KinCallWindow *window)
{
	KinEventSource source = {
		.shard_id = lane->shard_id,
		.event_source_arn = lane->event_source_arn,
		.invoke_identity_arn = kin_identity_arn(GetUserNameFromId(lane->owner, false)),
	};

	if (window)
	{
		source.has_window = true;
		source.window_start = window->start;
		source.window_end = window->end;
		source.window_state = lane->window_state;
		source.final_invoke = window->final_invoke;
		source.terminated_early = window->terminated_early;
	}
	return JsonbPGetDatum(kin_event_form(DatumGetArrayTypeP(records), &source));
}

void
kin_call_begin(const KinLane *lane, int64 end)
{
	int timeout = kin_function_timeout_setting;

	SetUserIdAndSecContext(lane->owner, SECURITY_LOCAL_USERID_CHANGE);
	under_way = true;
	kin_pool_call_begins(timeout > 0 ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout + GRACE_MS) : 0, end);
	if (timeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, timeout);
}

void
kin_call_check_deferred(void)
{
	ConstraintsSetStmt *all_immediate = makeNode(ConstraintsSetStmt);

	AfterTriggerSetState(all_immediate);
}

void
kin_call_end(void)
{
	if (!under_way)
		return;
	disable_timeout(STATEMENT_TIMEOUT, false);
	/* A cancellation that came too late for the function must not hit what follows. */
	QueryCancelPending = false;
	kin_pool_call_ends();
	under_way = false;
}

/* A trigger may defer others, and a cursor may be held: before this event they have run. */
static void
transaction_commits(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT)
		kin_call_end();
}

void
kin_batch_call_init(void)
{
	RegisterXactCallback(transaction_commits, NULL);
}

Jsonb *
kin_batch_call(const KinLane *lane, Oid function, Datum records, int64 end, const KinCallWindow *window)
{
	FmgrInfo flinfo;
	LOCAL_FCINFO(fcinfo, 2);
	PgStat_FunctionCallUsage usage;
	Datum arguments[2] = {0};
	int nest;
	Datum result;
	bool is_void = get_func_rettype(function) == VOIDOID;

	if (lane->takes_records)
	{
		arguments[0] = records;
		arguments[1] = context_row(lane, window);
	}
	else
		arguments[0] = event(lane, records, window);

	kin_call_begin(lane, end);
	nest = kin_pin_path(lane->function_schema);
	fmgr_info(function, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, lane->takes_records ? 2 : 1, InvalidOid, NULL, NULL);
	for (int i = 0; i < 2; i++)
		fcinfo->args[i] = (NullableDatum){.value = arguments[i]};
	pgstat_init_function_usage(fcinfo, &usage);
	result = FunctionCallInvoke(fcinfo);
	pgstat_end_function_usage(&usage, true);
	kin_call_check_deferred();
	AtEOXact_GUC(true, nest);
	return fcinfo->isnull || is_void ? NULL : DatumGetJsonbPCopy(result);
}

void
kin_forget_session(void)
{
	/* As DISCARD ALL does. */
	PortalHashTableDeleteAll();
	ResetAllOptions();
	DropAllPreparedStatements();
	LockReleaseAll(USER_LOCKMETHOD, true);
	ResetTempTableNamespace();
	ResetSequenceCaches();
}
