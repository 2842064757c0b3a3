/*
 * shard_read.h - the arguments of read_shard, checked once for the function and the scan that stands in for it.
 */
#ifndef KIN_SHARD_READ_H
#define KIN_SHARD_READ_H

#include "shard_walk.h"

typedef struct KinReadRequest
{
	Datum args[4]; /* stream_name, shard_id, after_sequence_number, max_records */
	bool nulls[4];
	int64 max_records; /* out */
} KinReadRequest;

/* Checks arguments and rights and begins the walk. */
extern void kin_read_begin(KinReadRequest *request, KinShardWalk *walk, Snapshot snapshot);

#endif
