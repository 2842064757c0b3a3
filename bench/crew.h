/*
 * crew.h - several connections working at once, started together and timed together.
 *
 * Owns:    one thread and one connection a worker, for one measurement.
 * Locking: a barrier starts everybody; a worker's fields are its own until crew_finish has joined it.
 * Runs in: the benchmark client; crew_* in the main thread, the job's functions in the workers.
 */
#ifndef CREW_H
#define CREW_H

#include <pthread.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "payload.h"

typedef struct Worker Worker;

/* What a worker does: ready() outside the clock, work() inside. */
typedef struct Job
{
	const char *setup; /* a command for each connection, or NULL */
	void (*ready)(Worker *worker);
	void (*work)(Worker *worker);
	const void *task; /* what the goal's own functions need to know */
} Job;

struct Worker
{
	int index;
	PGconn *conn;
	const Job *job;
	Random random;
	int64_t records;      /* written inside the clock */
	int64_t warm_records; /* written before it */
	double ended;
	pthread_barrier_t *barrier;
	pthread_t thread;
};

typedef struct Crew
{
	int size;
	Worker *workers;
	pthread_barrier_t barrier;
	double started;
} Crew;

extern void crew_start(Crew *crew, int size, const Job *job);
extern void crew_go(Crew *crew);
extern double crew_finish(Crew *crew);
extern int64_t crew_records(const Crew *crew);
extern int64_t crew_all_records(const Crew *crew);
extern void crew_free(Crew *crew);

#endif
