/*
 * goal_callback_drain.c - goal 9: how fast a mapping's function takes what is in a shard.
 *
 * Owns:    the stream and the plain heap with the same rows, made once for all rounds.
 * Locking: none.
 * Runs in: the benchmark client, main thread.
 *
 * The function inserts its batch into a table by one INSERT ... SELECT.  The floor is the same INSERT ... SELECT from a
 * heap of the same rows, as one statement of one session.  The clock runs from just before the mapping is enabled to its
 * last commit, as the lane's row tells it (processed_at).
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "drain_prepare.h"
#include "goals.h"
#include "mapping.h"
#include "results.h"
#include "session.h"

#define PATIENCE 300.0

#define FUNCTION                                                                                                       \
	"CREATE FUNCTION bench_load(records kinesis.record[], context kinesis.batch_context) RETURNS void"                 \
	" LANGUAGE plpgsql AS $$"                                                                                          \
	"BEGIN"                                                                                                            \
	"    INSERT INTO bench_loaded SELECT " DRAIN_COLUMNS " FROM unnest(records);"                                      \
	"END $$"

/* An empty table, and nothing that the other way has left to be written. */
static void
begin_anew(const Drain *drain)
{
	session_run(drain->conn, "DROP TABLE IF EXISTS bench_loaded");
	session_run(drain->conn, "CREATE TABLE bench_loaded (LIKE bench_plain)");
	session_run(drain->conn, "CHECKPOINT");
}

static void
check_loaded(const Drain *drain)
{
	int64_t found = session_int64(drain->conn, "SELECT count(*) FROM bench_loaded");

	if (found != drain->records)
		die("%lld records of %lld were loaded", (long long) found, (long long) drain->records);
}

static double
drain_mapping(const Drain *drain)
{
	char uuid[UUID_SIZE];
	double deadline = now() + PATIENCE;
	struct timespec enabled;
	char *last;
	double seconds;

	begin_anew(drain);
	mapping_create(drain->conn, uuid, drain->name, "public.bench_load", "TRIM_HORIZON",
				   ", batch_size => 10000, enabled => false");
	clock_gettime(CLOCK_REALTIME, &enabled);
	mapping_enable(drain->conn, uuid);
	while (mapping_records(drain->conn, uuid) < drain->records)
	{
		if (now() > deadline)
			die("the mapping has not drained the shard in %.0f s", PATIENCE);
		usleep(20000);
	}
	last = session_text(drain->conn,
						"SELECT extract(epoch FROM max(processed_at)) FROM kinesis.event_source_mapping_lanes"
						" WHERE uuid = '%s'",
						uuid);
	seconds = strtod(last, NULL) - (enabled.tv_sec + enabled.tv_nsec / 1e9);
	free(last);
	check_loaded(drain);
	mapping_delete(drain->conn, uuid);
	return seconds;
}

static double
drain_heap(const Drain *drain)
{
	double started;
	double seconds;

	begin_anew(drain);
	started = now();
	session_run(drain->conn, "INSERT INTO bench_loaded SELECT " DRAIN_COLUMNS " FROM bench_plain");
	seconds = now() - started;
	check_loaded(drain);
	return seconds;
}

void
goal_callback_drain(void)
{
	Drain drain;
	int64_t records = scaled(3000, 20) * BATCH_RECORDS;
	Cell *cell = cell_make(9, RECORDS_A_SECOND, MORE_IS_BETTER, 0.7,
						   "a mapping inserts batches of 10,000 x 100 B / INSERT ... SELECT from a heap");

	say("goal 9: a mapping drains %lld records of 100 B", (long long) records);
	drain_prepare(&drain, records);
	session_run(drain.conn, FUNCTION);

	for (int round = -1; round < settings.rounds; round++)
	{
		double ours = 0;
		double floor;

		if (round % 2 == 0)
			ours = records / drain_mapping(&drain);
		floor = records / drain_heap(&drain);
		if (round % 2 != 0)
			ours = records / drain_mapping(&drain);
		if (round < 0)
			continue; /* warm-up */
		cell_add(cell, ours, floor);
		say("  round %d: mapping %.0f/s, INSERT ... SELECT %.0f/s", round + 1, ours, floor);
	}
	session_run(drain.conn, "DROP FUNCTION bench_load");
	session_run(drain.conn, "DROP TABLE bench_loaded");
	drain_end(&drain);
}
