/*
 * shard_walk.h - walks a shard's records through all its slices.
 */
#ifndef KIN_SHARD_WALK_H
#define KIN_SHARD_WALK_H

#include "slice_scan.h"
#include "stream_lookup.h"

typedef struct KinShardWalk
{
	KinSliceScan scan;
	KinSlice *slices; /* a copy: the stream may be read again meanwhile */
	int nslices;
	int current; /* slice that scan reads; nslices at the end */
	int64 after;
	Snapshot snapshot;
	Relation rel; /* of the current slice, or NULL */
	KinTail tail; /* where the shard's last append ended, if known */
	bool blocked; /* stopped at a record of an open transaction */
} KinShardWalk;

/* Begins behind 'after', or at the retention horizon if that is later. */
extern void kin_walk_begin(KinShardWalk *walk, KinStream *stream, KinShard *shard, Snapshot snapshot, int64 after);

/* Next record or NULL; it lives until the next call. */
extern HeapTupleHeader kin_walk_next(KinShardWalk *walk, int64 *number);

/* Back to where the walk began: the same slices, the same horizon. */
extern void kin_walk_restart(KinShardWalk *walk);
extern void kin_walk_end(KinShardWalk *walk);

#endif
