/*
 * restore_finish.c - notices that a stream was brought here by a logical restore, and puts it in order.
 *
 * Owns:    the name of this copy of the database; kinesis.stream.home holds the one a stream was last in order in.
 * Locking: kinesis._finish_restore() takes the stream's row lock, and locks a slice exclusively when it must be rewritten.
 * Runs in: the first backend that touches a restored stream.
 *
 * pg_dump reads a slice in number order, but COPY fills free space of earlier pages when record sizes vary, so the
 * restored heap may not be a log.  A physical copy (base backup, standby, pg_upgrade) keeps places as they are.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "error_report.h"
#include "restore_finish.h"
#include "sql_run.h"

PG_FUNCTION_INFO_V1(kin_home);

const char *
kin_home_name(void)
{
	static char home[64];

	if (home[0] == '\0')
		snprintf(home, sizeof(home), UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId);
	return home;
}

void
kin_finish_restore(int64 stream_id, const char *stream_name)
{
	const Oid types[1] = {INT8OID};
	const Datum values[1] = {Int64GetDatum(stream_id)};
	static bool running = false;

	if (running)
		return; /* the SQL below looks the stream up, too */
	if (RecoveryInProgress() || XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream %s was restored from a dump and has not been put in order yet", stream_name),
				 errhint("Call kinesis.finish_restore() once on the primary, in a transaction that may write.")));
	running = true;
	PG_TRY();
	{
		kin_run_sql("_finish_restore", 1, types, values);
	}
	PG_FINALLY();
	{
		running = false;
	}
	PG_END_TRY();
}

/* kinesis._home() */
Datum
kin_home(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(kin_home_name()));
}
