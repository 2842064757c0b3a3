/*
 * failure_send.c - sends the record of a discarded batch to a stream, a table or a function.
 *
 * Owns:    nothing.
 * Locking: that of a put or of the statement that is run.
 * Runs in: backends and workers of a primary.
 *
 * The destination belongs to the mapping's owner, whom our caller has made the current user: all rights asked for here
 * are his, and what he has created runs as him.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "access_check.h"
#include "compat.h"
#include "failure_send.h"
#include "record_put.h"
#include "sql_run.h"

#define OPERATION "PutRecord"

PG_FUNCTION_INFO_V1(kin_send_failure);

/* The part behind the kind of a destination; NULL when it is of another kind. */
static const char *
destination_in(const char *on_failure, const char *kind)
{
	size_t len = strlen(kind);

	return strncmp(on_failure, kind, len) == 0 && on_failure[len] == ':' ? on_failure + len + 1 : NULL;
}

/* Records of one shard stay in order: its id is the partition key. */
static char *
shard_id_in(Jsonb *record)
{
	JsonbValue *info = NULL;
	JsonbValue *id = NULL;

	if (JB_ROOT_IS_OBJECT(record))
		info = getKeyJsonValueFromContainer(&record->root, "KinesisBatchInfo", strlen("KinesisBatchInfo"), NULL);
	if (info && info->type == jbvBinary && JsonContainerIsObject(info->val.binary.data))
		id = getKeyJsonValueFromContainer(info->val.binary.data, "shardId", strlen("shardId"), NULL);
	if (id == NULL || id->type != jbvString)
		elog(ERROR, "invocation record has no shard id");
	return pnstrdup(id->val.string.val, id->val.string.len);
}

/* The record's text, in UTF-8 as everything in streams that is JSON. */
static char *
json_text(Jsonb *record, Size *len)
{
	char *text = JsonbToCString(NULL, &record->root, VARSIZE(record));
	char *converted = pg_server_to_any(text, strlen(text), PG_UTF8);

	*len = strlen(converted);
	return converted;
}

static void
send_to_stream(const char *name, Jsonb *record)
{
	KinStream *stream = kin_put_open(name, OPERATION);
	KinPutEntry entry = {0};

	entry.key = shard_id_in(record);
	entry.key_len = strlen(entry.key);
	entry.data = json_text(record, &entry.data_len);
	if (entry.data_len + entry.key_len > (Size) stream->max_record_bytes)
	{
		/* What the batch was can be read from its own stream, for as long as that keeps it. */
		Datum without = DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(record), CStringGetTextDatum("payload"));

		entry.data = json_text(DatumGetJsonbP(without), &entry.data_len);
	}
	kin_put(name, &entry, 1, KIN_APPEND_ALL, -1, OPERATION, &stream);
}

static List *
qualified_name(const char *name)
{
	List *names = textToQualifiedNameList(cstring_to_text(name));

	if (list_length(names) != 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME), errmsg("destination \"%s\" is not of the form schema.name", name)));
	return names;
}

/*
 * The table is looked at, and then found by its name once more.  Its lock keeps it where it is, but for who renames its whole schema:
 * then what was done is undone by an error.
 */
static void
send_to_table(const char *name, Oid owner_then, Jsonb *record)
{
	List *names = qualified_name(name);
	Relation table = table_openrv_extended(makeRangeVarFromNameList(names), RowExclusiveLock, true);
	char *schema = strVal(linitial(names));
	Oid types[] = {JSONBOID};
	Datum values[] = {JsonbPGetDatum(record)};
	char *query;
	int nest;
	int result;
	Oid relid;

	if (table == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("destination table %s does not exist", name)));
	relid = RelationGetRelid(table);
	kin_require_chosen(table->rd_rel->relowner, owner_then, GetUserId(), psprintf("table %s", name));
	table_close(table, NoLock);

	nest = kin_pin_path(schema);
	SPI_connect();
	query = psprintf("INSERT INTO %s (invocation_record) VALUES ($1)",
					 quote_qualified_identifier(schema, strVal(lsecond(names))));
	result = SPI_execute_with_args(query, 1, types, values, NULL, false, 0);
	if (result < 0)
		elog(ERROR, "\"%s\" failed: %s", query, SPI_result_code_string(result));
	SPI_finish();
	AtEOXact_GUC(true, nest);
	if (get_relname_relid(strVal(lsecond(names)), get_namespace_oid(schema, true)) != relid)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("destination table %s was replaced while it was written to", name)));
}

/* Called by its OID, so that it is the one that was looked at. */
static void
send_to_function(const char *name, Oid owner_then, Jsonb *record)
{
	List *names = qualified_name(name);
	Oid types[] = {JSONBOID};
	Oid function = LookupFuncName(names, lengthof(types), types, true);
	FmgrInfo flinfo;
	LOCAL_FCINFO(fcinfo, 1);
	int nest;

	if (!OidIsValid(function) || get_func_prokind(function) != PROKIND_FUNCTION || get_func_retset(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("destination function %s(jsonb) does not exist", name)));
	kin_require_chosen(kin_function_owner(function), owner_then, GetUserId(), psprintf("function %s", name));
	if (!kin_may_execute(function, GetUserId()))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, name);
	nest = kin_pin_path(strVal(linitial(names)));
	fmgr_info(function, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0] = (NullableDatum){.value = JsonbPGetDatum(record)};
	(void) FunctionCallInvoke(fcinfo);
	AtEOXact_GUC(true, nest);
}

void
kin_failure_send(const char *on_failure, Oid owner_then, Jsonb *record)
{
	const char *name;

	if ((name = destination_in(on_failure, "stream")) != NULL)
		send_to_stream(name, record);
	else if ((name = destination_in(on_failure, "table")) != NULL)
		send_to_table(name, owner_then, record);
	else if ((name = destination_in(on_failure, "function")) != NULL)
		send_to_function(name, owner_then, record);
	else
		elog(ERROR, "unknown kind of destination \"%s\"", on_failure);
}

/* kinesis._failure_send(on_failure, record), for tests. */
Datum
kin_send_failure(PG_FUNCTION_ARGS)
{
	kin_failure_send(text_to_cstring(PG_GETARG_TEXT_PP(0)), InvalidOid, PG_GETARG_JSONB_P(1));
	PG_RETURN_VOID();
}
