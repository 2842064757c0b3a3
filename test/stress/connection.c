/*
 * connection.c - sessions that come back after the server has been killed.
 *
 * Owns:    nothing; each thread has a connection of its own.
 * Locking: none.
 * Runs in: every thread of the stress client.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stress.h"

long reconnects;

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
	if (conn)
	{
		PQfinish(conn);
		__sync_fetch_and_add(&reconnects, 1);
	}
	for (int i = 0; i < 1200; i++)
	{
		conn = PQconnectdb(conninfo);
		if (PQstatus(conn) == CONNECTION_OK)
		{
			PQclear(PQexec(conn, "SET client_min_messages = error"));
			return conn;
		}
		PQfinish(conn);
		pause_ms(50);
	}
	fprintf(stderr, "the server did not come back within a minute\n");
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
