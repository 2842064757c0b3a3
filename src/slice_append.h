/*
 * slice_append.h - gives out numbers and appends records to the end of a shard.
 */
#ifndef KIN_SLICE_APPEND_H
#define KIN_SLICE_APPEND_H

#include "access/htup_details.h"

#include "stream_lookup.h"

/* One record on its way in; 'tuple' is formed but for its number and shard. */
typedef struct KinNewRecord
{
	HeapTupleData tuple;
	int64 size;      /* of data and partition key, as the throttle counts them */
	int64 number;    /* out */
	bool throttled;  /* out */
	bool placed;     /* stored, or throttled for good: not to be routed again */
	KinShard *shard; /* where it goes */
} KinNewRecord;

typedef enum KinAppendMode
{
	KIN_APPEND_PARTIAL, /* throttled records are marked and left out */
	KIN_APPEND_ALL      /* a throttled record raises; nothing is written */
} KinAppendMode;

typedef enum KinAppendResult
{
	KIN_APPENDED,
	KIN_APPEND_REFUSED, /* KIN_APPEND_ALL only: by the shard's limits */
	KIN_APPEND_MOVED    /* the map of shards changed meanwhile: nothing is written, route again */
} KinAppendResult;

/*
 * Opens and locks the slice that records of a shard will go to.  False when the map of shards changed meanwhile: the
 * caller opens the stream again and routes anew.
 */
extern bool kin_append_prepare(KinStream *stream, KinShard *shard);

/* Numbers and stores the records, all of one shard, in their order.  Numbers are greater than 'minimum'. */
extern KinAppendResult kin_append(KinStream *stream, KinShard *shard, KinNewRecord **records, int n, KinAppendMode mode,
								  int64 minimum);

/* Locks the shard's slot with its last number known; unlock by kin_slot_unlock(). */
extern KinShardSlot *kin_shard_lock(KinStream *stream, KinShard *shard);

/*
 * Puts rows behind all others, and remembers where that was.  Also used, without numbering, for a slice that is
 * rewritten in order; options are those of heap_insert().
 */
extern void kin_append_tuples(Relation rel, HeapTuple *tuples, int n, int options, KinTail *known);

#endif
