/*
 * slice_check.c - verifies that a slice is a log, and makes it one after a restore.
 *
 * Owns:    nothing.
 * Locking: AccessShareLock to check; AccessExclusiveLock to rewrite.
 * Runs in: backends; rewriting on a primary only.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/heap.h"
#include "access/heaptoast.h"
#include "catalog/index.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"

#include "compat.h"
#include "slice_append.h"
#include "slice_scan.h"

/* More faults of one kind would only repeat the message. */
#define FAULTS_MAX 100

PG_FUNCTION_INFO_V1(kin_check_slice);
PG_FUNCTION_INFO_V1(kin_sort_slice);

static void
report(ReturnSetInfo *rsinfo, int *faults, char *fault)
{
	Datum values[1] = {CStringGetTextDatum(fault)};
	bool nulls[1] = {false};

	if ((*faults)++ < FAULTS_MAX)
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * Every tuple's number in place order, whatever its transaction: that is what numbering under the shard's lock promises.
 */
static void
check_places(Relation rel, int32 shard, int64 lower, int64 upper, ReturnSetInfo *rsinfo)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKREAD);
	int64 previous = -1;
	int faults = 0;

	for (BlockNumber block = 0; block < nblocks; block++)
	{
		Buffer buffer;
		Page page;
		OffsetNumber max;

		CHECK_FOR_INTERRUPTS();
		buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_NORMAL, strategy);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		page = BufferGetPage(buffer);
		max = PageIsNew(page) ? 0 : PageGetMaxOffsetNumber(page);
		for (OffsetNumber off = FirstOffsetNumber; off <= max; off++)
		{
			ItemId item = PageGetItemId(page, off);
			HeapTupleHeader tuple;
			int64 number;
			int32 stored_shard;

			if (!ItemIdIsNormal(item))
				continue;
			tuple = (HeapTupleHeader) PageGetItem(page, item);
			number = kin_tuple_number(tuple);
			memcpy(&stored_shard, (char *) tuple + tuple->t_hoff + sizeof(number), sizeof(stored_shard));
			if (number == previous)
				report(rsinfo, &faults,
					   psprintf("sequence number %lld is there twice, at (%u,%u)", (long long) number, block, off));
			else if (number < previous)
				report(rsinfo, &faults,
					   psprintf("sequence number %lld at (%u,%u) comes after %lld", (long long) number, block, off,
								(long long) previous));
			if (number < lower || number >= upper)
				report(rsinfo, &faults,
					   psprintf("sequence number %lld at (%u,%u) is outside [%lld, %lld)", (long long) number, block,
								off, (long long) lower, (long long) upper));
			if (stored_shard != shard)
				report(rsinfo, &faults,
					   psprintf("record at (%u,%u) says that it is of shard %d, not %d", block, off, stored_shard,
								shard));
			previous = number;
		}
		UnlockReleaseBuffer(buffer);
	}
	if (faults > FAULTS_MAX)
		report(rsinfo, &(int){0}, psprintf("%d more faults in this slice", faults - FAULTS_MAX));
	FreeAccessStrategy(strategy);
}

/* kinesis._check_slice(slice, shard, lower_bound, upper_bound): one fault a row. */
Datum
kin_check_slice(PG_FUNCTION_ARGS)
{
	Relation rel = relation_open(PG_GETARG_OID(0), AccessShareLock);

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	check_places(rel, PG_GETARG_INT32(1), PG_GETARG_INT64(2), PG_GETARG_INT64(3), (ReturnSetInfo *) fcinfo->resultinfo);
	relation_close(rel, AccessShareLock);
	return (Datum) 0;
}

/* Is the slice in order, as its committed rows lie? */
static bool
in_order(Relation rel)
{
	TableScanDesc scan = table_beginscan_strat(rel, GetActiveSnapshot(), 0, NULL, true, false);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int64 previous = -1;
	bool ordered = true;

	while (ordered && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool isnull;
		int64 number = DatumGetInt64(slot_getattr(slot, KIN_ATT_SEQUENCE_NUMBER, &isnull));

		CHECK_FOR_INTERRUPTS();
		ordered = number > previous;
		previous = number;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	return ordered;
}

/* Sorts the rows, empties the heap and appends them again. */
static int64
rewrite_in_order(Relation rel)
{
	AttrNumber key = KIN_ATT_SEQUENCE_NUMBER;
	Oid less = Int8LessOperator;
	Oid collation = InvalidOid;
	bool nulls_first = false;
	Tuplesortstate *sort = tuplesort_begin_heap(RelationGetDescr(rel), 1, &key, &less, &collation, &nulls_first,
												maintenance_work_mem, NULL, TUPLESORT_NONE);
	TableScanDesc scan = table_beginscan_strat(rel, GetActiveSnapshot(), 0, NULL, true, false);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TupleTableSlot *sorted;
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "kinesis sort", ALLOCSET_DEFAULT_SIZES);
	KinTail tail = {.file = InvalidOid};
	int64 n = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(row);
		HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, NULL);
		TupleTableSlot *flat = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsHeapTuple);

		CHECK_FOR_INTERRUPTS();
		/* The toast table is emptied with the heap, so bring the values in line first. */
		ExecStoreHeapTuple(toast_flatten_tuple(tuple, RelationGetDescr(rel)), flat, false);
		tuplesort_puttupleslot(sort, flat);
		ExecDropSingleTupleTableSlot(flat);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	tuplesort_performsort(sort);

	/* A new file, as TRUNCATE makes it: an error from here on leaves the old one. */
	RelationSetNewRelfilenumber(rel, rel->rd_rel->relpersistence);
	if (OidIsValid(rel->rd_rel->reltoastrelid))
	{
		Relation toast = table_open(rel->rd_rel->reltoastrelid, AccessExclusiveLock);

		RelationSetNewRelfilenumber(toast, toast->rd_rel->relpersistence);
		table_close(toast, NoLock);
		reindex_relation(rel->rd_rel->reltoastrelid, 0, &(ReindexParams){0});
	}
	CommandCounterIncrement();

	sorted = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsMinimalTuple);
	while (tuplesort_gettupleslot(sort, true, false, sorted, NULL))
	{
		MemoryContext old = MemoryContextSwitchTo(row);
		HeapTuple tuple = ExecCopySlotHeapTuple(sorted);

		CHECK_FOR_INTERRUPTS();
		/* Frozen, so that a reader whose snapshot is older than the repair sees them, as it saw the old file's. */
		kin_append_tuples(rel, &tuple, 1, HEAP_INSERT_FROZEN, &tail);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row);
		n++;
	}
	ExecDropSingleTupleTableSlot(sorted);
	tuplesort_end(sort);
	MemoryContextDelete(row);
	return n;
}

/* kinesis._sort_slice(slice): rows moved, 0 when the slice was in order. */
Datum
kin_sort_slice(PG_FUNCTION_ARGS)
{
	Relation rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
	int64 moved = 0;

	if (!in_order(rel))
	{
		LockRelation(rel, AccessExclusiveLock);
		moved = rewrite_in_order(rel);
	}
	relation_close(rel, NoLock);
	PG_RETURN_INT64(moved);
}
