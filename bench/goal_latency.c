/*
 * goal_latency.c - goal 5: how long a record takes from put to a reader that waits in another session.
 *
 * Owns:    the lists of times of one measurement.
 * Locking: each list of times is written by one thread; a barrier and the join are the only meetings.
 * Runs in: the benchmark client; the reader in a thread, the writer in the main thread.
 *
 * The writer stamps each record with CLOCK_MONOTONIC just before it sends it; the reader looks at the same clock when it
 * holds the record.  The writer keeps to its timetable of 100 a second however long a put takes.  The floor is a
 * INSERT with NOTIFY in one statement and a LISTENing reader who fetches what is new by the primary key.
 */
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "goals.h"
#include "results.h"
#include "session.h"
#include "target.h"

#define RECORD_SIZE   100
#define PUTS_A_SECOND 100
#define WARM_PUTS     20
#define PATIENCE      30.0 /* seconds until the reader gives up */

#define CREATE_NOTIFIED                                                                                                \
	"CREATE TABLE bench_notified (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"                                 \
	" partition_key text NOT NULL, data bytea NOT NULL)"
#define INSERT_NOTIFY                                                                                                  \
	"WITH put AS (INSERT INTO bench_notified (data, partition_key) VALUES ($1, $2) RETURNING id)"                      \
	" SELECT pg_notify('bench', $3) FROM put"
#define FETCH_NEW "SELECT id, data FROM bench_notified WHERE id > $1 ORDER BY id"

typedef struct Trip
{
	bool by_stream;
	bool durable;
	char name[NAME_SIZE];
	int puts;
	int received;
	double *times; /* milliseconds from put to the record in the reader's hands */
	int notified;
	double *notice_times; /* the floor's, until the bare notification */
	double *ack_times;    /* until the producer has its answer */
	pthread_barrier_t ready;
} Trip;

/* Milliseconds since the moment in the first 8 bytes of a record. */
static double
age_of(const char *stamp)
{
	double sent;

	memcpy(&sent, stamp, sizeof(sent));
	return (now() - sent) * 1000;
}

static void
trip_received(Trip *trip, const char *data)
{
	if (trip->received == trip->puts)
		die("more records arrived than were put");
	trip->times[trip->received++] = age_of(data);
}

static void
read_stream(Trip *trip, PGconn *conn)
{
	char *iterator = stream_iterator(conn, trip->name, "LATEST");
	double deadline;

	session_prepare(conn, "wait", GET_RECORDS_WAIT);
	pthread_barrier_wait(&trip->ready);
	deadline = now() + PATIENCE + (double) trip->puts / PUTS_A_SECOND;
	while (trip->received < trip->puts && now() < deadline)
	{
		Param params[] = {text_param(iterator)};
		PGresult *result = session_call(conn, "wait", params, 1);
		RecordWalk walk;
		RecordView record;

		walk_begin(&walk, PQgetvalue(result, 0, 0), PQgetlength(result, 0, 0));
		while (walk_next(&walk, &record))
			trip_received(trip, record.data);
		free(iterator);
		iterator = strdup(PQgetvalue(result, 0, 1));
		PQclear(result);
	}
	free(iterator);
}

/* Reads what came after the last number; gives the new last number. */
static int64_t
fetch_new(Trip *trip, PGconn *conn, int64_t last)
{
	char after[8];
	Param params[] = {{after, 8}};
	PGresult *result;

	wire_put_int64(after, last);
	result = session_call(conn, "fetch", params, 1);
	for (int i = 0; i < PQntuples(result); i++)
	{
		trip_received(trip, PQgetvalue(result, i, 1));
		last = wire_int64(PQgetvalue(result, i, 0));
	}
	PQclear(result);
	return last;
}

static void
read_notified(Trip *trip, PGconn *conn)
{
	struct pollfd socket = {.fd = PQsocket(conn), .events = POLLIN};
	int64_t last = 0;
	double deadline;

	session_run(conn, "LISTEN bench");
	session_prepare(conn, "fetch", FETCH_NEW);
	pthread_barrier_wait(&trip->ready);
	deadline = now() + PATIENCE + (double) trip->puts / PUTS_A_SECOND;
	while (trip->received < trip->puts && now() < deadline)
	{
		PGnotify *notice;
		bool woken = false;

		poll(&socket, 1, 1000);
		if (!PQconsumeInput(conn))
			die("the LISTENing reader: %s", PQerrorMessage(conn));
		while ((notice = PQnotifies(conn)) != NULL)
		{
			double sent = strtod(notice->extra, NULL);

			if (trip->notified < trip->puts)
				trip->notice_times[trip->notified++] = (now() - sent) * 1000;
			PQfreemem(notice);
			woken = true;
		}
		if (woken)
			last = fetch_new(trip, conn, last);
	}
}

static void *
reader_main(void *argument)
{
	Trip *trip = argument;
	PGconn *conn = session_open(NULL);

	if (trip->by_stream)
		read_stream(trip, conn);
	else
		read_notified(trip, conn);
	PQfinish(conn);
	return NULL;
}

/* One put; the milliseconds until it was acknowledged. */
static double
put_stamped(PGconn *conn, const Trip *trip, Random *random)
{
	char data[RECORD_SIZE];
	char stamp_text[40];
	Param key = {payload_key(payload_all_keys(), random), KEY_LENGTH};
	double sent;

	memcpy(data, payload_letters(random, RECORD_SIZE), RECORD_SIZE);
	sent = now();
	memcpy(data, &sent, sizeof(sent));
	if (trip->by_stream)
	{
		Param params[] = {text_param(trip->name), {data, RECORD_SIZE}, key};

		PQclear(session_call(conn, "put", params, 3));
	}
	else
	{
		Param params[] = {{data, RECORD_SIZE}, key, {stamp_text, 0}};

		params[2].length = snprintf(stamp_text, sizeof(stamp_text), "%.9f", sent);
		PQclear(session_call(conn, "put", params, 3));
	}
	return (now() - sent) * 1000;
}

/* Puts at the times of the timetable; a late put does not move the next one. */
static void
write_by_timetable(PGconn *conn, const Trip *trip)
{
	Random random = random_from(60);
	struct timespec next;

	clock_gettime(CLOCK_MONOTONIC, &next);
	for (int i = 0; i < trip->puts; i++)
	{
		next.tv_nsec += 1000000000 / PUTS_A_SECOND;
		if (next.tv_nsec >= 1000000000)
		{
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		trip->ack_times[i] = put_stamped(conn, trip, &random);
	}
}

/* One measurement; the trip's times are its result, without those of the warm-up. */
static void
measure(PGconn *conn, Trip *trip)
{
	PGconn *writer = session_open(trip->durable ? NULL : "SET synchronous_commit = off");
	pthread_t reader;

	if (trip->by_stream)
		stream_create(conn, trip->name, 1);
	else
		session_run(conn, CREATE_NOTIFIED);
	session_prepare(writer, "put", trip->by_stream ? PUT_RECORD : INSERT_NOTIFY);
	session_run(conn, "CHECKPOINT");

	trip->received = trip->notified = 0;
	pthread_barrier_init(&trip->ready, NULL, 2);
	if (pthread_create(&reader, NULL, reader_main, trip) != 0)
		die("could not start the reader");
	pthread_barrier_wait(&trip->ready);
	write_by_timetable(writer, trip);
	pthread_join(reader, NULL);
	pthread_barrier_destroy(&trip->ready);
	PQfinish(writer);

	if (trip->received != trip->puts)
		die("%d of %d records arrived", trip->received, trip->puts);
	if (trip->by_stream)
		stream_drop(conn, trip->name);
	else
		session_run(conn, "DROP TABLE bench_notified");
}

static void
trip_init(Trip *trip, bool by_stream, int puts)
{
	trip->by_stream = by_stream;
	trip->puts = puts;
	trip->times = calloc(puts, sizeof(double));
	trip->notice_times = calloc(puts, sizeof(double));
	trip->ack_times = calloc(puts, sizeof(double));
	if (trip->times == NULL || trip->notice_times == NULL || trip->ack_times == NULL)
		die("out of memory for times");
}

/* The cells of one commit setting. */
typedef struct Group
{
	bool durable;
	Cell *p50;
	Cell *p99;
	Cell *notice;
	Cell *acknowledged;
} Group;

static void
group_cells(Group *group)
{
	const char *commit = group->durable ? "durable" : "synchronous_commit = off";

	group->p50 = cell_make(5, MILLISECONDS, LESS_IS_BETTER, 1.3,
						   "put to long-polling reader, 100/s, %s, p50 / INSERT with NOTIFY, LISTEN and fetch", commit);
	group->p99 = cell_make(5, MILLISECONDS, LESS_IS_BETTER, NO_GOAL, "the same, %s, p99", commit);
	group->notice = cell_make(5, MILLISECONDS, LESS_IS_BETTER, NO_GOAL,
							  "the same, %s, p50 / only the notification, without fetching the row", commit);
	group->acknowledged =
		cell_make(5, MILLISECONDS, LESS_IS_BETTER, NO_GOAL,
				  "the put alone until its producer has the answer, %s, p50 / INSERT with NOTIFY", commit);
}

static void
group_round(PGconn *conn, Group *group, Trip *ours, Trip *floor, int round)
{
	int judged = ours->puts - WARM_PUTS;
	double ours_p50;
	double ours_p99;
	double floor_p50;
	double floor_p99;

	ours->durable = floor->durable = group->durable;
	measure(conn, round % 2 == 0 ? ours : floor);
	measure(conn, round % 2 == 0 ? floor : ours);
	ours_p50 = percentile(ours->times + WARM_PUTS, judged, 50);
	ours_p99 = percentile(ours->times + WARM_PUTS, judged, 99);
	floor_p50 = percentile(floor->times + WARM_PUTS, judged, 50);
	floor_p99 = percentile(floor->times + WARM_PUTS, judged, 99);
	cell_add(group->p50, ours_p50, floor_p50);
	cell_add(group->p99, ours_p99, floor_p99);
	cell_add(group->notice, ours_p50, percentile(floor->notice_times + WARM_PUTS, floor->notified - WARM_PUTS, 50));
	cell_add(group->acknowledged, percentile(ours->ack_times + WARM_PUTS, judged, 50),
			 percentile(floor->ack_times + WARM_PUTS, judged, 50));
	say("  round %d, %s: p50 %.3f ms (LISTEN %.3f), p99 %.3f ms (LISTEN %.3f)", round + 1,
		group->durable ? "durable" : "relaxed", ours_p50, floor_p50, ours_p99, floor_p99);
}

void
goal_latency(void)
{
	PGconn *conn = session_open(NULL);
	int puts = scaled(500, 50) + WARM_PUTS;
	Trip ours = {0};
	Trip floor = {0};
	Group groups[] = {{.durable = true}, {.durable = false}};

	say("goal 5: put to a waiting reader, %d puts at 100/s", puts - WARM_PUTS);
	trip_init(&ours, true, puts);
	trip_init(&floor, false, puts);
	for (int i = 0; i < 2; i++)
		group_cells(&groups[i]);
	for (int round = 0; round < settings.rounds; round++)
		for (int i = 0; i < 2; i++)
			group_round(conn, &groups[i], &ours, &floor, round);
	PQfinish(conn);
}
