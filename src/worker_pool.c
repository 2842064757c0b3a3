/*
 * worker_pool.c - keeps account of the launcher and the schedulers, and of databases that they are kept out of.
 *
 * Owns:    the places of schedulers and workers, and the list of databases that somebody keeps us out of.
 * Locking: one LWLock for all of it, held for a few assignments.
 * Runs in: every process.
 *
 * A place is claimed by whoever starts a process (the launcher a scheduler, a scheduler a worker) and attached by the process
 * as the first thing it does, before it connects: so the callback that gives the place back runs after the process has left
 * the proc array, and whoever waits for it to be gone (DROP DATABASE) does not see it any more.  A token tells a process that
 * comes late that its place has been given to another one.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "settings_define.h"
#include "worker_memory.h"

#define HOLD_WAIT_MS 10000

PG_FUNCTION_INFO_V1(kin_ring_scheduler);

KinPool *kin_pool;
LWLock *kin_pool_lock;
KinSchedulerPlace *kin_my_scheduler;

static bool ring_at_commit;


static Size
workers_size(void)
{
	return MAXALIGN(offsetof(KinPool, workers) + kin_max_workers_setting * sizeof(KinWorkerPlace));
}

void
kin_worker_pool_request(void)
{
	RequestAddinShmemSpace(workers_size() + MaxBackends * sizeof(Oid));
	RequestNamedLWLockTranche("KinesisWorkers", 1);
}

void
kin_worker_pool_startup(void)
{
	bool found;

	kin_pool_lock = &GetNamedLWLockTranche("KinesisWorkers")->lock;
	kin_pool = ShmemInitStruct("kinesis workers", workers_size() + MaxBackends * sizeof(Oid), &found);
	if (!found)
	{
		memset(kin_pool, 0, workers_size() + MaxBackends * sizeof(Oid));
		kin_pool->launcher = KIN_NOBODY;
		kin_pool->look_at_all = true;
		ConditionVariableInit(&kin_pool->gone);
	}
}

/* The database that a session keeps us out of. */
static Oid *
held(int pgprocno)
{
	return (Oid *) ((char *) kin_pool + workers_size()) + pgprocno;
}

static bool
is_held(Oid database)
{
	for (int i = 0; i < MaxBackends; i++)
		if (*held(i) == database)
			return true;
	return false;
}

void
kin_set_latch_of(int pgprocno)
{
	if (pgprocno != KIN_NOBODY)
		SetLatch(&GetPGProcByNumber(pgprocno)->procLatch);
}

static KinSchedulerPlace *
scheduler_of(Oid database)
{
	for (int i = 0; i < KIN_SCHEDULERS_MAX; i++)
		if (kin_pool->schedulers[i].state != KIN_SCHEDULER_FREE && kin_pool->schedulers[i].database == database)
			return &kin_pool->schedulers[i];
	return NULL;
}

/* ---- All processes ---- */

void
kin_pool_ring(Oid database)
{
	KinSchedulerPlace *scheduler;

	if (kin_pool == NULL)
		return;
	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	scheduler = scheduler_of(database);
	if (scheduler && scheduler->state <= KIN_SCHEDULER_RUNNING)
	{
		scheduler->news = true;
		kin_set_latch_of(scheduler->pgprocno);
	}
	else
	{
		if (kin_pool->nrequests < KIN_REQUESTS_MAX)
			kin_pool->requests[kin_pool->nrequests++] = database;
		else
			kin_pool->look_at_all = true;
		kin_set_latch_of(kin_pool->launcher);
	}
	LWLockRelease(kin_pool_lock);
}

void
kin_pool_ring_all(void)
{
	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	kin_pool->look_at_all = true;
	kin_set_latch_of(kin_pool->launcher);
	LWLockRelease(kin_pool_lock);
}

/* Asks all processes of a database to leave; true when none is left. */
static bool
send_away(Oid database)
{
	bool none = true;

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	for (int i = 0; i < KIN_SCHEDULERS_MAX; i++)
	{
		KinSchedulerPlace *s = &kin_pool->schedulers[i];

		if (s->state != KIN_SCHEDULER_STARTING && s->state != KIN_SCHEDULER_RUNNING)
			continue;
		if (s->database != database)
			continue;
		none = false;
		/* It may be waiting for a lock: the second time we look, it is told by signal. */
		if (s->leave && s->pgprocno != KIN_NOBODY)
			kill(s->pid, SIGTERM);
		s->leave = true;
		kin_set_latch_of(s->pgprocno);
	}
	for (int i = 0; i < kin_max_workers_setting; i++)
	{
		KinWorkerPlace *w = &kin_pool->workers[i];

		if (w->view.state == KIN_WORKER_FREE || w->database != database)
			continue;
		none = false;
		/* In the middle of a function it looks at signals only. */
		if (w->view.state == KIN_WORKER_BUSY && w->pgprocno != KIN_NOBODY)
			kill(w->view.pid, SIGTERM);
		w->leave = true;
		kin_set_latch_of(w->pgprocno);
	}
	LWLockRelease(kin_pool_lock);
	return none;
}

void
kin_pool_hold(Oid database)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HOLD_WAIT_MS);

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	*held(MyProc->pgprocno) = database;
	LWLockRelease(kin_pool_lock);
	ConditionVariablePrepareToSleep(&kin_pool->gone);
	while (!send_away(database) && GetCurrentTimestamp() < until)
		(void) ConditionVariableTimedSleep(&kin_pool->gone, 1000, PG_WAIT_EXTENSION);
	ConditionVariableCancelSleep();
}

void
kin_pool_release(void)
{
	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	if (OidIsValid(*held(MyProc->pgprocno)))
	{
		*held(MyProc->pgprocno) = InvalidOid;
		kin_pool->look_at_all = true;
		kin_set_latch_of(kin_pool->launcher);
	}
	LWLockRelease(kin_pool_lock);
}

/* ---- The launcher ---- */

static void
launcher_exits(int code, Datum arg)
{
	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	kin_pool->launcher = KIN_NOBODY;
	LWLockRelease(kin_pool_lock);
}

void
kin_pool_attach_launcher(void)
{
	on_shmem_exit(launcher_exits, (Datum) 0);
	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	kin_pool->launcher = MyProc->pgprocno;
	kin_pool->look_at_all = true;
	/* What a former launcher has asked for and nobody has taken yet would come too late. */
	for (int i = 0; i < KIN_SCHEDULERS_MAX; i++)
		if (kin_pool->schedulers[i].state == KIN_SCHEDULER_STARTING && kin_pool->schedulers[i].pgprocno == KIN_NOBODY)
			kin_pool->schedulers[i].state = KIN_SCHEDULER_FREE;
	LWLockRelease(kin_pool_lock);
}

bool
kin_pool_take_requests(Oid *databases, int *count)
{
	bool all;

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	*count = kin_pool->nrequests;
	memcpy(databases, kin_pool->requests, *count * sizeof(Oid));
	all = kin_pool->look_at_all;
	kin_pool->nrequests = 0;
	kin_pool->look_at_all = false;
	LWLockRelease(kin_pool_lock);
	return all;
}

int
kin_pool_claim_scheduler(Oid database, int64 *token)
{
	int place = -1;

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	if (scheduler_of(database) == NULL && !is_held(database))
		for (place = KIN_SCHEDULERS_MAX - 1; place >= 0; place--)
			if (kin_pool->schedulers[place].state == KIN_SCHEDULER_FREE)
				break;
	if (place >= 0)
	{
		*token = ++kin_pool->last_token;
		kin_pool->schedulers[place] = (KinSchedulerPlace){.state = KIN_SCHEDULER_STARTING,
														  .database = database,
														  .token = *token,
														  .pgprocno = KIN_NOBODY};
	}
	LWLockRelease(kin_pool_lock);
	return place;
}

void
kin_pool_drop_scheduler(int place, int64 token)
{
	KinSchedulerPlace *s = &kin_pool->schedulers[place];

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	if (s->token == token && s->state == KIN_SCHEDULER_STARTING && s->pgprocno == KIN_NOBODY)
		s->state = KIN_SCHEDULER_FAILED;
	LWLockRelease(kin_pool_lock);
	ConditionVariableBroadcast(&kin_pool->gone);
}

bool
kin_pool_is_starting(int place, int64 token)
{
	bool starting;

	LWLockAcquire(kin_pool_lock, LW_SHARED);
	starting =
		kin_pool->schedulers[place].token == token && kin_pool->schedulers[place].state == KIN_SCHEDULER_STARTING;
	LWLockRelease(kin_pool_lock);
	return starting;
}

int
kin_pool_collect_schedulers(void (*ended)(Oid database, bool quiet))
{
	int n = 0;

	for (int i = 0; i < KIN_SCHEDULERS_MAX; i++)
	{
		KinSchedulerPlace *s = &kin_pool->schedulers[i];
		KinSchedulerPlace was;
		bool over;

		LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
		was = *s;
		over = s->pgprocno == KIN_NOBODY && (s->state == KIN_SCHEDULER_QUIET || s->state == KIN_SCHEDULER_FAILED);
		if (over)
			s->state = KIN_SCHEDULER_FREE;
		LWLockRelease(kin_pool_lock);
		if (over)
		{
			ended(was.database, was.state == KIN_SCHEDULER_QUIET);
			n++;
		}
	}
	return n;
}

/* ---- A scheduler ---- */

static void
scheduler_exits(int code, Datum arg)
{
	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	if (kin_my_scheduler->state == KIN_SCHEDULER_RUNNING)
		kin_my_scheduler->state = kin_my_scheduler->leave ? KIN_SCHEDULER_QUIET : KIN_SCHEDULER_FAILED;
	kin_my_scheduler->pgprocno = KIN_NOBODY;
	/* Its workers finish what they do; the next scheduler has its own. */
	for (int i = 0; i < kin_max_workers_setting; i++)
	{
		KinWorkerPlace *w = &kin_pool->workers[i];

		if (w->view.state == KIN_WORKER_FREE || w->database != kin_my_scheduler->database)
			continue;
		w->leave = w->orphan = true;
		kin_set_latch_of(w->pgprocno);
		if (w->view.state == KIN_WORKER_STARTING && w->pgprocno == KIN_NOBODY)
			w->view.state = KIN_WORKER_FREE;
		if (w->view.state == KIN_WORKER_DONE)
			w->view.state = KIN_WORKER_IDLE;
	}
	kin_set_latch_of(kin_pool->launcher);
	kin_my_scheduler = NULL;
	LWLockRelease(kin_pool_lock);
	ConditionVariableBroadcast(&kin_pool->gone);
}

bool
kin_pool_attach_scheduler(int place, int64 token, Oid *database)
{
	KinSchedulerPlace *s = &kin_pool->schedulers[place];
	bool ours;

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	ours = s->token == token && s->state == KIN_SCHEDULER_STARTING;
	if (ours)
	{
		s->state = KIN_SCHEDULER_RUNNING;
		s->pgprocno = MyProc->pgprocno;
		s->pid = MyProcPid;
		s->news = true;
		*database = s->database;
		kin_my_scheduler = s;
		kin_set_latch_of(kin_pool->launcher); /* it may start another one */
	}
	LWLockRelease(kin_pool_lock);
	if (ours)
		on_shmem_exit(scheduler_exits, (Datum) 0);
	return ours;
}

bool
kin_pool_take_news(void)
{
	bool news;

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	news = kin_my_scheduler->news;
	kin_my_scheduler->news = false;
	LWLockRelease(kin_pool_lock);
	return news;
}

bool
kin_pool_must_leave(void)
{
	bool leave;

	LWLockAcquire(kin_pool_lock, LW_SHARED);
	leave = kin_my_scheduler->leave;
	LWLockRelease(kin_pool_lock);
	return leave;
}

bool
kin_pool_go_quiet(void)
{
	bool news;

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	news = kin_my_scheduler->news;
	if (!news)
		kin_my_scheduler->state = KIN_SCHEDULER_QUIET;
	LWLockRelease(kin_pool_lock);
	return !news;
}

/* ---- SQL ---- */

static void
transaction_ended(XactEvent event, void *arg)
{
	if (!ring_at_commit)
		return;
	if (event == XACT_EVENT_COMMIT)
		kin_pool_ring(MyDatabaseId);
	/* COMMIT PREPARED rings by itself: commit_wake.c. */
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		ring_at_commit = false;
}

void
kin_worker_pool_init(void)
{
	RegisterXactCallback(transaction_ended, NULL);
}

/* Trigger: the scheduler looks at mappings and notifications when this transaction has committed. */
Datum
kin_ring_scheduler(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "kin_ring_scheduler was not called by a trigger");
	/* Workers keep what they have read of a mapping: lane_store.c. */
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	/* What the scheduler changes itself is no news to it; what changes in a worker is a function's doing. */
	if (kin_pool && kin_my_scheduler == NULL)
		ring_at_commit = true;
	return PointerGetDatum(NULL);
}
