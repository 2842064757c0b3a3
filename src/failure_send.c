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

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "access_check.h"
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

/* Runs a statement of the form "... %s ..." with the destination's name in it and the record as $1. */
static void
run_with_record(const char *form, List *names, Jsonb *record)
{
	const char *name = quote_qualified_identifier(strVal(linitial(names)), strVal(lsecond(names)));
	Oid types[] = {JSONBOID};
	Datum values[] = {JsonbPGetDatum(record)};
	char *query;
	int result;
	int nest = kin_pin_path(strVal(linitial(names)));

	SPI_connect();
	query = psprintf(form, name);
	result = SPI_execute_with_args(query, 1, types, values, NULL, false, 0);
	if (result < 0)
		elog(ERROR, "\"%s\" failed: %s", query, SPI_result_code_string(result));
	SPI_finish();
	AtEOXact_GUC(true, nest);
}

static void
send_to_table(const char *name, Oid owner_then, Jsonb *record)
{
	List *names = qualified_name(name);
	Oid table = RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, true);

	if (!OidIsValid(table))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("destination table %s does not exist", name)));
	kin_require_chosen(kin_owner_of(RELOID, table), owner_then, GetUserId(), psprintf("table %s", name));
	run_with_record("INSERT INTO %s (invocation_record) VALUES ($1)", names, record);
}

static void
send_to_function(const char *name, Oid owner_then, Jsonb *record)
{
	List *names = qualified_name(name);
	Oid types[] = {JSONBOID};
	Oid function = LookupFuncName(names, lengthof(types), types, true);

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("destination function %s(jsonb) does not exist", name)));
	kin_require_chosen(kin_owner_of(PROCOID, function), owner_then, GetUserId(), psprintf("function %s", name));
	run_with_record("SELECT %s($1)", names, record);
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
