/*
 * control_call.c - lets control-plane functions run with the owner's rights while they know who called.
 *
 * Owns:    the role on whose behalf control-plane code runs (one variable, saved and restored around each call).
 * Locking: none.
 * Runs in: backends.
 *
 * SECURITY DEFINER alone won't do: inside such a function the caller's role can't be told (session_user is not it after
 * SET ROLE, nor inside somebody else's definer function).  So kinesis.split_shard() is this C function, which runs as the
 * caller; it remembers the role and calls kinesis._split_shard() with the same arguments as the owner.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "access_check.h"
#include "error_report.h"
#include "shard_state.h"
#include "sql_run.h"

static Oid caller = InvalidOid;

PG_FUNCTION_INFO_V1(kin_control);
PG_FUNCTION_INFO_V1(kin_caller_role);

Oid
kin_caller(void)
{
	return OidIsValid(caller) ? caller : GetUserId();
}

/* kinesis._caller() */
Datum
kin_caller_role(PG_FUNCTION_ARGS)
{
	PG_RETURN_OID(kin_caller());
}

/* The private twin of a public function: same schema, name with an underscore, same argument types. */
static Oid
find_private(Oid public_oid)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(public_oid));
	Form_pg_proc proc;
	List *name;
	Oid result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", public_oid);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	name = list_make2(makeString(get_namespace_name(proc->pronamespace)),
					  makeString(psprintf("_%s", NameStr(proc->proname))));
	result = LookupFuncName(name, proc->pronargs, proc->proargtypes.values, false);
	ReleaseSysCache(tuple);
	return result;
}

/* Body of every control-plane function. */
Datum
kin_control(PG_FUNCTION_ARGS)
{
	FmgrInfo *target = fcinfo->flinfo->fn_extra;
	LOCAL_FCINFO(inner, FUNC_MAX_ARGS);
	Oid save_caller = caller;
	Oid user;
	int context;
	bool save_known = kin_control_context_known;
	ErrorContextCallback *save_context = kin_control_context;
	volatile int nest = 0;
	volatile Datum result = (Datum) 0;

	kin_check_loaded();
	if (target == NULL)
	{
		target = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(FmgrInfo));
		fmgr_info_cxt(find_private(fcinfo->flinfo->fn_oid), target, fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = target;
	}
	GetUserIdAndSecContext(&user, &context);
	/* A set-returning function fills the caller's tuplestore: both have the same result type. */
	InitFunctionCallInfoData(*inner, target, fcinfo->nargs, fcinfo->fncollation, NULL, fcinfo->resultinfo);
	for (int i = 0; i < fcinfo->nargs; i++)
		inner->args[i] = fcinfo->args[i];

	PG_TRY();
	{
		caller = user;
		if (!save_known)
			kin_control_context = error_context_stack;
		kin_control_context_known = true;
		SetUserIdAndSecContext(kin_extension_owner(), context | SECURITY_LOCAL_USERID_CHANGE);
		nest = kin_pin_settings();
		result = FunctionCallInvoke(inner);
		fcinfo->isnull = inner->isnull;
	}
	PG_FINALLY();
	{
		caller = save_caller;
		kin_control_context = save_context;
		kin_control_context_known = save_known;
		SetUserIdAndSecContext(user, context);
	}
	PG_END_TRY();
	AtEOXact_GUC(true, nest);
	return result;
}
