/*
 * goals.h - the goals, and what a run is told from outside.
 *
 * Owns:    the run's settings, set once by main.
 * Locking: none; read-only afterwards.
 * Runs in: the benchmark client, any thread.
 */
#ifndef GOALS_H
#define GOALS_H

#include <stdio.h>

typedef struct Settings
{
	int rounds;
	double scale;               /* 1 = the sizes that the goals name; less for a quick look */
	const char *data_directory; /* where the cluster keeps its files, for the disk probe */
} Settings;

extern Settings settings;

/* So many of a countable thing, scaled, but never less than the least that makes sense. */
extern int scaled(int full, int least);

extern void goal_batches(void);
extern void goal_singles(void);
extern void goal_drain(void);
extern void goal_positions(void);
extern void goal_large(void);
extern void goal_latency(void);
extern void goal_many_shards(void);
extern void goal_groups(void);
extern void goal_callback_latency(void);
extern void goal_callback_drain(void);
extern void goal_callback_producers(void);
extern void goal_callback_idle(void);

extern void machine_print(FILE *to);

#endif
