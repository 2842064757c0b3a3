/*
 * database_launch.c - the launcher: finds the databases that have mappings or notifications, and keeps a scheduler in each.
 *
 * Owns:    the list of databases, and when to try each of them again (its own memory).
 * Locking: none beyond worker_pool.c's.
 * Runs in: the launcher, one a cluster, from the end of recovery on.
 *
 * It can't look into a database, so it starts a scheduler in each to look, two at a time, when the server starts and when a
 * database comes; a scheduler that finds nothing to do leaves, and the database stays quiet until somebody rings.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "call_mark.h"
#include "compat.h"
#include "database_launch.h"
#include "settings_define.h"
#include "worker_pool.h"
#include "worker_start.h"

#define STARTS_AT_ONCE   2
#define FIRST_BACKOFF_MS 1000
#define MAX_BACKOFF_MS   60000
#define LONG_RUN_MS      60000
#define START_WAIT_MS    10000

typedef struct Database
{
	Oid oid;
	bool quiet;
	bool asked;   /* by a ring that its scheduler may not have heard */
	bool seen;    /* by the listing under way */
	bool started; /* a scheduler was asked for and has not ended */
	int place;    /* of that one */
	int64 token;
	int backoff_ms;       /* 0: the last one did well */
	TimestampTz start_at; /* not before */
	TimestampTz started_at;
} Database;

PGDLLEXPORT void kin_launcher_main(Datum arg);

static Database *databases;
static int ndatabases;
static int size;
static bool must_list; /* a scheduler has failed: its database may be gone */


static Database *
find_database(Oid oid, bool add)
{
	for (int i = 0; i < ndatabases; i++)
		if (databases[i].oid == oid)
			return &databases[i];
	if (!add)
		return NULL;
	if (ndatabases == size)
	{
		size = Max(16, size * 2);
		databases = databases ? repalloc(databases, size * sizeof(Database))
							  : MemoryContextAlloc(TopMemoryContext, size * sizeof(Database));
	}
	databases[ndatabases] = (Database){.oid = oid};
	return &databases[ndatabases++];
}

/* Those that can be connected to; templates are left alone. */
static void
list_databases(void)
{
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;
	int n = 0;

	for (int i = 0; i < ndatabases; i++)
		databases[i].seen = false;
	StartTransactionCommand();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);

		if (row->datallowconn && !row->datistemplate)
			find_database(row->oid, true)->seen = true;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	SetLatch(MyLatch); /* which the transaction may have reset */
	for (int i = 0; i < ndatabases; i++)
		if (databases[i].seen || databases[i].started)
			databases[n++] = databases[i];
	ndatabases = n;
}

static void
scheduler_ended(Oid oid, bool quiet)
{
	Database *db = find_database(oid, false);
	TimestampTz now = GetCurrentTimestamp();

	if (db == NULL)
		return;
	if (quiet)
		db->backoff_ms = 0;
	else if (TimestampDifferenceExceeds(db->started_at, now, LONG_RUN_MS) || db->backoff_ms == 0)
		db->backoff_ms = FIRST_BACKOFF_MS;
	else
		db->backoff_ms = Min(db->backoff_ms * 2, MAX_BACKOFF_MS);
	must_list |= !quiet;
	db->started = false;
	db->quiet = quiet && !db->asked;
	db->start_at = TimestampTzPlusMilliseconds(now, db->backoff_ms);
}

static void
take_requests(void)
{
	Oid requested[KIN_REQUESTS_MAX];
	int n;
	bool all = kin_pool_take_requests(requested, &n);
	bool unknown = false;

	for (int i = 0; i < n; i++)
		unknown |= find_database(requested[i], false) == NULL;
	if (all || unknown || must_list)
		list_databases();
	must_list = false;
	for (int i = 0; i < ndatabases; i++)
	{
		bool asked = all;

		for (int j = 0; j < n; j++)
			asked |= requested[j] == databases[i].oid;
		if (!asked)
			continue;
		databases[i].quiet = false;
		databases[i].asked = true;
		if (databases[i].backoff_ms == 0)
			databases[i].start_at = 0;
	}
}

/* Starts schedulers where they are due; returns when the next one is, 0 for never. */
static TimestampTz
start_schedulers(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = 0;
	int starting = 0;

	for (int i = 0; i < ndatabases; i++)
	{
		Database *db = &databases[i];

		if (!db->started || !kin_pool_is_starting(db->place, db->token))
			continue;
		/* The postmaster could not fork it, or it could not connect: nobody tells us. */
		if (TimestampDifferenceExceeds(db->started_at, now, START_WAIT_MS))
			kin_pool_drop_scheduler(db->place, db->token);
		else
		{
			starting++;
			next = kin_sooner(next, TimestampTzPlusMilliseconds(db->started_at, START_WAIT_MS + 1));
		}
	}
	for (int i = 0; i < ndatabases; i++)
	{
		Database *db = &databases[i];

		if (db->quiet || db->started)
			continue;
		if (db->start_at > now)
		{
			next = kin_sooner(next, db->start_at);
			continue;
		}
		if (starting == STARTS_AT_ONCE)
			continue; /* we are woken when one of them attaches */
		db->place = kin_pool_claim_scheduler(db->oid, &db->token);
		if (db->place < 0)
		{
			/* Held: whoever holds it rings.  Or one of a former launcher runs: its end wakes us. */
			db->start_at = TimestampTzPlusMilliseconds(now, MAX_BACKOFF_MS);
			next = kin_sooner(next, db->start_at);
			continue;
		}
		db->started = true;
		db->asked = false;
		db->started_at = now;
		if (kin_worker_register("kinesis scheduler", "kin_scheduler_main", db->place, db->token, true))
			starting++;
		else
			kin_pool_drop_scheduler(db->place, db->token);
	}
	return next;
}

void
kin_launcher_main(Datum arg)
{
	kin_worker_signals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	kin_call_marks_collect();
	kin_pool_attach_launcher();
	ereport(DEBUG1, (errmsg("kinesis launcher started")));
	for (;;)
	{
		TimestampTz next;

		/* One that could not even be registered has ended, too. */
		do
		{
			take_requests();
			next = start_schedulers();
		} while (kin_pool_collect_schedulers(scheduler_ended) > 0);
		kin_worker_sleep(next);
	}
}

void
kin_database_launch_init(void)
{
	BackgroundWorker worker;

	/* pg_upgrade must find no other sessions. */
	if (IsBinaryUpgrade || kin_max_workers_setting == 0)
		return;
	kin_worker_describe(&worker, "kinesis launcher", "kin_launcher_main");
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}
