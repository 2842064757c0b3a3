/*
 * slice_scan.c - reads the heap of a slice as a log.
 *
 * Owns:    nothing; one scan holds one pinned page.
 * Locking: share lock on a page while its line pointers are looked at.  Records are immutable, so their bytes may be
 *          read under the pin alone.
 * Runs in: backends and workers, on a primary or a standby.
 *
 * Why a reader can't skip a record that commits late: a shard's numbers and heap places are given out together under one
 * lock, so place order is number order.  The walk stops at the first record whose transaction is still open for the
 * snapshot.  Everything before it has ended; nothing with a smaller number can appear later, because new records go to
 * the end.  A record that committed after the snapshot was taken counts as open, hence REPEATABLE READ, standbys and
 * prepared transactions need no case of their own.
 *
 * Pages may be new (all zero, after a crash between extension and first use) or empty (abort and vacuum); they are
 * stepped over.  Records inside a page are put in number order before they are walked.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/subtrans.h"
#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "slice_scan.h"

typedef enum RecordState
{
	RECORD_VISIBLE,
	RECORD_LOST,
	RECORD_OPEN
} RecordState;

/* What the snapshot says of another transaction that has written records. */
static RecordState
transaction_state(TransactionId xid, Snapshot snapshot)
{
	if (XidInMVCCSnapshot(xid, snapshot))
	{
		/* Lost for good, even though the snapshot still lists it: nothing to wait for. */
		return TransactionIdDidAbort(xid) ? RECORD_LOST : RECORD_OPEN;
	}
	/* Not running, not committed: it aborted, or the server crashed before it could say so. */
	return TransactionIdDidCommit(xid) ? RECORD_VISIBLE : RECORD_LOST;
}

static RecordState
record_state(KinSliceScan *scan, HeapTupleHeader tuple, ItemPointerData *self)
{
	TransactionId xid;
	RecordState state;

	/* Records are never deleted or updated by us; somebody who switched the triggers off gets plain MVCC. */
	if (unlikely(!(tuple->t_infomask & HEAP_XMAX_INVALID) && !HEAP_XMAX_IS_LOCKED_ONLY(tuple->t_infomask)))
	{
		HeapTupleData whole;

		whole.t_data = tuple;
		whole.t_self = *self;
		whole.t_tableOid = RelationGetRelid(scan->rel);
		whole.t_len = 0;
		if (!HeapTupleSatisfiesVisibility(&whole, scan->snapshot, scan->buffer) &&
			(HeapTupleHeaderXminFrozen(tuple) ||
			 transaction_state(HeapTupleHeaderGetRawXmin(tuple), scan->snapshot) != RECORD_OPEN))
			return RECORD_LOST;
	}
	if (HeapTupleHeaderXminFrozen(tuple))
		return RECORD_VISIBLE;
	if (HeapTupleHeaderXminInvalid(tuple))
		return RECORD_LOST;

	/* A batch has one transaction: its fate is looked up once, not per record. */
	xid = HeapTupleHeaderGetRawXmin(tuple);
	if (xid == scan->last_xid)
		state = (RecordState) scan->last_state;
	else if (TransactionIdIsCurrentTransactionId(xid))
	{
		/* Our own: seen by the statements after the one that put it.  A cursor opened before does not go on to it. */
		return HeapTupleHeaderGetRawCommandId(tuple) < scan->snapshot->curcid ? RECORD_VISIBLE : RECORD_OPEN;
	}
	else
	{
		state = transaction_state(xid, scan->snapshot);
		scan->last_xid = xid;
		scan->last_state = state;
	}

	/* Leave the hint, as every reader of a heap does; it saves the next one the look-up. */
	if (state != RECORD_OPEN && !HeapTupleHeaderXminCommitted(tuple))
	{
		if (state == RECORD_VISIBLE)
			HeapTupleSetHintBits(tuple, scan->buffer, HEAP_XMIN_COMMITTED, xid);
		else
			HeapTupleSetHintBits(tuple, scan->buffer, HEAP_XMIN_INVALID, InvalidTransactionId);
	}
	return state;
}

static int
compare_items(const void *a, const void *b)
{
	int64 x = ((const KinItem *) a)->number;
	int64 y = ((const KinItem *) b)->number;

	return x < y ? -1 : x > y;
}

/*
 * Gathers the records of a page behind 'after', in number order, whatever their transactions.  Returns how many.
 */
static int
gather_items(Page page, int64 after, KinItem *items)
{
	OffsetNumber max;
	int n = 0;
	bool sorted = true;

	if (PageIsNew(page))
		return 0;
	max = PageGetMaxOffsetNumber(page);
	for (OffsetNumber off = FirstOffsetNumber; off <= max; off++)
	{
		ItemId item = PageGetItemId(page, off);
		int64 number;

		if (!ItemIdIsNormal(item))
			continue;
		number = kin_tuple_number((HeapTupleHeader) PageGetItem(page, item));
		if (number <= after)
			continue;
		if (n > 0 && number < items[n - 1].number)
			sorted = false;
		items[n].number = number;
		items[n++].offset = off;
	}
	if (unlikely(!sorted))
		qsort(items, n, sizeof(KinItem), compare_items);
	return n;
}

/* Pins a page and makes its visible records ready. */
static void
read_page(KinSliceScan *scan, BlockNumber block)
{
	Page page;
	int n;
	int kept = 0;

	if (BufferIsValid(scan->buffer))
		ReleaseBuffer(scan->buffer);
	CHECK_FOR_INTERRUPTS();
	scan->buffer = ReadBuffer(scan->rel, block);
	scan->block = block;
	scan->next = 0;
	LockBuffer(scan->buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(scan->buffer);
	n = gather_items(page, scan->after, scan->items);

	/* On a standby the page-level flag may be ahead of what this snapshot may see. */
	if (n > 0 && PageIsAllVisible(page) && !scan->snapshot->takenDuringRecovery)
		kept = n;
	else
		for (int i = 0; i < n; i++)
		{
			HeapTupleHeader tuple = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, scan->items[i].offset));
			ItemPointerData self;
			RecordState state;

			ItemPointerSet(&self, block, scan->items[i].offset);
			state = record_state(scan, tuple, &self);
			if (state == RECORD_OPEN)
			{
				scan->blocked = true;
				/* SERIALIZABLE: we depend on this writer not having committed before us. */
				if (IsolationIsSerializable())
				{
					HeapTupleData whole = {.t_data = tuple, .t_self = self, .t_tableOid = RelationGetRelid(scan->rel)};

					HeapCheckForSerializableConflictOut(false, scan->rel, &whole, scan->buffer, scan->snapshot);
				}
				break;
			}
			if (state == RECORD_VISIBLE)
				scan->items[kept++] = scan->items[i];
		}
	LockBuffer(scan->buffer, BUFFER_LOCK_UNLOCK);
	scan->nitems = kept;
}

/*
 * Has a page records, whatever their transactions, and does it begin at or below 'after'?
 */
static bool
page_has_records(Relation rel, BlockNumber block, int64 after, bool *below)
{
	Buffer buffer;
	Page page;
	bool found = false;

	CHECK_FOR_INTERRUPTS();
	buffer = ReadBuffer(rel, block);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	*below = false;
	if (!PageIsNew(page))
	{
		OffsetNumber max = PageGetMaxOffsetNumber(page);

		/* Mostly the first record tells; the others are looked at because they need not be in order. */
		for (OffsetNumber off = FirstOffsetNumber; off <= max && !*below; off++)
		{
			ItemId item = PageGetItemId(page, off);

			if (!ItemIdIsNormal(item))
				continue;
			found = true;
			*below = kin_tuple_number((HeapTupleHeader) PageGetItem(page, item)) <= after;
		}
	}
	UnlockReleaseBuffer(buffer);
	return found;
}

/*
 * Does a page, or the next one behind it that has records, begin at or below 'after'?  *probe is the page that answered;
 * false, too, when there is none with records before 'end'.
 */
static bool
begins_at_or_below(Relation rel, BlockNumber *probe, BlockNumber end, int64 after)
{
	bool below;

	for (; *probe < end; (*probe)++)
		if (page_has_records(rel, *probe, after, &below))
			return below;
	return false;
}

/*
 * First page that can hold a number greater than 'after': the last page that begins at or below it.  Most readers are
 * near the end, so steps that double go back from there, and a binary search looks between the last two.  A probe that
 * hits a page without records goes on to the next that has some.
 */
static BlockNumber
find_block(Relation rel, BlockNumber nblocks, int64 after)
{
	BlockNumber lo = 0;       /* may hold it */
	BlockNumber hi = nblocks; /* this and all later begin behind it */
	BlockNumber probe;

	for (BlockNumber step = 1; hi > step; step *= 2)
	{
		BlockNumber start = hi - step;

		probe = start;
		if (begins_at_or_below(rel, &probe, hi, after))
		{
			lo = probe;
			break;
		}
		hi = start;
	}
	while (hi - lo > 1)
	{
		BlockNumber mid = lo + (hi - lo) / 2;

		probe = mid;
		if (begins_at_or_below(rel, &probe, hi, after))
			lo = probe;
		else
			hi = mid;
	}
	return lo;
}

void
kin_slice_scan_begin(KinSliceScan *scan, Relation rel, Snapshot snapshot, int64 after, BlockNumber most)
{
	scan->rel = rel;
	scan->snapshot = snapshot;
	scan->after = after;
	scan->nblocks = Min(RelationGetNumberOfBlocks(rel), most);
	scan->buffer = InvalidBuffer;
	scan->nitems = 0;
	scan->next = 0;
	scan->blocked = false;
	scan->last_xid = InvalidTransactionId;
	PredicateLockRelation(rel, snapshot);
	if (scan->nblocks == 0)
	{
		scan->block = 0;
		return;
	}
	read_page(scan, find_block(rel, scan->nblocks, after));
}

HeapTupleHeader
kin_slice_scan_next(KinSliceScan *scan, int64 *number)
{
	Page page;
	KinItem *item;

	while (scan->next >= scan->nitems)
	{
		if (scan->blocked || scan->block + 1 >= scan->nblocks)
			return NULL;
		read_page(scan, scan->block + 1);
	}
	/* Macros of the page layer evaluate their arguments more than once: no side effects inside. */
	item = &scan->items[scan->next++];
	*number = item->number;
	page = BufferGetPage(scan->buffer);
	return (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, item->offset));
}

void
kin_slice_scan_end(KinSliceScan *scan)
{
	if (BufferIsValid(scan->buffer))
		ReleaseBuffer(scan->buffer);
	scan->buffer = InvalidBuffer;
}

int64
kin_slice_tail(Relation rel)
{
	BlockNumber block = RelationGetNumberOfBlocks(rel);
	KinItem items[MaxHeapTuplesPerPage];

	while (block-- > 0)
	{
		Buffer buffer;
		int n;

		CHECK_FOR_INTERRUPTS();
		buffer = ReadBuffer(rel, block);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		n = gather_items(BufferGetPage(buffer), -1, items);
		UnlockReleaseBuffer(buffer);
		if (n > 0)
			return items[n - 1].number;
	}
	return -1;
}
