/*
 * goal_large.c - goal 4's other half: records of 1 MiB in and out, in MB/s.
 *
 * Owns:    a stream and a plain table, made anew for each round.
 * Locking: none.
 * Runs in: the benchmark client, main thread.
 *
 * Reported without a goal, beside the same bytea through INSERT and SELECT.  MB are 10^6 bytes of data.  Reading takes
 * eight records a call, as many as GetRecords' 10 MiB allow comfortably; the plain SELECT is fetched by a binary cursor,
 * eight rows at a time too, so that no client has to hold everything.
 */
#include <stdlib.h>
#include <string.h>

#include "goals.h"
#include "results.h"
#include "session.h"
#include "target.h"

/* Data and key together may have 1 MiB. */
#define RECORD_SIZE    (1024 * 1024 - KEY_LENGTH)
#define RECORDS_A_CALL 8

#define CREATE_TABLE "CREATE TABLE bench_large (partition_key text NOT NULL, data bytea NOT NULL)"
#define INSERT_ROW   "INSERT INTO bench_large (data, partition_key) VALUES ($1, $2)"
#define SELECT_ROWS  "DECLARE rows BINARY NO SCROLL CURSOR FOR SELECT partition_key, data FROM bench_large"
#define FETCH_ROWS   "FETCH 8 FROM rows"

static double
megabytes_a_second(int records, double seconds)
{
	return (double) records * RECORD_SIZE / 1e6 / seconds;
}

/* Writes the records, durable, one a transaction; name NULL for the plain table. */
static double
write_all(PGconn *conn, const char *name, int records)
{
	Random random = random_from(50);
	double started = now();

	for (int i = 0; i < records; i++)
	{
		Param data = {payload_letters(&random, RECORD_SIZE), RECORD_SIZE};
		Param key = {payload_key(payload_all_keys(), &random), KEY_LENGTH};

		if (name != NULL)
		{
			Param params[] = {text_param(name), data, key};

			PQclear(session_call(conn, "put", params, 3));
		}
		else
		{
			Param params[] = {data, key};

			session_call_void(conn, "insert_large", params, 2);
		}
	}
	return megabytes_a_second(records, now() - started);
}

static double
read_by_get_records(PGconn *conn, const char *name, int records)
{
	char *iterator = stream_iterator(conn, name, "TRIM_HORIZON");
	char limit[4];
	int found = 0;
	double started = now();

	wire_put_int32(limit, RECORDS_A_CALL);
	while (found < records)
	{
		Param params[] = {text_param(iterator), {limit, 4}};
		PGresult *result = session_call(conn, "get_records", params, 2);
		RecordWalk walk;
		RecordView record;
		int before = found;

		walk_begin(&walk, PQgetvalue(result, 0, 0), PQgetlength(result, 0, 0));
		for (; walk_next(&walk, &record); found++)
			if (record.data_length != RECORD_SIZE)
				die("a record of %d bytes came back", record.data_length);
		if (found == before)
			die("get_records found %d large records of %d", found, records);
		free(iterator);
		iterator = strdup(PQgetvalue(result, 0, 1));
		PQclear(result);
	}
	free(iterator);
	return megabytes_a_second(records, now() - started);
}

static double
read_by_read_shard(PGconn *conn, const char *name, int records)
{
	char after[8];
	char limit[8];
	Param params[] = {text_param(name), text_param(FIRST_SHARD), {after, 8}, {limit, 8}};
	int found = 0;
	double started = now();

	wire_put_int64(after, 0);
	wire_put_int64(limit, RECORDS_A_CALL);
	while (found < records)
	{
		PGresult *result = session_call(conn, "read_shard", params, 4);
		int rows = PQntuples(result);

		if (rows == 0)
			die("read_shard found %d large records of %d", found, records);
		memcpy(after, PQgetvalue(result, rows - 1, 0), 8);
		found += rows;
		PQclear(result);
	}
	return megabytes_a_second(records, now() - started);
}

static double
read_by_select(PGconn *conn, int records)
{
	int found = 0;
	double started = now();

	session_run(conn, "BEGIN");
	session_run(conn, SELECT_ROWS);
	session_prepare(conn, "fetch_large", FETCH_ROWS);
	while (found < records)
	{
		PGresult *result = session_call(conn, "fetch_large", NULL, 0);

		if (PQntuples(result) == 0 || PQgetlength(result, 0, 1) != RECORD_SIZE)
			die("SELECT found %d large records of %d", found, records);
		found += PQntuples(result);
		PQclear(result);
	}
	session_run(conn, "COMMIT");
	session_run(conn, "DEALLOCATE fetch_large");
	return megabytes_a_second(records, now() - started);
}

void
goal_large(void)
{
	PGconn *conn = session_open(NULL);
	int records = scaled(12, 1) * RECORDS_A_CALL;
	Cell *in =
		cell_make(4, MEGABYTES_A_SECOND, MORE_IS_BETTER, NO_GOAL, "1 MiB records in by put_record, durable / INSERT");
	Cell *out_get = cell_make(4, MEGABYTES_A_SECOND, MORE_IS_BETTER, NO_GOAL,
							  "1 MiB records out by get_records, 8 a call / SELECT, FETCH 8");
	Cell *out_read = cell_make(4, MEGABYTES_A_SECOND, MORE_IS_BETTER, NO_GOAL,
							   "1 MiB records out by read_shard, 8 a call / SELECT, FETCH 8");

	say("goal 4: %d records of 1 MiB", records);
	session_prepare(conn, "put", PUT_RECORD);
	session_prepare(conn, "get_records", GET_RECORDS);
	session_prepare(conn, "read_shard", READ_SHARD);
	for (int round = 0; round < settings.rounds; round++)
	{
		char name[NAME_SIZE];
		double ours_in = 0;
		double plain_in = 0;
		double get_out;
		double read_out;
		double plain_out;

		stream_create(conn, name, 1);
		session_run(conn, CREATE_TABLE);
		session_prepare(conn, "insert_large", INSERT_ROW);
		for (int i = 0; i < 2; i++)
		{
			session_run(conn, "CHECKPOINT");
			if ((i + round) % 2 == 0)
				ours_in = write_all(conn, name, records);
			else
				plain_in = write_all(conn, NULL, records);
		}
		get_out = read_by_get_records(conn, name, records);
		plain_out = read_by_select(conn, records);
		read_out = read_by_read_shard(conn, name, records);
		cell_add(in, ours_in, plain_in);
		cell_add(out_get, get_out, plain_out);
		cell_add(out_read, read_out, plain_out);
		say("  round %d: in %.0f MB/s (INSERT %.0f), out get_records %.0f, read_shard %.0f (SELECT %.0f)", round + 1,
			ours_in, plain_in, get_out, read_out, plain_out);
		session_run(conn, "DEALLOCATE insert_large");
		session_run(conn, "DROP TABLE bench_large");
		stream_drop(conn, name);
	}
	PQfinish(conn);
}
