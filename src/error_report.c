/*
 * error_report.c - reports AWS errors with their SQLSTATEs, from C and from SQL.
 *
 * Owns:    the table in error_report.h, in constant memory.
 * Locking: none.
 * Runs in: backends and workers.
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/builtins.h"

#include "error_report.h"

typedef struct KinErrorEntry
{
	const char *name;
	const char *sqlstate;
	const char *message;
} KinErrorEntry;

#define KIN_ERROR_ENTRY(id, name, sqlstate, message) [id] = {name, sqlstate, message},
static const KinErrorEntry error_table[KIN_ERROR_COUNT] = {KIN_ERRORS(KIN_ERROR_ENTRY)};

bool kin_control_context_known;
ErrorContextCallback *kin_control_context;

PG_FUNCTION_INFO_V1(kin_raise);
PG_FUNCTION_INFO_V1(kin_error_codes);

/* The AWS name of an error, as clients of the API know it. */
const char *
kin_error_name(KinError error)
{
	return error_table[error].name;
}

/*
 * Auxiliary of ereport(): sets the SQLSTATE and a detail that names the AWS error.  A later errdetail() of the caller
 * replaces that detail.
 */
int
kin_errcode(KinError error)
{
	const char *state = error_table[error].sqlstate;

	errcode(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]));
	errdetail("AWS error: %s.", error_table[error].name);
	return 0;
}

/*
 * Before an error is raised from inside a control-plane function: the user has called one function, and that it is made
 * of others in PL/pgSQL is no context of interest.
 */
void
kin_hide_context(void)
{
	if (kin_control_context_known)
		error_context_stack = kin_control_context;
}

void
kin_refuse_null(const char *field)
{
	kin_hide_context();
	ereport(
		ERROR,
		(kin_errcode(KIN_VALIDATION),
		 errmsg("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null",
				field)));
}

static KinError
error_by_name(const char *name)
{
	for (int i = 0; i < KIN_ERROR_COUNT; i++)
		if (strcmp(error_table[i].name, name) == 0)
			return (KinError) i;
	elog(ERROR, "unknown AWS error \"%s\"", name);
}

void
kin_require_columns(TupleDesc columns, int count)
{
	if (columns->natts != count)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("type %s has %d columns instead of %d", format_type_be(columns->tdtypeid),
							   columns->natts, count),
						errhint("It was altered. The extension's types must stay as CREATE EXTENSION made them.")));
}

/* kinesis._raise(error, message, detail, hint): the SQL side of kin_errcode(); a null message means the table's own. */
Datum
kin_raise(PG_FUNCTION_ARGS)
{
	KinError error = error_by_name(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	const char *message = PG_ARGISNULL(1) ? error_table[error].message : text_to_cstring(PG_GETARG_TEXT_PP(1));
	const char *detail = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	const char *hint = PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3));

	kin_hide_context();
	ereport(ERROR, (kin_errcode(error), errmsg_internal("%s", message), detail ? errdetail_internal("%s", detail) : 0,
					hint ? errhint("%s", hint) : 0));
	PG_RETURN_VOID();
}

/* kinesis.error_codes(): the table as rows (error, sqlstate, message). */
Datum
kin_error_codes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < KIN_ERROR_COUNT; i++)
	{
		Datum values[3] = {CStringGetTextDatum(error_table[i].name), CStringGetTextDatum(error_table[i].sqlstate),
						   CStringGetTextDatum(error_table[i].message)};
		bool nulls[3] = {false, false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
