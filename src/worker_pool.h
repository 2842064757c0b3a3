/*
 * worker_pool.h - which background processes there are, what they do, and how to reach them.
 */
#ifndef KIN_WORKER_POOL_H
#define KIN_WORKER_POOL_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* What became of a lane that a worker was given. */
typedef enum KinTurn
{
	KIN_TURN_IDLE,  /* all that can be read is done */
	KIN_TURN_MORE,  /* there is more to do, but others wait for a worker */
	KIN_TURN_WAIT,  /* the same, but to be looked at again when the time has come that goes with it */
	KIN_TURN_LATER, /* not before that time, whatever comes */
	KIN_TURN_SYNC   /* the set of lanes has to change: a shard is done, or a mapping is gone */
} KinTurn;

/* What a worker is to work on. */
typedef struct KinAssignment
{
	int64 lane_id;
	pg_uuid_t uuid; /* of the mapping */
	Oid owner;      /* of the mapping; a worker has one all its life */
	bool suspected; /* one such runs at a time */
} KinAssignment;

typedef enum KinWorkerState
{
	KIN_WORKER_FREE,     /* no process */
	KIN_WORKER_STARTING, /* asked for */
	KIN_WORKER_IDLE,
	KIN_WORKER_LEAVING, /* idle, and told to end */
	KIN_WORKER_BUSY,
	KIN_WORKER_DONE, /* its turn's result has not been collected yet */
} KinWorkerState;

#define KIN_NO_CALL (-2)

#define KIN_REQUESTS_MAX 64

/* A worker as its scheduler sees it. */
typedef struct KinWorkerView
{
	KinWorkerState state;
	KinAssignment assignment;
	KinTurn turn;
	TimestampTz later;
	TimestampTz call_deadline; /* when the function that it runs must have ended; 0 = never, or it runs none */
	int64 call_end;            /* the last record of what the function was called with; KIN_NO_CALL = it runs none */
	int pid;
} KinWorkerView;

/* ---- All processes ---- */

/* Something about mappings or notifications of this database has changed: its scheduler looks, or is started. */
extern void kin_pool_ring(Oid database);

/* Databases have come or gone. */
extern void kin_pool_ring_all(void);

/*
 * Keeps the extension's processes out of a database from now on, and waits until those that are there have left, for some
 * seconds at most.  One database a session.
 */
extern void kin_pool_hold(Oid database);
extern void kin_pool_release(void);

/* ---- The launcher ---- */

extern void kin_pool_attach_launcher(void);

/* Databases that were rung since the last call, with room for KIN_REQUESTS_MAX; true when all are to be looked at. */
extern bool kin_pool_take_requests(Oid *databases, int *count);

/* A place for a scheduler; -1 when there is none, when it has one, or when the database is held.  The token goes to it. */
extern int kin_pool_claim_scheduler(Oid database, int64 *token);

/* A scheduler that could not be started, or never came. */
extern void kin_pool_drop_scheduler(int place, int64 token);

typedef enum KinSchedulerState
{
	KIN_SCHEDULER_FREE,
	KIN_SCHEDULER_STARTING,
	KIN_SCHEDULER_RUNNING,
	KIN_SCHEDULER_QUIET, /* has left because there is nothing to do */
	KIN_SCHEDULER_FAILED
} KinSchedulerState;

/* Has this one not come yet? */
extern bool kin_pool_is_starting(int place, int64 token);

/* Frees the places of schedulers that have ended; calls back for each, and returns their number. */
extern int kin_pool_collect_schedulers(void (*ended)(Oid database, bool quiet));

/* ---- A scheduler ---- */

/* First thing in a scheduler: takes its place, which its exit gives back.  False: it is too late. */
extern bool kin_pool_attach_scheduler(int place, int64 token, Oid *database);

/* Was there a ring since the last call? */
extern bool kin_pool_take_news(void);

/* Must it leave? */
extern bool kin_pool_must_leave(void);

/* Says that there is nothing to do; false when there was a ring meanwhile. */
extern bool kin_pool_go_quiet(void);

extern KinWorkerView kin_pool_worker(int place);

/*
 * Gives an idle worker something to do.  What is suspected of a crash is refused while another suspect runs, in whichever
 * database: so the next crash tells which of them it was.
 */
extern bool kin_pool_assign(int place, const KinAssignment *assignment);
extern bool kin_pool_suspect_runs(void);

/* Makes a worker whose result was collected idle. */
extern void kin_pool_collect(int place);

/* Ends an idle worker; false when it is not idle any more. */
extern bool kin_pool_dismiss(int place);

/* A place for a new worker; -1 when all are taken. */
extern int kin_pool_claim_worker(int64 *token);
extern void kin_pool_drop_worker(int place, int64 token);

/*
 * Lanes wait for a worker: those that have one let it go after some time.  Starving: and there is no place for one more, so
 * other databases are to give way, too.
 */
extern void kin_pool_say_waiting(bool waiting, bool starving);

/* ---- A worker ---- */

extern bool kin_pool_attach_worker(int place, int64 token, Oid *database);

/* What to do next; false: nothing yet. */
extern bool kin_pool_next(KinAssignment *assignment);
extern void kin_pool_done(KinTurn turn, TimestampTz later);

/* Must it leave?  Not before its result was collected. */
extern bool kin_pool_worker_must_leave(void);

/* Does somebody wait for a worker?  If it is another database, this one leaves when its turn is over. */
extern bool kin_pool_is_wanted(void);

/* Gives the place back when there is still nothing to do. */
extern bool kin_pool_worker_quits(void);
extern void kin_pool_call_begins(TimestampTz deadline, int64 end);
extern void kin_pool_call_ends(void);
extern int kin_pool_my_place(void);

/* In every process that makes or meets the shared memory; see kinesis.c. */
extern void kin_worker_pool_request(void);
extern void kin_worker_pool_startup(void);
extern void kin_worker_pool_init(void);

#endif
