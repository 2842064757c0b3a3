/*
 * connection.c - sessions that come back after the server has been killed; errors that nobody expects.
 *
 * Owns:    the count of faults; each thread has a connection of its own.
 * Locking: counts are atomic; the longest time away may lose a race, it is only shown.
 * Runs in: every thread of the stress client.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stress.h"

#define FAULTS_SHOWN 20

Work work;
long faults_met;
double away;

/* Something that must not happen while the load runs, whatever the lists say in the end. */
void
fault(const char *format, ...)
{
	va_list arguments;
	char text[1000];

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (__sync_fetch_and_add(&faults_met, 1) < FAULTS_SHOWN)
		fprintf(stderr, "FAULT: %s%s", text, text[0] && text[strlen(text) - 1] == '\n' ? "" : "\n");
}

/*
 * An error is a fault, unless its SQLSTATE is among those allowed (one space apart) or it is the server that goes away:
 * then the caller connects anew.
 */
void
check_error(PGconn *conn, const PGresult *result, const char *what, const char *allowed)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (PQresultStatus(result) != PGRES_FATAL_ERROR && PQresultStatus(result) != PGRES_BAD_RESPONSE)
		return;
	if (PQstatus(conn) != CONNECTION_OK)
		return;
	if (state == NULL || strstr(allowed, state) == NULL)
		fault("%s: %s %s", what, state ? state : "no SQLSTATE", PQresultErrorMessage(result));
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

void
pause_ms(int ms)
{
	struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};

	nanosleep(&t, NULL);
}

unsigned
draw(unsigned *seed, unsigned below)
{
	return rand_r(seed) % below;
}

/* Opens a connection, or opens it anew; tries until the server answers. */
PGconn *
connect_again(PGconn *conn, const char *conninfo)
{
	double since = now();

	if (conn)
	{
		PQfinish(conn);
		COUNT(reconnects);
	}
	for (int i = 0; i < 1200; i++)
	{
		conn = PQconnectdb(conninfo);
		if (PQstatus(conn) == CONNECTION_OK)
		{
			PQclear(PQexec(conn, "SET client_min_messages = error"));
			if (now() - since > away)
				away = now() - since;
			return conn;
		}
		PQfinish(conn);
		pause_ms(50);
	}
	fault("the server did not come back within a minute");
	exit(2);
}

/* Result of a statement; NULL when the connection is lost.  An SQL error is a result, too: its caller looks. */
PGresult *
ask(PGconn *conn, const char *sql, int n, const char *const *values)
{
	PGresult *result = PQexecParams(conn, sql, n, NULL, values, NULL, NULL, 0);

	if (PQstatus(conn) == CONNECTION_OK)
		return result;
	PQclear(result);
	return NULL;
}

/* Runs a statement; false when it failed for whatever reason. */
bool
tell(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);
	bool good = PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK;

	PQclear(result);
	return good;
}
