/*
 * main.c - runs the load for some time, waits for the readers, and gives the verdict as TAP.
 *
 * Owns:    the switches that end the load and the reading.
 * Locking: the switches are written once, by the main thread.
 * Runs in: the stress client's main thread.  The servers are killed and started by whoever has started the client.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stress.h"

const char *primary;
const char *standby;
volatile bool stop_writing;
volatile bool stop_reading;
unsigned first_seed;

static int checks;
static int failed;

static bool
check(bool good, const char *what)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++checks, what);
	failed |= !good;
	fflush(stdout);
	return good;
}

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Joins a reader; false when it has not come to the end of the stream in time. */
static bool
join(pthread_t thread, double deadline)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += (time_t) (deadline > seconds() ? deadline - seconds() : 0) + 1;
	return pthread_timedjoin_np(thread, NULL, &t) == 0;
}

static long
count_fate(Fate fate)
{
	long n = 0;

	for (int w = 0; w < WRITERS; w++)
		for (int i = 0; i < ledgers[w].count; i++)
			n += ledgers[w].entries[i].fate == fate;
	return n;
}

static void
summarise(void)
{
	const struct
	{
		const char *what;
		long number;
	} rows[] = {
		{"records acknowledged", count_fate(FATE_STORED)},
		{"records rolled back", count_fate(FATE_LOST)},
		{"records uncertain", count_fate(FATE_UNCERTAIN)},
		{"transactions prepared", work.prepared},
		{"savepoints rolled back", work.savepoints},
		{"reshardings", work.reshards},
		{"reshardings refused", work.refused},
		{"reshardings timed out", work.timeouts},
		{"purges", work.purges},
		{"vacuums", work.vacuums},
		{"checkpoints", work.checkpoints},
		{"connections lost", work.reconnects},
		{"server away, ms", (long) (away * 1000)},
	};

	printf("# seed %u\n", first_seed);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		printf("# %-28s %9ld\n", rows[i].what, rows[i].number);
	for (int i = 0; i < READERS; i++)
		printf("# read by %-20s %9d\n", lists[i].name, lists[i].count);
}

int
main(int argc, char **argv)
{
	pthread_t writers[WRITERS];
	pthread_t resharders[RESHARDERS + 1];
	pthread_t readers[READERS];
	PGconn *conn;
	PGresult *result;
	List truth = {.name = "final read"};
	double end;

	if (argc == 2 && strcmp(argv[1], "--self-test") == 0)
	{
		check(self_test_alone() == 0, "the verdict sees every kind of broken list");
		printf("1..%d\n", checks);
		return failed;
	}
	if (argc != 4)
	{
		fprintf(stderr, "usage: stress SECONDS PRIMARY STANDBY | --self-test\n");
		return 2;
	}
	primary = argv[2];
	standby = argv[3];
	first_seed = getenv("KINESIS_STRESS_SEED") ? (unsigned) strtoul(getenv("KINESIS_STRESS_SEED"), NULL, 10)
											   : (unsigned) time(NULL);
	end = seconds() + atof(argv[1]);

	for (intptr_t i = 0; i < READERS; i++)
		pthread_create(&readers[i], NULL, read_tail, (void *) i);
	for (intptr_t i = 0; i < WRITERS; i++)
		pthread_create(&writers[i], NULL, write_load, (void *) i);
	for (intptr_t i = 0; i < RESHARDERS; i++)
		pthread_create(&resharders[i], NULL, reshard_load, (void *) i);
	pthread_create(&resharders[RESHARDERS], NULL, maintain, NULL);

	while (seconds() < end)
		pause_ms(50);
	stop_writing = true;
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
	for (int i = 0; i <= RESHARDERS; i++)
		pthread_join(resharders[i], NULL);
	conn = connect_again(NULL, primary);
	resolve_prepared(conn);

	/*
	 * The standby must have all of it before its readers may believe that they are at the end.  An abort is not flushed by
	 * itself, and what died with the primary is open on a standby until it hears which transactions are running; readers
	 * stop at both.  A checkpoint says it.
	 */
	if (!tell(conn, "CHECKPOINT"))
		fault("CHECKPOINT: %s", PQerrorMessage(conn));
	result = PQexec(conn, "SELECT pg_current_wal_flush_lsn()");
	{
		PGconn *other = connect_again(NULL, standby);
		const char *values[] = {PQgetvalue(result, 0, 0)};
		bool caught_up = false;

		for (int i = 0; i < 1200 && !caught_up; i++)
		{
			PGresult *replayed = ask(other, "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", 1, values);

			caught_up = replayed && PQgetvalue(replayed, 0, 0)[0] == 't';
			PQclear(replayed);
			if (!caught_up)
				pause_ms(50);
		}
		check(caught_up, "the standby has replayed everything");
		PQfinish(other);
	}
	PQclear(result);
	stop_reading = true;
	end = seconds() + 120;
	for (int i = 0; i < READERS; i++)
		if (!join(readers[i], end))
		{
			check(false, "a reader came to the end of the stream");
			printf("# reader %d has read %d\n", i, lists[i].count);
			return 1;
		}

	read_all(conn, &truth);
	summarise();
	check(truth.count > 1000 && count_fate(FATE_STORED) > 1000, "there was a load worth the name");
	check(work.reshards > 5, "the stream was resharded meanwhile");
	check(work.vacuums > 5 && work.purges > 5, "and vacuumed and purged");
	check(work.prepared > 5 && work.savepoints > 5, "with prepared transactions and savepoints");
	check(faults_met == 0, "nobody met an error that is no part of the game");
	check(count_fate(FATE_OPEN) == 0, "every record's transaction has an end");
	check(verify_ledger(&truth) == 0, "what was acknowledged is there once, in order; what was rolled back is not");
	for (int i = 0; i < READERS; i++)
	{
		char what[100];

		snprintf(what, sizeof(what), "%s: every record once, in order", lists[i].name);
		check(verify(&truth, &lists[i]) == 0, what);
	}
	result =
		PQexec(conn, "SELECT count(*) FROM kinesis.list_shards('" STREAM "') s, LATERAL kinesis.read_shard('" STREAM
					 "', s.shard_id) r "
					 "WHERE kinesis.hash_key(r.partition_key) NOT BETWEEN s.starting_hash_key AND s.ending_hash_key");
	check(PQresultStatus(result) == PGRES_TUPLES_OK && strcmp(PQgetvalue(result, 0, 0), "0") == 0,
		  "every record is in the shard of its key");
	PQclear(result);
	result = PQexec(conn, "SELECT * FROM kinesis.check_stream('" STREAM "')");
	for (int i = 0; i < PQntuples(result) && i < 20; i++)
		printf("# %s %s %s\n", PQgetvalue(result, i, 0), PQgetvalue(result, i, 1), PQgetvalue(result, i, 2));
	check(PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 0, "check_stream finds nothing");
	PQclear(result);
	check(self_test(&truth) == 0, "the verdict sees every kind of broken list");
	PQfinish(conn);
	printf("1..%d\n", checks);
	return failed;
}
