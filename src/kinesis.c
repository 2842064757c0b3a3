/*
 * kinesis.c - loads the library: settings, shared memory, hooks.
 *
 * Owns:    nothing but the order in which the parts are set up.
 * Locking: none.
 * Runs in: the postmaster, once, through shared_preload_libraries.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"

#include "call_mark.h"
#include "call_scan.h"
#include "commit_wake.h"
#include "compat.h"
#include "database_hold.h"
#include "database_launch.h"
#include "put_call.h"
#include "record_get.h"
#include "session_live.h"
#include "record_unnest.h"
#include "settings_define.h"
#include "shard_read.h"
#include "shard_state.h"
#include "shard_subscribe.h"
#include "shard_watch.h"
#include "subscription_state.h"
#include "worker_pool.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(kin_check_preload);

PGDLLEXPORT void _PG_init(void);

static shmem_request_hook_type prev_shmem_request_hook;
static shmem_startup_hook_type prev_shmem_startup_hook;

static void
request_shared_memory(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	kin_shard_state_request();
	kin_subscription_state_request();
	kin_shard_watch_request();
	kin_session_live_request();
	kin_worker_pool_request();
	kin_call_mark_request();
}

/* Runs again after a crash restart, so each part sets its static pointers anew each time. */
static void
start_shared_memory(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	kin_shard_state_startup();
	kin_subscription_state_startup();
	kin_shard_watch_startup();
	kin_session_live_startup();
	kin_worker_pool_startup();
	kin_call_mark_startup();
	LWLockRelease(AddinShmemInitLock);
}

void
_PG_init(void)
{
	/*
	 * Loaded by a single session there is no shared memory for the shards.  Say nothing here, so that DROP EXTENSION and
	 * pg_dump still work; whatever needs the memory says what to do.
	 */
	if (!process_shared_preload_libraries_in_progress)
		return;
	kin_define_settings();
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_shared_memory;
	kin_shard_watch_init();
	kin_commit_wake_init();
	kin_worker_pool_init();
	kin_database_hold_init();
	kin_database_launch_init();
	kin_call_scan_init();
	kin_put_call_init();
	kin_record_get_init();
	kin_shard_read_init();
	kin_record_unnest_init();
	kin_shard_subscribe_init();
}

/* kinesis._check_preload(): run first by CREATE EXTENSION. */
Datum
kin_check_preload(PG_FUNCTION_ARGS)
{
	kin_check_loaded();
	PG_RETURN_VOID();
}
