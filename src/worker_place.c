/*
 * worker_place.c - keeps account of the workers: who may start one, what each works on, what came of it.
 *
 * Owns:    the places of workers in the shared memory of worker_pool.c.
 * Locking: the pool's one lock.
 * Runs in: schedulers and workers.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "settings_define.h"
#include "worker_memory.h"

PG_FUNCTION_INFO_V1(kin_running_lanes);

static KinWorkerPlace *my_worker; /* the place of this process, if it is a worker */


/* ---- A scheduler's side ---- */

KinWorkerView
kin_pool_worker(int place)
{
	KinWorkerView view = {.state = KIN_WORKER_FREE, .call_end = KIN_NO_CALL};
	KinWorkerPlace *w = &kin_pool->workers[place];

	LWLockAcquire(kin_pool_lock, LW_SHARED);
	if (w->database == MyDatabaseId)
	{
		view = w->view;
		if (w->leave && view.state == KIN_WORKER_IDLE)
			view.state = KIN_WORKER_LEAVING;
	}
	LWLockRelease(kin_pool_lock);
	return view;
}

/* The lock is held. */
static bool
suspect_runs(void)
{
	for (int i = 0; i < kin_max_workers_setting; i++)
		if (kin_pool->workers[i].view.state == KIN_WORKER_BUSY && kin_pool->workers[i].view.assignment.suspected)
			return true;
	return false;
}

bool
kin_pool_suspect_runs(void)
{
	bool runs;

	LWLockAcquire(kin_pool_lock, LW_SHARED);
	runs = suspect_runs();
	LWLockRelease(kin_pool_lock);
	return runs;
}

bool
kin_pool_assign(int place, const KinAssignment *assignment)
{
	KinWorkerPlace *w = &kin_pool->workers[place];
	bool given;

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	given = w->database == MyDatabaseId && w->view.state == KIN_WORKER_IDLE && !w->leave &&
			!(assignment->suspected && suspect_runs());
	if (given)
	{
		w->view.state = KIN_WORKER_BUSY;
		w->view.assignment = *assignment;
		w->view.call_deadline = 0;
		w->view.call_end = KIN_NO_CALL;
		w->since = GetCurrentTimestamp();
		kin_set_latch_of(w->pgprocno);
	}
	LWLockRelease(kin_pool_lock);
	return given;
}

void
kin_pool_collect(int place)
{
	KinWorkerPlace *w = &kin_pool->workers[place];

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	if (w->database == MyDatabaseId && w->view.state == KIN_WORKER_DONE)
	{
		w->view.state = KIN_WORKER_IDLE;
		if (w->leave)
			kin_set_latch_of(w->pgprocno);
	}
	LWLockRelease(kin_pool_lock);
}

bool
kin_pool_dismiss(int place)
{
	KinWorkerPlace *w = &kin_pool->workers[place];
	bool idle;

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	idle = w->database == MyDatabaseId && w->view.state == KIN_WORKER_IDLE;
	if (idle)
	{
		w->leave = true;
		kin_set_latch_of(w->pgprocno);
	}
	LWLockRelease(kin_pool_lock);
	return idle;
}

int
kin_pool_claim_worker(int64 *token)
{
	int place;

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	for (place = 0; place < kin_max_workers_setting; place++)
		if (kin_pool->workers[place].view.state == KIN_WORKER_FREE)
			break;
	if (place == kin_max_workers_setting || kin_my_scheduler->leave)
		place = -1;
	else
	{
		*token = ++kin_pool->last_token;
		kin_pool->workers[place] = (KinWorkerPlace){.view = {.state = KIN_WORKER_STARTING, .call_end = KIN_NO_CALL},
													.database = MyDatabaseId,
													.token = *token,
													.pgprocno = KIN_NOBODY};
	}
	LWLockRelease(kin_pool_lock);
	return place;
}

void
kin_pool_drop_worker(int place, int64 token)
{
	KinWorkerPlace *w = &kin_pool->workers[place];

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	if (w->token == token && w->view.state == KIN_WORKER_STARTING && w->pgprocno == KIN_NOBODY)
		w->view.state = KIN_WORKER_FREE;
	LWLockRelease(kin_pool_lock);
	ConditionVariableBroadcast(&kin_pool->gone);
}

/* Idle workers, of this database or of all others, give way.  The lock is held. */
static void
send_idle_away(bool of_others)
{
	for (int i = 0; i < kin_max_workers_setting; i++)
	{
		KinWorkerPlace *w = &kin_pool->workers[i];

		if (w->view.state != KIN_WORKER_IDLE || (w->database != MyDatabaseId) != of_others)
			continue;
		w->leave = true;
		kin_set_latch_of(w->pgprocno);
	}
}

/* Has another database lanes to work on, and no place for a worker?  The lock is held. */
static bool
others_starve(void)
{
	for (int i = 0; i < KIN_SCHEDULERS_MAX; i++)
	{
		KinSchedulerPlace *s = &kin_pool->schedulers[i];

		if (s->state == KIN_SCHEDULER_RUNNING && s->starving && s->database != MyDatabaseId)
			return true;
	}
	return false;
}

void
kin_pool_say_waiting(bool waiting, bool starving)
{
	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	if (starving && !kin_my_scheduler->starving)
		send_idle_away(true);
	/* What is still idle here has become so since they have said it. */
	if (others_starve())
		send_idle_away(false);
	kin_my_scheduler->waiting = waiting;
	kin_my_scheduler->starving = starving;
	LWLockRelease(kin_pool_lock);
}

/* ---- A worker ---- */

/* Wakes the scheduler of this worker's database, and, if a place is free now, those that wait.  The lock is held. */
static void
wake_schedulers(bool place_is_free)
{
	for (int i = 0; i < KIN_SCHEDULERS_MAX; i++)
	{
		KinSchedulerPlace *s = &kin_pool->schedulers[i];

		if (s->state == KIN_SCHEDULER_RUNNING && (s->database == my_worker->database || (place_is_free && s->waiting)))
			kin_set_latch_of(s->pgprocno);
	}
}

static void
worker_exits(int code, Datum arg)
{
	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	my_worker->view.state = KIN_WORKER_FREE;
	my_worker->pgprocno = KIN_NOBODY;
	wake_schedulers(true);
	my_worker = NULL;
	LWLockRelease(kin_pool_lock);
	ConditionVariableBroadcast(&kin_pool->gone);
}

bool
kin_pool_attach_worker(int place, int64 token, Oid *database)
{
	KinWorkerPlace *w = &kin_pool->workers[place];
	bool ours;

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	ours = w->token == token && w->view.state == KIN_WORKER_STARTING && !w->leave;
	if (ours)
	{
		w->pgprocno = MyProc->pgprocno;
		w->view.pid = MyProcPid;
		*database = w->database;
		my_worker = w;
	}
	LWLockRelease(kin_pool_lock);
	if (ours)
		on_shmem_exit(worker_exits, (Datum) 0);
	return ours;
}

bool
kin_pool_next(KinAssignment *assignment)
{
	bool busy;

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	if (my_worker->view.state == KIN_WORKER_STARTING)
	{
		my_worker->view.state = KIN_WORKER_IDLE;
		wake_schedulers(false);
	}
	busy = my_worker->view.state == KIN_WORKER_BUSY;
	*assignment = my_worker->view.assignment;
	LWLockRelease(kin_pool_lock);
	return busy;
}

void
kin_pool_done(KinTurn turn, TimestampTz later)
{
	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	my_worker->view.state = my_worker->orphan ? KIN_WORKER_IDLE : KIN_WORKER_DONE;
	my_worker->view.turn = turn;
	my_worker->view.later = later;
	my_worker->view.call_deadline = 0;
	my_worker->view.call_end = KIN_NO_CALL;
	my_worker->since = GetCurrentTimestamp();
	wake_schedulers(my_worker->view.assignment.suspected);
	LWLockRelease(kin_pool_lock);
}

bool
kin_pool_worker_must_leave(void)
{
	bool leave;

	LWLockAcquire(kin_pool_lock, LW_SHARED);
	leave = my_worker->leave && my_worker->view.state != KIN_WORKER_DONE;
	LWLockRelease(kin_pool_lock);
	return leave;
}

bool
kin_pool_is_wanted(void)
{
	bool wanted = false;

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	for (int i = 0; i < KIN_SCHEDULERS_MAX; i++)
	{
		KinSchedulerPlace *s = &kin_pool->schedulers[i];

		if (s->state != KIN_SCHEDULER_RUNNING)
			continue;
		if (s->database == my_worker->database)
			wanted |= s->waiting;
		else if (s->starving)
			wanted = my_worker->leave = true; /* the place is for another database */
	}
	LWLockRelease(kin_pool_lock);
	return wanted;
}

bool
kin_pool_worker_quits(void)
{
	bool quits;

	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	quits = my_worker->view.state == KIN_WORKER_IDLE;
	if (quits)
		my_worker->leave = true;
	LWLockRelease(kin_pool_lock);
	return quits;
}

/* The scheduler looks at it now and then while a worker is busy: see lane_schedule.c. */
void
kin_pool_call_begins(TimestampTz deadline, int64 end)
{
	LWLockAcquire(kin_pool_lock, LW_EXCLUSIVE);
	my_worker->view.call_deadline = deadline;
	my_worker->view.call_end = end;
	LWLockRelease(kin_pool_lock);
}

void
kin_pool_call_ends(void)
{
	kin_pool_call_begins(0, KIN_NO_CALL);
}

int
kin_pool_my_place(void)
{
	return my_worker ? (int) (my_worker - kin_pool->workers) : -1;
}

/* kinesis._running_lanes(): (lane_id, pid, since) of the workers of this database that have a lane. */
Datum
kin_running_lanes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; kin_pool && i < kin_max_workers_setting; i++)
	{
		KinWorkerPlace w;
		Datum values[3];
		bool nulls[3] = {false, false, false};

		LWLockAcquire(kin_pool_lock, LW_SHARED);
		w = kin_pool->workers[i];
		LWLockRelease(kin_pool_lock);
		if (w.view.state != KIN_WORKER_BUSY || w.database != MyDatabaseId)
			continue;
		values[0] = Int64GetDatum(w.view.assignment.lane_id);
		values[1] = Int32GetDatum(w.view.pid);
		values[2] = TimestampTzGetDatum(w.since);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
