/*
 * slice_scan.h - finds a position in a slice and walks it in number order, up to the first record of an open transaction.
 */
#ifndef KIN_SLICE_SCAN_H
#define KIN_SLICE_SCAN_H

#include "access/htup_details.h"
#include "storage/buf.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* Attributes of kinesis.stored_record. */
enum
{
	KIN_ATT_SEQUENCE_NUMBER = 1,
	KIN_ATT_SHARD,
	KIN_ATT_PARTITION_KEY,
	KIN_ATT_DATA,
	KIN_STORED_COLUMNS = KIN_ATT_DATA
};

typedef struct KinItem
{
	int64 number;
	OffsetNumber offset;
} KinItem;

typedef struct KinSliceScan
{
	Relation rel;
	Snapshot snapshot;
	int64 after;         /* records with greater numbers are wanted */
	BlockNumber block;   /* of the page in 'buffer' */
	BlockNumber nblocks; /* when the scan began: what comes later is not in the snapshot either */
	Buffer buffer;       /* pinned page, or InvalidBuffer */
	int nitems;          /* visible records of the page, in number order */
	int next;
	bool blocked;           /* stopped at a record whose transaction is open for the snapshot */
	TransactionId last_xid; /* last transaction looked up, and what became of it */
	int last_state;
	KinItem items[MaxHeapTuplesPerPage];
} KinSliceScan;

/*
 * Begins a walk behind 'after' through at most so many pages; the relation stays open and locked by the caller until the
 * end.
 */
extern void kin_slice_scan_begin(KinSliceScan *scan, Relation rel, Snapshot snapshot, int64 after, BlockNumber most);

/* Next record, or NULL at the end (then 'blocked' tells why).  The tuple lives in the pinned page until the next call. */
extern HeapTupleHeader kin_slice_scan_next(KinSliceScan *scan, int64 *number);
extern void kin_slice_scan_end(KinSliceScan *scan);

/* Greatest number on any tuple of the slice, visible or not; -1 when it has none. */
extern int64 kin_slice_tail(Relation rel);

/* The number of a stored record: its first column, never null, at the start of the data. */
static inline int64
kin_tuple_number(HeapTupleHeader tuple)
{
	int64 number;

	memcpy(&number, (char *) tuple + tuple->t_hoff, sizeof(number));
	return number;
}

/*
 * Partition key and data of a stored record, as varlenas in the tuple (data may be toasted).  Fixed places by the layout of
 * kinesis.stored_record: bigint, integer, then two varlenas, none null.
 */
static inline void
kin_tuple_fields(HeapTupleHeader tuple, struct varlena **key, struct varlena **data)
{
	char *base = (char *) tuple + tuple->t_hoff;
	Size off = sizeof(int64) + sizeof(int32);

	off = att_align_pointer(off, TYPALIGN_INT, -1, base + off);
	*key = (struct varlena *) (base + off);
	off += VARSIZE_ANY(base + off);
	off = att_align_pointer(off, TYPALIGN_INT, -1, base + off);
	*data = (struct varlena *) (base + off);
}

#endif
