/*
 * record_unnest.c - unnest() of an array of records in FROM, as rows straight from the array.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: backends and workers.
 *
 * A function that is called with a batch begins with FROM unnest(records) mostly, and core's function scan copies each record to a
 * tuplestore and reads it back from there, which cost a worker about as much as reading the batch from its shard.  The node of
 * call_scan.c gives the same rows, with columns that point into the array.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "utils/arrayaccess.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "call_scan.h"
#include "compat.h"
#include "error_report.h"
#include "record_form.h"
#include "record_unnest.h"

typedef struct UnnestScan
{
	KinCallScan call;
	AnyArrayType *array; /* NULL: of nothing come no rows */
	array_iter iterator;
	int n;
	int next;
	TupleDesc columns;
	bool is_record; /* the type's columns are as CREATE EXTENSION made them */
} UnnestScan;

/*
 * By the name of the type alone: it need not be ours, which makes no difference to what comes of it.
 */
static bool
unnests_records(FuncExpr *call)
{
	Oid element;
	Oid nsp;

	if (call->funcid != F_UNNEST_ANYARRAY)
		return false;
	element = get_element_type(exprType(linitial(call->args)));
	nsp = get_namespace_oid("kinesis", true);
	return OidIsValid(element) && OidIsValid(nsp) &&
		   element == GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("record"), ObjectIdGetDatum(nsp));
}

static bool
is_record(TupleDesc columns)
{
	static const Oid types[KIN_RECORD_COLUMNS] = {INT8OID, TIMESTAMPTZOID, TEXTOID, BYTEAOID, TEXTOID};

	if (columns->natts != KIN_RECORD_COLUMNS)
		return false;
	for (int i = 0; i < KIN_RECORD_COLUMNS; i++)
		if (TupleDescAttr(columns, i)->atttypid != types[i])
			return false;
	return true;
}

static void
rewind_scan(KinCallScan *call)
{
	UnnestScan *scan = (UnnestScan *) call;

	scan->next = 0;
	if (scan->array)
		array_iter_setup(&scan->iterator, scan->array);
}

static void
begin_scan(KinCallScan *call)
{
	UnnestScan *scan = (UnnestScan *) call;

	scan->array = call->given.nulls[0] ? NULL : DatumGetAnyArrayP(call->given.values[0]);
	scan->n = scan->array ? ArrayGetNItems(AARR_NDIM(scan->array), AARR_DIMS(scan->array)) : 0;
	scan->columns = NULL;
	if (scan->n > 0)
	{
		scan->columns = lookup_rowtype_tupdesc(AARR_ELEMTYPE(scan->array), -1);
		kin_require_columns(scan->columns, call->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor->natts);
		scan->is_record = is_record(scan->columns);
	}
	rewind_scan(call);
}

/* Columns of a tuple without nulls, by the layout of kinesis.record: two of 8 bytes, then three varlenas. */
static void
deform_record(HeapTupleHeader tuple, Datum *values)
{
	char *base = (char *) tuple + tuple->t_hoff;
	Size off = 2 * sizeof(int64);

	values[0] = fetch_att(base, true, sizeof(int64));
	values[1] = fetch_att(base + sizeof(int64), true, sizeof(int64));
	for (int i = 2; i < KIN_RECORD_COLUMNS; i++)
	{
		off = att_align_pointer(off, TYPALIGN_INT, -1, base + off);
		values[i] = PointerGetDatum(base + off);
		off += VARSIZE_ANY(base + off);
	}
}

static bool
next_record(KinCallScan *call, Datum *values, bool *nulls)
{
	UnnestScan *scan = (UnnestScan *) call;
	MemoryContext old;
	HeapTupleHeader tuple;
	Datum element;
	bool isnull;

	if (scan->next >= scan->n)
		return false;
	element = array_iter_next(&scan->iterator, &isnull, scan->next++, -1, false, TYPALIGN_DOUBLE);
	if (isnull)
	{
		memset(nulls, true, scan->columns->natts * sizeof(bool));
		return true;
	}
	old = MemoryContextSwitchTo(call->css.ss.ps.ps_ExprContext->ecxt_per_tuple_memory);
	tuple = DatumGetHeapTupleHeader(element);
	MemoryContextSwitchTo(old);
	if (scan->is_record && !(tuple->t_infomask & HEAP_HASNULL) && HeapTupleHeaderGetNatts(tuple) == KIN_RECORD_COLUMNS)
	{
		kin_check_datum(tuple, scan->columns);
		memset(nulls, false, KIN_RECORD_COLUMNS * sizeof(bool));
		deform_record(tuple, values);
	}
	else
	{
		HeapTupleData whole = {.t_len = HeapTupleHeaderGetDatumLength(tuple), .t_data = tuple};

		heap_deform_tuple(&whole, scan->columns, values, nulls);
	}
	return true;
}

static void
end_scan(KinCallScan *call)
{
	UnnestScan *scan = (UnnestScan *) call;

	if (scan->columns)
		ReleaseTupleDesc(scan->columns);
}

void
kin_record_unnest_init(void)
{
	static KinScannable unnest = {
		.stands_for = unnests_records,
		.label = "KinesisUnnest",
		.arguments = 1,
		.state_size = sizeof(UnnestScan),
		.begin = begin_scan,
		.next = next_record,
		.rewind = rewind_scan,
		.end = end_scan,
	};

	kin_call_scan_register(&unnest);
}
