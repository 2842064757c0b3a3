/*
 * payload.h - what is written: partition keys, random letters, ready-made batches.
 *
 * Owns:    the letters and the 10,000 keys, filled once before any thread starts.
 * Locking: none; read-only afterwards.
 * Runs in: the benchmark client, any thread.
 */
#ifndef PAYLOAD_H
#define PAYLOAD_H

#include <stdint.h>

#include "wire.h"

#define KEY_COUNT     10000
#define KEY_LENGTH    11  /* user-123456 */
#define BATCH_RECORDS 500 /* the most that PutRecords takes */

typedef struct Random
{
	uint64_t state;
} Random;

/* The keys that a producer draws from. */
typedef struct KeySet
{
	int count;
	const char *keys[KEY_COUNT];
} KeySet;

/* The same 500 records in each form that a way of writing wants them. */
typedef struct Batch
{
	Buffer data_array;
	Buffer key_array;
	Buffer copy_rows;
} Batch;

typedef struct BatchPool
{
	int count;
	Batch *batches;
} BatchPool;

extern void payload_init(void);
extern Random random_from(uint64_t seed);
extern uint32_t random_below(Random *random, uint32_t limit);
extern const char *payload_letters(Random *random, int length);
extern const KeySet *payload_all_keys(void);
extern const char *payload_key(const KeySet *keys, Random *random);
extern BatchPool *batch_pool_make(const KeySet *keys, int record_size, int count, uint64_t seed);
extern void batch_pool_free(BatchPool *pool);

#endif
