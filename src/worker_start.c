/*
 * worker_start.c - sets up background processes, their transactions and their sleep.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: launcher, schedulers and workers.
 *
 * They end with exit code 1, by an error or by SIGTERM, so that the postmaster starts the launcher again; schedulers are the
 * launcher's business, workers their scheduler's.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "worker_start.h"

#define COMPLAIN_EVERY_MS 60000

void
kin_worker_signals(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
}

void
kin_worker_connect(Oid database)
{
	/* Whatever ALTER DATABASE says: these are what the code here counts on. */
	static const char *const pinned[][2] = {
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"transaction_timeout", "0"}, /* 17 */
		{"idle_in_transaction_session_timeout", "0"},
	};

	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	for (size_t i = 0; i < lengthof(pinned); i++)
		if (GetConfigOption(pinned[i][0], true, false) != NULL)
			SetConfigOption(pinned[i][0], pinned[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

void
kin_worker_describe(BackgroundWorker *worker, const char *type, const char *function)
{
	*worker = (BackgroundWorker){
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
	};
	strlcpy(worker->bgw_name, type, BGW_MAXLEN);
	strlcpy(worker->bgw_type, type, BGW_MAXLEN);
	strlcpy(worker->bgw_library_name, "kinesis", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, function, BGW_MAXLEN);
}

bool
kin_worker_register(const char *type, const char *function, int place, int64 token, bool complain)
{
	static TimestampTz complained;
	BackgroundWorker worker;

	kin_worker_describe(&worker, type, function);
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(place);
	memcpy(worker.bgw_extra, &token, sizeof(token));
	if (RegisterDynamicBackgroundWorker(&worker, NULL))
		return true;
	if (complain && TimestampDifferenceExceeds(complained, GetCurrentTimestamp(), COMPLAIN_EVERY_MS))
	{
		complained = GetCurrentTimestamp();
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("could not start a %s", type),
					  errhint("All places for background processes are taken: raise max_worker_processes.")));
	}
	return false;
}

int64
kin_worker_token(void)
{
	int64 token;

	memcpy(&token, MyBgworkerEntry->bgw_extra, sizeof(token));
	return token;
}

void
kin_worker_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	/* Whatever a function has SET for the session. */
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = false;
	XactDeferrable = false;
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
kin_worker_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	/* Whatever a transaction waited for, it may have reset the latch: the caller looks once more before it sleeps. */
	SetLatch(MyLatch);
}

bool
kin_worker_try(void (*action)(void *), void *argument, bool report)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = true;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		action(argument);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		done = false;
		MemoryContextSwitchTo(memory);
		if (report)
			EmitErrorReport();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
	return done;
}

void
kin_worker_sleep(TimestampTz until)
{
	int events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	long ms = -1;

	if (until != 0)
	{
		events |= WL_TIMEOUT;
		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
	}
	if (ms != 0)
		(void) WaitLatch(MyLatch, events, ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	kin_worker_see_to_signals();
}

void
kin_worker_see_to_signals(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

void
kin_worker_report(const char *activity)
{
	pgstat_report_activity(activity ? STATE_RUNNING : STATE_IDLE, activity);
}
