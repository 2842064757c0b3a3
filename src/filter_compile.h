/*
 * filter_compile.h - filters of event source mappings, compiled: for those who match records with them.
 */
#ifndef KIN_FILTER_COMPILE_H
#define KIN_FILTER_COMPILE_H

#include "utils/jsonb.h"

#include "json_tree.h"

/* "numeric" compares numbers from -5e9 to 5e9, as EventBridge does. */
#define KIN_NUMERIC_MAX 5e9

typedef enum KinFilterOperator
{
	KIN_OP_EQUALS,
	KIN_OP_PREFIX,
	KIN_OP_SUFFIX,
	KIN_OP_IGNORE_CASE,
	KIN_OP_NUMERIC,
	KIN_OP_EXISTS
} KinFilterOperator;

/* One alternative of a leaf; all its literals together are one. */
typedef struct KinFilterTest
{
	KinFilterOperator op;
	bool negated; /* anything but these */
	int nwords;
	KinJsonText *words;        /* of KIN_OP_EQUALS: sorted; of KIN_OP_IGNORE_CASE: in lower case */
	bool has_lower, has_upper; /* of KIN_OP_NUMERIC */
	double lower, upper;
	bool above_lower, below_upper;
} KinFilterTest;

typedef struct KinFilterPattern KinFilterPattern;

typedef struct KinFilterField
{
	KinJsonText name;          /* comes first: bsearch() looks for it */
	int slot;                  /* where the search of an object's fields leaves what it has found */
	KinFilterPattern *pattern; /* null: a leaf */
	bool if_absent;            /* a leaf that matches what is not there */
	int ntests;
	KinFilterTest *tests;
} KinFilterField;

typedef struct KinFilterChoice
{
	int npatterns;
	KinFilterPattern **patterns;
} KinFilterChoice;

struct KinFilterPattern
{
	int nfields;
	KinFilterField *fields; /* sorted by name */
	KinFilterChoice either; /* of "$or" */
};

typedef struct KinFilters
{
	bool on_data;
	int nslots;
	KinFilterChoice either;
} KinFilters;

/* Filters in the current memory context, null for null; raises InvalidArgumentException for what is none. */
extern KinFilters *kin_filters_compile(Jsonb *criteria);

#endif
