/*
 * goal_callback_producers.c - goal 10: what 10 mappings and 10 notifications on a stream cost its producers.
 *
 * Owns:    the producers' batches, and the times of their calls.
 * Locking: each producer writes its own list of times; the count of acknowledged records is atomic.
 * Runs in: the benchmark client; producers and the listener in threads.
 *
 * Four producers put batches into four shards, keys at random, once by a timetable that leaves the machine room and once
 * as fast as they can.  Each measurement is done with nobody watching the stream, and with 10 mappings whose functions
 * count their records, 10 notifications, and a session that LISTENs to all 10 channels.  A mapping's backlog is what was
 * acknowledged and its function has not worked on yet, in milliseconds of the producers' rate.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "channel_listen.h"
#include "crew.h"
#include "goals.h"
#include "mapping.h"
#include "results.h"
#include "session.h"
#include "target.h"

#define SHARDS           4
#define PRODUCERS        4
#define MAPPINGS         10
#define RECORD_SIZE      100
#define BATCHES_A_SECOND 10 /* of each producer by timetable: 20,000 records a second in all */
#define PACED_SECONDS    8
#define FULL_SECONDS     4
#define WARM_BATCHES     5
#define CALLS_LIMIT      50000
#define PATIENCE         60.0

#define FUNCTION                                                                                                       \
	"CREATE FUNCTION bench_count(records kinesis.record[], context kinesis.batch_context) RETURNS void"                \
	" LANGUAGE plpgsql AS $$ BEGIN PERFORM cardinality(records); END $$"
#define RECORDS_OF_SLOWEST                                                                                             \
	"SELECT min(records) FROM (SELECT sum(records)::bigint AS records FROM kinesis.mapping_lane GROUP BY uuid) m"

typedef struct Times
{
	int count;
	double *times; /* milliseconds of each call */
} Times;

/* What the producers are told, and where they leave their times. */
typedef struct Task
{
	const char *stream;
	bool paced;
	int seconds;
	BatchPool *pool;
	Times *times; /* one for each producer */
	atomic_llong *acknowledged;
} Task;

/* One measurement's result. */
typedef struct Outcome
{
	double rate;
	double p50;
	double p99;
	double lag_half; /* ms, of the slowest mapping */
	double lag_end;
	double watched_rate; /* records a second that the slowest mapping has worked on */
} Outcome;

typedef struct Group
{
	bool paced;
	Cell *rate;
	Cell *p50;
	Cell *p99;
	Cell *lag;
	Cell *growth;
	Cell *watched;
} Group;

static void
put_batch(Worker *worker, const Task *task, int index)
{
	const Batch *batch = &task->pool->batches[(worker->index * 31 + index) % task->pool->count];
	Param params[] = {text_param(task->stream),
					  {batch->data_array.data, batch->data_array.length},
					  {batch->key_array.data, batch->key_array.length}};
	PGresult *result = session_call(worker->conn, "put", params, 3);

	check_put_records(result);
	PQclear(result);
	worker->records += BATCH_RECORDS;
	atomic_fetch_add(task->acknowledged, BATCH_RECORDS);
}

static void
producer_ready(Worker *worker)
{
	session_prepare(worker->conn, "put", PUT_RECORDS);
	for (int i = 0; i < WARM_BATCHES; i++)
		put_batch(worker, worker->job->task, i);
}

static void
producer_work(Worker *worker)
{
	const Task *task = worker->job->task;
	Times *times = &task->times[worker->index];
	double started = now();
	double period = 1.0 / BATCHES_A_SECOND;

	for (int i = 0; i < CALLS_LIMIT; i++)
	{
		/* Producers take turns, and a late call does not move the next one. */
		double due = started + period * (i + (double) worker->index / PRODUCERS);
		double began;

		if ((task->paced ? due : now()) >= started + task->seconds)
			break;
		if (task->paced)
		{
			struct timespec until = {.tv_sec = (time_t) due, .tv_nsec = (long) ((due - (time_t) due) * 1e9)};

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		}
		began = now();
		put_batch(worker, task, i);
		times->times[times->count++] = (now() - began) * 1000;
	}
	/* By timetable a measurement has its full time, however early the last batch was due. */
	if (task->paced)
		while (now() < started + task->seconds)
			usleep(1000);
}

/* Records that the slowest mapping is behind. */
static int64_t
backlog(PGconn *conn, const Task *task)
{
	int64_t acknowledged = atomic_load(task->acknowledged);
	int64_t behind = acknowledged - session_int64(conn, RECORDS_OF_SLOWEST);

	return behind > 0 ? behind : 0;
}

/* Percentiles over the calls of all producers. */
static void
judge_times(const Task *task, Outcome *outcome)
{
	int count = 0;
	double *all;

	for (int i = 0; i < PRODUCERS; i++)
		count += task->times[i].count;
	all = calloc(count, sizeof(double));
	if (all == NULL)
		die("out of memory for times");
	count = 0;
	for (int i = 0; i < PRODUCERS; i++)
	{
		memcpy(all + count, task->times[i].times, task->times[i].count * sizeof(double));
		count += task->times[i].count;
		task->times[i].count = 0;
	}
	outcome->p50 = percentile(all, count, 50);
	outcome->p99 = percentile(all, count, 99);
	free(all);
}

static void
run_producers(PGconn *conn, Task *task, bool watched, Outcome *outcome)
{
	Job job = {.ready = producer_ready, .work = producer_work, .task = task};
	Crew crew;
	int64_t half = 0;
	int64_t end = 0;
	double seconds;
	double done;

	session_run(conn, "CHECKPOINT");
	crew_start(&crew, PRODUCERS, &job);
	usleep(500000); /* the mappings are done with the warm-up */
	done = watched ? session_int64(conn, RECORDS_OF_SLOWEST) : 0;
	crew_go(&crew);
	if (watched)
	{
		usleep(task->seconds * 500000);
		half = backlog(conn, task);
	}
	seconds = crew_finish(&crew);
	if (watched)
	{
		end = backlog(conn, task);
		outcome->watched_rate = (session_int64(conn, RECORDS_OF_SLOWEST) - done) / seconds;
	}
	outcome->rate = crew_records(&crew) / seconds;
	outcome->lag_half = half / outcome->rate * 1000;
	outcome->lag_end = end / outcome->rate * 1000;
	judge_times(task, outcome);
	if (stream_count(conn, task->stream) != crew_all_records(&crew))
		die("the stream does not hold what was acknowledged");
	crew_free(&crew);
}

/* In the end every mapping has worked on every record once. */
static void
check_all_done(PGconn *conn, const Task *task)
{
	double deadline = now() + PATIENCE;

	while (backlog(conn, task) > 0)
	{
		if (now() > deadline)
			die("the mappings have not caught up in %.0f s", PATIENCE);
		usleep(5000);
	}
	if (session_int64(conn, "SELECT sum(records)::bigint FROM kinesis.mapping_lane") !=
		MAPPINGS * atomic_load(task->acknowledged))
		die("the mappings have not worked on every record once");
}

/* One measurement with a stream of its own, watched or not. */
static void
measure(PGconn *conn, Task *task, bool watched, Outcome *outcome)
{
	char stream[NAME_SIZE];
	char uuids[MAPPINGS][UUID_SIZE];
	Listener listener;

	stream_create(conn, stream, SHARDS);
	task->stream = stream;
	atomic_store(task->acknowledged, 0);
	if (watched)
	{
		PGconn *listening = session_open(NULL);

		for (int i = 0; i < MAPPINGS; i++)
		{
			mapping_create(conn, uuids[i], stream, "public.bench_count", "TRIM_HORIZON", ", batch_size => 10000");
			session_run(conn, "SELECT kinesis.create_notification('%s', 'bench-%d')", stream, i);
			session_run(listening, "LISTEN \"bench-%d\"", i);
		}
		listener_start(&listener, listening, NULL);
		mappings_await_rest(conn, PATIENCE);
	}
	run_producers(conn, task, watched, outcome);
	if (watched)
	{
		if (task->paced)
			check_all_done(conn, task);
		for (int i = 0; i < MAPPINGS; i++)
		{
			mapping_delete(conn, uuids[i]);
			session_run(conn, "SELECT kinesis.delete_notification('%s', 'bench-%d')", stream, i);
		}
		listener_stop(&listener);
		mappings_await_rest(conn, PATIENCE);
	}
	stream_drop(conn, stream);
}

static void
group_cells(Group *group)
{
	if (group->paced)
	{
		group->rate = cell_make(10, RECORDS_A_SECOND, MORE_IS_BETTER, 0.95,
								"producers at 20k/s, 10 mappings and 10 notifications / nobody watching");
		group->lag =
			cell_make(10, MILLISECONDS, ABSOLUTE_LIMIT, 200, "the same, the slowest mapping's backlog at the end");
	}
	else
	{
		group->rate = cell_make(10, RECORDS_A_SECOND, MORE_IS_BETTER, 0.95,
								"producers at full speed, 10 mappings and 10 notifications / nobody watching");
		group->lag =
			cell_make(10, MILLISECONDS, COST_LIMIT, NO_GOAL, "the same, the slowest mapping's backlog at the end");
	}
	group->growth =
		cell_make(10, MILLISECONDS, COST_LIMIT, NO_GOAL, "the same, how much of it is from the second half");
	group->watched = cell_make(10, RECORDS_A_SECOND, MORE_IS_BETTER, NO_GOAL,
							   "the same, records a second of the slowest mapping / of the producers");
	group->p50 = cell_make(10, MILLISECONDS, COST_LIMIT, 1.05, "the same, p50 of put_records of 500");
	group->p99 = cell_make(10, MILLISECONDS, COST_LIMIT, NO_GOAL, "the same, p99 of put_records of 500");
}

static void
group_round(PGconn *conn, Group *group, Task *task, int round)
{
	Outcome with = {0};
	Outcome without = {0};
	bool with_first = round % 2 == 0;

	task->paced = group->paced;
	task->seconds = scaled(group->paced ? PACED_SECONDS : FULL_SECONDS, 2);
	measure(conn, task, with_first, with_first ? &with : &without);
	measure(conn, task, !with_first, with_first ? &without : &with);
	cell_add(group->rate, with.rate, without.rate);
	cell_add(group->lag, with.lag_end, 0);
	cell_add(group->growth, with.lag_end - with.lag_half, 0);
	cell_add(group->watched, with.watched_rate, with.rate);
	cell_add(group->p50, with.p50, without.p50);
	cell_add(group->p99, with.p99, without.p99);
	say("  round %d, %s: %.0f/s (nobody watching %.0f/s), p50 %.2f ms (%.2f), p99 %.2f ms (%.2f), backlog %.0f ms after %.0f"
		" ms at half time",
		round + 1, group->paced ? "paced" : "full speed", with.rate, without.rate, with.p50, without.p50, with.p99,
		without.p99, with.lag_end, with.lag_half);
}

void
goal_callback_producers(void)
{
	PGconn *conn = session_open(NULL);
	Group groups[] = {{.paced = true}, {.paced = false}};
	Times times[PRODUCERS] = {0};
	atomic_llong acknowledged = 0;
	Task task = {.times = times, .acknowledged = &acknowledged};

	say("goal 10: %d producers with %d mappings and %d notifications", PRODUCERS, MAPPINGS, MAPPINGS);
	task.pool = batch_pool_make(payload_all_keys(), RECORD_SIZE, 64, 90);
	for (int i = 0; i < PRODUCERS; i++)
	{
		times[i].times = calloc(CALLS_LIMIT, sizeof(double));
		if (times[i].times == NULL)
			die("out of memory for times");
	}
	session_run(conn, FUNCTION);
	for (int i = 0; i < 2; i++)
		group_cells(&groups[i]);
	for (int round = 0; round < settings.rounds; round++)
		for (int i = 0; i < 2; i++)
			group_round(conn, &groups[i], &task, round);
	session_run(conn, "DROP FUNCTION bench_count");
	for (int i = 0; i < PRODUCERS; i++)
		free(times[i].times);
	batch_pool_free(task.pool);
	PQfinish(conn);
}
