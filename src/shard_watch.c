/*
 * shard_watch.c - lets a process wait for news of several shards at once.
 *
 * Owns:    the pool of watches in shared memory, linked to the slots they watch.
 * Locking: one LWLock for all watches: exclusive to add and remove, shared to wake.  It comes after a slot's lock.
 * Runs in: the postmaster (set-up) and backends of a primary.
 *
 * A condition variable can be waited on one at a time, and a reader of one shard does (shard_await.c).  A member of a
 * consumer group waits for all its shards and for changes of the group.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "settings_define.h"
#include "shard_watch.h"

/* Places are counted from 1, so that zeroed memory means none. */
typedef struct Watch
{
	int32 next; /* of the same slot, or of the free ones */
	int pgprocno;
	KinShardSlot *slot; /* NULL while it is free */
	bool rung;
} Watch;

typedef struct WatchTable
{
	int32 used; /* places that were given out at least once */
	int32 free; /* first of those given back */
	Watch watches[FLEXIBLE_ARRAY_MEMBER];
} WatchTable;

static WatchTable *table;
static LWLock *table_lock;

static int32 *ours; /* places of this process */
static int our_count;
static int our_size;


static Size
table_size(void)
{
	return add_size(offsetof(WatchTable, watches), mul_size(kin_max_shards_setting, sizeof(Watch)));
}

void
kin_shard_watch_request(void)
{
	RequestAddinShmemSpace(table_size());
	RequestNamedLWLockTranche("KinesisWatches", 1);
}

void
kin_shard_watch_startup(void)
{
	bool found;

	table_lock = &GetNamedLWLockTranche("KinesisWatches")->lock;
	table = ShmemInitStruct("kinesis watches", table_size(), &found);
	if (!found)
		memset(table, 0, table_size());
}

static Watch *
watch_at(int32 place)
{
	return &table->watches[place - 1];
}

void
kin_watch_add(KinShardSlot *slot)
{
	int32 place;
	Watch *watch;

	if (our_count == our_size)
	{
		int size = Max(16, our_size * 2);

		ours = ours ? repalloc(ours, size * sizeof(int32)) : MemoryContextAlloc(TopMemoryContext, size * sizeof(int32));
		our_size = size;
	}
	LWLockAcquire(table_lock, LW_EXCLUSIVE);
	if (table->free != 0)
	{
		place = table->free;
		table->free = watch_at(place)->next;
	}
	else if (table->used < kin_max_shards_setting)
		place = ++table->used;
	else
	{
		LWLockRelease(table_lock);
		kin_slot_unlock(slot);
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("all %d places for waiting members in shared memory are in use", kin_max_shards_setting),
						errhint("Raise kinesis.max_shards and restart the server.")));
	}
	watch = watch_at(place);
	watch->next = slot->first_watch;
	watch->pgprocno = MyProc->pgprocno;
	watch->slot = slot;
	watch->rung = false;
	slot->first_watch = place;
	pg_atomic_fetch_add_u32(&slot->watchers, 1);
	ours[our_count++] = place;
	LWLockRelease(table_lock);
}

static void
remove_watch(int32 place)
{
	Watch *watch = watch_at(place);
	int32 *link = &watch->slot->first_watch;

	while (*link != place)
		link = &watch_at(*link)->next;
	*link = watch->next;
	pg_atomic_fetch_sub_u32(&watch->slot->watchers, 1);
	watch->slot = NULL;
	watch->next = table->free;
	table->free = place;
}

void
kin_watch_end(void)
{
	if (our_count == 0)
		return;
	LWLockAcquire(table_lock, LW_EXCLUSIVE);
	while (our_count > 0)
		remove_watch(ours[--our_count]);
	LWLockRelease(table_lock);
}

/* Was there news?  Whoever rings sets the flag before the latch, so it is looked at after the latch is reset. */
static bool
was_rung(void)
{
	bool rung = false;

	LWLockAcquire(table_lock, LW_SHARED);
	for (int i = 0; i < our_count; i++)
	{
		rung |= watch_at(ours[i])->rung;
		watch_at(ours[i])->rung = false;
	}
	LWLockRelease(table_lock);
	return rung;
}

bool
kin_watch_sleep(long timeout_ms)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);

	for (;;)
	{
		long left;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (was_rung())
			return true;
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		if (left <= 0)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left, PG_WAIT_EXTENSION);
	}
}

void
kin_watch_wake(KinShardSlot *slot)
{
	/* What ended must be visible to others before we look who watches: they begin to watch and then look. */
	pg_memory_barrier();
	if (pg_atomic_read_u32(&slot->watchers) == 0)
		return;
	LWLockAcquire(table_lock, LW_SHARED);
	for (int32 place = slot->first_watch; place != 0; place = watch_at(place)->next)
	{
		watch_at(place)->rung = true;
		SetLatch(&GetPGProcByNumber(watch_at(place)->pgprocno)->procLatch);
	}
	LWLockRelease(table_lock);
}

void
kin_watch_wake_database(void)
{
	LWLockAcquire(table_lock, LW_SHARED);
	for (int32 place = 1; place <= table->used; place++)
	{
		Watch *watch = watch_at(place);

		if (watch->slot == NULL || watch->slot->key.database != MyDatabaseId)
			continue;
		watch->rung = true;
		SetLatch(&GetPGProcByNumber(watch->pgprocno)->procLatch);
	}
	LWLockRelease(table_lock);
}

static void
transaction_ended(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		kin_watch_end();
}

void
kin_shard_watch_init(void)
{
	RegisterXactCallback(transaction_ended, NULL);
}
