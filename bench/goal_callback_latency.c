/*
 * goal_callback_latency.c - goal 8: how long it takes from a put to the function that is called with the record.
 *
 * Owns:    the moments of sending and arrival of one turn.
 * Locking: each list of moments is written by one thread; the main thread reads them when the counter says that all are there.
 * Runs in: the benchmark client; the listener in a thread, the sender in the main thread.
 *
 * The sender looks at the wall clock just before it sends, the function looks at the same clock first of all
 * (clock_timestamp()) and notes it in a table.  The floor is a bare NOTIFY to a session that LISTENs, noted by its client
 * when it has arrived.  A NOTIFY that comes with no other change is not flushed by PostgreSQL even when commits are
 * durable, so a durable one that brings a row with it stands beside it.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "channel_listen.h"
#include "goals.h"
#include "mapping.h"
#include "results.h"
#include "session.h"
#include "target.h"

#define RECORD_SIZE   1024
#define PUTS_A_SECOND 100
#define PUTS_A_TURN   100
#define PATIENCE      30.0

#define FUNCTION                                                                                                       \
	"CREATE FUNCTION bench_stamp_%s(records kinesis.record[], context kinesis.batch_context) RETURNS void"             \
	" LANGUAGE plpgsql AS $$"                                                                                          \
	"DECLARE at timestamptz := clock_timestamp();"                                                                     \
	"BEGIN"                                                                                                            \
	"    %s"                                                                                                           \
	"    INSERT INTO bench_called SELECT at, convert_from(substr(data, 1, 8), 'UTF8')::int FROM unnest(records);"      \
	"END $$"
#define NOTIFY_ROW                                                                                                     \
	"WITH put AS (INSERT INTO bench_notified VALUES ($1, $2) RETURNING key)"                                           \
	" SELECT pg_notify('bench_callback', $3) FROM put"

typedef enum Kind
{
	BY_CALLBACK,
	BY_NOTIFY,
	BY_NOTIFY_WITH_ROW
} Kind;

#define KIND_COUNT 3

typedef struct Samples
{
	int count;
	int size;
	double *times; /* milliseconds */
} Samples;

/* One commit setting: its stream and mapping, its cells. */
typedef struct Group
{
	bool durable;
	char stream[NAME_SIZE];
	char uuid[UUID_SIZE];
	Cell *p50;
	Cell *p99;
	Cell *with_row;
} Group;

static double sent[PUTS_A_TURN];
static double arrived[PUTS_A_TURN];
static atomic_int arrived_count;

/* Seconds since 1970 of the clock that clock_timestamp() reads. */
static double
wall_clock(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void
note_arrival(const char *payload)
{
	int index = atoi(payload);

	if (index < 0 || index >= PUTS_A_TURN)
		die("a notification about %s", payload);
	arrived[index] = wall_clock();
	arrived_count++;
}

static void
send_one(PGconn *conn, const Group *group, Kind kind, int index, Random *random)
{
	char data[RECORD_SIZE];
	char text[9];
	Param key = {payload_key(payload_all_keys(), random), KEY_LENGTH};

	snprintf(text, sizeof(text), "%08d", index);
	memcpy(data, payload_letters(random, RECORD_SIZE), RECORD_SIZE);
	memcpy(data, text, 8);
	sent[index] = wall_clock();
	if (kind == BY_CALLBACK)
	{
		Param params[] = {text_param(group->stream), {data, RECORD_SIZE}, key};

		PQclear(session_call(conn, "put", params, 3));
	}
	else if (kind == BY_NOTIFY)
	{
		Param params[] = {text_param(text)};

		PQclear(session_call(conn, "notify", params, 1));
	}
	else
	{
		Param params[] = {{data, RECORD_SIZE}, key, text_param(text)};

		PQclear(session_call(conn, "notify_row", params, 3));
	}
}

/* Sends at the times of the timetable; a late one does not move the next. */
static void
send_by_timetable(PGconn *conn, const Group *group, Kind kind, Random *random)
{
	struct timespec next;

	clock_gettime(CLOCK_MONOTONIC, &next);
	for (int i = 0; i < PUTS_A_TURN; i++)
	{
		next.tv_nsec += 1000000000 / PUTS_A_SECOND;
		if (next.tv_nsec >= 1000000000)
		{
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		send_one(conn, group, kind, i, random);
	}
}

/* Waits until the function has been called with all records; reads when. */
static void
fetch_calls(PGconn *conn)
{
	double deadline = now() + PATIENCE;
	PGresult *result;

	while (session_int64(conn, "SELECT count(*) FROM bench_called") < PUTS_A_TURN)
	{
		if (now() > deadline)
			die("the function was not called with all records");
		usleep(2000);
	}
	result = PQexec(conn, "SELECT n, extract(epoch FROM at) FROM bench_called ORDER BY n");
	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != PUTS_A_TURN)
		die("the function was called with %d records: %s", PQntuples(result), PQerrorMessage(conn));
	for (int i = 0; i < PUTS_A_TURN; i++)
	{
		if (atoi(PQgetvalue(result, i, 0)) != i)
			die("the function was not called with record %d", i);
		arrived[i] = strtod(PQgetvalue(result, i, 1), NULL);
	}
	PQclear(result);
	session_run(conn, "TRUNCATE bench_called");
}

static void
measure_turn(PGconn *conn, PGconn *sender, const Group *group, Kind kind, Random *random, Samples *samples)
{
	arrived_count = 0;
	send_by_timetable(sender, group, kind, random);
	if (kind == BY_CALLBACK)
		fetch_calls(conn);
	else
		for (double deadline = now() + PATIENCE; arrived_count < PUTS_A_TURN; usleep(2000))
			if (now() > deadline)
				die("%d of %d notifications arrived", arrived_count, PUTS_A_TURN);
	for (int i = 0; samples && i < PUTS_A_TURN; i++)
		samples->times[samples->count++] = (arrived[i] - sent[i]) * 1000;
}

static void
group_round(PGconn *conn, PGconn *sender, Group *group, int round, Samples *samples)
{
	static uint64_t seed = 80;
	Random random = random_from(seed++);
	double p50[KIND_COUNT];
	double p99[KIND_COUNT];

	session_run(sender, "SET synchronous_commit = %s", group->durable ? "on" : "off");
	session_run(conn, "CHECKPOINT");
	for (int kind = 0; kind < KIND_COUNT; kind++)
	{
		samples[kind].count = 0;
		if (round == 0)
			measure_turn(conn, sender, group, kind, &random, NULL); /* warm-up */
	}
	while (samples[0].count < samples[0].size)
		for (int i = 0; i < KIND_COUNT; i++)
		{
			int kind = (i + round) % KIND_COUNT;

			measure_turn(conn, sender, group, kind, &random, &samples[kind]);
		}
	for (int kind = 0; kind < KIND_COUNT; kind++)
	{
		p50[kind] = percentile(samples[kind].times, samples[kind].count, 50);
		p99[kind] = percentile(samples[kind].times, samples[kind].count, 99);
	}
	cell_add(group->p50, p50[BY_CALLBACK], p50[BY_NOTIFY]);
	cell_add(group->p99, p99[BY_CALLBACK], p99[BY_NOTIFY]);
	cell_add(group->with_row, p50[BY_CALLBACK], p50[BY_NOTIFY_WITH_ROW]);
	say("  round %d, %s: p50 %.3f ms (NOTIFY %.3f, with a row %.3f), p99 %.3f ms (NOTIFY %.3f, with a row %.3f)",
		round + 1, group->durable ? "durable" : "relaxed", p50[BY_CALLBACK], p50[BY_NOTIFY], p50[BY_NOTIFY_WITH_ROW],
		p99[BY_CALLBACK], p99[BY_NOTIFY], p99[BY_NOTIFY_WITH_ROW]);
}

static void
group_make(PGconn *conn, Group *group)
{
	const char *commit = group->durable ? "durable" : "synchronous_commit = off";
	const char *name = group->durable ? "durable" : "relaxed";
	char function[NAME_SIZE];

	session_run(conn, FUNCTION, name, group->durable ? "" : "SET LOCAL synchronous_commit = off;");
	stream_create(conn, group->stream, 1);
	snprintf(function, sizeof(function), "public.bench_stamp_%s", name);
	mapping_create(conn, group->uuid, group->stream, function, "LATEST", "");
	group->p50 =
		cell_make(8, MILLISECONDS, COST_LIMIT, 2.0, "put to callback, 1 KB, 100/s, %s, p50 / NOTIFY to LISTEN", commit);
	group->p99 = cell_make(8, MILLISECONDS, COST_LIMIT, NO_GOAL, "the same, %s, p99", commit);
	group->with_row = cell_make(8, MILLISECONDS, COST_LIMIT, NO_GOAL,
								"the same, %s, p50 / INSERT of the row with NOTIFY to LISTEN", commit);
}

void
goal_callback_latency(void)
{
	PGconn *conn = session_open(NULL);
	PGconn *sender = session_open(NULL);
	Listener listener;
	Group groups[] = {{.durable = true}, {.durable = false}};
	Samples samples[KIND_COUNT] = {0};
	int turns = scaled(6, 1);

	say("goal 8: put to callback, %d turns of %d puts at %d/s a round", turns, PUTS_A_TURN, PUTS_A_SECOND);
	session_run(conn, "CREATE TABLE bench_called (at timestamptz NOT NULL, n int NOT NULL)");
	session_run(conn, "CREATE TABLE bench_notified (data bytea NOT NULL, key text NOT NULL)");
	for (int i = 0; i < 2; i++)
		group_make(conn, &groups[i]);
	for (int kind = 0; kind < KIND_COUNT; kind++)
	{
		samples[kind].size = turns * PUTS_A_TURN;
		samples[kind].times = calloc(samples[kind].size, sizeof(double));
		if (samples[kind].times == NULL)
			die("out of memory for times");
	}
	session_prepare(sender, "put", PUT_RECORD);
	session_prepare(sender, "notify", "SELECT pg_notify('bench_callback', $1)");
	session_prepare(sender, "notify_row", NOTIFY_ROW);
	listener_start(&listener, session_open("LISTEN bench_callback"), note_arrival);
	mappings_await_rest(conn, PATIENCE);

	for (int round = 0; round < settings.rounds; round++)
		for (int i = 0; i < 2; i++)
			group_round(conn, sender, &groups[i], round, samples);

	listener_stop(&listener);
	for (int i = 0; i < 2; i++)
	{
		mapping_delete(conn, groups[i].uuid);
		stream_drop(conn, groups[i].stream);
	}
	for (int kind = 0; kind < KIND_COUNT; kind++)
		free(samples[kind].times);
	session_run(conn, "DROP FUNCTION bench_stamp_durable, bench_stamp_relaxed");
	session_run(conn, "DROP TABLE bench_called, bench_notified");
	PQfinish(sender);
	PQfinish(conn);
}
