/*
 * lane_serve.c - a worker: takes lanes from its scheduler, and works on each until there is nothing more to do.
 *
 * Owns:    nothing that outlives a turn.
 * Locking: a lane is worked on under a lock of its own, which is let go when the transaction ends, so that a worker of a former
 *          scheduler and one of its successor are never both at it.  Nothing is held, and no transaction is open, while it waits.
 * Runs in: workers.
 *
 * A turn is one transaction: read behind the lane's checkpoint, call the function, move the checkpoint, commit.  When
 * anything of this fails all of it is undone, and a second transaction notes the failure, and what is to be tried next.
 */
#include "postgres.h"

#include <sys/resource.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "batch_call.h"
#include "batch_gather.h"
#include "call_mark.h"
#include "compat.h"
#include "failure_note.h"
#include "lane_store.h"
#include "memory_keep.h"
#include "response_read.h"
#include "sequence_number.h"
#include "settings_define.h"
#include "slice_append.h"
#include "worker_pool.h"
#include "worker_start.h"

#define IDLE_EXIT_MS   60000
#define QUANTUM_MS     1000 /* a lane keeps its worker so long while others wait */
#define BUSY_RETRY_MS  100
#define STATE_MAX      (1024 * 1024)
#define EXHAUSTED      "RetryAttemptsExhausted"
#define TOO_OLD        "RecordAgeExceeded"
#define RECHECK_PART   8 /* a batching window is looked at so many times while it fills */
#define RECHECK_MIN_US 20000
#define RECHECK_MAX_US 1000000

PGDLLEXPORT void kin_worker_main(Datum arg);

/* What a turn comes to. */
typedef struct Outcome
{
	KinTurn turn;
	TimestampTz later;
} Outcome;

/* The lane of the turn under way, for whoever has to note its failure, and how far the turn is. */
static KinLane *current;
static KinBatch *current_batch;
static KinPhase phase;
static MemoryContext turn_memory;

static TimestampTz came_at; /* to this database */


static void
lane_context(void *arg)
{
	const KinLane *lane = current;

	if (lane == NULL)
		return;
	errcontext("event source mapping %s of function %s.%s, stream %s, shard %s, attempt %d",
			   DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&lane->uuid))), lane->function_schema,
			   lane->function_name, lane->stream_name, lane->shard_id, lane->attempts + 1);
}

/* After this the lane goes on; its failures are forgotten. */
static void
succeed(KinLane *lane, int64 checkpoint)
{
	lane->checkpoint = checkpoint;
	while (lane->nends > 0 && lane->ends[lane->nends - 1] <= checkpoint)
		lane->nends--;
	lane->attempts = 0;
	lane->crashes = 0;
	lane->failing_since = 0;
	lane->retry_at = 0;
}

static void
save(const KinLane *lane)
{
	phase = KIN_PHASE_SAVE;
	if (!kin_lane_save(lane))
	{
		phase = KIN_PHASE_GONE;
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the event source mapping was deleted or changed while its function ran")));
	}
}

static Outcome
done(KinTurn turn)
{
	return (Outcome){.turn = turn};
}

static Outcome
later(TimestampTz when)
{
	return (Outcome){.turn = KIN_TURN_LATER, .later = when};
}

/* Calls the function with the batch and reads its answer; raises when it has failed as a whole. */
static KinResponse
call(KinLane *lane, KinBatch *batch, const KinCallWindow *window, int64 *from, Jsonb **state)
{
	Oid function = kin_batch_function(lane);
	Datum records = kin_records_finish(&batch->reading.records);
	int64 end = batch->n > 0 ? batch->numbers[batch->n - 1] : lane->checkpoint;
	Jsonb *response;
	KinResponse result;
	char *why;

	if (batch->reading.records.used >= KIN_LARGE_CALL)
		kin_keep_memory();
	phase = KIN_PHASE_CALL;
	lane->invocations++;
	kin_worker_report(psprintf("%s: shard %s of stream %s",
							   quote_qualified_identifier(lane->function_schema, lane->function_name), lane->shard_id,
							   lane->stream_name));
	kin_call_mark_set(lane->lane_id, end, lane->invoked);
	response = kin_batch_call(lane, function, records, end, window);
	result = kin_response_read(response, lane->reports_failures, batch->numbers, batch->n, from, &why);
	if (window)
	{
		*state = kin_response_state(response);
		if (*state == NULL && result != KIN_RESPONSE_FAILED)
		{
			result = KIN_RESPONSE_FAILED;
			why = "the response has no state, which a tumbling window needs";
		}
	}
	/* A report that nothing has succeeded is a failure: what the function has done is undone, since it is done again. */
	if (result == KIN_RESPONSE_PARTIAL && *from == batch->numbers[0])
	{
		result = KIN_RESPONSE_FAILED;
		why = psprintf("the function reported that it has failed from the first record, " INT64_FORMAT ", on", *from);
	}
	if (result == KIN_RESPONSE_FAILED)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("%s", why)));
	return result;
}

/* Sends a batch to the destination, as the mapping's owner. */
static void
send_away(KinLane *lane, KinBatch *batch, const char *condition)
{
	phase = KIN_PHASE_DISCARD;
	kin_failure_discard(lane, kin_records_finish(&batch->reading.records), condition);
	lane->discarded += batch->n;
	lane->last_result = psprintf("PROBLEM: %d records were discarded: %s", batch->n, condition);
}

static void
no_window(KinLane *lane)
{
	lane->window_start = 0;
	lane->window_state = NULL;
	lane->window_full = false;
}

/* Has the window's last call failed so often, or so long, that its state is given up?  NULL: no. */
static const char *
window_given_up(const KinLane *lane)
{
	if (lane->attempts == 0)
		return NULL;
	if (kin_lane_exhausted(lane))
		return EXHAUSTED;
	if (lane->maximum_age_us >= 0 &&
		lane->window_start + lane->tumbling_us < kin_now_timestamp() - lane->maximum_age_us)
		return TOO_OLD;
	return NULL;
}

/* All of the window's records are done: its last call, without any, and the window is closed. */
static Outcome
close_window(KinLane *lane, KinBatch *batch, bool early)
{
	KinBatch *none = palloc(sizeof(KinBatch)); /* for whoever notes its failure, too */
	KinCallWindow window = {.start = lane->window_start,
							.end = lane->window_start + lane->tumbling_us,
							.final_invoke = true,
							.terminated_early = early};
	const char *why = window_given_up(lane);
	int64 from;
	Jsonb *state;

	*none = *batch;
	none->n = 0;
	kin_records_begin(&none->reading.records, batch->reading.type);
	if (why)
	{
		send_away(lane, none, why);
		lane->last_result = psprintf("PROBLEM: The state of a tumbling window was discarded: %s", why);
	}
	else
	{
		current_batch = none;
		(void) call(lane, none, &window, &from, &state);
		lane->last_result = "OK";
	}
	succeed(lane, lane->checkpoint);
	no_window(lane);
	lane->processed_at = GetCurrentTimestamp();
	save(lane);
	return done(KIN_TURN_MORE);
}

/* Can a record still come that arrived before this time?  Whoever had its number by then has put it on its page now. */
static bool
is_settled(const KinLane *lane, const KinBatch *batch, TimestampTz end)
{
	KinShardSlot *slot;

	if (kin_now_timestamp() < end || batch->reading.blocked)
		return false;
	slot = kin_shard_lock(batch->reading.stream, batch->reading.shard);
	kin_slot_unlock(slot);
	return true;
}

/* Nothing to call the function for. */
static Outcome
rest(KinLane *lane, KinBatch *batch)
{
	bool at_stop = batch->upto >= lane->stop_at;
	TimestampTz window_end = lane->window_start + lane->tumbling_us;

	if (lane->window_start != 0)
	{
		bool over = batch->last_of_window || batch->reading.at_end;

		if (!over && is_settled(lane, batch, window_end))
		{
			/* Looked at again after that: a record may have come in between. */
			KinBatch again;

			kin_batch_gather(lane, lane->stop_at, &again);
			if (again.n > 0 && batch->upto == lane->loaded_checkpoint)
				return done(KIN_TURN_MORE);
			over = again.n == 0 && !again.reading.blocked;
		}
		if (over)
			return close_window(lane, batch, batch->reading.at_end && kin_now_timestamp() < window_end);
	}
	if (batch->reading.at_end)
		lane->ended = true;
	if (batch->upto > lane->checkpoint || lane->ended)
	{
		succeed(lane, Max(batch->upto, lane->checkpoint));
		/* Only how far we have read: after a crash the same is read again, to no harm. */
		if (!lane->ended)
			(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
									 false);
		save(lane);
	}
	/* At the place where lanes are cut an open window is waited for. */
	if (lane->ended || (at_stop && lane->window_start == 0))
		return done(KIN_TURN_SYNC);
	/* Behind the place where lanes are cut there is more, but not for us. */
	if (batch->reading.more && !at_stop)
		return done(KIN_TURN_MORE);
	if (lane->window_start != 0)
	{
		/* Milliseconds of the streams' clock, which may be moved: at least one, so that we do not spin. */
		int64 us = Max(window_end - kin_now_timestamp(), 1000);

		/* A record of an open transaction that belongs to the window: its end rings. */
		return batch->reading.blocked && us == 1000
				   ? done(KIN_TURN_IDLE)
				   : (Outcome){.turn = KIN_TURN_WAIT, .later = GetCurrentTimestamp() + us};
	}
	return done(KIN_TURN_IDLE);
}

/* Records that are too old, or have failed too often, go to the destination; the lane goes on behind them. */
static Outcome
discard(KinLane *lane, KinBatch *batch, const char *condition)
{
	send_away(lane, batch, condition);
	succeed(lane, batch->upto);
	lane->processed_at = GetCurrentTimestamp();
	save(lane);
	phase = KIN_PHASE_DISCARD; /* a commit that fails is the destination's failure */
	return done(KIN_TURN_MORE);
}

/* So many of the batch's first records are older than they may be. */
static int
too_old(const KinLane *lane, const KinBatch *batch)
{
	TimestampTz oldest = kin_now_timestamp() - lane->maximum_age_us;
	int n = 0;

	if (lane->maximum_age_us >= 0)
		while (n < batch->n && kin_arrival_time(batch->numbers[n]) < oldest)
			n++;
	return n;
}

/* When a batch that is not full must be handed over: 0 = now. */
static TimestampTz
batch_due(const KinLane *lane, const KinBatch *batch)
{
	TimestampTz began = Max(kin_arrival_time(batch->numbers[0]), lane->processed_at);
	TimestampTz due = began + lane->batching_window_us;

	if (lane->batching_window_us == 0 || batch->full || batch->last_of_window || batch->reading.at_end ||
		lane->nends > 0 || lane->stop_at != PG_INT64_MAX)
		return 0;
	return due <= GetCurrentTimestamp() ? 0 : due;
}

/*
 * The batch was all that could be read, so there is no need to look again: whoever has committed since, or closes the shard,
 * rings, and the scheduler remembers that.
 */
static bool
was_all(const KinLane *lane, const KinBatch *batch)
{
	return !batch->reading.more && !batch->reading.at_end && !batch->last_of_window && lane->tumbling_us == 0 &&
		   lane->nends == 0 && lane->stop_at == PG_INT64_MAX;
}

/* The function has done its work, all of it or up to a record: the checkpoint goes into the same transaction. */
static Outcome
finish(KinLane *lane, KinBatch *batch, KinResponse response, int64 from, Jsonb *state)
{
	if (response == KIN_RESPONSE_PARTIAL)
	{
		int64 end = batch->numbers[batch->n - 1];
		/* With bisecting it is a cut, which takes no attempt and is no reason to wait: each one is a record further. */
		int attempts = lane->bisects ? 0 : lane->attempts + 1;
		TimestampTz failing_since = lane->failing_since ? lane->failing_since : GetCurrentTimestamp();

		for (int i = 0; i < batch->n && batch->numbers[i] < from; i++)
			lane->records++;
		succeed(lane, from - 1);
		/* The rest is the batch from now on. */
		kin_lane_pin(lane, end);
		lane->failures++;
		lane->attempts = attempts;
		lane->failing_since = failing_since;
		lane->retry_at = lane->bisects ? 0 : kin_failure_retry_at(lane);
		lane->last_result = "PROBLEM: The function reported failures of batch items";
	}
	else
	{
		lane->records += batch->n;
		succeed(lane, batch->upto);
		lane->last_result = "OK";
	}
	if (lane->tumbling_us > 0)
	{
		lane->window_start = batch->window_start;
		lane->window_state = state;
		lane->window_full = VARSIZE(state) > STATE_MAX;
	}
	lane->processed_at = GetCurrentTimestamp();
	save(lane);
	if (lane->retry_at > 0)
		return later(lane->retry_at);
	return done(was_all(lane, batch) ? KIN_TURN_IDLE : KIN_TURN_MORE);
}

/* One turn, inside its transaction. */
static Outcome
take_turn(int64 lane_id)
{
	KinLane *lane = kin_lane_load(lane_id);
	KinBatch *batch = palloc0(sizeof(KinBatch));
	TimestampTz due;
	int64 limit;
	int64 from = 0;
	Jsonb *state = NULL;
	KinCallWindow window;
	int old;
	KinResponse response;

	current = lane;
	if (lane == NULL)
		return done(KIN_TURN_SYNC);
	if (lane->retry_at > GetCurrentTimestamp())
		return later(lane->retry_at);
	if (lane->tumbling_us == 0)
		no_window(lane); /* an update may have switched windows off while one was open */
	current_batch = batch;
	limit = Min(lane->stop_at, lane->nends > 0 ? lane->ends[lane->nends - 1] : PG_INT64_MAX);
	kin_batch_gather(lane, limit, batch);

	if (lane->window_full)
		return close_window(lane, batch, true);
	if (batch->n == 0)
		return rest(lane, batch);
	old = too_old(lane, batch);
	if (old > 0)
	{
		if (old < batch->n)
			kin_batch_gather(lane, batch->numbers[old - 1], batch);
		return discard(lane, batch, TOO_OLD);
	}
	if (kin_lane_exhausted(lane))
		return discard(lane, batch, EXHAUSTED);
	due = batch_due(lane, batch);
	if (due != 0)
	{
		/* Not at every put: filling a window of many small puts would read them all again each time. */
		int64 step = Min(Max(lane->batching_window_us / RECHECK_PART, RECHECK_MIN_US), RECHECK_MAX_US);

		return later(Min(due, GetCurrentTimestamp() + step));
	}
	window = (KinCallWindow){.start = batch->window_start, .end = batch->window_start + lane->tumbling_us};
	response = call(lane, batch, lane->tumbling_us > 0 ? &window : NULL, &from, &state);
	return finish(lane, batch, response, from, state);
}

/* A whole turn: the transaction, and what to do when it fails. */
static Outcome
serve_once(int64 lane_id)
{
	Outcome outcome = {.turn = KIN_TURN_LATER};
	ErrorData *volatile error = NULL;
	ErrorContextCallback context = {.callback = lane_context, .previous = error_context_stack};
	Oid superuser = GetUserId();

	MemoryContextReset(turn_memory);
	current = NULL;
	current_batch = NULL;
	phase = KIN_PHASE_READ;
	error_context_stack = &context;
	PG_TRY();
	{
		kin_worker_begin();
		MemoryContextSwitchTo(turn_memory);
		if (kin_lane_lock(lane_id))
			outcome = take_turn(lane_id);
		else
			outcome = later(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), BUSY_RETRY_MS));
		phase = phase == KIN_PHASE_SAVE ? KIN_PHASE_CALL : phase; /* a commit that fails is the function's failure */
		kin_worker_commit();
		SetUserIdAndSecContext(superuser, 0);
		/* What a function has declared WITH HOLD has been run by now; nobody will fetch from it. */
		PortalHashTableDeleteAll();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(turn_memory);
		disable_all_timeouts(false);
		error = CopyErrorData();
		if (phase != KIN_PHASE_GONE)
			EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
		SetUserIdAndSecContext(superuser, 0);
		kin_call_end();
	}
	PG_END_TRY();
	kin_call_mark_clear();
	MemoryContextSwitchTo(turn_memory); /* the abort has left us in the one that is never emptied */
	if (error)
	{
		TimestampTz retry_at = kin_failure_note(lane_id, current, current_batch, phase, error);

		/* It is there, after all: nobody else has deleted it. */
		if (retry_at != 0 && phase == KIN_PHASE_GONE)
			ereport(LOG, (errmsg("the function has deleted its own event source mapping, which was undone"),
						  errhint("It can disable the mapping instead.")));
		outcome = retry_at == 0 ? done(KIN_TURN_SYNC) : later(retry_at);
	}
	error_context_stack = context.previous;
	return outcome;
}

static void
serve(const KinAssignment *assignment)
{
	static pg_uuid_t last;
	static bool any;
	TimestampTz began = GetCurrentTimestamp();
	Outcome outcome;

	if (any && memcmp(&last, &assignment->uuid, sizeof(last)) != 0)
	{
		kin_worker_begin();
		kin_forget_session();
		kin_worker_commit();
	}
	any = true;
	last = assignment->uuid;
	do
	{
		kin_worker_see_to_signals();
		outcome = serve_once(assignment->lane_id);
	} while (outcome.turn == KIN_TURN_MORE && !kin_pool_worker_must_leave() &&
			 !(TimestampDifferenceExceeds(began, GetCurrentTimestamp(), QUANTUM_MS) && kin_pool_is_wanted()));
	kin_worker_report(NULL);
	pgstat_report_stat(true);
	/* With a little to do in many lanes the worker would stay for ever, however short each is. */
	if (TimestampDifferenceExceeds(came_at, GetCurrentTimestamp(), QUANTUM_MS))
		(void) kin_pool_is_wanted();
	kin_pool_done(outcome.turn, outcome.later);
}

/* A function that eats memory gets an error, as any that asks for more than there is, instead of the kernel's attention. */
static void
limit_memory(void)
{
#if defined(RLIMIT_DATA) && defined(__linux__)
	struct rlimit limit;
	int64 bytes = kin_function_memory_setting * INT64CONST(1024);

	if (bytes > 0 && getrlimit(RLIMIT_DATA, &limit) == 0 &&
		(limit.rlim_max == RLIM_INFINITY || (int64) limit.rlim_max > bytes))
	{
		limit.rlim_cur = bytes;
		(void) setrlimit(RLIMIT_DATA, &limit);
	}
#endif
}

void
kin_worker_main(Datum arg)
{
	Oid database;

	kin_worker_signals();
	if (!kin_pool_attach_worker(DatumGetInt32(arg), kin_worker_token(), &database))
		proc_exit(0);
	kin_worker_connect(database);
	came_at = GetCurrentTimestamp();
	limit_memory();
	kin_batch_call_init();
	turn_memory = AllocSetContextCreate(TopMemoryContext, "kinesis turn", ALLOCSET_DEFAULT_SIZES);
	kin_worker_report(NULL);
	while (!kin_pool_worker_must_leave())
	{
		KinAssignment assignment;
		TimestampTz idle_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), IDLE_EXIT_MS);

		if (kin_pool_next(&assignment))
		{
			serve(&assignment);
			continue;
		}
		kin_worker_sleep(idle_until);
		if (GetCurrentTimestamp() >= idle_until && kin_pool_worker_quits())
			break;
	}
	proc_exit(0);
}
