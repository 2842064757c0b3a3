/*
 * goal_groups.c - goal 7: members of a consumer group that join, leave and crash, and how soon the shares are even again.
 *
 * Owns:    a stream, a group and the table of what was worked on, made anew in each round.
 * Locking: a member's order and the moment of its change are atomics; all else of a member is its thread's until it is joined.
 * Runs in: the benchmark client; each member and the producer in a thread, the changes and the observer in the main thread.
 *
 * A member's call of bench_work() is one transaction: poll_group, the work, the checkpoints.  Work that is undone because the lease
 * has gone to somebody else is done there.  The clock of a change runs from the moment before it is sent until a session that
 * looks all the time sees even shares.  Each round ends with a look at every record: worked on once, or the run ends.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "goals.h"
#include "results.h"
#include "session.h"
#include "target.h"

#define GROUP              "bench"
#define MAX_MEMBERS        50
#define PUTS_A_SECOND      10
#define RECORDS_A_PUT      "20"
#define PATIENCE           30.0 /* seconds for shares to become even, or for what is left to be worked on */
#define LEASE_IS_ELSEWHERE "KN002"

#define CREATE_WORKED "CREATE TABLE bench_worked (shard text NOT NULL, number bigint NOT NULL)"
#define CREATE_WORK                                                                                                    \
	"CREATE OR REPLACE FUNCTION bench_work(who text) RETURNS bigint LANGUAGE plpgsql AS $$"                            \
	" DECLARE p record; total bigint := 0;"                                                                            \
	" BEGIN"                                                                                                           \
	" FOR p IN SELECT * FROM kinesis.poll_group('" GROUP "', who, 1000, wait => '1 s') LOOP"                           \
	" INSERT INTO bench_worked SELECT p.shard_id, r.sequence_number FROM unnest(p.records) AS r;"                      \
	" PERFORM kinesis.checkpoint('" GROUP "', p.stream_name, p.shard_id, p.lease_token,"                               \
	" (p.records[cardinality(p.records)]).sequence_number, shard_end => p.at_end);"                                    \
	" total := total + cardinality(p.records);"                                                                        \
	" END LOOP;"                                                                                                       \
	" RETURN total;"                                                                                                   \
	" END $$"

/* So many members, all leases theirs, and nobody with two more than another one. */
#define SHARES_ARE_EVEN                                                                                                \
	"SELECT count(*) = $1::text::bigint AND max(n) - min(n) <= 1 AND sum(n) ="                                         \
	" (SELECT count(*) FROM kinesis.lease l JOIN kinesis.consumer_group g USING (group_id)"                            \
	" WHERE g.group_name = '" GROUP "' AND NOT l.ended)"                                                               \
	" FROM (SELECT count(l.owner) AS n FROM kinesis.group_member m JOIN kinesis.consumer_group g USING (group_id)"     \
	" LEFT JOIN kinesis.lease l ON l.group_id = m.group_id AND l.owner = m.member_name AND NOT l.ended"                \
	" WHERE g.group_name = '" GROUP "' GROUP BY m.member_name) AS share"

#define PUT_SOME                                                                                                       \
	"SELECT count(error_code) FROM kinesis.put_records($1,"                                                            \
	" array_fill('some work to be done'::bytea, ARRAY[" RECORDS_A_PUT "]),"                                            \
	" ARRAY(SELECT md5(random()::text) FROM generate_series(1, " RECORDS_A_PUT ")))"

#define NOT_WORKED_ON                                                                                                   \
	"SELECT count(*) FROM (SELECT 'shardId-' || lpad(shard::text, 12, '0'), sequence_number FROM kinesis_stream.\"%s\"" \
	" EXCEPT SELECT shard, number FROM bench_worked) AS missed"

typedef enum Order
{
	WORK,
	LEAVE,
	CRASH, /* the session ends with work and checkpoints in an open transaction */
	BE_TERMINATED
} Order;

typedef struct Member
{
	char name[NAME_SIZE];
	PGconn *conn;
	pthread_t thread;
	_Atomic Order order;
	_Atomic double changed_at; /* when it began to leave; 0: not yet */
	int64_t refused;           /* work that was undone, since the lease had gone */
} Member;

typedef struct Producer
{
	const char *stream;
	pthread_t thread;
	atomic_bool stops;
	int64_t puts;
} Producer;

/* Everybody who is there, and who was. */
typedef struct Crowd
{
	PGconn *observer;
	int size;
	int members_made;
	Member *members[MAX_MEMBERS];
	int64_t refused;
} Crowd;

/* The times of one kind of change in a round. */
typedef struct Change
{
	const char *what;
	Cell *median;
	Cell *slowest;
	int count;
	double times[2 * MAX_MEMBERS];
} Change;

static void
sleep_ms(int milliseconds)
{
	struct timespec pause = {.tv_nsec = milliseconds * 1000000L};

	clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

/* One transaction of work; false when the session is no more. */
static bool
work_once(Member *member)
{
	const char *values[] = {member->name};
	PGresult *result = PQexecPrepared(member->conn, "work", 1, values, NULL, NULL, 0);
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	bool lives = true;

	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		;
	else if (state != NULL && strcmp(state, LEASE_IS_ELSEWHERE) == 0)
		member->refused++;
	else if (member->order == BE_TERMINATED && PQstatus(member->conn) == CONNECTION_BAD)
		lives = false;
	else
		die("%s: %s", member->name, PQerrorMessage(member->conn));
	PQclear(result);
	return lives;
}

static void *
member_main(void *argument)
{
	Member *member = argument;

	session_run(member->conn, "SELECT kinesis.join_group('" GROUP "', '%s')", member->name);
	while (member->order == WORK || member->order == BE_TERMINATED)
		if (!work_once(member))
			break;
	switch (member->order)
	{
		case LEAVE:
			member->changed_at = now();
			session_run(member->conn, "SELECT kinesis.leave_group('" GROUP "', '%s')", member->name);
			break;
		case CRASH:
			session_run(member->conn, "BEGIN");
			work_once(member);
			member->changed_at = now();
			break;
		default:
			break;
	}
	PQfinish(member->conn);
	return NULL;
}

static void *
producer_main(void *argument)
{
	Producer *producer = argument;
	PGconn *conn = session_open(NULL);
	Param params[] = {text_param(producer->stream)};

	session_prepare(conn, "put", PUT_SOME);
	while (!producer->stops)
	{
		PGresult *result = session_call(conn, "put", params, 1);

		if (wire_int64(PQgetvalue(result, 0, 0)) != 0)
			die("put_records refused a record");
		PQclear(result);
		producer->puts++;
		sleep_ms(1000 / PUTS_A_SECOND);
	}
	PQfinish(conn);
	return NULL;
}

/* The moment at which the shares of all who are there are even. */
static double
wait_for_even_shares(const Crowd *crowd)
{
	char size[16];
	Param params[] = {{size, 0}};
	double deadline = now() + PATIENCE;

	params[0].length = snprintf(size, sizeof(size), "%d", crowd->size);
	while (now() < deadline)
	{
		PGresult *result = session_call(crowd->observer, "even", params, 1);
		bool even = !PQgetisnull(result, 0, 0) && PQgetvalue(result, 0, 0)[0] != 0;

		PQclear(result);
		if (even)
			return now();
		sleep_ms(1);
	}
	die("the shares of %d members were not even after %.0f s", crowd->size, PATIENCE);
}

static void
add_time(Change *change, double seconds)
{
	change->times[change->count++] = seconds * 1000;
}

/* So many sessions, already connected, join at once. */
static void
members_join(Crowd *crowd, int count, Change *change)
{
	Member **first = &crowd->members[crowd->size];
	double started;

	for (int i = 0; i < count; i++)
	{
		first[i] = calloc(1, sizeof(Member));
		if (first[i] == NULL)
			die("out of memory for members");
		snprintf(first[i]->name, NAME_SIZE, "member-%d", ++crowd->members_made);
		first[i]->conn = session_open(NULL);
		session_prepare(first[i]->conn, "work", "SELECT bench_work($1)");
	}
	started = now();
	for (int i = 0; i < count; i++)
		if (pthread_create(&first[i]->thread, NULL, member_main, first[i]) != 0)
			die("could not start a member");
	crowd->size += count;
	add_time(change, wait_for_even_shares(crowd) - started);
}

/* Takes so many out of the crowd, those who have been there longest; to be freed when their threads have ended. */
static void
members_take(Crowd *crowd, int count, Member **taken)
{
	memcpy(taken, crowd->members, count * sizeof(Member *));
	crowd->size -= count;
	memmove(crowd->members, crowd->members + count, crowd->size * sizeof(Member *));
}

static void
members_end(Crowd *crowd, int count, Member **taken)
{
	for (int i = 0; i < count; i++)
	{
		pthread_join(taken[i]->thread, NULL);
		crowd->refused += taken[i]->refused;
		free(taken[i]);
	}
}

/* A member goes by its own doing, when its call has ended. */
static void
member_goes(Crowd *crowd, Order order, Change *change)
{
	Member *member;
	double even_at;

	members_take(crowd, 1, &member);
	member->order = order;
	even_at = wait_for_even_shares(crowd);
	add_time(change, even_at - member->changed_at);
	members_end(crowd, 1, &member);
}

/* Sessions are terminated, wherever they are. */
static void
members_are_terminated(Crowd *crowd, int count, Change *change)
{
	Member *members[MAX_MEMBERS];
	char pids[MAX_MEMBERS * 12] = "";
	double started;

	members_take(crowd, count, members);
	for (int i = 0; i < count; i++)
	{
		int length = strlen(pids);

		members[i]->order = BE_TERMINATED;
		snprintf(pids + length, sizeof(pids) - length, "%s%d", i > 0 ? "," : "", PQbackendPID(members[i]->conn));
	}
	started = now();
	session_run(crowd->observer, "SELECT pg_terminate_backend(pid) FROM unnest('{%s}'::int[]) AS pid", pids);
	add_time(change, wait_for_even_shares(crowd) - started);
	members_end(crowd, count, members);
}

/* Lets the members work on what is left, sends them home, and looks at every record. */
static void
drain_and_check(Crowd *crowd, const Producer *producer, Cell *worked)
{
	Member *members[MAX_MEMBERS];
	int count = crowd->size;
	int64_t put = stream_count(crowd->observer, producer->stream);
	double deadline = now() + PATIENCE;

	if (put != producer->puts * atoi(RECORDS_A_PUT))
		die("%lld records in the stream, %lld puts", (long long) put, (long long) producer->puts);
	while (session_int64(crowd->observer, "SELECT count(*) FROM bench_worked") < put && now() < deadline)
		sleep_ms(20);
	members_take(crowd, count, members);
	for (int i = 0; i < count; i++)
		members[i]->order = LEAVE;
	members_end(crowd, count, members);
	if (session_int64(crowd->observer, "SELECT count(*) FROM bench_worked") != put ||
		session_int64(crowd->observer, "SELECT count(*) FROM (SELECT DISTINCT shard, number FROM bench_worked) AS x") !=
			put ||
		session_int64(crowd->observer, NOT_WORKED_ON, producer->stream) != 0 ||
		session_int64(crowd->observer, "SELECT sum(records_behind) FROM kinesis.group_lag('" GROUP "')") != 0)
		die("%lld records put, not each worked on once: %lld were, of them %lld different ones; %lld of the stream's were not",
			(long long) put, (long long) session_int64(crowd->observer, "SELECT count(*) FROM bench_worked"),
			(long long) session_int64(crowd->observer,
									  "SELECT count(*) FROM (SELECT DISTINCT shard, number FROM bench_worked) AS x"),
			(long long) session_int64(crowd->observer, NOT_WORKED_ON, producer->stream));
	cell_add(worked, put, 0);
}

static void
change_cells(Change *change, int shards, int members)
{
	change->median =
		cell_make(7, MILLISECONDS, LESS_IS_BETTER, NO_GOAL, "%s, %d shards, %d members, until shares are even: median",
				  change->what, shards, members);
	change->slowest = cell_make(7, MILLISECONDS, LESS_IS_BETTER, NO_GOAL, "the same, the slowest one");
}

/* Takes a round's times over into the cells. */
static void
change_add(Change *change)
{
	double median = percentile(change->times, change->count, 50);
	double slowest = change->times[change->count - 1];

	cell_add(change->median, median, 0);
	cell_add(change->slowest, slowest, 0);
	say("  %s: %d times, median %.1f ms, slowest %.1f ms", change->what, change->count, median, slowest);
	change->count = 0;
}

typedef enum Kind
{
	FIRST_JOIN,
	REJOIN,
	LEAVING,
	SESSION_END,
	TERMINATION,
	MANY_TERMINATED,
	MANY_JOIN,
	KINDS
} Kind;

static void
groups_round(PGconn *conn, Change *changes, int shards, int members, Cell *worked, Cell *undone)
{
	char stream[NAME_SIZE];
	Crowd crowd = {.observer = conn};
	Producer producer = {.stream = stream};
	int times = scaled(10, 2);

	stream_create(conn, stream, shards);
	session_run(conn, CREATE_WORKED);
	session_run(conn, "SELECT kinesis.create_group('" GROUP "', '{%s}')", stream);
	session_run(conn, "CHECKPOINT");
	if (pthread_create(&producer.thread, NULL, producer_main, &producer) != 0)
		die("could not start the producer");

	while (crowd.size < members)
		members_join(&crowd, 1, &changes[FIRST_JOIN]);
	for (int i = 0; i < times; i++)
	{
		member_goes(&crowd, LEAVE, &changes[LEAVING]);
		members_join(&crowd, 1, &changes[REJOIN]);
		member_goes(&crowd, CRASH, &changes[SESSION_END]);
		members_join(&crowd, 1, &changes[REJOIN]);
		members_are_terminated(&crowd, 1, &changes[TERMINATION]);
		members_join(&crowd, 1, &changes[REJOIN]);
	}
	for (int i = 0; i < 3; i++)
	{
		members_are_terminated(&crowd, members / 2, &changes[MANY_TERMINATED]);
		members_join(&crowd, members / 2, &changes[MANY_JOIN]);
	}

	producer.stops = true;
	pthread_join(producer.thread, NULL);
	drain_and_check(&crowd, &producer, worked);
	cell_add(undone, crowd.refused, 0);
	session_run(conn, "SELECT kinesis.delete_group('" GROUP "')");
	session_run(conn, "DROP TABLE bench_worked");
	stream_drop(conn, stream);
}

void
goal_groups(void)
{
	PGconn *conn = session_open(NULL);
	int shards = scaled(200, 20);
	int members = scaled(MAX_MEMBERS, 6);
	Cell *worked;
	Cell *undone;
	Change changes[KINDS] = {
		[FIRST_JOIN] = {.what = "one joins after the other"},
		[REJOIN] = {.what = "one joins the others"},
		[LEAVING] = {.what = "one leaves"},
		[SESSION_END] = {.what = "a session ends in the middle of its work"},
		[TERMINATION] = {.what = "a session is terminated"},
		[MANY_TERMINATED] = {.what = "half of the sessions are terminated at once"},
		[MANY_JOIN] = {.what = "as many join at once"},
	};

	members = members > MAX_MEMBERS ? MAX_MEMBERS : members;
	say("goal 7: %d members of a group over %d shards", members, shards);
	for (int kind = 0; kind < KINDS; kind++)
		change_cells(&changes[kind], shards, members);
	worked = cell_make(7, RECORDS, MORE_IS_BETTER, NO_GOAL, "records worked on meanwhile, each exactly once");
	undone =
		cell_make(7, TRANSACTIONS, LESS_IS_BETTER, NO_GOAL, "work undone, since its lease had gone to another member");
	session_run(conn, CREATE_WORK);
	session_prepare(conn, "even", SHARES_ARE_EVEN);
	for (int round = 0; round < settings.rounds; round++)
	{
		double started = now();

		say("  round %d", round + 1);
		groups_round(conn, changes, shards, members, worked, undone);
		for (int kind = 0; kind < KINDS; kind++)
			change_add(&changes[kind]);
		say("  round %d took %.1f s", round + 1, now() - started);
	}
	session_run(conn, "DROP FUNCTION bench_work(text)");
	PQfinish(conn);
}
