/*
 * goal_drain.c - goal 3: one connection reads a shard of 1 M records from its beginning to its end.
 *
 * Owns:    the stream and the plain heap with the same rows, made once for all rounds.
 * Locking: none.
 * Runs in: the benchmark client, main thread.
 *
 * Each way reads once before the clock.
 */
#include <stdlib.h>
#include <string.h>

#include "drain_prepare.h"
#include "goals.h"
#include "results.h"
#include "session.h"

#define RECORDS_A_CALL 10000

#define COPY_OUT "COPY (SELECT " DRAIN_COLUMNS " FROM bench_plain) TO STDOUT (FORMAT binary)"

/* Every way must have read all records. */
static void
check_count(const Drain *drain, int64_t found, const char *way)
{
	if (found != drain->records)
		die("%s read %lld records of %lld", way, (long long) found, (long long) drain->records);
}

/* The next number must be greater: a reader that is fast and wrong has no result. */
static int64_t
check_order(int64_t last, int64_t next)
{
	if (next <= last)
		die("number %lld was read after %lld", (long long) next, (long long) last);
	return next;
}

static double
drain_read_shard(const Drain *drain)
{
	char after[8];
	char limit[8];
	Param params[] = {text_param(drain->name), text_param(FIRST_SHARD), {after, 8}, {limit, 8}};
	int64_t last = 0;
	int64_t found = 0;
	int rows;
	double started = now();

	wire_put_int64(limit, RECORDS_A_CALL);
	do
	{
		PGresult *result;

		wire_put_int64(after, last);
		result = session_call(drain->conn, "read_shard", params, 4);
		rows = PQntuples(result);
		for (int i = 0; i < rows; i++)
			last = check_order(last, wire_int64(PQgetvalue(result, i, 0)));
		found += rows;
		PQclear(result);
	} while (rows == RECORDS_A_CALL);
	check_count(drain, found, "read_shard");
	return now() - started;
}

static double
drain_get_records(const Drain *drain)
{
	char *iterator = stream_iterator(drain->conn, drain->name, "TRIM_HORIZON");
	char limit[4];
	int64_t last = 0;
	int64_t found = 0;
	int64_t before;
	double started = now();

	wire_put_int32(limit, RECORDS_A_CALL);
	do
	{
		Param params[] = {text_param(iterator), {limit, 4}};
		PGresult *result = session_call(drain->conn, "get_records", params, 2);
		RecordWalk walk;
		RecordView record;

		before = found;
		walk_begin(&walk, PQgetvalue(result, 0, 0), PQgetlength(result, 0, 0));
		for (; walk_next(&walk, &record); found++)
			last = check_order(last, record.sequence_number);
		free(iterator);
		iterator = strdup(PQgetvalue(result, 0, 1));
		PQclear(result);
	} while (found > before && found < drain->records);
	free(iterator);
	check_count(drain, found, "get_records");
	return now() - started;
}

static double
drain_copy(const Drain *drain)
{
	double started = now();
	PGresult *result = PQexec(drain->conn, COPY_OUT);
	char *row;
	int64_t found = -1; /* the trailer is a row of its own */

	if (PQresultStatus(result) != PGRES_COPY_OUT)
		die("%s: %s", COPY_OUT, PQerrorMessage(drain->conn));
	PQclear(result);
	while (PQgetCopyData(drain->conn, &row, 0) > 0)
	{
		found++;
		PQfreemem(row);
	}
	while ((result = PQgetResult(drain->conn)) != NULL)
		PQclear(result);
	check_count(drain, found, "COPY");
	return now() - started;
}

static double
count_read_shard(const Drain *drain)
{
	Param params[] = {text_param(drain->name), text_param(FIRST_SHARD)};
	double started = now();
	PGresult *result = session_call(drain->conn, "count_shard", params, 2);
	double seconds = now() - started;

	check_count(drain, wire_int64(PQgetvalue(result, 0, 0)), "count(*) over read_shard");
	PQclear(result);
	return seconds;
}

static double
count_plain(const Drain *drain)
{
	double started = now();
	PGresult *result = session_call(drain->conn, "count_plain", NULL, 0);
	double seconds = now() - started;

	check_count(drain, wire_int64(PQgetvalue(result, 0, 0)), "count(*)");
	PQclear(result);
	return seconds;
}

static double (*const ways[])(const Drain *) = {drain_read_shard, drain_get_records, drain_copy, count_read_shard,
												count_plain};

#define WAY_COUNT 5

static void
warm_up(const Drain *drain)
{
	session_prepare(drain->conn, "read_shard", READ_SHARD);
	session_prepare(drain->conn, "get_records", GET_RECORDS);
	session_prepare(drain->conn, "count_shard", "SELECT count(*) FROM kinesis.read_shard($1, $2)");
	session_prepare(drain->conn, "count_plain", "SELECT count(*) FROM bench_plain");
	for (int i = 0; i < WAY_COUNT; i++)
		ways[i](drain);
}

void
goal_drain(void)
{
	Drain drain;
	int64_t records = scaled(2000, 20) * BATCH_RECORDS;
	Cell *read_shard = cell_make(3, RECORDS_A_SECOND, MORE_IS_BETTER, 0.8,
								 "read_shard, 10,000 a call / COPY (SELECT ...) TO STDOUT BINARY");
	Cell *get_records = cell_make(3, RECORDS_A_SECOND, MORE_IS_BETTER, 0.5,
								  "get_records, 10,000 a call / COPY (SELECT ...) TO STDOUT BINARY");
	Cell *count =
		cell_make(3, RECORDS_A_SECOND, MORE_IS_BETTER, 0.4, "count(*) over read_shard / count(*) of a plain heap");

	say("goal 3: draining %lld records of 100 B", (long long) records);
	drain_prepare(&drain, records);
	warm_up(&drain);
	for (int round = 0; round < settings.rounds; round++)
	{
		double rates[WAY_COUNT];

		for (int i = 0; i < WAY_COUNT; i++)
		{
			int way = (i + round) % WAY_COUNT;

			rates[way] = records / ways[way](&drain);
		}
		cell_add(read_shard, rates[0], rates[2]);
		cell_add(get_records, rates[1], rates[2]);
		cell_add(count, rates[3], rates[4]);
		say("  round %d: read_shard %.0f/s, get_records %.0f/s, COPY %.0f/s, count %.0f/s, plain count %.0f/s",
			round + 1, rates[0], rates[1], rates[2], rates[3], rates[4]);
	}
	drain_end(&drain);
}
