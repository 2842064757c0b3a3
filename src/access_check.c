/*
 * access_check.c - decides whether a role may do something with a stream.
 *
 * Owns:    nothing: rights are the privileges of the stream's table, so GRANT, DROP OWNED, role membership and pg_dump
 *          work on them as on any table.
 * Locking: none.
 * Runs in: backends.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "access_check.h"
#include "error_report.h"

PG_FUNCTION_INFO_V1(kin_require);

static bool
is_member(Oid role, const char *name)
{
	Oid group = get_role_oid(name, true);

	return OidIsValid(group) && has_privs_of_role(role, group);
}

static bool
has_right(KinStream *stream, Oid role, KinRight right)
{
	switch (right)
	{
		case KIN_RIGHT_PRODUCER:
			return pg_class_aclcheck(stream->table, role, ACL_INSERT) == ACLCHECK_OK;
		case KIN_RIGHT_CONSUMER:
			return pg_class_aclcheck(stream->table, role, ACL_SELECT) == ACLCHECK_OK;
		case KIN_RIGHT_ADMIN:
			return pg_class_aclcheck(stream->table, role, ACL_TRUNCATE) == ACLCHECK_OK;
		case KIN_RIGHT_DESCRIBE:
			return pg_class_aclmask(stream->table, role, ACL_INSERT | ACL_SELECT | ACL_TRUNCATE, ACLMASK_ANY) != 0 ||
				   is_member(role, "kinesis_monitor");
		case KIN_RIGHT_CREATE:
			return is_member(role, "kinesis_admin");
	}
	return false;
}

void
kin_require_right(KinStream *stream, Oid role, KinRight right, const char *operation)
{
	static const char *const kinds[] = {
		[KIN_RIGHT_PRODUCER] = "producer",
		[KIN_RIGHT_CONSUMER] = "consumer",
		[KIN_RIGHT_ADMIN] = "admin",
		[KIN_RIGHT_DESCRIBE] = "consumer",
	};
	const char *user;

	if (has_right(stream, role, right))
		return;
	user = GetUserNameFromId(role, false);
	kin_hide_context();
	ereport(ERROR,
			(kin_errcode(KIN_ACCESS_DENIED),
			 errmsg("User: %s is not authorized to perform: kinesis:%s on resource: %s", user, operation,
					kin_stream_arn(stream ? stream->name : "*")),
			 right == KIN_RIGHT_CREATE
				 ? errhint("Membership of role kinesis_admin is missing: GRANT kinesis_admin TO %s.",
						   quote_identifier(user))
				 : errhint("The %s right on the stream is missing: SELECT kinesis.grant_stream(%s, %s, '%s').",
						   kinds[right], quote_literal_cstr(stream->name), quote_literal_cstr(user), kinds[right])));
}

Oid
kin_function_owner(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid owner = HeapTupleIsValid(tuple) ? ((Form_pg_proc) GETSTRUCT(tuple))->proowner : InvalidOid;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return owner;
}

void
kin_require_chosen(Oid owner, Oid owner_then, Oid role, const char *object)
{
	if (owner == owner_then || owner == role || superuser_arg(owner))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("%s belongs to another role than the one that the event source mapping was made for", object),
			 errhint("If that is as it should be, name it again with kinesis.update_event_source_mapping().")));
}

/* kinesis._require(stream_id, right, operation): the same for control-plane code in SQL. */
Datum
kin_require(PG_FUNCTION_ARGS)
{
	static const struct
	{
		const char *name;
		KinRight right;
	} rights[] = {
		{"producer", KIN_RIGHT_PRODUCER}, {"consumer", KIN_RIGHT_CONSUMER}, {"admin", KIN_RIGHT_ADMIN},
		{"describe", KIN_RIGHT_DESCRIBE}, {"create", KIN_RIGHT_CREATE},
	};
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char *operation = text_to_cstring(PG_GETARG_TEXT_PP(2));

	for (size_t i = 0; i < lengthof(rights); i++)
	{
		KinStream *stream;

		if (strcmp(rights[i].name, name) != 0)
			continue;
		stream = PG_ARGISNULL(0) ? NULL : kin_stream_open_by_id(PG_GETARG_INT64(0));
		if (stream == NULL && rights[i].right != KIN_RIGHT_CREATE)
			ereport(ERROR, (kin_errcode(KIN_RESOURCE_NOT_FOUND), errmsg("Stream not found.")));
		kin_require_right(stream, kin_caller(), rights[i].right, operation);
		PG_RETURN_VOID();
	}
	elog(ERROR, "unknown right \"%s\"", name);
}
