/*
 * verify_lists.c - the verdict: compares what was acknowledged with what each reader has read.
 *
 * Owns:    nothing.
 * Locking: none; all threads have ended.
 * Runs in: the main thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stress.h"

#define FAULTS_SHOWN 20

static int faults;
static bool quiet;

#define FAULT(...)                                                                                                     \
	do                                                                                                                 \
	{                                                                                                                  \
		if (faults++ < FAULTS_SHOWN && !quiet)                                                                         \
		{                                                                                                              \
			printf("FAULT: " __VA_ARGS__);                                                                             \
			printf("\n");                                                                                              \
		}                                                                                                              \
	} while (0)

static int
by_place(const void *a, const void *b)
{
	const Read *x = a;
	const Read *y = b;

	if (x->shard != y->shard)
		return x->shard < y->shard ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

/* Numbers increase in each shard, and each writer's ordered records come in the order in which they were put. */
static void
verify_order(const List *list)
{
	int64_t *last = malloc(SHARDS_MAX * sizeof(int64_t));
	int last_of_writer[WRITERS];

	for (int i = 0; i < SHARDS_MAX; i++)
		last[i] = -1;
	for (int i = 0; i < WRITERS; i++)
		last_of_writer[i] = -1;
	for (int i = 0; i < list->count; i++)
	{
		const Read *read = &list->reads[i];

		if (read->number <= last[read->shard])
			FAULT("%s: %lld of shard %d was read after %lld", list->name, (long long) read->number, read->shard,
				  (long long) last[read->shard]);
		last[read->shard] = read->number;
		if (read->writer < 0)
		{
			FAULT("%s: %lld of shard %d is not what anybody has put", list->name, (long long) read->number,
				  read->shard);
			continue;
		}
		if (!ledgers[read->writer].entries[read->n].ordered)
			continue;
		if (read->n <= last_of_writer[read->writer])
			FAULT("%s: record %d of writer %d was read after %d, of the same key", list->name, read->n, read->writer,
				  last_of_writer[read->writer]);
		last_of_writer[read->writer] = read->n;
	}
	free(last);
}

/* For whoever looks for the cause of a fault: which shards it is about, and up to where the reader came. */
static void
print_missing(const List *truth, const List *reader)
{
	for (int shard = 0; shard < SHARDS_MAX; shard++)
	{
		int there = 0;
		int mine = 0;
		int64_t last = -1;
		int64_t end = -1;

		for (int i = 0; i < truth->count; i++)
			if (truth->reads[i].shard == shard)
			{
				there++;
				end = truth->reads[i].number;
			}
		for (int i = 0; i < reader->count; i++)
			if (reader->reads[i].shard == shard)
			{
				mine++;
				last = reader->reads[i].number;
			}
		if (there != mine)
			printf("# %s: shard %d has %d records up to %lld, read were %d up to %lld\n", reader->name, shard, there,
				   (long long) end, mine, (long long) last);
	}
}

/* A reader has read what is there: the same records, each once, in order. */
int
verify(const List *truth, const List *reader)
{
	int before = faults;
	Read *mine = malloc((reader->count + 1) * sizeof(Read));
	int i = 0;
	int k = 0;

	verify_order(reader);
	memcpy(mine, reader->reads, reader->count * sizeof(Read));
	qsort(mine, reader->count, sizeof(Read), by_place);
	while (i < truth->count || k < reader->count)
	{
		int c = i == truth->count ? 1 : k == reader->count ? -1 : by_place(&truth->reads[i], &mine[k]);

		if (c < 0)
		{
			FAULT("%s has not read %lld of shard %d", reader->name, (long long) truth->reads[i].number,
				  truth->reads[i].shard);
			i++;
		}
		else if (c > 0)
		{
			FAULT("%s has read %lld of shard %d, which is not there or was read before", reader->name,
				  (long long) mine[k].number, mine[k].shard);
			k++;
		}
		else
		{
			if (truth->reads[i].writer != mine[k].writer || truth->reads[i].n != mine[k].n)
				FAULT("%s has read another record as %lld of shard %d", reader->name, (long long) mine[k].number,
					  mine[k].shard);
			i++;
			k++;
		}
	}
	free(mine);
	if (faults > before && !quiet)
		print_missing(truth, reader);
	return faults - before;
}

/* What was acknowledged is there once, with the number and shard that the writer was told; what was rolled back is not. */
int
verify_ledger(const List *truth)
{
	int before = faults;
	int *times[WRITERS];

	for (int w = 0; w < WRITERS; w++)
		times[w] = calloc(ledgers[w].count + 1, sizeof(int));
	for (int i = 0; i < truth->count; i++)
	{
		const Read *read = &truth->reads[i];
		const Entry *entry;

		if (read->writer < 0)
			continue;
		entry = &ledgers[read->writer].entries[read->n];
		times[read->writer][read->n]++;
		if (entry->fate == FATE_LOST)
			FAULT("record %d of writer %d was rolled back and is there", read->n, read->writer);
		else if (entry->fate == FATE_OPEN)
			FAULT("record %d of writer %d is there, but its writer does not know of its end", read->n, read->writer);
		else if (entry->number >= 0 && (entry->number != read->number || entry->shard != read->shard))
			FAULT("record %d of writer %d was acknowledged as %lld of shard %d and is %lld of shard %d", read->n,
				  read->writer, (long long) entry->number, entry->shard, (long long) read->number, read->shard);
	}
	for (int w = 0; w < WRITERS; w++)
	{
		for (int n = 0; n < ledgers[w].count; n++)
		{
			if (times[w][n] > 1)
				FAULT("record %d of writer %d is there %d times", n, w, times[w][n]);
			else if (times[w][n] == 0 && ledgers[w].entries[n].fate == FATE_STORED)
				FAULT("record %d of writer %d was acknowledged as %lld of shard %d and is not there", n, w,
					  (long long) ledgers[w].entries[n].number, ledgers[w].entries[n].shard);
		}
		free(times[w]);
	}
	verify_order(truth);
	return faults - before;
}

/* Children first: in each shard all is well, but what a key had before the reshard comes after what it had later. */
static int
by_place_children_first(const void *a, const void *b)
{
	const Read *x = a;
	const Read *y = b;

	return x->shard != y->shard ? y->shard - x->shard : by_place(a, b);
}

/* Where the next record of the same shard stands; -1 if there is none. */
static int
find_next(const List *list, int from)
{
	for (int i = from + 1; i < list->count; i++)
		if (list->reads[i].shard == list->reads[from].shard)
			return i;
	return -1;
}

static void
swap(List *list, int i, int k)
{
	Read read = list->reads[i];

	list->reads[i] = list->reads[k];
	list->reads[k] = read;
}

/*
 * Does the verdict see what is wrong?  Takes a good list, breaks it in one way after the other, at its begin, middle and
 * end, and expects faults each time.  Returns how often there were none; faults of the good list itself are left alone.
 */
int
self_test(const List *truth)
{
	static const char *const ways[] = {"skipped",
									   "doubled",
									   "out of order",
									   "another record in its place",
									   "another number",
									   "not what was put",
									   "a child's, before its parent's",
									   "rolled back, but there",
									   "acknowledged, but not there",
									   "acknowledged with another number",
									   "there twice",
									   "without an end"};
	int missed = 0;
	int real = faults;
	List broken = {.name = "broken"};

	if (truth->count < 10)
		return 1;
	broken.reads = malloc((truth->count + 1) * sizeof(Read));
	quiet = true;
	for (int way = 0; way < (int) (sizeof(ways) / sizeof(ways[0])); way++)
	{
		int tried = 0;

		for (int place = 0; place < 3; place++)
		{
			int at = place == 0 ? 0 : place == 1 ? truth->count / 2 : truth->count - 1;
			Read *read = &broken.reads[at];
			Entry *entry = &ledgers[truth->reads[at].writer].entries[truth->reads[at].n];
			Entry good = *entry;
			bool by_ledger = way >= 7;
			int other;

			memcpy(broken.reads, truth->reads, truth->count * sizeof(Read));
			broken.count = truth->count;
			switch (way)
			{
				case 0:
					memmove(read, read + 1, (--broken.count - at) * sizeof(Read));
					break;
				case 1:
					broken.reads[broken.count++] = *read;
					break;
				case 2:
					if ((other = find_next(&broken, at)) < 0)
						continue;
					swap(&broken, at, other);
					break;
				case 3:
					read->n = (read->n + 1) % ledgers[read->writer].count;
					break;
				case 4:
					read->number++;
					break;
				case 5:
					read->writer = -1;
					break;
				case 6:
					qsort(broken.reads, broken.count, sizeof(Read), by_place_children_first);
					break;
				case 7:
					entry->fate = FATE_LOST;
					break;
				case 8:
					entry->fate = FATE_STORED;
					memmove(read, read + 1, (--broken.count - at) * sizeof(Read));
					break;
				case 9:
					entry->number = read->number + 1;
					break;
				case 10:
					*entry = (Entry){.fate = FATE_UNCERTAIN,
									 .number = -1}; /* else it is told by its number or its key's order */
					broken.reads[broken.count] = *read;
					broken.reads[broken.count++].number = INT64_MAX;
					break;
				default:
					entry->fate = FATE_OPEN;
			}
			tried++;
			if ((by_ledger ? verify_ledger(&broken) : verify(truth, &broken)) == 0)
			{
				printf("# the verdict does not see a record that is %s\n", ways[way]);
				missed++;
			}
			*entry = good;
		}
		if (tried == 0)
			missed++;
	}
	quiet = false;
	faults = real;
	free(broken.reads);
	return missed;
}

/* The same without a server, on lists made up for it: two shards and then their child. */
int
self_test_alone(void)
{
	List truth = {.name = "made up"};
	int wrong;

	truth.reads = malloc(WRITERS * 60 * sizeof(Read));
	for (int n = 0; n < 60; n++)
		for (int w = 0; w < WRITERS; w++)
		{
			int shard = n >= 40 ? 2 : w % 2;

			ledger_add(w, true);
			ledgers[w].entries[n].fate = n % 7 == 3 ? FATE_LOST : n % 11 == 5 ? FATE_UNCERTAIN : FATE_STORED;
			if (ledgers[w].entries[n].fate == FATE_LOST)
				continue;
			ledgers[w].entries[n].number = n * 100 + w;
			ledgers[w].entries[n].shard = shard;
			truth.reads[truth.count++] = (Read){.shard = shard, .number = n * 100 + w, .writer = w, .n = n};
		}
	qsort(truth.reads, truth.count, sizeof(Read), by_place);
	/* What is good passes, or finding faults would be no art. */
	wrong = verify(&truth, &truth) + verify_ledger(&truth) + self_test(&truth);
	free(truth.reads);
	return wrong;
}
