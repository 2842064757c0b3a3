/*
 * goal_callback_idle.c - goal 11: what a mapping on 1,000 idle shards costs, and whom one put wakes.
 *
 * Owns:    a stream of 1,000 shards.
 * Locking: none.
 * Runs in: the benchmark client, main thread.
 *
 * How many lanes were looked at is told by the index on mapping_lane: a turn reads its lane by it, and writes it by it when
 * there was something to do.  So a put costs two.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "goals.h"
#include "mapping.h"
#include "results.h"
#include "session.h"
#include "target.h"

#define IDLE_SECONDS      20
#define PATIENCE          120.0
#define SETTLE_MICROSEC   1200000 /* statistics reach the view within a second */
#define SCANS_OF_ONE_LANE 1 /* it is written where it was found */

#define FUNCTION                                                                                                       \
	"CREATE FUNCTION bench_count(records kinesis.record[], context kinesis.batch_context) RETURNS void"                \
	" LANGUAGE plpgsql AS $$ BEGIN PERFORM cardinality(records); END $$"
#define LANES_READ                                                                                                     \
	"SELECT idx_scan FROM pg_stat_user_indexes WHERE schemaname = 'kinesis' AND indexrelname = 'mapping_lane_pkey'"
#define INVOCATIONS "SELECT sum(invocations)::bigint FROM kinesis.event_source_mapping_lanes WHERE uuid = '%s'"
#define INVOKED                                                                                                        \
	"SELECT coalesce(sum(invocations), 0)::bigint FROM kinesis.event_source_mapping_lanes"                             \
	" WHERE uuid = '%s' AND shard_id = '%s'"

/* CPU seconds that launcher, schedulers and workers used meanwhile. */
static double
cpu_meanwhile(PGconn *conn, int seconds)
{
	Background before[BACKGROUND_LIMIT];
	Background after[BACKGROUND_LIMIT];
	int count_before = background_list(conn, before);
	int count_after;
	double used = 0;

	usleep(seconds * 1000000);
	count_after = background_list(conn, after);
	for (int i = 0; i < count_after; i++)
	{
		used += after[i].cpu_seconds;
		for (int j = 0; j < count_before; j++)
			if (before[j].pid == after[i].pid)
				used -= before[j].cpu_seconds;
	}
	if (count_before < 2)
		die("there are only %d background processes", count_before);
	return used;
}

/* Workers that ran between the two lists. */
static int
workers_woken(const Background *before, int count_before, const Background *after, int count_after)
{
	int woken = 0;

	for (int i = 0; i < count_after; i++)
	{
		bool known = false;

		for (int j = 0; j < count_before; j++)
			if (before[j].pid == after[i].pid)
			{
				known = true;
				woken += after[i].is_worker && after[i].sleeps != before[j].sleeps;
			}
		woken += after[i].is_worker && !known;
	}
	return woken;
}

/* One put; how many lanes were looked at. */
static double
lanes_woken(PGconn *conn, const char *stream, const char *uuid, int round)
{
	Background before[BACKGROUND_LIMIT];
	Background after[BACKGROUND_LIMIT];
	int count_before;
	int count_after;
	int64_t reads;
	int64_t invocations = session_int64(conn, INVOCATIONS, uuid);
	int64_t own;
	char *shard;

	shard = session_text(conn, "SELECT kinesis.shard_for_key('%s', 'key-%d')", stream, round);
	own = session_int64(conn, INVOKED, uuid, shard);
	session_run(conn, "SELECT pg_stat_force_next_flush()"); /* our own reads are no lane's */
	usleep(SETTLE_MICROSEC);
	reads = session_int64(conn, LANES_READ);
	count_before = background_list(conn, before);
	session_run(conn, "SELECT kinesis.put_record('%s', 'data', 'key-%d')", stream, round);
	usleep(SETTLE_MICROSEC);
	count_after = background_list(conn, after);
	reads = session_int64(conn, LANES_READ) - reads;
	if (session_int64(conn, INVOCATIONS, uuid) != invocations + 1 ||
		session_int64(conn, INVOKED, uuid, shard) != own + 1)
		die("a put did not invoke the function for its own lane alone");
	say("  round %d: one put: %lld reads of a lane (%d for one lane), %d worker woken", round + 1, (long long) reads,
		SCANS_OF_ONE_LANE, workers_woken(before, count_before, after, count_after));
	free(shard);
	return (double) reads / SCANS_OF_ONE_LANE;
}

void
goal_callback_idle(void)
{
	PGconn *conn = session_open(NULL);
	int shards = scaled(1000, 20);
	char stream[NAME_SIZE];
	Cell *rest = cell_make(11, SECONDS, ABSOLUTE_LIMIT, NO_GOAL,
						   "from a mapping's creation until its lanes in %d shards rest", shards);
	Cell *idle = cell_make(11, MILLISECONDS, ABSOLUTE_LIMIT, 10,
						   "CPU a second of launcher, scheduler and workers, %d idle shards", shards);
	Cell *woken = cell_make(11, COUNT, ABSOLUTE_LIMIT, 1, "lanes looked at for one put, %d shards", shards);

	say("goal 11: a mapping on %d idle shards", shards);
	session_run(conn, FUNCTION);
	stream_create(conn, stream, shards);
	for (int round = 0; round < settings.rounds; round++)
	{
		char uuid[UUID_SIZE];
		double started = now();
		double used;

		mapping_create(conn, uuid, stream, "public.bench_count", "LATEST", "");
		started = mappings_await_rest(conn, PATIENCE) - started;
		cell_add(rest, started, 0);
		used = cpu_meanwhile(conn, IDLE_SECONDS) / IDLE_SECONDS;
		cell_add(idle, used * 1000, 0);
		say("  round %d: at rest after %.2f s; %.2f %% of a core while idle", round + 1, started, used * 100);
		cell_add(woken, lanes_woken(conn, stream, uuid, round), 0);
		mapping_delete(conn, uuid);
	}
	stream_drop(conn, stream);
	session_run(conn, "DROP FUNCTION bench_count");
	PQfinish(conn);
}
