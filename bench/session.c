/*
 * session.c - connections to the server: opening them, running commands, prepared calls in binary.
 *
 * Owns:    the connection string, set once before any thread starts.
 * Locking: none; a connection belongs to one thread.
 * Runs in: the benchmark client, any thread.
 *
 * Any error ends the program: a benchmark with a failed call in it has no result.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "session.h"

static const char *target = "";

void
session_target(const char *conninfo)
{
	target = conninfo;
}

/* Seconds of the clock that never goes back. */
double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

void
die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

/* Tells the person who waits what is going on; the results go to standard output. */
void
say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

/* A connection of the caller's own, after running the setup command (NULL: none). */
PGconn *
session_open(const char *setup)
{
	PGconn *conn = PQconnectdb(target);

	if (PQstatus(conn) != CONNECTION_OK)
		die("could not connect: %s", PQerrorMessage(conn));
	session_run(conn, "SET client_min_messages = warning");
	if (setup != NULL)
		session_run(conn, "%s", setup);
	return conn;
}

/* Ends the program unless the result has the wanted status. */
static void
check_status(PGconn *conn, PGresult *result, ExecStatusType status, const char *what)
{
	if (PQresultStatus(result) != status)
		die("%s: %s", what, PQerrorMessage(conn));
}

static PGresult *
run_formatted(PGconn *conn, const char *format, va_list args)
{
	char sql[4096];
	PGresult *result;
	ExecStatusType status;

	if (vsnprintf(sql, sizeof(sql), format, args) >= (int) sizeof(sql))
		die("a command is longer than %zu bytes: %s", sizeof(sql), sql);
	result = PQexec(conn, sql);
	status = PQresultStatus(result);
	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		die("%s: %s", sql, PQerrorMessage(conn));
	return result;
}

/* Runs a command whose result nobody wants. */
void
session_run(PGconn *conn, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	PQclear(run_formatted(conn, format, args));
	va_end(args);
}

/* The first column of the first row as a number. */
int64_t
session_int64(PGconn *conn, const char *format, ...)
{
	va_list args;
	PGresult *result;
	int64_t value;

	va_start(args, format);
	result = run_formatted(conn, format, args);
	va_end(args);
	if (PQntuples(result) < 1 || PQgetisnull(result, 0, 0))
		die("no number from: %s", format);
	value = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
	PQclear(result);
	return value;
}

/* The first column of the first row as text, to be freed by the caller. */
char *
session_text(PGconn *conn, const char *format, ...)
{
	va_list args;
	PGresult *result;
	char *value;

	va_start(args, format);
	result = run_formatted(conn, format, args);
	va_end(args);
	if (PQntuples(result) < 1)
		die("no row from: %s", format);
	value = strdup(PQgetvalue(result, 0, 0));
	PQclear(result);
	return value;
}

void
session_prepare(PGconn *conn, const char *name, const char *sql)
{
	PGresult *result = PQprepare(conn, name, sql, 0, NULL);

	check_status(conn, result, PGRES_COMMAND_OK, sql);
	PQclear(result);
}

static PGresult *
call_prepared(PGconn *conn, const char *name, const Param *params, int count)
{
	const char *values[CALL_MAX_PARAMS];
	int lengths[CALL_MAX_PARAMS];
	int formats[CALL_MAX_PARAMS];

	if (count > CALL_MAX_PARAMS)
		die("a call with %d parameters", count);
	for (int i = 0; i < count; i++)
	{
		values[i] = params[i].value;
		lengths[i] = params[i].length;
		formats[i] = 1;
	}
	return PQexecPrepared(conn, name, count, values, lengths, formats, 1);
}

/* Calls a prepared statement that returns rows; parameters and results are binary. */
PGresult *
session_call(PGconn *conn, const char *name, const Param *params, int count)
{
	PGresult *result = call_prepared(conn, name, params, count);

	check_status(conn, result, PGRES_TUPLES_OK, name);
	return result;
}

/* Calls a prepared statement that returns no rows. */
void
session_call_void(PGconn *conn, const char *name, const Param *params, int count)
{
	PGresult *result = call_prepared(conn, name, params, count);

	check_status(conn, result, PGRES_COMMAND_OK, name);
	PQclear(result);
}

/* One COPY FROM STDIN of data that is already in COPY's format, in a transaction of its own. */
void
session_copy_in(PGconn *conn, const char *sql, const char *data, int length)
{
	PGresult *result = PQexec(conn, sql);

	check_status(conn, result, PGRES_COPY_IN, sql);
	PQclear(result);
	if (PQputCopyData(conn, data, length) != 1 || PQputCopyEnd(conn, NULL) != 1)
		die("%s: %s", sql, PQerrorMessage(conn));
	result = PQgetResult(conn);
	check_status(conn, result, PGRES_COMMAND_OK, sql);
	PQclear(result);
	while ((result = PQgetResult(conn)) != NULL)
		PQclear(result);
}

/* Where the WAL ends now, in bytes since its beginning. */
int64_t
session_wal(PGconn *conn)
{
	return session_int64(conn, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint");
}

/* A text needs no conversion to be a binary parameter. */
Param
text_param(const char *text)
{
	return (Param){.value = text, .length = (int) strlen(text)};
}
