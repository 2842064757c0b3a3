/*
 * shard_scan.c - streams a shard's records where SELECT ... FROM kinesis.read_shard(...) asks for them.
 *
 * Owns:    nothing.
 * Locking: as shard_walk.c.  Between two fetches of a cursor the current slice stays locked (AccessShare) and one page
 *          of it pinned.
 * Runs in: backends, on a primary or a standby.
 *
 * A set-returning function in FROM fills a tuplestore, which for a large shard is written to disk and read back: that
 * costs several times more than reading the heap.  The planner's function scan is therefore replaced by a custom scan,
 * whose columns point into the pinned page.  Whole-row references and LATERAL arguments keep the function scan.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "record_form.h"
#include "sequence_number.h"
#include "shard_read.h"
#include "shard_scan.h"

/* Columns of kinesis.record. */
enum
{
	RECORD_NUMBER,
	RECORD_ARRIVAL,
	RECORD_KEY,
	RECORD_DATA,
	RECORD_ENCRYPTION,
	RECORD_COLUMNS
};

typedef struct ShardScanState
{
	CustomScanState css;
	List *args; /* ExprState of read_shard's arguments */
	Oid function;
	bool needs_data; /* somebody looks at the data column */
	bool begun;
	KinReadRequest request;
	KinShardWalk walk;
	int64 returned;
	Datum encryption_type;
} ShardScanState;

static set_rel_pathlist_hook_type prev_set_rel_pathlist;

static Plan *plan_shard_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist, List *clauses,
							 List *custom_plans);
static Node *create_state(CustomScan *scan);
static void begin_scan(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *exec_scan(CustomScanState *node);
static void end_scan(CustomScanState *node);
static void rescan(CustomScanState *node);

static const CustomPathMethods path_methods = {
	.CustomName = "KinesisReadShard",
	.PlanCustomPath = plan_shard_scan,
};

static const CustomScanMethods scan_methods = {
	.CustomName = "KinesisReadShard",
	.CreateCustomScanState = create_state,
};

static const CustomExecMethods exec_methods = {
	.CustomName = "KinesisReadShard",
	.BeginCustomScan = begin_scan,
	.ExecCustomScan = exec_scan,
	.EndCustomScan = end_scan,
	.ReScanCustomScan = rescan,
};

/*
 * Is this function our read_shard?  The OID differs in every database, so it is known by its C symbol: only a superuser
 * can make a C function, while a schema named kinesis may be anybody's where the extension is not installed.
 */
static bool
is_read_shard(FuncExpr *call)
{
	HeapTuple tuple;
	Form_pg_proc proc;
	bool ours = false;

	if (!call->funcretset || list_length(call->args) != 4)
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
	if (!HeapTupleIsValid(tuple))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prolang == ClanguageId && strcmp(NameStr(proc->proname), "read_shard") == 0)
	{
		bool isnull;
		Datum symbol = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);

		ours = !isnull && strcmp(TextDatumGetCString(symbol), "kin_read_shard") == 0;
	}
	ReleaseSysCache(tuple);
	return ours;
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

static void
offer_shard_scan(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	FuncExpr *call;
	CustomPath *path;

	if (prev_set_rel_pathlist)
		prev_set_rel_pathlist(root, rel, rti, rte);
	if (rte->rtekind != RTE_FUNCTION || rte->funcordinality || list_length(rte->functions) != 1 ||
		rel->lateral_relids != NULL)
		return;
	call = (FuncExpr *) linitial_node(RangeTblFunction, rte->functions)->funcexpr;
	if (!IsA(call, FuncExpr) || !is_read_shard(call) ||
		bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, used_columns(rel)))
		return;

	path = makeNode(CustomPath);
	path->path.pathtype = T_CustomScan;
	path->path.parent = rel;
	path->path.pathtarget = rel->reltarget;
	path->path.rows = rel->rows;
	path->path.startup_cost = 0;
	path->path.total_cost = rel->rows * cpu_tuple_cost;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->methods = &path_methods;
	rel->pathlist = NIL;
	add_path(rel, &path->path);
}

static Plan *
plan_shard_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist, List *clauses, List *custom_plans)
{
	RangeTblEntry *rte = planner_rt_fetch(rel->relid, root);
	FuncExpr *call = (FuncExpr *) linitial_node(RangeTblFunction, rte->functions)->funcexpr;
	CustomScan *scan = makeNode(CustomScan);
	TupleDesc columns = lookup_rowtype_tupdesc(call->funcresulttype, -1);

	/* A scan of no table, whose rows are described by custom_scan_tlist. */
	for (int i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(columns, i);
		Var *var = makeVar(rel->relid, i + 1, att->atttypid, att->atttypmod, att->attcollation, 0);

		scan->custom_scan_tlist = lappend(scan->custom_scan_tlist,
										  makeTargetEntry((Expr *) var, i + 1, pstrdup(NameStr(att->attname)), false));
	}
	ReleaseTupleDesc(columns);
	scan->scan.scanrelid = 0;
	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = extract_actual_clauses(clauses, false);
	scan->flags = path->flags;
	scan->custom_exprs = copyObject(call->args);
	scan->custom_private =
		list_make2_oid(call->funcid,
					   bms_is_member(RECORD_DATA + 1 - FirstLowInvalidHeapAttributeNumber, used_columns(rel)));
	scan->methods = &scan_methods;
	return &scan->scan.plan;
}

static Node *
create_state(CustomScan *scan)
{
	ShardScanState *state = (ShardScanState *) newNode(sizeof(ShardScanState), T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	ShardScanState *state = (ShardScanState *) node;
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;

	state->args = ExecInitExprList(scan->custom_exprs, &node->ss.ps);
	state->function = linitial_oid(scan->custom_private);
	state->needs_data = lsecond_oid(scan->custom_private) != 0;
	state->encryption_type = CStringGetTextDatum("NONE");
	/* The function scan that we replace would have checked this. */
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY) &&
		pg_proc_aclcheck(state->function, GetUserId(), ACL_EXECUTE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(state->function));
}

/* Evaluates the arguments and opens the shard, at the first row that is asked for. */
static void
begin_walk(ShardScanState *state)
{
	MemoryContext old = MemoryContextSwitchTo(state->css.ss.ps.state->es_query_cxt);
	ListCell *lc;
	int i = 0;

	foreach (lc, state->args)
	{
		state->request.args[i] =
			ExecEvalExpr((ExprState *) lfirst(lc), state->css.ss.ps.ps_ExprContext, &state->request.nulls[i]);
		i++;
	}
	kin_read_begin(&state->request, &state->walk, state->css.ss.ps.state->es_snapshot);
	state->returned = 0;
	state->begun = true;
	MemoryContextSwitchTo(old);
}

static TupleTableSlot *
next_record(ScanState *node)
{
	ShardScanState *state = (ShardScanState *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;
	HeapTupleHeader stored;
	struct varlena *key;
	struct varlena *data;
	int64 number;

	ExecClearTuple(slot);
	if (!state->begun)
		begin_walk(state);
	if (state->returned == state->request.max_records || (stored = kin_walk_next(&state->walk, &number)) == NULL)
		return slot;
	state->returned++;
	kin_tuple_fields(stored, &key, &data);
	/* What is toasted must be fetched while we hold the slice, not later by whoever keeps the row. */
	if (state->needs_data && VARATT_IS_EXTENDED(data) && !VARATT_IS_SHORT(data))
	{
		MemoryContext old = MemoryContextSwitchTo(node->ps.ps_ExprContext->ecxt_per_tuple_memory);

		data = kin_inline_data(data);
		MemoryContextSwitchTo(old);
	}
	slot->tts_values[RECORD_NUMBER] = Int64GetDatum(number);
	slot->tts_values[RECORD_ARRIVAL] = TimestampTzGetDatum(kin_arrival_time(number));
	slot->tts_values[RECORD_KEY] = PointerGetDatum(key);
	slot->tts_values[RECORD_DATA] = PointerGetDatum(data);
	slot->tts_values[RECORD_ENCRYPTION] = state->encryption_type;
	memset(slot->tts_isnull, 0, RECORD_COLUMNS * sizeof(bool));
	slot->tts_isnull[RECORD_DATA] = !state->needs_data;
	return ExecStoreVirtualTuple(slot);
}

static bool
recheck_record(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
exec_scan(CustomScanState *node)
{
	return ExecScan(&node->ss, next_record, recheck_record);
}

static void
stop_walk(ShardScanState *state)
{
	if (!state->begun)
		return;
	ExecClearTuple(state->css.ss.ss_ScanTupleSlot);
	kin_walk_end(&state->walk);
	state->begun = false;
}

static void
end_scan(CustomScanState *node)
{
	stop_walk((ShardScanState *) node);
}

static void
rescan(CustomScanState *node)
{
	stop_walk((ShardScanState *) node);
	ExecScanReScan(&node->ss);
}

void
kin_shard_scan_init(void)
{
	RegisterCustomScanMethods(&scan_methods);
	prev_set_rel_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = offer_shard_scan;
}
