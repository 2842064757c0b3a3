/*
 * worker_memory.h - what worker_pool.c and worker_place.c have in shared memory; not for others.
 */
#ifndef KIN_WORKER_MEMORY_H
#define KIN_WORKER_MEMORY_H

#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#include "worker_pool.h"

#define KIN_SCHEDULERS_MAX 64
#define KIN_NOBODY         (-1)

typedef struct KinSchedulerPlace
{
	KinSchedulerState state;
	Oid database;
	int64 token;
	int pgprocno; /* KIN_NOBODY while there is no process */
	int pid;
	bool news;
	bool leave;
	bool waiting;  /* its lanes wait for a worker */
	bool starving; /* and there is no place for one more */
} KinSchedulerPlace;

typedef struct KinWorkerPlace
{
	KinWorkerView view;
	Oid database;
	int64 token;
	int pgprocno;
	bool leave;
	bool orphan;       /* its scheduler is gone: nobody collects its result */
	TimestampTz since; /* of the state */
} KinWorkerPlace;

typedef struct KinPool
{
	int64 last_token;
	int launcher; /* pgprocno */
	bool look_at_all;
	int nrequests;
	Oid requests[KIN_REQUESTS_MAX];
	ConditionVariable gone; /* broadcast when a process has left its database */
	KinSchedulerPlace schedulers[KIN_SCHEDULERS_MAX];
	KinWorkerPlace workers[FLEXIBLE_ARRAY_MEMBER]; /* and behind them MaxBackends OIDs: see worker_pool.c */
} KinPool;

/* One lock for all of it. */
extern KinPool *kin_pool;
extern LWLock *kin_pool_lock;

/* The place of this process, if it is a scheduler. */
extern KinSchedulerPlace *kin_my_scheduler;

/* No process: nothing is done. */
extern void kin_set_latch_of(int pgprocno);

#endif
