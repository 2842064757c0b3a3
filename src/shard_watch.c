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
	int32 kept; /* given out for longer than a transaction */
	Watch watches[FLEXIBLE_ARRAY_MEMBER];
} WatchTable;

static WatchTable *table;
static LWLock *table_lock;

/* Places of this process: those that end with the transaction, and those that do not. */
typedef struct Places
{
	int32 *place;
	int count;
	int size;
} Places;

static Places ours;
static Places kept;


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

/*
 * A shard that is watched keeps its slot, so those that are watched for good must leave some: else no other shard on this server
 * could be put to any more.
 */
static int32
most_kept(void)
{
	return kin_max_shards_setting - Max(kin_max_shards_setting / 8, 4);
}

static Watch *
watch_at(int32 place)
{
	return &table->watches[place - 1];
}

static int32
add_watch(Places *places, KinShardSlot *slot)
{
	int32 place;
	Watch *watch;

	if (places->count == places->size)
	{
		Size size = Max(16, places->size * 2);

		places->place = places->place ? repalloc_huge(places->place, size * sizeof(int32))
									  : MemoryContextAlloc(TopMemoryContext, size * sizeof(int32));
		places->size = size;
	}
	LWLockAcquire(table_lock, LW_EXCLUSIVE);
	if (places == &kept && table->kept >= most_kept())
		place = 0;
	else if (table->free != 0)
	{
		place = table->free;
		table->free = watch_at(place)->next;
	}
	else if (table->used < kin_max_shards_setting)
		place = ++table->used;
	else
		place = 0;
	if (place == 0)
	{
		LWLockRelease(table_lock);
		kin_slot_unlock(slot);
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("all %d places for watching shards in shared memory are in use",
							   places == &kept ? most_kept() : kin_max_shards_setting),
						errhint("Raise kinesis.max_shards and restart the server.")));
	}
	table->kept += places == &kept;
	watch = watch_at(place);
	watch->next = slot->first_watch;
	watch->pgprocno = MyProc->pgprocno;
	watch->slot = slot;
	watch->rung = false;
	slot->first_watch = place;
	pg_atomic_fetch_add_u32(&slot->watchers, 1);
	places->place[places->count++] = place;
	LWLockRelease(table_lock);
	return place;
}

void
kin_watch_add(KinShardSlot *slot)
{
	(void) add_watch(&ours, slot);
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

static void
remove_all(Places *places)
{
	if (places->count == 0)
		return;
	LWLockAcquire(table_lock, LW_EXCLUSIVE);
	if (places == &kept)
		table->kept -= places->count;
	while (places->count > 0)
		remove_watch(places->place[--places->count]);
	LWLockRelease(table_lock);
}

void
kin_watch_end(void)
{
	remove_all(&ours);
}

void
kin_watch_keep_none(void)
{
	remove_all(&kept);
}

static void
process_exits(int code, Datum arg)
{
	remove_all(&kept);
}

int32
kin_watch_keep(const KinShardKey *key)
{
	static bool registered;
	KinShardSlot *slot;
	int32 place;

	if (!registered)
		on_shmem_exit(process_exits, (Datum) 0);
	registered = true;
	slot = kin_slot_acquire(key);
	place = add_watch(&kept, slot);
	kin_slot_unlock(slot);
	return place;
}

/* Whoever rings sets the flag before the latch, so this comes after the latch is reset. */
int
kin_watch_rung(const int32 *places, int n, int *rung)
{
	int count = 0;

	LWLockAcquire(table_lock, LW_SHARED);
	for (int i = 0; i < n; i++)
	{
		Watch *watch = places[i] != 0 ? watch_at(places[i]) : NULL;

		if (watch == NULL || !watch->rung)
			continue;
		watch->rung = false;
		if (rung)
			rung[count] = i;
		count++;
	}
	LWLockRelease(table_lock);
	/* What was rung for was visible before: see it. */
	pg_memory_barrier();
	return count;
}

static bool
was_rung(void)
{
	return kin_watch_rung(ours.place, ours.count, NULL) > 0;
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
