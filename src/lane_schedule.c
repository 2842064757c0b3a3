/*
 * lane_schedule.c - the scheduler of a database: knows the lanes that there are, and gives those that have news to workers.
 *
 * Owns:    what its workers are at (its own memory); lane_list.c has the lanes.
 * Locking: no lock and no transaction while it sleeps.
 * Runs in: schedulers, one a database with mappings or notifications.
 *
 * It reads no records.  A transaction that has written to a shard wakes it, it finds the lanes of that shard, and wakes a worker
 * for each; a lane has one worker at a time.  Workers are shared fairly: a mapping gets a second one only while every other mapping
 * could still get its first, so a function that is slow, or never ends, holds back its own shards alone.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "call_mark.h"
#include "failure_note.h"
#include "lane_list.h"
#include "notification_send.h"
#include "settings_define.h"
#include "shard_watch.h"
#include "worker_pool.h"
#include "worker_start.h"

#define WORKER_START_MS   10000 /* a worker that has not come by then never does */
#define RETRY_START_MS    5000  /* there was no place for a process */
#define READ_AGAIN_MS     100
#define READ_AGAIN_MAX_MS 10000 /* somebody may hold a row for long */
#define OVERDUE_MS        1000
#define BELL_RETRY_MS     1000
#define MARKS_MAX         64

/* A worker that was asked for and has not come. */
typedef struct Start
{
	int64 token;
	TimestampTz at;
} Start;

PGDLLEXPORT void kin_scheduler_main(Datum arg);

static MemoryContext scratch; /* emptied each turn of the loop */
static Start *starts;         /* by place in the pool */
static KinRunnable **running; /* by place in the pool: what our workers work on */
static TimestampTz *checked;  /* by place in the pool: when to look at the worker's call; 0 = it has none */
static TimestampTz start_after;


/* ---- News ---- */

static void
take_news(void)
{
	int n = kin_watch_rung(kin_lanes.watches, kin_lanes.nshards, kin_lanes.rung);

	for (int i = 0; i < n; i++)
	{
		KinRunnableShard *shard = &kin_lanes.shards[kin_lanes.rung[i]];

		for (KinRunnable *lane = shard->lanes; lane; lane = lane->next_of_shard)
		{
			if (lane->state == KIN_LANE_RUNNING)
				lane->news = true;
			else if (lane->state == KIN_LANE_RESTING)
				kin_lane_make_ready(lane);
		}
		if (shard->bell >= 0)
			kin_lanes.bells[shard->bell].news = true;
	}
}

/* A lane's turn is over. */
static void
lane_done(KinRunnable *lane, KinTurn turn, TimestampTz later, bool *sync)
{
	lane->state = KIN_LANE_RESTING;
	lane->suspected &= turn == KIN_TURN_LATER;
	if (!lane->listed)
	{
		*sync |= turn == KIN_TURN_SYNC;
		kin_lane_forget(lane);
		return;
	}
	kin_lanes.mappings[lane->mapping].running--;
	switch (turn)
	{
		case KIN_TURN_SYNC:
			*sync = true;
			break;
		case KIN_TURN_MORE:
			kin_lane_make_ready(lane);
			break;
		case KIN_TURN_LATER:
			lane->state = KIN_LANE_LATER;
			kin_lane_set_time(lane, later);
			break;
		case KIN_TURN_WAIT:
			kin_lane_set_time(lane, later);
			/* fall through */
		default:
			if (lane->news)
				kin_lane_make_ready(lane);
			break;
	}
}

/* A function that has ignored its cancellation loses its worker. */
static void
look_at_call(int place, const KinWorkerView *view, TimestampTz now)
{
	if (checked[place] > now)
		return;
	if (view->call_deadline != 0 && view->call_deadline <= now && view->pid != 0)
	{
		ereport(LOG, (errmsg("terminating a kinesis worker whose function does not end"),
					  errdetail("Process %d has ignored the cancellation of its function.", view->pid)));
		kill(view->pid, SIGTERM);
		checked[place] = TimestampTzPlusMilliseconds(now, OVERDUE_MS);
	}
	else
		checked[place] = view->call_deadline != 0
							 ? view->call_deadline
							 : TimestampTzPlusMilliseconds(now, Max(kin_function_timeout_setting, OVERDUE_MS));
}

/* Looks at the workers; true when the map must be read again. */
static bool
collect_workers(void)
{
	bool sync = false;
	TimestampTz now = GetCurrentTimestamp();

	for (int place = 0; place < kin_max_workers_setting; place++)
	{
		KinRunnable *lane = running[place];
		KinWorkerView view = kin_pool_worker(place);

		if (lane == NULL)
		{
			/* One that a former scheduler has left behind holds its lane's lock. */
			if (view.state == KIN_WORKER_BUSY)
				look_at_call(place, &view, now);
			else
				checked[place] = 0;
			continue;
		}
		if ((view.state == KIN_WORKER_BUSY || view.state == KIN_WORKER_DONE) &&
			view.assignment.lane_id == lane->lane_id)
		{
			if (view.state == KIN_WORKER_DONE)
			{
				running[place] = NULL;
				checked[place] = 0;
				lane_done(lane, view.turn, view.later, &sync);
				kin_pool_collect(place);
			}
			else
				look_at_call(place, &view, now);
			continue;
		}
		/* It has ended in the middle: by its function, or because we have to leave, too. */
		if (kin_pool_must_leave())
			return false;
		running[place] = NULL;
		checked[place] = 0;
		lane_done(lane, KIN_TURN_LATER, kin_failure_lost(lane->lane_id, view.call_end), &sync);
	}
	return sync;
}

/* Lanes whose time has come; returns when the next one's does. */
static TimestampTz
take_due(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = 0;
	HASH_SEQ_STATUS seq;
	KinRunnable *lane;
	bool any = kin_lanes.ntimed > 0; /* a scan that was begun is carried through */

	if (any)
		hash_seq_init(&seq, kin_lanes.table);
	while (any && (lane = hash_seq_search(&seq)) != NULL)
	{
		if (lane->at == 0 || lane->state == KIN_LANE_READY || lane->state == KIN_LANE_RUNNING)
			continue;
		if (lane->at <= now)
			kin_lane_make_ready(lane);
		else
			next = kin_sooner(next, lane->at);
	}
	for (int place = 0; place < kin_max_workers_setting; place++)
		if (checked[place] != 0 && kin_function_timeout_setting > 0)
			next = kin_sooner(next, checked[place]);
	return next;
}

/* ---- Workers ---- */

/* May this mapping have one worker more, of so many that are free? */
static bool
may_have_worker(const KinRunnableMapping *mapping, int free)
{
	int waiting = 0;

	if (mapping->running == 0)
		return free > 0;
	for (int i = 0; i < kin_lanes.nmappings; i++)
		waiting += kin_lanes.mappings[i].running == 0;
	/* With more mappings than workers a half is kept for them. */
	return free > (kin_lanes.nmappings <= kin_max_workers_setting ? waiting
																  : Min(waiting, Max(kin_max_workers_setting / 2, 1)));
}

/*
 * An idle worker, rather one that knows the mapping; -1: none.  It must have worked for the same owner, or for nobody yet: what
 * a function leaves in its session, in the memory of whatever library, is not for others.  "other" is one that must go first.
 */
static int
idle_worker(const KinRunnable *lane, int *other)
{
	int found = -1;

	for (int place = 0; place < kin_max_workers_setting; place++)
	{
		KinWorkerView view = kin_pool_worker(place);

		if (view.state != KIN_WORKER_IDLE)
			continue;
		if (OidIsValid(view.assignment.owner) && view.assignment.owner != lane->owner)
			*other = place;
		else if (memcmp(&view.assignment.uuid, &lane->uuid, sizeof(lane->uuid)) == 0)
			return place;
		else if (found < 0)
			found = place;
	}
	return found;
}

/* Places for workers that are soon to be had: some start, some leave.  Gives back those of workers that never came. */
static int
count_coming(TimestampTz *next)
{
	TimestampTz now = GetCurrentTimestamp();
	int n = 0;

	for (int place = 0; place < kin_max_workers_setting; place++)
	{
		KinWorkerState state = kin_pool_worker(place).state;

		if (state == KIN_WORKER_LEAVING)
			n++;
		if (starts[place].token == 0)
			continue;
		if (state != KIN_WORKER_STARTING)
			starts[place].token = 0;
		else if (TimestampDifferenceExceeds(starts[place].at, now, WORKER_START_MS))
		{
			kin_pool_drop_worker(place, starts[place].token);
			starts[place].token = 0;
		}
		else
		{
			TimestampTz until = TimestampTzPlusMilliseconds(starts[place].at, WORKER_START_MS + 1);

			*next = kin_sooner(*next, until);
			n++;
		}
	}
	return n;
}

static bool
start_worker(TimestampTz *next)
{
	TimestampTz now = GetCurrentTimestamp();
	int64 token;
	int place;

	if (start_after > now)
	{
		*next = kin_sooner(*next, start_after);
		return false;
	}
	place = kin_pool_claim_worker(&token);
	if (place < 0)
		return false; /* we are woken when a place is given back */
	if (!kin_worker_register("kinesis worker", "kin_worker_main", place, token))
	{
		kin_pool_drop_worker(place, token);
		start_after = TimestampTzPlusMilliseconds(now, RETRY_START_MS);
		*next = kin_sooner(*next, start_after);
		return false;
	}
	starts[place] = (Start){.token = token, .at = now};
	return true;
}

/*
 * Gives lanes that are ready to workers, in their order, and has workers started for those that are left.  A lane for whose owner
 * no worker is idle gets the place of one that is idle now: it ends, before a lane behind in the line can have it.
 */
static void
give_out(TimestampTz *next)
{
	KinRunnable *lane = kin_lanes.first_ready;
	KinRunnable *previous = NULL;
	int busy = 0;
	int coming = count_coming(next);
	int left = 0;

	for (int i = 0; i < kin_lanes.nmappings; i++)
		busy += kin_lanes.mappings[i].running;
	while (lane && left <= kin_max_workers_setting)
	{
		KinRunnable *following = lane->next_ready;
		KinRunnableMapping *mapping = &kin_lanes.mappings[lane->mapping];
		KinAssignment assignment = {.lane_id = lane->lane_id,
									.uuid = lane->uuid,
									.owner = lane->owner,
									.suspected = lane->suspected};
		int place = -1;
		int other = -1;

		if (may_have_worker(mapping, kin_max_workers_setting - busy))
		{
			place = idle_worker(lane, &other);
			if (place < 0 && ++left > coming && (start_worker(next) || (other >= 0 && kin_pool_dismiss(other))))
				coming++;
		}
		if (place >= 0 && kin_pool_assign(place, &assignment))
		{
			if (previous)
				previous->next_ready = following;
			else
				kin_lanes.first_ready = following;
			if (kin_lanes.last_ready == lane)
				kin_lanes.last_ready = previous;
			lane->state = KIN_LANE_RUNNING;
			lane->news = false;
			running[place] = lane;
			checked[place] =
				TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Max(kin_function_timeout_setting, OVERDUE_MS));
			mapping->running++;
			busy++;
		}
		else
			previous = lane;
		lane = following;
	}
	kin_pool_say_waiting(kin_lanes.first_ready != NULL, left > coming);
}

static void
take_crashes(void)
{
	KinCallMark crashed[MARKS_MAX];
	int n = kin_call_marks_take(crashed, MARKS_MAX);

	for (int i = 0; i < n; i++)
		kin_failure_crashed(&crashed[i]);
}

/* That NOTIFY fails, because nobody reads its queue, is no reason to let mappings wait. */
static TimestampTz
ring_bells(bool *sync)
{
	volatile TimestampTz next = 0;

	PG_TRY();
	{
		next = kin_bells_ring(kin_lanes.bells, kin_lanes.nbells, sync);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(scratch);
		EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
		next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), BELL_RETRY_MS);
		for (int i = 0; i < kin_lanes.nbells; i++)
		{
			kin_lanes.bells[i].news = true;
			kin_lanes.bells[i].last = -1;
			kin_lanes.bells[i].not_before = next;
		}
	}
	PG_END_TRY();
	return next;
}

static void
run(void)
{
	bool sync = true;
	TimestampTz read_again = 0;
	int pause = 0;

	for (;;)
	{
		TimestampTz next;
		TimestampTz bell_next;

		MemoryContextSwitchTo(scratch);
		MemoryContextReset(scratch);
		if (kin_pool_must_leave())
			return;
		sync |= collect_workers();
		if (kin_pool_take_news() || sync || (read_again != 0 && read_again <= GetCurrentTimestamp()))
		{
			sync = false;
			if (!kin_lanes_read() && kin_pool_go_quiet())
				return;
			pause = kin_lanes.left_over ? Min(Max(pause * 2, READ_AGAIN_MS), READ_AGAIN_MAX_MS) : 0;
			read_again = pause > 0 ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause) : 0;
			continue; /* it may have taken a while */
		}
		take_news();
		next = take_due();
		give_out(&next);
		bell_next = ring_bells(&sync);
		if (sync)
			continue;
		kin_worker_sleep(kin_sooner(kin_sooner(next, bell_next), read_again));
	}
}

void
kin_scheduler_main(Datum arg)
{
	Oid database;
	bool installed;

	kin_worker_signals();
	if (!kin_pool_attach_scheduler(DatumGetInt32(arg), kin_worker_token(), &database))
		proc_exit(0);
	kin_worker_connect(database);
	scratch = AllocSetContextCreate(TopMemoryContext, "kinesis scheduler", ALLOCSET_DEFAULT_SIZES);
	starts = MemoryContextAllocZero(TopMemoryContext, kin_max_workers_setting * sizeof(Start));
	running = MemoryContextAllocZero(TopMemoryContext, kin_max_workers_setting * sizeof(KinRunnable *));
	checked = MemoryContextAllocZero(TopMemoryContext, kin_max_workers_setting * sizeof(TimestampTz));
	kin_worker_report(NULL);
	kin_worker_begin();
	installed = OidIsValid(get_extension_oid("kinesis", true));
	kin_worker_commit();
	if (installed)
		take_crashes();
	run();
	proc_exit(0);
}
