/*
 * results.h - the cells of the results table, their rounds, medians and verdicts.
 *
 * Owns:    the list of cells.
 * Locking: none: only the main thread adds results.
 * Runs in: the benchmark client, main thread.
 */
#ifndef RESULTS_H
#define RESULTS_H

#include <stdbool.h>
#include <stdio.h>

typedef enum Measure
{
	MORE_IS_BETTER, /* ratio = ours / floor, must reach the goal */
	LESS_IS_BETTER, /* ratio = floor / ours, must reach the goal */
	COST_LIMIT,     /* ratio = ours / floor, must not pass the goal */
	ABSOLUTE_LIMIT  /* ours itself must not pass the goal, in its unit */
} Measure;

typedef enum Unit
{
	RECORDS_A_SECOND,
	MILLISECONDS,
	MICROSECONDS,
	MEGABYTES_A_SECOND,
	BYTES,
	MEGABYTES,
	SECONDS,
	RECORDS,
	TRANSACTIONS,
	COUNT
} Unit;

#define NO_GOAL 0.0

typedef struct Cell Cell;

extern Cell *cell_make(int goal, Unit unit, Measure measure, double goal_ratio, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
extern void cell_add(Cell *cell, double ours, double floor);
extern double percentile(double *values, int count, double percent);
extern bool results_print(FILE *to);
extern void results_print_rounds(FILE *to);

#endif
