/*
 * payload.c - what is written: partition keys, random letters, ready-made batches.
 *
 * Owns:    the letters and the 10,000 keys, filled once before any thread starts.
 * Locking: none; read-only afterwards.
 * Runs in: the benchmark client, any thread.
 *
 * Everything is made before a clock starts, and the same bytes go to every way of writing.  The letters are random, so
 * no compression on the way gets anything out of them.  Seeds are fixed: two runs write the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "payload.h"
#include "session.h"

/* A record is a window into the letters at a random place. */
#define LETTER_COUNT (8 * 1024 * 1024)

static char *letters;
static char key_texts[KEY_COUNT][KEY_LENGTH + 1];
static KeySet all_keys;

/* splitmix64's start for xorshift: neighbouring seeds give unrelated sequences, and none gives 0. */
Random
random_from(uint64_t seed)
{
	uint64_t mixed = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15);

	mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94D049BB133111EB);
	return (Random){.state = (mixed ^ (mixed >> 31)) | 1};
}

static uint64_t
random_next(Random *random)
{
	random->state ^= random->state << 13;
	random->state ^= random->state >> 7;
	random->state ^= random->state << 17;
	return random->state;
}

uint32_t
random_below(Random *random, uint32_t limit)
{
	return (uint32_t) (((random_next(random) >> 32) * limit) >> 32);
}

/* Makes the letters and the keys. */
void
payload_init(void)
{
	static const char alphabet[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	Random random = random_from(1);

	letters = malloc(LETTER_COUNT);
	if (letters == NULL)
		die("out of memory for the letters");
	for (int i = 0; i < LETTER_COUNT; i++)
		letters[i] = alphabet[random_below(&random, sizeof(alphabet) - 1)];

	/* A random step through the six-digit numbers, so that no key comes twice. */
	for (int i = 0; i < KEY_COUNT; i++)
	{
		unsigned number = 100000 + 90 * i + random_below(&random, 90);

		snprintf(key_texts[i], sizeof(key_texts[i]), "user-%06u", number % 1000000);
		all_keys.keys[i] = key_texts[i];
	}
	all_keys.count = KEY_COUNT;
}

const char *
payload_letters(Random *random, int length)
{
	return letters + random_below(random, LETTER_COUNT - length);
}

const KeySet *
payload_all_keys(void)
{
	return &all_keys;
}

const char *
payload_key(const KeySet *keys, Random *random)
{
	return keys->keys[random_below(random, keys->count)];
}

static void
batch_make(Batch *batch, const KeySet *keys, int record_size, Random *random)
{
	buffer_array_header(&batch->data_array, OID_BYTEA, BATCH_RECORDS);
	buffer_array_header(&batch->key_array, OID_TEXT, BATCH_RECORDS);
	buffer_copy_header(&batch->copy_rows);
	for (int i = 0; i < BATCH_RECORDS; i++)
	{
		const char *data = payload_letters(random, record_size);
		const char *key = payload_key(keys, random);

		buffer_field(&batch->data_array, data, record_size);
		buffer_field(&batch->key_array, key, KEY_LENGTH);
		buffer_int16(&batch->copy_rows, 2);
		buffer_field(&batch->copy_rows, key, KEY_LENGTH);
		buffer_field(&batch->copy_rows, data, record_size);
	}
	buffer_copy_trailer(&batch->copy_rows);
}

/* So many different batches of 500 records; a producer takes them in turn. */
BatchPool *
batch_pool_make(const KeySet *keys, int record_size, int count, uint64_t seed)
{
	BatchPool *pool = calloc(1, sizeof(BatchPool));
	Random random = random_from(seed);

	if (pool != NULL)
		pool->batches = calloc(count, sizeof(Batch));
	if (pool == NULL || pool->batches == NULL)
		die("out of memory for batches");
	if (keys->count == 0)
		die("no partition key leads to one of the shards");
	pool->count = count;
	for (int i = 0; i < count; i++)
		batch_make(&pool->batches[i], keys, record_size, &random);
	return pool;
}

void
batch_pool_free(BatchPool *pool)
{
	for (int i = 0; i < pool->count; i++)
	{
		buffer_free(&pool->batches[i].data_array);
		buffer_free(&pool->batches[i].key_array);
		buffer_free(&pool->batches[i].copy_rows);
	}
	free(pool->batches);
	free(pool);
}
