/*
 * crew.c - several connections working at once, started together and timed together.
 *
 * Owns:    one thread and one connection a worker, for one measurement.
 * Locking: a barrier starts everybody; a worker's fields are its own until crew_finish has joined it.
 * Runs in: the benchmark client; crew_* in the main thread, the job's functions in the workers.
 *
 * The barrier is passed twice: once when all workers are connected, prepared and warm (the main thread then looks at
 * the WAL position), and once to begin.  The clock runs from there until the last worker has done its part.
 */
#include <stdlib.h>

#include "crew.h"
#include "session.h"

static void *
worker_main(void *argument)
{
	Worker *worker = argument;

	worker->conn = session_open(worker->job->setup);
	worker->job->ready(worker);
	worker->warm_records = worker->records;
	worker->records = 0;
	pthread_barrier_wait(worker->barrier);
	pthread_barrier_wait(worker->barrier);
	worker->job->work(worker);
	worker->ended = now();
	PQfinish(worker->conn);
	return NULL;
}

/* Returns when all workers are ready and wait. */
void
crew_start(Crew *crew, int size, const Job *job)
{
	crew->size = size;
	crew->workers = calloc(size, sizeof(Worker));
	if (crew->workers == NULL)
		die("out of memory for workers");
	pthread_barrier_init(&crew->barrier, NULL, size + 1);
	for (int i = 0; i < size; i++)
	{
		Worker *worker = &crew->workers[i];

		worker->index = i;
		worker->job = job;
		worker->random = random_from(1000 + i);
		worker->barrier = &crew->barrier;
		if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0)
			die("could not start a thread");
	}
	pthread_barrier_wait(&crew->barrier);
}

void
crew_go(Crew *crew)
{
	crew->started = now();
	pthread_barrier_wait(&crew->barrier);
}

/* Waits for all; the seconds from the start to the last one's end. */
double
crew_finish(Crew *crew)
{
	double ended = 0;

	for (int i = 0; i < crew->size; i++)
	{
		pthread_join(crew->workers[i].thread, NULL);
		if (crew->workers[i].ended > ended)
			ended = crew->workers[i].ended;
	}
	return ended - crew->started;
}

/* Records written inside the clock. */
int64_t
crew_records(const Crew *crew)
{
	int64_t records = 0;

	for (int i = 0; i < crew->size; i++)
		records += crew->workers[i].records;
	return records;
}

/* Records written in all, the warm-up's too: what must be found in the table afterwards. */
int64_t
crew_all_records(const Crew *crew)
{
	int64_t records = crew_records(crew);

	for (int i = 0; i < crew->size; i++)
		records += crew->workers[i].warm_records;
	return records;
}

void
crew_free(Crew *crew)
{
	pthread_barrier_destroy(&crew->barrier);
	free(crew->workers);
}
