/*
 * call_scan.c - executes a function of the data plane where it stands in FROM, without a tuplestore.
 *
 * Owns:    the list of functions that can be scanned, set up in the postmaster.
 * Locking: none of its own.
 * Runs in: backends.
 *
 * A function in FROM fills a tuplestore from which its rows are read: for a large shard that goes to disk and back, and
 * for put_records it costs as much as hashing its keys.  The planner's function scan is therefore replaced by a custom
 * scan that takes rows straight from the function.  Whole-row references, WITH ORDINALITY, ROWS FROM, LATERAL arguments
 * and subqueries in arguments that depend on the outside keep the function scan.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "call_scan.h"
#include "compat.h"

#define SCANNABLE_MAX 8

static KinScannable *scannable[SCANNABLE_MAX];
static int scannable_count;

static set_rel_pathlist_hook_type prev_set_rel_pathlist;

KinArguments
kin_arguments(FunctionCallInfo fcinfo)
{
	KinArguments arguments;

	Assert(fcinfo->nargs <= KIN_ARGUMENTS_MAX);
	for (int i = 0; i < fcinfo->nargs; i++)
	{
		arguments.values[i] = fcinfo->args[i].value;
		arguments.nulls[i] = fcinfo->args[i].isnull;
	}
	return arguments;
}

Datum
kin_row_call(FunctionCallInfo fcinfo, KinRowFunction row)
{
	KinArguments given = kin_arguments(fcinfo);
	TupleDesc columns;
	Datum values[KIN_COLUMNS_MAX] = {0};
	bool nulls[KIN_COLUMNS_MAX] = {false};

	if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "function %u must return a row", fcinfo->flinfo->fn_oid);
	Assert(columns->natts <= KIN_COLUMNS_MAX);
	row(&given, columns, values, nulls);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(columns), values, nulls));
}

/* State of the node for a function with one row, which is kept for a rescan. */
typedef struct RowScan
{
	KinCallScan call;
	bool returned;
	Datum values[KIN_COLUMNS_MAX];
	bool nulls[KIN_COLUMNS_MAX];
} RowScan;

static void
begin_row(KinCallScan *call)
{
	RowScan *scan = (RowScan *) call;
	TupleDesc columns = call->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor;

	Assert(columns->natts <= KIN_COLUMNS_MAX);
	memset(scan->nulls, 0, sizeof(scan->nulls));
	scan->returned = false;
	call->function->row(&call->given, columns, scan->values, scan->nulls);
}

static bool
next_of_one(KinCallScan *call, Datum *values, bool *nulls)
{
	RowScan *scan = (RowScan *) call;
	int n = call->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor->natts;

	if (scan->returned)
		return false;
	scan->returned = true;
	memcpy(values, scan->values, n * sizeof(Datum));
	memcpy(nulls, scan->nulls, n * sizeof(bool));
	return true;
}

static void
rewind_row(KinCallScan *call)
{
	((RowScan *) call)->returned = false;
}

/*
 * Which of our functions is called?  OIDs differ in every database, so it is known by its C symbol: only a superuser can
 * make a C function, while a schema named kinesis may be anybody's where the extension is not installed.
 */
static KinScannable *
find_scannable(FuncExpr *call)
{
	HeapTuple tuple;
	Form_pg_proc proc;
	bool no_settings;
	KinScannable *found = NULL;

	for (int i = 0; i < scannable_count; i++)
		if (scannable[i]->stands_for && scannable[i]->stands_for(call))
			return FmgrHookIsNeeded(call->funcid) ? NULL : scannable[i];
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
	if (!HeapTupleIsValid(tuple))
		return NULL;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	(void) SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proconfig, &no_settings);
	/* A function that somebody has altered is called as it is. */
	if (proc->prolang == ClanguageId && !proc->prosecdef && !proc->proisstrict && no_settings &&
		!FmgrHookIsNeeded(call->funcid))
	{
		bool isnull;
		Datum source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
		char *symbol = isnull ? "" : TextDatumGetCString(source);

		for (int i = 0; i < scannable_count && found == NULL; i++)
			if (scannable[i]->symbol && strcmp(scannable[i]->symbol, symbol) == 0 &&
				scannable[i]->arguments == list_length(call->args) && (scannable[i]->row == NULL) == call->funcretset)
				found = scannable[i];
	}
	ReleaseSysCache(tuple);
	return found;
}

static FuncExpr *
call_of(RangeTblEntry *rte)
{
	return (FuncExpr *) linitial_node(RangeTblFunction, rte->functions)->funcexpr;
}

/* Columns that the query looks at, as pull_varattnos() counts them. */
static Bitmapset *
used_columns(RelOptInfo *rel)
{
	Bitmapset *columns = NULL;
	ListCell *lc;

	pull_varattnos((Node *) rel->reltarget->exprs, rel->relid, &columns);
	foreach (lc, rel->baserestrictinfo)
		pull_varattnos((Node *) lfirst_node(RestrictInfo, lc)->clause, rel->relid, &columns);
	return columns;
}

static bool
is_used(Bitmapset *columns, int number)
{
	return bms_is_member(number - FirstLowInvalidHeapAttributeNumber, columns);
}

static void
offer_scan(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	KinScannable *function;
	CustomPath *path;

	if (prev_set_rel_pathlist)
		prev_set_rel_pathlist(root, rel, rti, rte);
	/* What is known to be empty has neither its conditions nor its columns any more, and must stay empty. */
	if (IS_DUMMY_REL(rel))
		return;
	if (rte->rtekind != RTE_FUNCTION || rte->funcordinality || list_length(rte->functions) != 1 ||
		rel->lateral_relids != NULL || !IsA(call_of(rte), FuncExpr) || contain_subplans((Node *) call_of(rte)->args) ||
		is_used(used_columns(rel), 0) || (function = find_scannable(call_of(rte))) == NULL)
		return;

	path = makeNode(CustomPath);
	path->path.pathtype = T_CustomScan;
	path->path.parent = rel;
	path->path.pathtarget = rel->reltarget;
	path->path.rows = rel->rows;
	path->path.startup_cost = 0;
	path->path.total_cost = rel->rows * cpu_tuple_cost;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->methods = &function->path_methods;
	rel->pathlist = NIL;
	add_path(rel, &path->path);
}

static Plan *
plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist, List *clauses, List *custom_plans)
{
	FuncExpr *call = call_of(planner_rt_fetch(rel->relid, root));
	KinScannable *function = (KinScannable *) ((char *) path->methods - offsetof(KinScannable, path_methods));
	CustomScan *scan = makeNode(CustomScan);
	Bitmapset *used = used_columns(rel);
	List *numbers = NIL;
	TupleDesc columns;

	if (get_expr_result_type((Node *) call, NULL, &columns) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "%s must return rows", function->label);
	/* A scan of no table, whose rows are described by custom_scan_tlist. */
	for (int i = 1; i <= columns->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(columns, i - 1);
		Expr *column;

		if (att->attisdropped)
			column = (Expr *) makeNullConst(INT4OID, -1, InvalidOid);
		else
			column = (Expr *) makeVar(rel->relid, i, att->atttypid, att->atttypmod, att->attcollation, 0);
		scan->custom_scan_tlist =
			lappend(scan->custom_scan_tlist, makeTargetEntry(column, i, pstrdup(NameStr(att->attname)), false));
		if (is_used(used, i))
			numbers = lappend_int(numbers, i);
	}
	scan->scan.scanrelid = 0;
	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = extract_actual_clauses(clauses, false);
	scan->flags = path->flags;
	scan->custom_exprs = copyObject(call->args);
	scan->custom_private = list_make2(list_make1_oid(call->funcid), numbers);
	scan->methods = &function->scan_methods;
	return &scan->scan.plan;
}

static Node *
create_state(CustomScan *scan)
{
	const KinScannable *function =
		(const KinScannable *) ((const char *) scan->methods - offsetof(KinScannable, scan_methods));
	KinCallScan *state = (KinCallScan *) newNode(function->state_size, T_CustomScanState);

	state->css.methods = &function->exec_methods;
	state->function = function;
	return (Node *) state;
}

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	KinCallScan *scan = (KinCallScan *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;

	scan->arguments = ExecInitExprList(plan->custom_exprs, &node->ss.ps);
	scan->oid = linitial_oid(linitial(plan->custom_private));
	scan->used = lsecond(plan->custom_private);
	scan->params = pull_paramids((Expr *) plan->custom_exprs);
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	/* What the function scan would have done. */
	if (!kin_may_execute(scan->oid, GetUserId()))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(scan->oid));
	InvokeFunctionExecuteHook(scan->oid);
}

/* Evaluates the arguments and calls the function. */
static void
begin_call(KinCallScan *scan)
{
	EState *estate = scan->css.ss.ps.state;
	MemoryContext old;
	ListCell *lc;
	int i = 0;

	if (scan->memory == NULL)
		scan->memory = AllocSetContextCreate(estate->es_query_cxt, "kinesis call", ALLOCSET_DEFAULT_SIZES);
	else
		MemoryContextReset(scan->memory);
	old = MemoryContextSwitchTo(scan->memory);
	foreach (lc, scan->arguments)
	{
		scan->given.values[i] =
			ExecEvalExpr((ExprState *) lfirst(lc), scan->css.ss.ps.ps_ExprContext, &scan->given.nulls[i]);
		i++;
	}
	memset(scan->css.ss.ss_ScanTupleSlot->tts_isnull, 0,
		   scan->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor->natts * sizeof(bool));
	scan->function->begin(scan);
	scan->begun = true;
	MemoryContextSwitchTo(old);
}

static TupleTableSlot *
next_row(ScanState *node)
{
	KinCallScan *scan = (KinCallScan *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;

	ExecClearTuple(slot);
	if (!scan->begun)
		begin_call(scan);
	if (scan->function->next(scan, slot->tts_values, slot->tts_isnull))
		ExecStoreVirtualTuple(slot);
	return slot;
}

static bool
recheck_row(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
exec_scan(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, recheck_row);
}

static void
end_call(KinCallScan *scan)
{
	if (!scan->begun)
		return;
	ExecClearTuple(scan->css.ss.ss_ScanTupleSlot);
	if (scan->function->end)
		scan->function->end(scan);
	scan->begun = false;
}

static void
end_scan(CustomScanState *node)
{
	end_call((KinCallScan *) node);
}

/* As a function scan does it: a call is made again only for other arguments, so that a put happens once. */
static void
rescan(CustomScanState *node)
{
	KinCallScan *scan = (KinCallScan *) node;

	if (scan->begun && scan->function->rewind && !bms_overlap(node->ss.ps.chgParam, scan->params))
	{
		ExecClearTuple(node->ss.ss_ScanTupleSlot);
		scan->function->rewind(scan);
	}
	else
		end_call(scan);
	ExecScanReScan(&node->ss);
}

void
kin_call_scan_register(KinScannable *function)
{
	if (scannable_count == SCANNABLE_MAX)
		elog(ERROR, "too many functions to scan");
	if (function->row)
	{
		function->state_size = sizeof(RowScan);
		function->begin = begin_row;
		function->next = next_of_one;
		function->rewind = rewind_row;
	}
	function->path_methods.CustomName = function->label;
	function->path_methods.PlanCustomPath = plan_scan;
	function->scan_methods.CustomName = function->label;
	function->scan_methods.CreateCustomScanState = create_state;
	function->exec_methods.CustomName = function->label;
	function->exec_methods.BeginCustomScan = begin_scan;
	function->exec_methods.ExecCustomScan = exec_scan;
	function->exec_methods.EndCustomScan = end_scan;
	function->exec_methods.ReScanCustomScan = rescan;
	RegisterCustomScanMethods(&function->scan_methods);
	scannable[scannable_count++] = function;
}

void
kin_call_scan_init(void)
{
	prev_set_rel_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = offer_scan;
}
