/*
 * goal_large.c - goal 4's other half: records of 100 kB and 1 MiB in and out, in MB/s.
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

#define RECORDS_A_CALL 8

#define CREATE_TABLE "CREATE TABLE bench_large (partition_key text NOT NULL, data bytea NOT NULL)"
#define INSERT_ROW   "INSERT INTO bench_large (data, partition_key) VALUES ($1, $2)"
#define SELECT_ROWS  "DECLARE rows BINARY NO SCROLL CURSOR FOR SELECT partition_key, data FROM bench_large"
#define FETCH_ROWS   "FETCH 8 FROM rows"

/* Records of one size. */
typedef struct Group
{
	int record_size;
	const char *size_text;
	int records;
	Cell *in;
	Cell *out_get;
	Cell *out_read;
} Group;

static double
megabytes_a_second(const Group *group, double seconds)
{
	return (double) group->records * group->record_size / 1e6 / seconds;
}

/* Writes the records, durable, one a transaction; name NULL for the plain table. */
static double
write_all(PGconn *conn, const Group *group, const char *name)
{
	Random random = random_from(50);
	double started = now();

	for (int i = 0; i < group->records; i++)
	{
		Param data = {payload_letters(&random, group->record_size), group->record_size};
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
	return megabytes_a_second(group, now() - started);
}

static double
read_by_get_records(PGconn *conn, const Group *group, const char *name)
{
	char *iterator = stream_iterator(conn, name, "TRIM_HORIZON");
	char limit[4];
	int found = 0;
	double started = now();

	wire_put_int32(limit, RECORDS_A_CALL);
	while (found < group->records)
	{
		Param params[] = {text_param(iterator), {limit, 4}};
		PGresult *result = session_call(conn, "get_records", params, 2);
		RecordWalk walk;
		RecordView record;
		int before = found;

		walk_begin(&walk, PQgetvalue(result, 0, 0), PQgetlength(result, 0, 0));
		for (; walk_next(&walk, &record); found++)
			if (record.data_length != group->record_size)
				die("a record of %d bytes came back", record.data_length);
		if (found == before)
			die("get_records found %d large records of %d", found, group->records);
		free(iterator);
		iterator = strdup(PQgetvalue(result, 0, 1));
		PQclear(result);
	}
	free(iterator);
	return megabytes_a_second(group, now() - started);
}

static double
read_by_read_shard(PGconn *conn, const Group *group, const char *name)
{
	char after[8];
	char limit[8];
	Param params[] = {text_param(name), text_param(FIRST_SHARD), {after, 8}, {limit, 8}};
	int found = 0;
	double started = now();

	wire_put_int64(after, 0);
	wire_put_int64(limit, RECORDS_A_CALL);
	while (found < group->records)
	{
		PGresult *result = session_call(conn, "read_shard", params, 4);
		int rows = PQntuples(result);

		if (rows == 0)
			die("read_shard found %d large records of %d", found, group->records);
		memcpy(after, PQgetvalue(result, rows - 1, 0), 8);
		found += rows;
		PQclear(result);
	}
	return megabytes_a_second(group, now() - started);
}

static double
read_by_select(PGconn *conn, const Group *group)
{
	int found = 0;
	double started = now();

	session_run(conn, "BEGIN");
	session_run(conn, SELECT_ROWS);
	session_prepare(conn, "fetch_large", FETCH_ROWS);
	while (found < group->records)
	{
		PGresult *result = session_call(conn, "fetch_large", NULL, 0);

		if (PQntuples(result) == 0 || PQgetlength(result, 0, 1) != group->record_size)
			die("SELECT found %d large records of %d", found, group->records);
		found += PQntuples(result);
		PQclear(result);
	}
	session_run(conn, "COMMIT");
	session_run(conn, "DEALLOCATE fetch_large");
	return megabytes_a_second(group, now() - started);
}

static void
group_round(PGconn *conn, const Group *group, int round)
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
			ours_in = write_all(conn, group, name);
		else
			plain_in = write_all(conn, group, NULL);
	}
	get_out = read_by_get_records(conn, group, name);
	plain_out = read_by_select(conn, group);
	read_out = read_by_read_shard(conn, group, name);
	cell_add(group->in, ours_in, plain_in);
	cell_add(group->out_get, get_out, plain_out);
	cell_add(group->out_read, read_out, plain_out);
	say("  round %d, %s: in %.0f MB/s (INSERT %.0f), out get_records %.0f, read_shard %.0f (SELECT %.0f)", round + 1,
		group->size_text, ours_in, plain_in, get_out, read_out, plain_out);
	session_run(conn, "DEALLOCATE insert_large");
	session_run(conn, "DROP TABLE bench_large");
	stream_drop(conn, name);
}

void
goal_large(void)
{
	PGconn *conn = session_open(NULL);
	/* Data and key together may have 1 MiB. */
	Group groups[] = {
		{.record_size = 100000, .size_text = "100 kB", .records = scaled(60, 1) * RECORDS_A_CALL},
		{.record_size = 1024 * 1024 - KEY_LENGTH, .size_text = "1 MiB", .records = scaled(12, 1) * RECORDS_A_CALL},
	};

	say("goal 4: large records");
	session_prepare(conn, "put", PUT_RECORD);
	session_prepare(conn, "get_records", GET_RECORDS);
	session_prepare(conn, "read_shard", READ_SHARD);
	for (int i = 0; i < 2; i++)
	{
		Group *group = &groups[i];

		group->in = cell_make(4, MEGABYTES_A_SECOND, MORE_IS_BETTER, NO_GOAL,
							  "%s records in by put_record, durable / INSERT", group->size_text);
		group->out_get = cell_make(4, MEGABYTES_A_SECOND, MORE_IS_BETTER, NO_GOAL,
								   "%s records out by get_records, 8 a call / SELECT, FETCH 8", group->size_text);
		group->out_read = cell_make(4, MEGABYTES_A_SECOND, MORE_IS_BETTER, NO_GOAL,
									"%s records out by read_shard, 8 a call / SELECT, FETCH 8", group->size_text);
		for (int round = 0; round < settings.rounds; round++)
			group_round(conn, group, round);
	}
	PQfinish(conn);
}
