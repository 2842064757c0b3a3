/*
 * slice_append.c - numbers records and appends them to the newest slice of their shard.
 *
 * Owns:    the last number of every shard (in its slot), and the rule that place order is number order.
 * Locking: RowExclusiveLock on the slice until the transaction ends: it is what resharding waits for.  Then the slot's
 *          LWLock, held from taking a number to having the rows in the heap, and no longer: commit and fsync come
 *          after it.  Relations are opened before the LWLock, never under it.
 * Runs in: backends and workers of a primary.
 *
 * Rows go behind all rows, always.  Three things could break that, and are kept away here: the free space map (not
 * used); a backend's remembered target page (set anew each time); and line pointers that VACUUM has freed on the last
 * page after an abort (such a page is left as it is and the next one begun).
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/twophase.h"
#include "executor/tuptable.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "commit_wake.h"
#include "compat.h"
#include "error_report.h"
#include "heap_extend.h"
#include "sequence_number.h"
#include "slice_append.h"
#include "slice_make.h"
#include "slice_scan.h"
#include "throttle_take.h"

#define APPEND_BATCH 500

/* The slices' toast_tuple_target, and what a longer row takes at most: header, key as long as keys get, toast pointer. */
#define KIN_INLINE_MAX         8160
#define STORED_ROW_TOASTED_MAX (SizeofHeapTupleHeader + 2 * MAXIMUM_ALIGNOF + 256 * MAX_MULTIBYTE_CHAR_LEN + 64)

/* The least that heap_multi_insert() asks of a slot: here is your heap tuple.  A real slot per record costs more than md5. */
typedef struct TupleHolder
{
	TupleTableSlot slot;
	HeapTuple tuple;
} TupleHolder;

static void
holder_nothing(TupleTableSlot *slot)
{
}

static HeapTuple
holder_tuple(TupleTableSlot *slot)
{
	return ((TupleHolder *) slot)->tuple;
}

static const TupleTableSlotOps holder_ops = {
	.base_slot_size = sizeof(TupleHolder),
	.materialize = holder_nothing,
	.get_heap_tuple = holder_tuple,
};

static const TupleTableSlot holder_slot = {.type = T_TupleTableSlot, .tts_ops = &holder_ops};

/* What is known of the page that rows are appended to.  It stays pinned: see aim_at(). */
typedef struct Tail
{
	BlockNumber nblocks;      /* InvalidBlockNumber while nobody has asked */
	BlockNumber block;        /* InvalidBlockNumber while the heap has no page with records */
	BlockNumber reserved_end; /* pages between block and this one need not be read: we know that they are zero */
	Buffer pin;
	Size free;
} Tail;

static void
let_go(Tail *tail)
{
	if (BufferIsValid(tail->pin))
		ReleaseBuffer(tail->pin);
	tail->pin = InvalidBuffer;
}

/*
 * Makes a page the place where the next rows go, and finds out how much room it has.  While the pin is held VACUUM can't
 * get its cleanup lock, so no line pointer of the page can become free before we insert.  A page that has free ones
 * already counts as full: a new row would go in front of older ones.
 */
static void
aim_at(Relation rel, Tail *tail, BlockNumber block)
{
	Page page;

	let_go(tail);
	if (tail->block != InvalidBlockNumber && block > tail->block && block < tail->reserved_end)
	{
		/*
		 * Reading zeros from the file costs as much as writing them did.  Only somebody who has switched the guard triggers
		 * off could have put rows there meanwhile, and only what is in the buffer pool is looked at here.
		 */
		tail->pin = ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_ZERO_AND_LOCK, NULL);
		page = BufferGetPage(tail->pin);
		if (PageIsNew(page))
		{
			PageInit(page, BLCKSZ, 0);
			MarkBufferDirty(tail->pin);
		}
	}
	else
	{
		tail->pin = ReadBuffer(rel, block);
		LockBuffer(tail->pin, BUFFER_LOCK_SHARE);
		page = BufferGetPage(tail->pin);
	}
	tail->block = block;
	if (PageIsNew(page))
		tail->free = BLCKSZ - SizeOfPageHeaderData - sizeof(ItemIdData);
	else if (PageHasFreeLinePointers(page))
		tail->free = 0;
	else
		tail->free = PageGetHeapFreeSpace(page);
	LockBuffer(tail->pin, BUFFER_LOCK_UNLOCK);
	RelationSetTargetBlock(rel, block);
}

/* Last page that is in use; zero pages at the end are room set aside. */
static void
find_tail(Relation rel, Tail *tail)
{
	BlockNumber block = tail->nblocks;

	while (block-- > 0)
	{
		Buffer buffer = ReadBuffer(rel, block);
		bool is_new;

		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		is_new = PageIsNew(BufferGetPage(buffer));
		UnlockReleaseBuffer(buffer);
		if (!is_new)
		{
			aim_at(rel, tail, block);
			return;
		}
	}
	tail->block = InvalidBlockNumber;
	tail->free = 0;
}

/* Goes on to the next page, which is made if need be. */
static void
next_page(Relation rel, Tail *tail)
{
	BlockNumber next = tail->block == InvalidBlockNumber ? 0 : tail->block + 1;

	if (tail->nblocks == InvalidBlockNumber)
	{
		tail->nblocks = RelationGetNumberOfBlocks(rel);
		tail->reserved_end = Min(tail->reserved_end, tail->nblocks);
	}
	if (next >= tail->nblocks)
	{
		bool reserved;

		tail->nblocks = kin_extend_heap_many(rel, tail->nblocks, &reserved);
		tail->reserved_end = reserved ? tail->nblocks : 0;
	}
	aim_at(rel, tail, next);
}

/* Room that a row will take on the page, at most.  The toaster leaves little of what is longer than a page. */
static Size
room_of(HeapTuple tuple)
{
	if (tuple->t_len > KIN_INLINE_MAX)
		return MAXALIGN(STORED_ROW_TOASTED_MAX);
	return MAXALIGN(tuple->t_len);
}

/*
 * heap_multi_insert() would extend the heap page by page; so it is given as many rows as fit on one page that is there.
 */
static void
fill_page(Relation rel, Tail *tail, HeapTuple *tuples, int n, CommandId cid, int options)
{
	static TupleHolder holders[APPEND_BATCH];
	static TupleTableSlot *slots[APPEND_BATCH];

	if (n == 1)
		heap_insert(rel, tuples[0], cid, options, NULL);
	else
	{
		for (int i = 0; i < n; i++)
		{
			memcpy(&holders[i].slot, &holder_slot, sizeof(holder_slot));
			holders[i].tuple = tuples[i];
			slots[i] = &holders[i].slot;
		}
		heap_multi_insert(rel, slots, n, cid, options, NULL);
	}
	/* Should a row not have fitted after all, the heap was extended at its very end. */
	if (RelationGetTargetBlock(rel) != tail->block)
	{
		tail->nblocks = RelationGetNumberOfBlocks(rel);
		aim_at(rel, tail, RelationGetTargetBlock(rel));
	}
}

void
kin_append_tuples(Relation rel, HeapTuple *tuples, int n, int options, KinTail *known)
{
	CommandId cid = GetCurrentCommandId(true);
	Tail tail = {.nblocks = InvalidBlockNumber, .block = InvalidBlockNumber, .pin = InvalidBuffer};
	int done = 0;

	Assert(n <= APPEND_BATCH);
	/* A target block of ours is there: whoever cuts a file short has everybody forget theirs.  Else the length is looked up. */
	if (known->file != kin_file_of(rel) || known->block != RelationGetTargetBlock(rel))
		tail.nblocks = RelationGetNumberOfBlocks(rel);
	if (known->file == kin_file_of(rel) && known->block < tail.nblocks)
	{
		aim_at(rel, &tail, known->block);
		tail.reserved_end = Min(known->reserved_end, tail.nblocks);
	}
	else
		find_tail(rel, &tail);
	known->file = InvalidOid; /* until it is known again: an error may come */
	while (done < n)
	{
		int fit = 0;

		while (done + fit < n && room_of(tuples[done + fit]) <= tail.free)
		{
			tail.free -= Min(tail.free, room_of(tuples[done + fit]) + sizeof(ItemIdData));
			fit++;
		}
		if (fit == 0)
		{
			next_page(rel, &tail);
			continue;
		}
		fill_page(rel, &tail, tuples + done, fit, cid, options | HEAP_INSERT_SKIP_FSM);
		done += fit;
	}
	let_go(&tail);
	known->block = tail.block;
	known->reserved_end = tail.reserved_end;
	known->file = kin_file_of(rel);
}

/*
 * Greatest number ever stored in a shard, by its newest slice that has any.  Prepared transactions may hold records
 * anywhere, as far as a new slot knows; *floor is where to look for the first one.
 */
static int64
stored_tail(KinStream *stream, KinShard *shard, int64 *floor)
{
	int64 tail = Max(shard->starting_number, shard->ending_number);

	kin_shard_read_slices(stream, shard, true);
	*floor = shard->nslices > 1 ? shard->slices[0].lower - 1 : tail;
	for (int i = shard->nslices - 1; i >= 0; i--)
	{
		Relation rel = try_relation_open(shard->slices[i].relid, AccessShareLock);
		int64 last;

		if (rel == NULL)
			continue;
		last = kin_slice_tail(rel);
		relation_close(rel, AccessShareLock);
		if (last >= 0)
		{
			*floor = shard->slices[Max(i - 1, 0)].lower - 1;
			return Max(tail, last);
		}
	}
	return tail;
}

/*
 * Not on a standby: what is loaded there would be out of date after promotion, and numbers would be given out twice.
 */
KinShardSlot *
kin_shard_lock(KinStream *stream, KinShard *shard)
{
	if (RecoveryInProgress())
		elog(ERROR, "the last number of a shard can't be known during recovery");
	for (;;)
	{
		uint64 evictions;
		int64 tail;
		int64 floor;

		if (shard->slot == NULL)
			shard->slot = kin_slot_find(&shard->key);
		if (!kin_slot_lock(shard->slot, &shard->key))
		{
			shard->slot = NULL;
			continue;
		}
		if (shard->slot->loaded)
			return shard->slot;
		kin_slot_unlock(shard->slot);

		/*
		 * The heap can't be read under the lock.  Nobody appends to a shard whose slot is not loaded, so what we read
		 * stays true, unless meanwhile somebody else loaded it, appended, and the slot went to another shard and back.
		 */
		evictions = kin_slot_evictions();
		tail = stored_tail(stream, shard, &floor);
		if (!kin_slot_lock(shard->slot, &shard->key))
		{
			shard->slot = NULL;
			continue;
		}
		if (!shard->slot->loaded)
		{
			if (evictions != kin_slot_evictions())
			{
				kin_slot_unlock(shard->slot);
				continue;
			}
			shard->slot->last_number = shard->slot->boundary = shard->slot->settled = tail;
			shard->slot->prepared_floor = max_prepared_xacts > 0 ? Min(floor, tail) : -1;
			shard->slot->loaded = true;
		}
		return shard->slot;
	}
}

/* A guess, without the lock, at the number that comes next. */
static int64
likely_number(KinShard *shard, int64 now_ms)
{
	int64 now = kin_number_of_ms(now_ms);
	KinShardSlot *slot = shard->slot;

	if (slot && slot->loaded && memcmp(&slot->key, &shard->key, sizeof(shard->key)) == 0)
		now = Max(now, slot->last_number + 1);
	return now;
}

bool
kin_append_prepare(KinStream *stream, KinShard *shard)
{
	KinSlice *slice;
	int64 number = Max(likely_number(shard, kin_now_ms()), shard->starting_number + 1);

	kin_shard_read_slices(stream, shard, false);
	slice = kin_slice_for_number(shard, number);
	if (slice == NULL)
	{
		kin_slice_make(stream, shard, number);
		return false;
	}
	LockRelationOid(slice->relid, RowExclusiveLock);
	shard->locked_slice = slice->lower;
	return kin_stream_is_current(stream);
}

/*
 * Marks the records that the shard's limits let through and takes their tokens; returns their number.  In mode
 * KIN_APPEND_ALL it is all or none (-1).
 */
static int
throttle(KinStream *stream, KinShardSlot *slot, KinNewRecord **records, int n, KinAppendMode mode)
{
	int64 now;
	int passed = 0;

	if (stream->write_bytes_rate < 0 && stream->write_records_rate < 0)
		return n;
	now = GetCurrentTimestamp();
	kin_bucket_refill(&slot->write_bytes, stream->write_bytes_rate, now);
	kin_bucket_refill(&slot->write_records, stream->write_records_rate, now);
	if (mode == KIN_APPEND_ALL)
	{
		int64 size = 0;

		for (int i = 0; i < n; i++)
			size += records[i]->size;
		if (!kin_bucket_allows(&slot->write_bytes, stream->write_bytes_rate, size) ||
			!kin_bucket_allows(&slot->write_records, stream->write_records_rate, n))
			return -1;
		kin_bucket_take(&slot->write_bytes, stream->write_bytes_rate, size);
		kin_bucket_take(&slot->write_records, stream->write_records_rate, n);
		return n;
	}
	for (int i = 0; i < n; i++)
	{
		records[i]->throttled = !kin_bucket_allows(&slot->write_bytes, stream->write_bytes_rate, records[i]->size) ||
								!kin_bucket_allows(&slot->write_records, stream->write_records_rate, 1);
		if (records[i]->throttled)
			continue;
		kin_bucket_take(&slot->write_bytes, stream->write_bytes_rate, records[i]->size);
		kin_bucket_take(&slot->write_records, stream->write_records_rate, 1);
		passed++;
	}
	return passed;
}

/*
 * Locks what the toaster will open.  It would wait for these locks under the shard's LWLock, where no signal gets through, and
 * whoever holds them (REINDEX of the TOAST table) may be about to put a record to this very shard.
 */
static void
lock_toast(Relation rel, KinNewRecord **records, int n)
{
	Relation toast;
	bool needed = false;
	ListCell *lc;

	for (int i = 0; i < n && !needed; i++)
		needed = records[i]->tuple.t_len > TOAST_TUPLE_THRESHOLD;
	if (!needed || !OidIsValid(rel->rd_rel->reltoastrelid))
		return;
	toast = table_open(rel->rd_rel->reltoastrelid, RowExclusiveLock);
	foreach (lc, RelationGetIndexList(toast))
		LockRelationOid(lfirst_oid(lc), RowExclusiveLock);
	table_close(toast, NoLock);
}

/* Opens a slice for writing and keeps its lock; NULL when it is gone.  kin_append_prepare() may have locked it already. */
static Relation
open_for_append(KinShard *shard, KinSlice *slice, KinNewRecord **records, int n)
{
	Relation rel = try_relation_open(slice->relid, slice->lower == shard->locked_slice ? NoLock : RowExclusiveLock);

	/* The flag stays until the next VACUUM; the list tells. */
	if (rel && rel->rd_rel->relhasindex && RelationGetIndexList(rel) != NIL)
	{
		char *name = pstrdup(RelationGetRelationName(rel));

		relation_close(rel, NoLock);
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("slice \"%s\" of a stream has an index", name),
			 errdetail("Records are appended without going through the executor, so the index would miss them."),
			 errhint(
				 "Drop the index from the stream's table. To search records by content, copy them into a table of your own.")));
	}
	if (rel)
		lock_toast(rel, records, n);
	return rel;
}

/*
 * A slice that kin_append_prepare() has locked can't lose its shard to a split before we end.  For any other the lock
 * was taken just now, perhaps after waiting for a split, so the map must still be the one by which we routed.
 */
static bool
still_ours(KinStream *stream, KinShard *shard, int64 lower)
{
	return lower == shard->locked_slice || kin_stream_is_current(stream);
}

KinAppendResult
kin_append(KinStream *stream, KinShard *shard, KinNewRecord **records, int n, KinAppendMode mode, int64 minimum)
{
	HeapTuple tuples[APPEND_BATCH];
	KinShardSlot *slot;
	Relation rel = NULL;
	int64 opened = -1; /* lower bound of the slice in rel */
	int64 base;
	int64 now_ms = kin_now_ms();
	int passed;

	Assert(n > 0 && n <= APPEND_BATCH);
	(void) GetCurrentTransactionId(); /* taken before the lock: it may have to extend pg_xact */
	kin_reserve_writer();
	for (;;)
	{
		KinSlice *slice;

		CHECK_FOR_INTERRUPTS();
		if (rel == NULL)
		{
			/* Most often right, so that the lock is taken once. */
			slice = kin_slice_for_number(shard, likely_number(shard, now_ms));
			if (slice && (rel = open_for_append(shard, slice, records, n)) != NULL)
				opened = slice->lower;
		}
		if (rel && !still_ours(stream, shard, opened))
		{
			relation_close(rel, NoLock);
			return KIN_APPEND_MOVED;
		}
		slot = kin_shard_lock(stream, shard);
		base = Max(Max(slot->last_number, minimum) + 1, kin_number_of_ms(now_ms));
		slice = kin_slice_for_number(shard, base);
		if (slice && base > slice->upper - n)
		{
			/* A call's records go into one slice; numbers may have gaps. */
			base = slice->upper;
			slice = kin_slice_for_number(shard, base);
		}
		if (slice && rel && slice->lower == opened)
			break;
		kin_slot_unlock(slot);
		if (rel)
			relation_close(rel, NoLock);
		rel = NULL;
		if (base > PG_INT64_MAX - n)
			ereport(ERROR, (kin_errcode(KIN_INTERNAL_FAILURE),
							errmsg("shard %s has no sequence numbers left", kin_shard_id(shard->index))));
		if (slice == NULL)
		{
			/* Whoever makes a slice tells everybody, us included, that the stream has changed. */
			kin_slice_make(stream, shard, base);
			return KIN_APPEND_MOVED;
		}
		rel = open_for_append(shard, slice, records, n);
		if (rel)
			opened = slice->lower;
		else
			kin_shard_read_slices(stream, shard, true);
	}

	passed = throttle(stream, slot, records, n, mode);
	if (passed > 0)
	{
		int k = 0;

		kin_join_writers(slot);
		for (int i = 0; i < n; i++)
		{
			KinNewRecord *record = records[i];
			char *stamp;

			if (record->throttled)
				continue;
			record->number = base + k;
			stamp = (char *) record->tuple.t_data + record->tuple.t_data->t_hoff;
			memcpy(stamp, &record->number, sizeof(int64));
			memcpy(stamp + sizeof(int64), &shard->index, sizeof(int32));
			tuples[k++] = &record->tuple;
		}
		/* Before the rows: if storing them fails half-way, no number is given out twice. */
		slot->last_number = base + k - 1;
		kin_append_tuples(rel, tuples, k, 0, &slot->tail);
	}
	kin_slot_unlock(slot);
	relation_close(rel, NoLock);
	return passed >= 0 ? KIN_APPENDED : KIN_APPEND_REFUSED;
}
