/*
 * goal_many_shards.c - goal 6: what 1,000 shards cost a put, and a backend's memory.
 *
 * Owns:    a stream of 1,000 shards and one of 1, made once; the list of hash keys that lead to each shard.
 * Locking: none.
 * Runs in: the benchmark client, main thread.
 *
 * The same connection puts into both streams in turns.  Memory is the anonymous memory of the backend (Pss_Anon of
 * smaps_rollup): Private_Dirty would also count pages of shared buffers that happen to be mapped by this backend alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "goals.h"
#include "results.h"
#include "session.h"
#include "target.h"

#define RECORD_SIZE 100
#define PUTS_A_TURN 100
#define MEGABYTE    1e6

#define PUT_TO_HASH_KEY "SELECT * FROM kinesis.put_record($1, $2, $3, $4::text::numeric)"
#define MEMORY_CONTEXTS "SELECT sum(total_bytes) FROM pg_backend_memory_contexts"

typedef struct Memory
{
	double anonymous; /* MB, as the kernel sees it */
	double contexts;  /* MB, as the backend counts it */
} Memory;

static Memory
memory_of(PGconn *conn)
{
	char path[64];
	char line[256];
	long kilobytes = -1;
	FILE *file;
	Memory memory;

	memory.contexts = session_int64(conn, MEMORY_CONTEXTS) / MEGABYTE;
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", PQbackendPID(conn));
	file = fopen(path, "r");
	if (file == NULL)
		die("could not open %s: run the client on the server's machine, as its user or root", path);
	while (fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "Pss_Anon: %ld", &kilobytes) == 1)
			break;
	fclose(file);
	if (kilobytes < 0)
		die("%s has no Pss_Anon", path);
	memory.anonymous = kilobytes * 1024 / MEGABYTE;
	return memory;
}

/* The first hash key of each shard, as text, in the order of the shards. */
static char **
starting_hash_keys(PGconn *conn, const char *name, int shards)
{
	PGresult *result;
	char **hash_keys = calloc(shards, sizeof(char *));
	Param params[] = {text_param(name)};

	session_prepare(conn, "hash_keys",
					"SELECT starting_hash_key::text FROM kinesis.shard JOIN kinesis.stream"
					" USING (stream_id) WHERE stream_name = $1 ORDER BY shard_index");
	result = session_call(conn, "hash_keys", params, 1);
	if (PQntuples(result) != shards || hash_keys == NULL)
		die("%s has %d shards", name, PQntuples(result));
	for (int i = 0; i < shards; i++)
		hash_keys[i] = strndup(PQgetvalue(result, i, 0), PQgetlength(result, i, 0));
	PQclear(result);
	session_run(conn, "DEALLOCATE hash_keys");
	return hash_keys;
}

/* Puts one record into each shard; the seconds it took. */
static double
put_to_each(PGconn *conn, const char *name, char *const *hash_keys, int shards)
{
	Random random = random_from(70);
	double started = now();

	for (int i = 0; i < shards; i++)
	{
		Param params[] = {text_param(name),
						  {payload_letters(&random, RECORD_SIZE), RECORD_SIZE},
						  {payload_key(payload_all_keys(), &random), KEY_LENGTH},
						  text_param(hash_keys[i])};

		PQclear(session_call(conn, "put_to_hash_key", params, 4));
	}
	return now() - started;
}

/* Reads from the beginning of each shard. */
static void
read_each(PGconn *conn, const char *name, int shards)
{
	for (int i = 0; i < shards; i++)
	{
		char shard_id[NAME_SIZE];
		Param at[] = {text_param(name), {shard_id, 0}};
		PGresult *result;

		at[1].length = snprintf(shard_id, sizeof(shard_id), "shardId-%012d", i);
		result = session_call(conn, "read_one", at, 2);
		if (wire_int32(PQgetvalue(result, 0, 0)) < 1)
			die("nothing to read in %s", shard_id);
		PQclear(result);
	}
}

/* Seconds that so many puts with random keys take. */
static double
put_seconds(PGconn *conn, const char *name, Random *random, int puts)
{
	double started = now();

	for (int i = 0; i < puts; i++)
	{
		Param params[] = {text_param(name),
						  {payload_letters(random, RECORD_SIZE), RECORD_SIZE},
						  {payload_key(payload_all_keys(), random), KEY_LENGTH}};

		PQclear(session_call(conn, "put", params, 3));
	}
	return now() - started;
}

static PGconn *
open_prepared(void)
{
	PGconn *conn = session_open(NULL);

	session_prepare(conn, "put", PUT_RECORD);
	session_prepare(conn, "put_to_hash_key", PUT_TO_HASH_KEY);
	session_prepare(conn, "read_one",
					"SELECT coalesce(cardinality(records), 0) FROM"
					" kinesis.get_records(kinesis.get_shard_iterator($1, $2, 'TRIM_HORIZON'), 100)");
	return conn;
}

/* A put's cost with 1,000 shards beside its cost with 1, durable and not. */
static void
measure_cost(const char *many, const char *one, char *const *hash_keys, int shards)
{
	PGconn *conn = open_prepared();
	Random random = random_from(71);
	int turns = scaled(40, 5);
	Cell *costs[] = {
		cell_make(6, MICROSECONDS, COST_LIMIT, 1.3, "put_record, durable, %d shards / 1 shard", shards),
		cell_make(6, MICROSECONDS, COST_LIMIT, 1.3, "put_record, synchronous_commit = off, %d shards / 1 shard",
				  shards),
	};

	put_to_each(conn, many, hash_keys, shards);
	put_seconds(conn, many, &random, 1000);
	put_seconds(conn, one, &random, 1000);
	for (int round = 0; round < settings.rounds; round++)
		for (int relaxed = 0; relaxed < 2; relaxed++)
		{
			double many_seconds = 0;
			double one_seconds = 0;
			double to_cost = 1e6 / (turns * PUTS_A_TURN);

			session_run(conn, "SET synchronous_commit = %s", relaxed ? "off" : "on");
			session_run(conn, "CHECKPOINT");
			for (int turn = 0; turn < turns; turn++)
			{
				many_seconds += put_seconds(conn, many, &random, PUTS_A_TURN);
				one_seconds += put_seconds(conn, one, &random, PUTS_A_TURN);
			}
			cell_add(costs[relaxed], many_seconds * to_cost, one_seconds * to_cost);
			say("  round %d, %s: %.1f µs with %d shards, %.1f µs with 1", round + 1, relaxed ? "relaxed" : "durable",
				many_seconds * to_cost, shards, one_seconds * to_cost);
		}
	PQfinish(conn);
}

/* What a fresh backend has grown by after touching every shard, above a plain one that has run a query. */
static void
measure_memory(const char *many, char *const *hash_keys, int shards)
{
	Cell *after_puts = cell_make(6, MEGABYTES, ABSOLUTE_LIMIT, 20,
								 "backend memory above a plain one, %d shards put to (Pss_Anon)", shards);
	Cell *after_reads = cell_make(6, MEGABYTES, ABSOLUTE_LIMIT, 20,
								  "backend memory above a plain one, put to and read from (Pss_Anon)");
	Cell *contexts = cell_make(6, MEGABYTES, ABSOLUTE_LIMIT, 20, "the same in memory contexts, put to and read from");
	Cell *first_touch = cell_make(6, MICROSECONDS, COST_LIMIT, NO_GOAL,
								  "a put to a shard that the backend has not touched yet, durable");

	for (int round = 0; round < settings.rounds; round++)
	{
		PGconn *plain_conn = session_open("SELECT 1");
		Memory plain = memory_of(plain_conn);
		PGconn *conn = open_prepared();
		double seconds = put_to_each(conn, many, hash_keys, shards);
		Memory put = memory_of(conn);
		Memory read;

		read_each(conn, many, shards);
		read = memory_of(conn);
		cell_add(after_puts, put.anonymous - plain.anonymous, plain.anonymous);
		cell_add(after_reads, read.anonymous - plain.anonymous, plain.anonymous);
		cell_add(contexts, read.contexts - plain.contexts, plain.contexts);
		cell_add(first_touch, seconds * 1e6 / shards, 0);
		say("  round %d: plain %.2f MB, put to all %.2f MB, read too %.2f MB, contexts %.2f MB above %.2f MB",
			round + 1, plain.anonymous, put.anonymous, read.anonymous, read.contexts - plain.contexts, plain.contexts);
		PQfinish(plain_conn);
		PQfinish(conn);
	}
}

void
goal_many_shards(void)
{
	PGconn *conn = session_open(NULL);
	int shards = scaled(1000, 20);
	char many[NAME_SIZE];
	char one[NAME_SIZE];
	char **hash_keys;
	double started = now();
	Cell *create;

	say("goal 6: %d shards", shards);
	stream_create(conn, many, shards);
	create = cell_make(6, SECONDS, COST_LIMIT, NO_GOAL, "create_stream of %d shards", shards);
	cell_add(create, now() - started, 0);
	say("  created %d shards in %.1f s", shards, now() - started);
	stream_create(conn, one, 1);
	hash_keys = starting_hash_keys(conn, many, shards);

	/* A touch of every shard first, so that shared memory knows them all and only the backend is new. */
	{
		PGconn *first = open_prepared();

		put_to_each(first, many, hash_keys, shards);
		PQfinish(first);
	}
	measure_cost(many, one, hash_keys, shards);
	measure_memory(many, hash_keys, shards);

	for (int i = 0; i < shards; i++)
		free(hash_keys[i]);
	free(hash_keys);
	stream_drop(conn, many);
	stream_drop(conn, one);
	PQfinish(conn);
}
