/*
 * drain_prepare.h - a full shard and a plain heap with the same rows, for the goals that drain.
 *
 * Owns:    nothing; a drain is the goal's that prepared it.
 * Locking: none.
 * Runs in: the benchmark client, main thread.
 */
#ifndef DRAIN_PREPARE_H
#define DRAIN_PREPARE_H

#include <stdint.h>

#include <libpq-fe.h>

#include "target.h"

#define DRAIN_COLUMNS "sequence_number, approximate_arrival_timestamp, partition_key, data"

/* A stream of one shard; the heap is bench_plain. */
typedef struct Drain
{
	PGconn *conn;
	char name[NAME_SIZE];
	int64_t records;
} Drain;

extern void drain_prepare(Drain *drain, int64_t records);
extern void drain_end(Drain *drain);

#endif
