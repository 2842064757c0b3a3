/*
 * sql_run.c - runs private SQL functions from C, as the extension's owner.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: backends, and the slice maker.
 *
 * Producers have no rights on the catalog and must not get any: what the extension does on their behalf is done here,
 * under the owner's name and with a pinned search_path, so that nothing a user has created is called.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compat.h"
#include "sql_run.h"

Oid
kin_extension_owner(void)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid owner;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("kinesis"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("extension \"%s\" does not exist", "kinesis")));
	owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return owner;
}

Oid
kin_type(const char *name)
{
	Oid type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(name),
							   ObjectIdGetDatum(get_namespace_oid("kinesis", false)));

	if (!OidIsValid(type))
		elog(ERROR, "type kinesis.%s does not exist", name);
	return type;
}

int
kin_pin_settings(void)
{
	static const char *const pinned[][2] = {
		{"search_path", "pg_catalog, pg_temp"}, /* nothing that a user has created is called */
		{"standard_conforming_strings", "on"},  /* patterns in SQL code mean what they say */
		{"datestyle", "ISO, YMD"},              /* times written into tokens are read back as the same */
		{"default_tablespace", ""}, /* tables of streams are where the database is, not where a caller likes */
		{"default_table_access_method", "heap"},
	};
	int nest = NewGUCNestLevel();

	for (size_t i = 0; i < lengthof(pinned); i++)
		(void) set_config_option(pinned[i][0], pinned[i][1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
	return nest;
}

int
kin_pin_path(const char *schema)
{
	int nest = NewGUCNestLevel();

	(void) set_config_option("search_path", psprintf("%s, pg_temp", quote_identifier(schema)), PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

Datum
kin_run_sql(const char *function, int nargs, const Oid *types, const Datum *values)
{
	List *name = list_make2(makeString("kinesis"), makeString(pstrdup(function)));
	Oid funcid = LookupFuncName(name, nargs, types, false);
	FmgrInfo flinfo;
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	Oid user;
	int context;
	int nest;
	Datum result;

	/* An error on the way restores user and settings, as the (sub)transaction ends. */
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(kin_extension_owner(), context | SECURITY_LOCAL_USERID_CHANGE);
	nest = kin_pin_settings();

	fmgr_info(funcid, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, nargs, InvalidOid, NULL, NULL);
	for (int i = 0; i < nargs; i++)
	{
		fcinfo->args[i].value = values[i];
		fcinfo->args[i].isnull = false;
	}
	result = FunctionCallInvoke(fcinfo);

	AtEOXact_GUC(true, nest);
	SetUserIdAndSecContext(user, context);
	return result;
}
