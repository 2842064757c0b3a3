/*
 * call_scan.h - a function of the data plane in FROM as an executor node of its own.
 */
#ifndef KIN_CALL_SCAN_H
#define KIN_CALL_SCAN_H

#include "fmgr.h"
#include "nodes/execnodes.h"
#include "nodes/extensible.h"
#include "nodes/primnodes.h"

#define KIN_ARGUMENTS_MAX 6
#define KIN_COLUMNS_MAX   4

/* The arguments of a call, whether they came through fmgr or were evaluated by the node. */
typedef struct KinArguments
{
	Datum values[KIN_ARGUMENTS_MAX];
	bool nulls[KIN_ARGUMENTS_MAX];
} KinArguments;

typedef struct KinScannable KinScannable;

/* The node's state; a function's own state begins with it. */
typedef struct KinCallScan
{
	CustomScanState css;
	const KinScannable *function;
	Oid oid;
	List *arguments;      /* of ExprState */
	Bitmapset *params;    /* that the arguments depend on */
	List *used;           /* numbers of the columns that the query looks at, from 1 */
	MemoryContext memory; /* lives from begin to end */
	bool begun;
	KinArguments given;
} KinCallScan;

/* What a function with one row does: fills in its columns; values and nulls come as zeros. */
typedef void (*KinRowFunction)(const KinArguments *given, TupleDesc columns, Datum *values, bool *nulls);

/* A function that a node can stand in for.  begin() runs once a call, at the first row that is asked for. */
struct KinScannable
{
	const char *symbol;                 /* the C function, by which it is recognised; NULL: */
	bool (*stands_for)(FuncExpr *call); /* what else tells that it is meant; a strict one sees to nulls itself */
	const char *label;                  /* in EXPLAIN */
	int arguments;
	KinRowFunction row; /* of a function with one row, and then nothing of the following; NULL: it returns a set */
	Size state_size;
	void (*begin)(KinCallScan *scan);
	bool (*next)(KinCallScan *scan, Datum *values,
				 bool *nulls);         /* false: no more rows; nulls are as the row before left them, at first false */
	void (*rewind)(KinCallScan *scan); /* to the first row again; NULL: ask again */
	void (*end)(KinCallScan *scan);    /* NULL: nothing to let go */
	CustomPathMethods path_methods;    /* these three are filled in when it is registered */
	CustomScanMethods scan_methods;
	CustomExecMethods exec_methods;
};

extern KinArguments kin_arguments(FunctionCallInfo fcinfo);

/* Calls a function with one row through fmgr. */
extern Datum kin_row_call(FunctionCallInfo fcinfo, KinRowFunction row);

/* In the postmaster: from now on the planner offers a node for this function. */
extern void kin_call_scan_register(KinScannable *function);
extern void kin_call_scan_init(void);

#endif
