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

#define WORKER_START_MS    10000 /* a worker that has not come by then never does */
#define RETRY_START_MS     10    /* there was no place for a process */
#define RETRY_START_MAX_MS 5000
#define COMPLAIN_MS        1000 /* it has failed for about as long */
#define OWNER_WAIT_MS                                                                                                  \
	200 /* a lane waits so long for a worker that its owner has, rather than have another one started */
#define SYNC_AGAIN_MS     1000
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
static int start_pause;


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
	lane->synced &= turn == KIN_TURN_SYNC;
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
			/* Once is enough, if that has changed nothing for it: somebody holds what would have to change. */
			if (lane->synced)
			{
				lane->state = KIN_LANE_LATER;
				kin_lane_set_time(lane, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SYNC_AGAIN_MS));
			}
			else
				*sync = lane->synced = true;
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

/* Counts workers that start, and that leave; gives back the places of those that never came. */
static void
count_coming(int *starting, int *leaving, TimestampTz *next)
{
	TimestampTz now = GetCurrentTimestamp();

	*starting = *leaving = 0;
	for (int place = 0; place < kin_max_workers_setting; place++)
	{
		KinWorkerState state = kin_pool_worker(place).state;

		*leaving += state == KIN_WORKER_LEAVING;
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
			*next = kin_sooner(*next, TimestampTzPlusMilliseconds(starts[place].at, WORKER_START_MS + 1));
			++*starting;
		}
	}
}

typedef enum StartResult
{
	START_DONE,
	START_NO_ROOM, /* until a worker ends */
	START_WAITS    /* until it is tried again */
} StartResult;

/*
 * A worker that has ended gives its place back before the postmaster has noticed, so the first failure tells nothing: it is tried
 * again at once.  What fails on and on, because all processes are taken, is tried more and more seldom.
 */
static StartResult
start_worker(TimestampTz *next)
{
	TimestampTz now = GetCurrentTimestamp();
	int64 token;
	int place;

	if (start_after > now)
	{
		*next = kin_sooner(*next, start_after);
		return START_WAITS;
	}
	place = kin_pool_claim_worker(&token);
	if (place < 0)
		return START_NO_ROOM; /* we are woken when a place is given back */
	if (kin_worker_register("kinesis worker", "kin_worker_main", place, token, start_pause >= COMPLAIN_MS))
	{
		starts[place] = (Start){.token = token, .at = now};
		start_pause = 0;
		return START_DONE;
	}
	kin_pool_drop_worker(place, token);
	start_pause = Min(Max(start_pause * 2, RETRY_START_MS), RETRY_START_MAX_MS);
	start_after = TimestampTzPlusMilliseconds(now, start_pause);
	*next = kin_sooner(*next, start_after);
	return start_pause > RETRY_START_MS ? START_NO_ROOM : START_WAITS;
}

/* Has a lane's owner a worker that may soon be free for it? */
static bool
may_wait(const KinRunnable *lane, TimestampTz *next)
{
	TimestampTz until = TimestampTzPlusMilliseconds(lane->ready_since, OWNER_WAIT_MS);
	bool runs = false;

	for (int place = 0; place < kin_max_workers_setting; place++)
		runs |= running[place] && running[place]->owner == lane->owner;
	if (!runs || until <= GetCurrentTimestamp())
		return false;
	*next = kin_sooner(*next, until);
	return true;
}

static void
run_lane(KinRunnable *lane, KinRunnable *previous, int place)
{
	if (previous)
		previous->next_ready = lane->next_ready;
	else
		kin_lanes.first_ready = lane->next_ready;
	if (kin_lanes.last_ready == lane)
		kin_lanes.last_ready = previous;
	lane->state = KIN_LANE_RUNNING;
	lane->news = false;
	running[place] = lane;
	checked[place] = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Max(kin_function_timeout_setting, OVERDUE_MS));
	kin_lanes.mappings[lane->mapping].running++;
}

/*
 * Gives lanes that are ready to workers, in their order, and has workers started for those that are left.  A lane whose owner has no
 * worker gets the place of an idle one of another owner: it ends at the lane's turn in the line, before a lane behind can have it.
 */
static void
give_out(TimestampTz *next)
{
	KinRunnable *lane = kin_lanes.first_ready;
	KinRunnable *previous = NULL;
	bool suspect_runs = kin_pool_suspect_runs();
	int busy = 0;
	int left = 0;
	int starting;
	int leaving;
	bool starving = false;

	count_coming(&starting, &leaving, next);
	for (int i = 0; i < kin_lanes.nmappings; i++)
		busy += kin_lanes.mappings[i].running;
	while (lane && left <= kin_max_workers_setting)
	{
		KinRunnable *following = lane->next_ready;
		KinAssignment assignment = {.lane_id = lane->lane_id,
									.uuid = lane->uuid,
									.owner = lane->owner,
									.suspected = lane->suspected};
		int place = -1;
		int other = -1;

		if (!(lane->suspected && suspect_runs) &&
			may_have_worker(&kin_lanes.mappings[lane->mapping], kin_max_workers_setting - busy))
		{
			place = idle_worker(lane, &other);
			if (place < 0 && ++left > starting)
			{
				StartResult result = start_worker(next);

				if (result == START_DONE)
					starting++;
				else if (left > starting + leaving && !may_wait(lane, next))
				{
					if (result == START_NO_ROOM && other >= 0 && kin_pool_dismiss(other))
						leaving++;
					else
						starving = true;
				}
			}
		}
		if (place >= 0 && kin_pool_assign(place, &assignment))
		{
			run_lane(lane, previous, place);
			suspect_runs |= lane->suspected;
			busy++;
		}
		else
			previous = lane;
		lane = following;
	}
	kin_pool_say_waiting(kin_lanes.first_ready != NULL, starving);
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
