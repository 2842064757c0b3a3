/*
 * results.c - the cells of the results table, their rounds, medians and verdicts.
 *
 * Owns:    the list of cells.
 * Locking: none: only the main thread adds results.
 * Runs in: the benchmark client, main thread.
 *
 * A cell compares ours with one floor.  Its two figures are the medians of the rounds; its ratio is the median of the
 * ratios of each round, whose two measurements stood side by side, so a machine that is slow for a minute is slow for
 * both.  A ratio is printed rounded towards MISS: what prints as 1.20 has reached 1.20.
 */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "results.h"
#include "session.h"

#define MAX_CELLS  200
#define MAX_ROUNDS 100

struct Cell
{
	int goal;
	char text[120];
	Unit unit;
	Measure measure;
	double goal_ratio;
	int rounds;
	double ours[MAX_ROUNDS];
	double floor[MAX_ROUNDS];
};

static Cell cells[MAX_CELLS];
static int cell_count;

/* A new line of the table; NO_GOAL for one that is only reported. */
Cell *
cell_make(int goal, Unit unit, Measure measure, double goal_ratio, const char *format, ...)
{
	Cell *cell;
	va_list args;

	if (cell_count == MAX_CELLS)
		die("more than %d cells", MAX_CELLS);
	cell = &cells[cell_count++];
	cell->goal = goal;
	cell->unit = unit;
	cell->measure = measure;
	cell->goal_ratio = goal_ratio;
	va_start(args, format);
	vsnprintf(cell->text, sizeof(cell->text), format, args);
	va_end(args);
	return cell;
}

/* One round's two figures; a floor of 0 means that there is none. */
void
cell_add(Cell *cell, double ours, double floor)
{
	if (cell->rounds == MAX_ROUNDS)
		die("more than %d rounds", MAX_ROUNDS);
	cell->ours[cell->rounds] = ours;
	cell->floor[cell->rounds] = floor;
	cell->rounds++;
}

static int
compare_doubles(const void *left, const void *right)
{
	double a = *(const double *) left;
	double b = *(const double *) right;

	return (a > b) - (a < b);
}

/* Sorts the values; the nearest-rank percentile. */
double
percentile(double *values, int count, double percent)
{
	int rank = (int) ceil(percent / 100 * count);

	if (count == 0)
		die("no values to take a percentile of");
	qsort(values, count, sizeof(double), compare_doubles);
	return values[rank > 0 ? rank - 1 : 0];
}

static double
median(const double *values, int count)
{
	double sorted[MAX_ROUNDS];

	memcpy(sorted, values, count * sizeof(double));
	qsort(sorted, count, sizeof(double), compare_doubles);
	if (count % 2 == 1)
		return sorted[count / 2];
	return (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

static void
print_figure(FILE *to, double value, Unit unit)
{
	switch (unit)
	{
		case RECORDS_A_SECOND:
			if (value >= 1e6)
				fprintf(to, "%.2fM/s", value / 1e6);
			else if (value >= 1e5)
				fprintf(to, "%.0fk/s", value / 1e3);
			else
				fprintf(to, "%.1fk/s", value / 1e3);
			break;
		case MILLISECONDS:
			fprintf(to, "%.3f ms", value);
			break;
		case MICROSECONDS:
			fprintf(to, "%.1f µs", value);
			break;
		case MEGABYTES_A_SECOND:
			fprintf(to, "%.0f MB/s", value);
			break;
		case BYTES:
			fprintf(to, "%.1f B", value);
			break;
		case MEGABYTES:
			fprintf(to, "%.2f MB", value);
			break;
		case SECONDS:
			fprintf(to, "%.2f s", value);
			break;
		case RECORDS:
		case TRANSACTIONS:
			fprintf(to, "%.0f", value);
			break;
		case COUNT:
			fprintf(to, "%.2f", value);
			break;
	}
}

static double
ratio_of_round(const Cell *cell, int round)
{
	if (cell->measure == LESS_IS_BETTER)
		return cell->floor[round] / cell->ours[round];
	return cell->ours[round] / cell->floor[round];
}

static bool
goal_is_upper(const Cell *cell)
{
	return cell->measure == COST_LIMIT || cell->measure == ABSOLUTE_LIMIT;
}

/* Two decimals, rounded towards the side that misses the goal. */
static double
rounded(const Cell *cell, double value)
{
	return goal_is_upper(cell) ? ceil(value * 100 - 1e-9) / 100 : floor(value * 100 + 1e-9) / 100;
}

/* Prints the cell's row; false if it has missed its goal. */
static bool
print_cell(FILE *to, const Cell *cell)
{
	double ours = median(cell->ours, cell->rounds);
	double floor_value = median(cell->floor, cell->rounds);
	double ratios[MAX_ROUNDS];
	double judged = ours;
	bool reached;

	fprintf(to, "| %d | %s | ", cell->goal, cell->text);
	print_figure(to, ours, cell->unit);
	fprintf(to, " | ");
	if (floor_value > 0)
		print_figure(to, floor_value, cell->unit);
	else
		fprintf(to, "–");
	fprintf(to, " | ");

	if (cell->measure == ABSOLUTE_LIMIT || floor_value == 0)
		fprintf(to, "– | ");
	else
	{
		for (int i = 0; i < cell->rounds; i++)
			ratios[i] = ratio_of_round(cell, i);
		judged = median(ratios, cell->rounds);
		fprintf(to, "%.2f", rounded(cell, judged));
		if (cell->rounds > 1)
		{
			qsort(ratios, cell->rounds, sizeof(double), compare_doubles);
			fprintf(to, " (%.2f–%.2f)", ratios[0], ratios[cell->rounds - 1]);
		}
		fprintf(to, " | ");
	}

	if (cell->goal_ratio == NO_GOAL)
	{
		fprintf(to, "reported | |\n");
		return true;
	}
	reached =
		goal_is_upper(cell) ? rounded(cell, judged) <= cell->goal_ratio : rounded(cell, judged) >= cell->goal_ratio;
	fprintf(to, "%s ", goal_is_upper(cell) ? "≤" : "≥");
	if (cell->measure == ABSOLUTE_LIMIT)
		print_figure(to, cell->goal_ratio, cell->unit);
	else
		fprintf(to, "%.2f", cell->goal_ratio);
	fprintf(to, " | %s |\n", reached ? "PASS" : "**MISS**");
	return reached;
}

/* Prints the results table; true if every goal was reached. */
bool
results_print(FILE *to)
{
	bool all_reached = true;

	fprintf(to, "| goal | cell | ours | floor | ratio | goal ratio | |\n");
	fprintf(to, "|---|---|---|---|---|---|---|\n");
	for (int i = 0; i < cell_count; i++)
		if (cells[i].rounds > 0 && !print_cell(to, &cells[i]))
			all_reached = false;
	return all_reached;
}

/* Every single measurement, as CSV, for those who want to see the spread. */
void
results_print_rounds(FILE *to)
{
	fprintf(to, "goal,cell,round,ours,floor\n");
	for (int i = 0; i < cell_count; i++)
		for (int round = 0; round < cells[i].rounds; round++)
			fprintf(to, "%d,\"%s\",%d,%g,%g\n", cells[i].goal, cells[i].text, round + 1, cells[i].ours[round],
					cells[i].floor[round]);
}
