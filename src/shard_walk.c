/*
 * shard_walk.c - carries a reader from slice to slice.
 *
 * Owns:    nothing.
 * Locking: AccessShareLock on one slice at a time, released as soon as the walk has left it, so that retention never
 *          waits for a reader that is already further on.  No lock on the partitioned tables above.
 * Runs in: backends and workers, on a primary or a standby.
 *
 * Going on to the next slice can't skip anything: the snapshot was taken before the first page was read, so a record that
 * reached the old slice after we saw its end is not in the snapshot, nor is any record with a greater number.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xlog.h"
#include "utils/rel.h"

#include "compat.h"
#include "shard_walk.h"

/*
 * Where the shard's last append ended, so that a reader does not look through the zero pages that are set aside behind it.
 * Asked after the snapshot was taken: what the snapshot sees had been appended by then.
 */
static KinTail
known_tail(KinShard *shard)
{
	KinTail tail = {.file = InvalidOid};
	KinShardSlot *slot = RecoveryInProgress() ? NULL : kin_slot_peek(&shard->key);

	if (slot && kin_slot_lock(slot, &shard->key))
	{
		tail = slot->tail;
		kin_slot_unlock(slot);
	}
	return tail;
}

void
kin_walk_begin(KinShardWalk *walk, KinStream *stream, KinShard *shard, Snapshot snapshot, int64 after)
{
	int first = 0;

	kin_shard_read_slices(stream, shard, false);
	walk->after = Max(after, kin_stream_horizon(stream) - 1);
	while (first < shard->nslices && shard->slices[first].upper <= walk->after)
		first++;
	walk->nslices = shard->nslices - first;
	walk->slices = palloc(Max(walk->nslices, 1) * sizeof(KinSlice));
	memcpy(walk->slices, shard->slices + first, walk->nslices * sizeof(KinSlice));
	walk->snapshot = snapshot;
	walk->current = -1;
	walk->rel = NULL;
	walk->blocked = false;
	walk->tail = known_tail(shard);
}

static void
leave_slice(KinShardWalk *walk)
{
	if (walk->rel == NULL)
		return;
	kin_slice_scan_end(&walk->scan);
	relation_close(walk->rel, AccessShareLock);
	walk->rel = NULL;
}

HeapTupleHeader
kin_walk_next(KinShardWalk *walk, int64 *number)
{
	for (;;)
	{
		if (walk->rel)
		{
			HeapTupleHeader tuple = kin_slice_scan_next(&walk->scan, number);

			if (tuple)
				return tuple;
			walk->blocked = walk->scan.blocked;
			leave_slice(walk);
		}
		if (walk->blocked || walk->current + 1 >= walk->nslices)
			return NULL;
		walk->current++;
		/* A slice that is gone was past retention: go on behind it. */
		walk->rel = try_relation_open(walk->slices[walk->current].relid, AccessShareLock);
		if (walk->rel)
			kin_slice_scan_begin(&walk->scan, walk->rel, walk->snapshot, walk->after,
								 walk->tail.file == kin_file_of(walk->rel) ? walk->tail.block + 1 : MaxBlockNumber);
	}
}

void
kin_walk_restart(KinShardWalk *walk)
{
	leave_slice(walk);
	walk->current = -1;
	walk->blocked = false;
}

void
kin_walk_end(KinShardWalk *walk)
{
	leave_slice(walk);
	pfree(walk->slices);
}
