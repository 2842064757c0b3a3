/*
 * goal_positions.c - goal 4: get_records from a random place of a large shard and of a small one.
 *
 * Owns:    two filled streams and a sample of the numbers in each.
 * Locking: none.
 * Runs in: the benchmark client, main thread.
 *
 * The iterator is taken outside the clock: only get_records has to find the place.  What the pair costs is reported
 * too.  The two shards are read in turns of 200 calls, so that both see the same minute and the same caches.
 */
#include <stdlib.h>

#include "goals.h"
#include "results.h"
#include "session.h"
#include "target.h"

#define RECORD_SIZE   100
#define SMALL_RECORDS 10000
#define SAMPLE_SIZE   10000
#define CALLS_A_TURN  200
#define ITERATOR_AT   "SELECT kinesis.get_shard_iterator($1, $2, 'AT_SEQUENCE_NUMBER', $3)"

typedef struct Shard
{
	char name[NAME_SIZE];
	Sample *sample;
	double *get_times;  /* milliseconds of get_records alone */
	double *pair_times; /* with the call for the iterator */
	int count;
} Shard;

static void
shard_fill(PGconn *conn, Shard *shard, int64_t records, int calls)
{
	stream_create(conn, shard->name, 1);
	shard->sample = sample_make(SAMPLE_SIZE);
	stream_fill(shard->name, records, RECORD_SIZE, shard->sample);
	stream_vacuum(conn, shard->name);
	shard->get_times = calloc(calls, sizeof(double));
	shard->pair_times = calloc(calls, sizeof(double));
	if (shard->get_times == NULL || shard->pair_times == NULL)
		die("out of memory for times");
}

/* One call at a random number; its times go to the next place. */
static void
read_at_random(PGconn *conn, Shard *shard, Random *random, int max_records)
{
	int64_t number = shard->sample->numbers[random_below(random, shard->sample->count)];
	char number_wire[8];
	char max_wire[4];
	Param at[] = {text_param(shard->name), text_param(FIRST_SHARD), {number_wire, 8}};
	double started = now();
	double got_iterator;
	double ended;
	PGresult *iterator;
	PGresult *result;
	RecordWalk walk;
	RecordView record;

	wire_put_int64(number_wire, number);
	wire_put_int32(max_wire, max_records);
	iterator = session_call(conn, "iterator", at, 3);
	got_iterator = now();
	{
		Param get[] = {{PQgetvalue(iterator, 0, 0), PQgetlength(iterator, 0, 0)}, {max_wire, 4}};

		result = session_call(conn, "get_records", get, 2);
	}
	ended = now();
	shard->get_times[shard->count] = (ended - got_iterator) * 1000;
	shard->pair_times[shard->count] = (ended - started) * 1000;
	shard->count++;

	walk_begin(&walk, PQgetvalue(result, 0, 0), PQgetlength(result, 0, 0));
	if (!walk_next(&walk, &record) || record.sequence_number != number)
		die("asked for number %lld of %s and got another record", (long long) number, shard->name);
	PQclear(iterator);
	PQclear(result);
}

/* So many calls on each shard, in turns. */
static void
read_both(PGconn *conn, Shard *large, Shard *small, Random *random, int calls, int max_records)
{
	large->count = small->count = 0;
	for (int done = 0; done < calls; done += CALLS_A_TURN)
	{
		for (int i = 0; i < CALLS_A_TURN; i++)
			read_at_random(conn, large, random, max_records);
		for (int i = 0; i < CALLS_A_TURN; i++)
			read_at_random(conn, small, random, max_records);
	}
}

void
goal_positions(void)
{
	static const int reads[] = {1, 100};
	PGconn *conn = session_open(NULL);
	int calls = scaled(20, 2) * CALLS_A_TURN;
	int64_t records = (int64_t) scaled(20000, 40) * BATCH_RECORDS;
	Random random = random_from(40);
	Shard large = {0};
	Shard small = {0};
	Cell *p99[2];
	Cell *p50[2];
	Cell *pair[2];

	say("goal 4: get_records at a random number in a shard of %lld records", (long long) records);
	for (int i = 0; i < 2; i++)
	{
		p99[i] = cell_make(4, MILLISECONDS, COST_LIMIT, 5.0,
						   "get_records(%d) AT_SEQUENCE_NUMBER p99, shard of %.3gM records / of 10,000", reads[i],
						   records / 1e6);
		p50[i] = cell_make(4, MILLISECONDS, COST_LIMIT, NO_GOAL, "the same p50, %d record%s", reads[i],
						   reads[i] > 1 ? "s" : "");
		pair[i] = cell_make(4, MILLISECONDS, COST_LIMIT, NO_GOAL, "the same p99 with get_shard_iterator, %d record%s",
							reads[i], reads[i] > 1 ? "s" : "");
	}
	shard_fill(conn, &large, records, calls);
	shard_fill(conn, &small, SMALL_RECORDS, calls);
	session_run(conn, "CHECKPOINT");
	session_prepare(conn, "iterator", ITERATOR_AT);
	session_prepare(conn, "get_records", GET_RECORDS);

	/* The first reads take the large shard's pages into the processor's reach again. */
	read_both(conn, &large, &small, &random, CALLS_A_TURN, 1);
	for (int round = 0; round < settings.rounds; round++)
		for (int i = 0; i < 2; i++)
		{
			double large_p99;
			double small_p99;

			read_both(conn, &large, &small, &random, calls, reads[i]);
			large_p99 = percentile(large.get_times, calls, 99);
			small_p99 = percentile(small.get_times, calls, 99);
			cell_add(p99[i], large_p99, small_p99);
			cell_add(p50[i], percentile(large.get_times, calls, 50), percentile(small.get_times, calls, 50));
			cell_add(pair[i], percentile(large.pair_times, calls, 99), percentile(small.pair_times, calls, 99));
			say("  round %d, %d records: p99 %.3f ms in the large shard, %.3f ms in the small one", round + 1, reads[i],
				large_p99, small_p99);
		}
	stream_drop(conn, large.name);
	stream_drop(conn, small.name);
	PQfinish(conn);
}
