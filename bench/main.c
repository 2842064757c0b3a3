/*
 * main.c - the benchmark client: reads the arguments, runs the goals asked for, prints the results table.
 *
 * Owns:    the settings, set before any thread starts.
 * Locking: none.
 * Runs in: the benchmark client, main thread.
 *
 * bench/run starts it with a private cluster at hand; it may be pointed at any empty database with the extension, too:
 *     kinesis-bench [-r ROUNDS] [-s SCALE] [-D DATA_DIRECTORY] [-c ROUNDS.csv] [-d CONNINFO] [GOAL ...]
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "goals.h"
#include "payload.h"
#include "results.h"
#include "session.h"

#define GOAL_COUNT 11

Settings settings = {.rounds = 5, .scale = 1.0, .data_directory = "/"};

int
scaled(int full, int least)
{
	int value = (int) (full * settings.scale + 0.5);

	return value < least ? least : value;
}

/* Both halves of goal 4. */
static void
goal_finding_and_large(void)
{
	goal_positions();
	goal_large();
}

static void (*const goals[GOAL_COUNT])(void) = {goal_batches,        goal_singles,
												goal_drain,          goal_finding_and_large,
												goal_latency,        goal_many_shards,
												goal_groups,         goal_callback_latency,
												goal_callback_drain, goal_callback_producers,
												goal_callback_idle};

static void
usage(void)
{
	die("usage: kinesis-bench [-r ROUNDS] [-s SCALE] [-D DATA_DIRECTORY] [-c ROUNDS.csv] [-d CONNINFO] [GOAL ...]\n"
		"       goals are the numbers 1 to %d; none means all",
		GOAL_COUNT);
}

/* Reads the goal numbers; none at all means all goals. */
static void
read_goals(char **arguments, int count, bool *wanted)
{
	for (int i = 0; i < GOAL_COUNT; i++)
		wanted[i] = count == 0;
	for (int i = 0; i < count; i++)
	{
		char *end;
		long number = strtol(arguments[i], &end, 10);

		if (*end != '\0' || number < 1 || number > GOAL_COUNT)
			usage();
		wanted[number - 1] = true;
	}
}

/* The machine's description and the table, in Markdown. */
static bool
print_report(FILE *to)
{
	machine_print(to);
	fprintf(to, "\n");
	return results_print(to);
}

int
main(int argc, char **argv)
{
	const char *rounds_file = NULL;
	bool wanted[GOAL_COUNT];
	bool all_reached;
	int option;

	while ((option = getopt(argc, argv, "r:s:D:c:d:")) != -1)
		switch (option)
		{
			case 'r':
				settings.rounds = atoi(optarg);
				break;
			case 's':
				settings.scale = atof(optarg);
				break;
			case 'D':
				settings.data_directory = optarg;
				break;
			case 'c':
				rounds_file = optarg;
				break;
			case 'd':
				session_target(optarg);
				break;
			default:
				usage();
		}
	if (settings.rounds < 1 || settings.rounds > 100 || settings.scale <= 0)
		usage();
	read_goals(argv + optind, argc - optind, wanted);

	payload_init();
	for (int i = 0; i < GOAL_COUNT; i++)
		if (wanted[i])
			goals[i]();

	all_reached = print_report(stdout);
	if (rounds_file != NULL)
	{
		FILE *file = fopen(rounds_file, "w");

		if (file == NULL)
			die("could not write %s", rounds_file);
		results_print_rounds(file);
		fclose(file);
	}
	say(all_reached ? "all goals reached" : "some goals missed");
	return 0;
}
