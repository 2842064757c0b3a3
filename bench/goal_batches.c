/*
 * goal_batches.c - goal 1: put_records, 500 a call, beside the other ways to write 500 rows in a transaction.
 *
 * Owns:    the ready-made batches of each connection, made before each group of measurements.
 * Locking: none: a batch is only read.
 * Runs in: the benchmark client; write_* in the workers, the rest in the main thread.
 *
 * Every way gets the same arrays of data and partition keys.  The heap without index has the two columns and nothing
 * else; the table written by hand does what a careful user does without the extension.
 */
#include <stdlib.h>
#include <string.h>

#include "crew.h"
#include "goals.h"
#include "results.h"
#include "session.h"
#include "target.h"

#define WARM_CALLS           8 /* the server settles for a generic plan after five */
#define BATCHES_A_CONNECTION 32
#define MAX_CONNECTIONS      4

#define CREATE_HEAP "CREATE TABLE %s (partition_key text NOT NULL, data bytea NOT NULL)"
#define CREATE_BY_HAND                                                                                                 \
	"CREATE TABLE %s (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"                                             \
	" arrival timestamptz NOT NULL DEFAULT clock_timestamp(),"                                                         \
	" partition_key text NOT NULL, data bytea NOT NULL)"

/* Unnesting in the target list is the faster spelling: a function in FROM goes through a tuplestore. */
#define INSERT_UNNEST "INSERT INTO %s (partition_key, data) SELECT unnest($2::text[]), unnest($1::bytea[])"

typedef enum WayKind
{
	WAY_PUT_RECORDS,
	WAY_HEAP,
	WAY_BY_HAND,
	WAY_COPY,
	WAY_HEAP_EACH
} WayKind;

#define WAY_COUNT 5

typedef struct Group
{
	int record_size;
	const char *size_text;
	int connections; /* and shards */
	int calls;       /* for each connection */
	BatchPool *pools[MAX_CONNECTIONS];
	Cell *rate[WAY_COUNT]; /* against that way */
	Cell *wal_limit;
	Cell *wal_heap;
} Group;

typedef struct Task
{
	const Group *group;
	WayKind kind;
	char name[NAME_SIZE];
} Task;

typedef struct Measured
{
	double rate;
	double wal; /* bytes a record */
} Measured;

static void
write_prepare(Worker *worker, const Task *task)
{
	char sql[300];
	char table[NAME_SIZE + 16];

	snprintf(table, sizeof(table), task->kind == WAY_HEAP_EACH ? "%s_%d" : "%s", task->name, worker->index);
	switch (task->kind)
	{
		case WAY_PUT_RECORDS:
			session_prepare(worker->conn, "write", PUT_RECORDS);
			break;
		case WAY_HEAP:
		case WAY_HEAP_EACH:
			snprintf(sql, sizeof(sql), INSERT_UNNEST, table);
			session_prepare(worker->conn, "write", sql);
			break;
		case WAY_BY_HAND:
			snprintf(sql, sizeof(sql), INSERT_UNNEST " RETURNING id", table);
			session_prepare(worker->conn, "write", sql);
			break;
		case WAY_COPY:
			break;
	}
}

/* One call: one transaction of 500 records. */
static void
write_batch(Worker *worker, int call)
{
	const Task *task = worker->job->task;
	const BatchPool *pool = task->group->pools[worker->index];
	const Batch *batch = &pool->batches[call % pool->count];
	Param arrays[] = {{batch->data_array.data, batch->data_array.length},
					  {batch->key_array.data, batch->key_array.length}};
	PGresult *result;

	switch (task->kind)
	{
		case WAY_PUT_RECORDS:
		{
			Param params[] = {text_param(task->name), arrays[0], arrays[1]};

			result = session_call(worker->conn, "write", params, 3);
			check_put_records(result);
			PQclear(result);
			break;
		}
		case WAY_HEAP:
		case WAY_HEAP_EACH:
			session_call_void(worker->conn, "write", arrays, 2);
			break;
		case WAY_BY_HAND:
			result = session_call(worker->conn, "write", arrays, 2);
			if (PQntuples(result) != BATCH_RECORDS)
				die("the table written by hand returned %d numbers", PQntuples(result));
			PQclear(result);
			break;
		case WAY_COPY:
			session_copy_in(worker->conn, "COPY bench_copy (partition_key, data) FROM STDIN (FORMAT binary)",
							batch->copy_rows.data, batch->copy_rows.length);
			break;
	}
	worker->records += BATCH_RECORDS;
}

static void
write_warm(Worker *worker)
{
	write_prepare(worker, worker->job->task);
	for (int call = 0; call < WARM_CALLS; call++)
		write_batch(worker, call);
}

static void
write_all(Worker *worker)
{
	const Task *task = worker->job->task;

	for (int call = 0; call < task->group->calls; call++)
		write_batch(worker, WARM_CALLS + call);
}

/* Makes the empty thing to write to. */
static void
target_make(PGconn *conn, Task *task)
{
	switch (task->kind)
	{
		case WAY_PUT_RECORDS:
			stream_create(conn, task->name, task->group->connections);
			break;
		case WAY_HEAP:
			strcpy(task->name, "bench_heap");
			session_run(conn, CREATE_HEAP, task->name);
			break;
		case WAY_BY_HAND:
			strcpy(task->name, "bench_by_hand");
			session_run(conn, CREATE_BY_HAND, task->name);
			break;
		case WAY_COPY:
			strcpy(task->name, "bench_copy");
			session_run(conn, CREATE_HEAP, task->name);
			break;
		case WAY_HEAP_EACH:
			strcpy(task->name, "bench_heap");
			session_run(conn, "CREATE TABLE bench_heap (partition_key text, data bytea)");
			for (int i = 0; i < task->group->connections; i++)
				session_run(conn,
							"CREATE TABLE bench_heap_%d (partition_key text NOT NULL, data bytea NOT NULL)"
							" INHERITS (bench_heap)",
							i);
			break;
	}
}

/* Looks whether everything acknowledged is there, and removes it. */
static void
target_check_and_drop(PGconn *conn, const Task *task, int64_t expected)
{
	bool is_stream = task->kind == WAY_PUT_RECORDS;
	int64_t found =
		is_stream ? stream_count(conn, task->name) : session_int64(conn, "SELECT count(*) FROM %s", task->name);

	if (found != expected)
		die("%s has %lld records instead of %lld", task->name, (long long) found, (long long) expected);
	if (is_stream)
		stream_drop(conn, task->name);
	else
		session_run(conn, "DROP TABLE %s CASCADE", task->name);
}

static Measured
measure(PGconn *conn, const Group *group, WayKind kind)
{
	Task task = {.group = group, .kind = kind};
	Job job = {.ready = write_warm, .work = write_all, .task = &task};
	Crew crew;
	int64_t wal;
	double seconds;
	Measured measured;

	target_make(conn, &task);
	session_run(conn, "CHECKPOINT");
	crew_start(&crew, group->connections, &job);
	wal = session_wal(conn);
	crew_go(&crew);
	seconds = crew_finish(&crew);
	wal = session_wal(conn) - wal;
	measured.rate = crew_records(&crew) / seconds;
	measured.wal = (double) wal / crew_records(&crew);
	target_check_and_drop(conn, &task, crew_all_records(&crew));
	crew_free(&crew);
	return measured;
}

/* Gives each connection batches whose keys all lead to its own shard. */
static void
group_prepare(PGconn *conn, Group *group)
{
	char name[NAME_SIZE];

	stream_create(conn, name, group->connections);
	for (int i = 0; i < group->connections; i++)
	{
		KeySet *keys = stream_keys_of_shard(conn, name, i);

		group->pools[i] = batch_pool_make(keys, group->record_size, BATCHES_A_CONNECTION, 100 + i);
		free(keys);
	}
	stream_drop(conn, name);
}

static void
group_cells(Group *group)
{
	static const struct
	{
		WayKind kind;
		double goal_ratio;
		const char *text;
	} floors[] = {
		{WAY_HEAP, 1.2, "INSERT ... SELECT unnest into a heap without index"},
		{WAY_BY_HAND, 2.0, "stream table written by hand"},
		{WAY_COPY, 1.0, "COPY BINARY, 500 rows a transaction"},
		{WAY_HEAP_EACH, NO_GOAL, "INSERT ... SELECT unnest, a heap for each connection"},
	};

	for (int i = 0; i < (group->connections > 1 ? 4 : 3); i++)
		group->rate[floors[i].kind] =
			cell_make(1, RECORDS_A_SECOND, MORE_IS_BETTER, floors[i].goal_ratio,
					  "put_records %s, %d conn on %d shard%s / %s", group->size_text, group->connections,
					  group->connections, group->connections > 1 ? "s" : "", floors[i].text);
	group->wal_limit = cell_make(1, BYTES, COST_LIMIT, 1.15, "WAL a record %s, %d conn / data + key + 12 B",
								 group->size_text, group->connections);
	group->wal_heap = cell_make(1, BYTES, COST_LIMIT, NO_GOAL, "WAL a record %s, %d conn / INSERT ... SELECT unnest",
								group->size_text, group->connections);
}

static void
group_round(PGconn *conn, Group *group, int round)
{
	int way_count = group->connections > 1 ? WAY_COUNT : WAY_COUNT - 1;
	Measured measured[WAY_COUNT];
	const Measured *ours = &measured[WAY_PUT_RECORDS];

	/* Each round begins with another way, so that none always comes first. */
	for (int i = 0; i < way_count; i++)
	{
		WayKind kind = (WayKind) ((i + round) % way_count);

		measured[kind] = measure(conn, group, kind);
	}
	for (int kind = WAY_HEAP; kind < way_count; kind++)
		cell_add(group->rate[kind], ours->rate, measured[kind].rate);
	cell_add(group->wal_limit, ours->wal, group->record_size + KEY_LENGTH + 12);
	cell_add(group->wal_heap, ours->wal, measured[WAY_HEAP].wal);
	say("  round %d, %s, %d conn: put_records %.0f/s, unnest %.0f/s, by hand %.0f/s, copy %.0f/s, WAL %.1f B",
		round + 1, group->size_text, group->connections, ours->rate, measured[WAY_HEAP].rate,
		measured[WAY_BY_HAND].rate, measured[WAY_COPY].rate, ours->wal);
}

void
goal_batches(void)
{
	PGconn *conn = session_open(NULL);
	Group groups[] = {
		{.record_size = 100, .size_text = "100 B", .connections = 1, .calls = scaled(1600, 20)},
		{.record_size = 100, .size_text = "100 B", .connections = 4, .calls = scaled(600, 20)},
		{.record_size = 1024, .size_text = "1 KB", .connections = 1, .calls = scaled(500, 20)},
		{.record_size = 1024, .size_text = "1 KB", .connections = 4, .calls = scaled(200, 20)},
	};
	int group_count = sizeof(groups) / sizeof(groups[0]);

	say("goal 1: put_records, 500 a call");
	for (int i = 0; i < group_count; i++)
		group_cells(&groups[i]);
	for (int i = 0; i < group_count; i++)
	{
		group_prepare(conn, &groups[i]);
		for (int round = 0; round < settings.rounds; round++)
			group_round(conn, &groups[i], round);
		for (int j = 0; j < groups[i].connections; j++)
			batch_pool_free(groups[i].pools[j]);
	}
	PQfinish(conn);
}
