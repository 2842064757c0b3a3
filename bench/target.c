/*
 * target.c - the streams and tables that measurements write to and read from.
 *
 * Owns:    the counter that gives each stream a name of its own.
 * Locking: none.
 * Runs in: the benchmark client, main thread.
 *
 * A stream is made with its limits lifted: what is measured is the road, not the throttle, which would stop each
 * shard at 1,000 records a second.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"
#include "target.h"

static int streams_made;

/* Makes a stream without limits and gives its name, for which there must be NAME_SIZE bytes. */
void
stream_create(PGconn *conn, char *name, int shards)
{
	snprintf(name, NAME_SIZE, "bench-%d", ++streams_made);
	session_run(conn, "SELECT kinesis.create_stream(stream_name => '%s', shard_count => %d)", name, shards);
	session_run(conn, "SELECT kinesis.set_shard_limits('%s', NULL, NULL, NULL, NULL)", name);
}

void
stream_drop(PGconn *conn, const char *name)
{
	session_run(conn, "SELECT kinesis.delete_stream(stream_name => '%s')", name);
}

/* Those of the keys that lead to this shard. */
KeySet *
stream_keys_of_shard(PGconn *conn, const char *name, int shard)
{
	const KeySet *all = payload_all_keys();
	KeySet *keys = calloc(1, sizeof(KeySet));
	char shard_id[NAME_SIZE];

	if (keys == NULL)
		die("out of memory for keys");
	snprintf(shard_id, sizeof(shard_id), "shardId-%012d", shard);
	session_prepare(conn, "shard_for_key", "SELECT kinesis.shard_for_key($1, $2)");
	for (int i = 0; i < all->count; i++)
	{
		Param params[] = {text_param(name), text_param(all->keys[i])};
		PGresult *result = session_call(conn, "shard_for_key", params, 2);

		if (strcmp(PQgetvalue(result, 0, 0), shard_id) == 0)
			keys->keys[keys->count++] = all->keys[i];
		PQclear(result);
	}
	session_run(conn, "DEALLOCATE shard_for_key");
	return keys;
}

/* Counts the rows themselves, not what the functions say. */
int64_t
stream_count(PGconn *conn, const char *name)
{
	return session_int64(conn, "SELECT count(*) FROM kinesis_stream.\"%s\"", name);
}

/* What autovacuum would do within a minute, done now, so that all rounds find the same state. */
void
stream_vacuum(PGconn *conn, const char *name)
{
	session_run(conn, "VACUUM kinesis_stream.\"%s\"", name);
}

/* An iterator of the stream's first shard, to be freed by the caller. */
char *
stream_iterator(PGconn *conn, const char *name, const char *type)
{
	return session_text(conn, "SELECT kinesis.get_shard_iterator('%s', '%s', '%s')", name, FIRST_SHARD, type);
}

/* PutRecords reports a record that failed in its row, so each row has to be looked at, as any producer must. */
void
check_put_records(PGresult *result)
{
	if (PQntuples(result) != BATCH_RECORDS)
		die("put_records answered with %d rows", PQntuples(result));
	for (int i = 0; i < BATCH_RECORDS; i++)
		if (!PQgetisnull(result, i, 2))
			die("put_records refused a record: %.*s", PQgetlength(result, i, 2), PQgetvalue(result, i, 2));
}

Sample *
sample_make(int size)
{
	Sample *sample = calloc(1, sizeof(Sample));

	if (sample != NULL)
		sample->numbers = calloc(size, sizeof(int64_t));
	if (sample == NULL || sample->numbers == NULL)
		die("out of memory for a sample");
	sample->size = size;
	return sample;
}

/* Reservoir sampling: the numbers kept are uniform over all that were seen. */
static void
sample_add(Sample *sample, Random *random, int64_t number)
{
	uint32_t place;

	sample->seen++;
	if (sample->count < sample->size)
	{
		sample->numbers[sample->count++] = number;
		return;
	}
	place = random_below(random, (uint32_t) sample->seen);
	if (place < (uint32_t) sample->size)
		sample->numbers[place] = number;
}

/* Fills a stream as fast as it goes, without waiting for the disk; sample may be NULL. */
void
stream_fill(const char *name, int64_t records, int record_size, Sample *sample)
{
	PGconn *conn = session_open("SET synchronous_commit = off");
	BatchPool *pool = batch_pool_make(payload_all_keys(), record_size, 64, 7);
	Random random = random_from(8);
	double started = now();

	session_prepare(conn, "put", PUT_RECORDS);
	for (int64_t done = 0; done < records; done += BATCH_RECORDS)
	{
		const Batch *batch = &pool->batches[(done / BATCH_RECORDS) % pool->count];
		Param params[] = {text_param(name),
						  {batch->data_array.data, batch->data_array.length},
						  {batch->key_array.data, batch->key_array.length}};
		PGresult *result = session_call(conn, "put", params, 3);

		check_put_records(result);
		if (sample != NULL)
			for (int i = 0; i < BATCH_RECORDS; i++)
				sample_add(sample, &random, wire_int64(PQgetvalue(result, i, 0)));
		PQclear(result);
	}
	say("  filled %s with %lld records of %d B in %.1f s", name, (long long) records, record_size, now() - started);
	batch_pool_free(pool);
	PQfinish(conn);
}
