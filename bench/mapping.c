/*
 * mapping.c - event source mappings for the goals of callbacks: made, watched, deleted.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: the benchmark client, main thread.
 *
 * Nothing tells from outside that a lane rests.  But a lane that has something to do has a worker or waits for one, so
 * all of them rest when no worker was busy for a while.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mapping.h"
#include "session.h"

#define CALM_SECONDS  0.5
#define POLL_MICROSEC 2000

/* Makes a mapping and gives its UUID, for which there must be UUID_SIZE bytes; more: further arguments, or "". */
void
mapping_create(PGconn *conn, char *uuid, const char *stream, const char *function, const char *position,
			   const char *more)
{
	char *text = session_text(conn, "SELECT kinesis.create_event_source_mapping('%s', '%s', '%s'%s)", stream, function,
							  position, more);

	snprintf(uuid, UUID_SIZE, "%s", text);
	free(text);
}

void
mapping_enable(PGconn *conn, const char *uuid)
{
	session_run(conn, "SELECT kinesis.update_event_source_mapping('%s', enabled => true)", uuid);
}

void
mapping_delete(PGconn *conn, const char *uuid)
{
	session_run(conn, "SELECT kinesis.delete_event_source_mapping('%s')", uuid);
}

/* Records that its function has worked on. */
int64_t
mapping_records(PGconn *conn, const char *uuid)
{
	return session_int64(conn, "SELECT sum(records)::bigint FROM kinesis.event_source_mapping_lanes WHERE uuid = '%s'",
						 uuid);
}

/* Waits until the scheduler has seen all changes and no worker has had a lane for a while; when the last one had one. */
double
mappings_await_rest(PGconn *conn, double patience)
{
	double deadline = now() + patience;
	double last_busy = now();

	while (now() < last_busy + CALM_SECONDS)
	{
		if (now() > deadline)
			die("the mappings are still at work after %.0f s", patience);
		if (session_int64(conn, "SELECT (SELECT count(*) FROM kinesis._running_lanes())"
								" + (SELECT count(*) FROM kinesis.event_source_mappings WHERE state <> 'Enabled')") > 0)
			last_busy = now();
		usleep(POLL_MICROSEC);
	}
	return last_busy;
}

static double
cpu_seconds_of(int pid)
{
	char path[64];
	char line[1024];
	char *after_name;
	unsigned long user;
	unsigned long system;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (file == NULL || fgets(line, sizeof(line), file) == NULL)
		die("could not read %s: run the client on the server's machine", path);
	fclose(file);
	after_name = strrchr(line, ')');
	if (after_name == NULL ||
		sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
		die("%s has no times", path);
	return (double) (user + system) / sysconf(_SC_CLK_TCK);
}

static int64_t
sleeps_of(int pid)
{
	char path[64];
	char line[256];
	long sleeps = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	if (file == NULL)
		die("could not read %s", path);
	while (fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "voluntary_ctxt_switches: %ld", &sleeps) == 1)
			break;
	fclose(file);
	if (sleeps < 0)
		die("%s has no voluntary_ctxt_switches", path);
	return sleeps;
}

/* Launcher, schedulers and workers, as they are now; there must be room for BACKGROUND_LIMIT. */
int
background_list(PGconn *conn, Background *list)
{
	PGresult *result = PQexec(conn, "SELECT pid, (backend_type = 'kinesis worker')::int FROM pg_stat_activity"
									" WHERE backend_type LIKE 'kinesis %' ORDER BY pid");
	int count = PQntuples(result);

	if (PQresultStatus(result) != PGRES_TUPLES_OK || count > BACKGROUND_LIMIT)
		die("could not list the background processes: %s", PQerrorMessage(conn));
	for (int i = 0; i < count; i++)
	{
		list[i].pid = atoi(PQgetvalue(result, i, 0));
		list[i].is_worker = atoi(PQgetvalue(result, i, 1));
		list[i].cpu_seconds = cpu_seconds_of(list[i].pid);
		list[i].sleeps = sleeps_of(list[i].pid);
	}
	PQclear(result);
	return count;
}
