/*
 * worker_start.h - what the extension's background processes have in common.
 */
#ifndef KIN_WORKER_START_H
#define KIN_WORKER_START_H

#include "datatype/timestamp.h"
#include "postmaster/bgworker.h"

/* The earlier of two times, of which 0 is never. */
static inline TimestampTz
kin_sooner(TimestampTz a, TimestampTz b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

/* A background process of this name that runs a function of ours, from the end of recovery on, and is not started again. */
extern void kin_worker_describe(BackgroundWorker *worker, const char *type, const char *function);

/* Signals; the first thing in a process. */
extern void kin_worker_signals(void);

/* Connects to a database as its superuser, with settings that our SQL relies on. */
extern void kin_worker_connect(Oid database);

/*
 * Registers a dynamic background process; false when there is no place for it, which is logged with what to do, if it is to be, and
 * not too often.
 */
extern bool kin_worker_register(const char *type, const char *function, int place, int64 token, bool complain);

/* The token of kin_worker_register(). */
extern int64 kin_worker_token(void);

/* A transaction with a snapshot, outside of any call. */
extern void kin_worker_begin(void);
extern void kin_worker_commit(void);

/*
 * Does something in a subtransaction of that transaction; false when it has failed and is undone.  The error goes to the log, if it
 * is to be reported.
 */
extern bool kin_worker_try(void (*action)(void *), void *argument, bool report);

/* Sleeps until the latch is set or the time has come (0: for ever), then sees to signals and a changed configuration. */
extern void kin_worker_sleep(TimestampTz until);

/* The same without sleep: for a process that does not come to rest. */
extern void kin_worker_see_to_signals(void);

/* What pg_stat_activity shows that it does; NULL when it waits. */
extern void kin_worker_report(const char *activity);

#endif
