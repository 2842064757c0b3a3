/*
 * goal_singles.c - goal 2: put_record, one record a transaction, beside a single-row INSERT.
 *
 * Owns:    nothing beyond one measurement.
 * Locking: none.
 * Runs in: the benchmark client; put_* in the workers, the rest in the main thread.
 *
 * Producers draw their keys at random, so with 4 shards each connection writes to all of them.  A measurement runs for a
 * fixed time, because one connection alone would need minutes for what 32 do in seconds.
 */
#include <string.h>

#include "crew.h"
#include "goals.h"
#include "results.h"
#include "session.h"
#include "target.h"

#define RECORD_SIZE 100
#define WARM_CALLS  50

#define CREATE_HEAP "CREATE TABLE bench_heap (partition_key text NOT NULL, data bytea NOT NULL)"
#define INSERT_ROW  "INSERT INTO bench_heap (data, partition_key) VALUES ($1, $2)"

typedef struct Task
{
	int shards; /* 0: the heap */
	double seconds;
	char name[NAME_SIZE];
} Task;

typedef struct Group
{
	int connections;
	bool durable;
	Cell *one_shard;   /* against the heap */
	Cell *four_shards; /* against the heap */
	Cell *four_one;    /* 4 shards against 1 */
} Group;

static void
put_one(Worker *worker)
{
	const Task *task = worker->job->task;
	Param data = {payload_letters(&worker->random, RECORD_SIZE), RECORD_SIZE};
	Param key = {payload_key(payload_all_keys(), &worker->random), KEY_LENGTH};

	if (task->shards > 0)
	{
		Param params[] = {text_param(task->name), data, key};

		PQclear(session_call(worker->conn, "put", params, 3));
	}
	else
	{
		Param params[] = {data, key};

		session_call_void(worker->conn, "put", params, 2);
	}
	worker->records++;
}

static void
put_warm(Worker *worker)
{
	const Task *task = worker->job->task;

	session_prepare(worker->conn, "put", task->shards > 0 ? PUT_RECORD : INSERT_ROW);
	for (int i = 0; i < WARM_CALLS; i++)
		put_one(worker);
}

static void
put_until_time(Worker *worker)
{
	const Task *task = worker->job->task;
	double deadline = now() + task->seconds;

	do
		put_one(worker);
	while (now() < deadline);
}

/* Puts a second; shards 0 for the heap. */
static double
measure(PGconn *conn, const Group *group, int shards)
{
	Task task = {.shards = shards, .seconds = settings.scale < 1 ? 2 * settings.scale : 2};
	Job job = {.ready = put_warm,
			   .work = put_until_time,
			   .task = &task,
			   .setup = group->durable ? NULL : "SET synchronous_commit = off"};
	Crew crew;
	double seconds;
	double rate;
	int64_t found;

	if (task.seconds < 0.2)
		task.seconds = 0.2;
	if (shards > 0)
		stream_create(conn, task.name, shards);
	else
		session_run(conn, CREATE_HEAP);
	session_run(conn, "CHECKPOINT");

	crew_start(&crew, group->connections, &job);
	crew_go(&crew);
	seconds = crew_finish(&crew);
	rate = crew_records(&crew) / seconds;

	found = shards > 0 ? stream_count(conn, task.name) : session_int64(conn, "SELECT count(*) FROM bench_heap");
	if (found != crew_all_records(&crew))
		die("%lld records instead of %lld", (long long) found, (long long) crew_all_records(&crew));
	if (shards > 0)
		stream_drop(conn, task.name);
	else
		session_run(conn, "DROP TABLE bench_heap");
	crew_free(&crew);
	return rate;
}

static void
group_cells(Group *group)
{
	const char *commit = group->durable ? "durable" : "synchronous_commit = off";

	group->one_shard = cell_make(2, RECORDS_A_SECOND, MORE_IS_BETTER, 0.95,
								 "put_record 100 B, %d conn, %s, 1 shard / INSERT of a row into a heap without index",
								 group->connections, commit);
	group->four_shards =
		cell_make(2, RECORDS_A_SECOND, MORE_IS_BETTER, 0.95,
				  "put_record 100 B, %d conn, %s, 4 shards / the same INSERT", group->connections, commit);
	group->four_one = cell_make(2, RECORDS_A_SECOND, MORE_IS_BETTER, 1.0,
								"put_record 100 B, %d conn, %s, 4 shards / 1 shard", group->connections, commit);
}

static void
group_round(PGconn *conn, Group *group, int round)
{
	static const int ways[] = {0, 1, 4}; /* the heap and the numbers of shards */
	double rates[3];

	for (int i = 0; i < 3; i++)
	{
		int way = (i + round) % 3;

		rates[way] = measure(conn, group, ways[way]);
	}
	cell_add(group->one_shard, rates[1], rates[0]);
	cell_add(group->four_shards, rates[2], rates[0]);
	cell_add(group->four_one, rates[2], rates[1]);
	say("  round %d, %d conn, %s: 1 shard %.0f/s, 4 shards %.0f/s, INSERT %.0f/s", round + 1, group->connections,
		group->durable ? "durable" : "relaxed", rates[1], rates[2], rates[0]);
}

void
goal_singles(void)
{
	PGconn *conn = session_open(NULL);
	Group groups[] = {
		{.connections = 1, .durable = true},  {.connections = 8, .durable = true},
		{.connections = 32, .durable = true}, {.connections = 1, .durable = false},
		{.connections = 8, .durable = false}, {.connections = 32, .durable = false},
	};
	int group_count = sizeof(groups) / sizeof(groups[0]);

	say("goal 2: put_record, one record a transaction");
	for (int i = 0; i < group_count; i++)
		group_cells(&groups[i]);
	for (int i = 0; i < group_count; i++)
		for (int round = 0; round < settings.rounds; round++)
			group_round(conn, &groups[i], round);
	PQfinish(conn);
}
