/*
 * session_live.c - tells whether a session still lives, without asking it.
 *
 * Owns:    an array in shared memory with the number of each session that has asked for one.
 * Locking: none: a place is written by its session alone.
 * Runs in: the postmaster (set-up) and backends of a primary.
 *
 * pg_stat_activity shows a session that is leaving until after its last callback: whoever is woken by that would still see
 * it.  Here it is gone before the others are woken.  After a crash nobody lives, since the memory is new.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "session_live.h"

typedef struct SessionTable
{
	pg_atomic_uint64 last; /* begins at the time of the server's start, so that numbers never come again */
	pg_atomic_uint64 live[FLEXIBLE_ARRAY_MEMBER]; /* by place in the proc array; 0 = none */
} SessionTable;

PG_FUNCTION_INFO_V1(kin_session);
PG_FUNCTION_INFO_V1(kin_session_is_alive);

static SessionTable *table;
static int64 our_number;


static Size
table_size(void)
{
	return offsetof(SessionTable, live) + MaxBackends * sizeof(pg_atomic_uint64);
}

void
kin_session_live_request(void)
{
	RequestAddinShmemSpace(table_size());
}

void
kin_session_live_startup(void)
{
	bool found;

	table = ShmemInitStruct("kinesis sessions", table_size(), &found);
	if (!found)
	{
		pg_atomic_init_u64(&table->last, (uint64) GetCurrentTimestamp());
		for (int i = 0; i < MaxBackends; i++)
			pg_atomic_init_u64(&table->live[i], 0);
	}
}

void
kin_session_end(void)
{
	if (our_number == 0)
		return;
	pg_atomic_write_u64(&table->live[MyProc->pgprocno], 0);
	our_number = 0;
}

static void
session_exits(int code, Datum arg)
{
	kin_session_end();
}

int64
kin_session_number(void)
{
	if (our_number == 0)
	{
		Assert(MyProc->pgprocno < MaxBackends);
		on_shmem_exit(session_exits, (Datum) 0);
		our_number = (int64) pg_atomic_add_fetch_u64(&table->last, 1);
		pg_atomic_write_u64(&table->live[MyProc->pgprocno], (uint64) our_number);
	}
	return our_number;
}

bool
kin_session_lives(int64 number)
{
	for (int i = 0; i < MaxBackends; i++)
		if (pg_atomic_read_u64(&table->live[i]) == (uint64) number)
			return number != 0;
	return false;
}

/* kinesis._session(): number of this session. */
Datum
kin_session(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(kin_session_number());
}

/* kinesis._session_is_alive(number) */
Datum
kin_session_is_alive(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(kin_session_lives(PG_GETARG_INT64(0)));
}
