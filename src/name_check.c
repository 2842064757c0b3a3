/*
 * name_check.c - names of streams and shards: the one place with their rules, for C and for SQL.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: backends.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "error_report.h"
#include "name_check.h"
#include "settings_define.h"

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

PG_FUNCTION_INFO_V1(kin_stream_name);
PG_FUNCTION_INFO_V1(kin_shard_index);
PG_FUNCTION_INFO_V1(kin_check_name);

static void
refuse(const char *value, const char *field, const char *constraint)
{
	kin_hide_context();
	ereport(ERROR, (kin_errcode(KIN_VALIDATION),
					errmsg("1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: %s", value,
						   field, constraint)));
}

static void
check_name(const char *name, const char *field)
{
	if (*name == '\0')
		refuse(name, field, "Member must have length greater than or equal to 1");
	if (pg_mbstrlen(name) > KIN_NAME_MAX)
		refuse(name, field, "Member must have length less than or equal to 128");
	if (name[strspn(name, NAME_CHARACTERS)] != '\0')
		refuse(name, field, "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+");
}

char *
kin_stream_arn(const char *name)
{
	return psprintf("arn:aws:kinesis:%s:%s:stream/%s", kin_region_setting, kin_account_id_setting, name);
}

const char *
kin_name_in_arn(const char *name)
{
	char *prefix;

	if (strncmp(name, "arn:", 4) != 0)
		return name;
	prefix = kin_stream_arn("");
	if (strncmp(name, prefix, strlen(prefix)) != 0 || strchr(name + strlen(prefix), '/') != NULL)
	{
		kin_hide_context();
		ereport(ERROR,
				(kin_errcode(KIN_INVALID_ARGUMENT), errmsg("\"%s\" is not the ARN of a stream of this database", name),
				 errhint("ARNs of streams here begin with %s.", prefix)));
	}
	return name + strlen(prefix);
}

void
kin_check_stream_name(const char *name)
{
	check_name(name, "streamName");
}

/* kinesis._stream_name(stream): the checked name in a name or an ARN. */
Datum
kin_stream_name(PG_FUNCTION_ARGS)
{
	const char *name;

	if (PG_ARGISNULL(0))
		kin_refuse_null("streamName");
	name = kin_name_in_arn(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	kin_check_stream_name(name);
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

char *
kin_shard_id(int32 index)
{
	char *id = pstrdup("shardId-000000000000");

	for (char *p = id + strlen(id) - 1; index > 0; index /= 10)
		*p-- = '0' + index % 10;
	return id;
}

int32
kin_shard_index_in(const char *shard_id, const char *field, const char *stream_name)
{
	const char *digits = strrchr(shard_id, '-');
	int64 index = 0;

	check_name(shard_id, field);
	digits = digits ? digits + 1 : shard_id;
	for (const char *p = digits; *p && index <= PG_INT32_MAX; p++)
		index = *p >= '0' && *p <= '9' ? index * 10 + (*p - '0') : INT64CONST(1) + PG_INT32_MAX;
	if (*digits == '\0' || index > PG_INT32_MAX)
	{
		kin_hide_context();
		ereport(ERROR,
				(kin_errcode(KIN_RESOURCE_NOT_FOUND), errmsg("Could not find shard %s in stream %s under account %s.",
															 shard_id, stream_name, kin_account_id_setting)));
	}
	return (int32) index;
}

/* kinesis._shard_index(shard_id, field, stream_name) */
Datum
kin_shard_index(PG_FUNCTION_ARGS)
{
	char *field = text_to_cstring(PG_GETARG_TEXT_PP(1));

	if (PG_ARGISNULL(0))
		kin_refuse_null(field);
	PG_RETURN_INT32(
		kin_shard_index_in(text_to_cstring(PG_GETARG_TEXT_PP(0)), field, text_to_cstring(PG_GETARG_TEXT_PP(2))));
}

/* kinesis._check_name(name, field): raises when it can't be the name of anything. */
Datum
kin_check_name(PG_FUNCTION_ARGS)
{
	char *field = text_to_cstring(PG_GETARG_TEXT_PP(1));

	if (PG_ARGISNULL(0))
		kin_refuse_null(field);
	check_name(text_to_cstring(PG_GETARG_TEXT_PP(0)), field);
	PG_RETURN_VOID();
}
