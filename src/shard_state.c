/*
 * shard_state.c - keeps the slots of shards in shared memory.
 *
 * Owns:    the slot array, and the hash from shard key to slot.
 * Locking: table_lock (shared to look up, exclusive to add or give away) before a slot's own lock; never the other way
 *          round.  A slot's key changes only under both, so "lock the slot, then look whether it is still ours" is enough.
 * Runs in: every process; memory is laid out by the postmaster.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/hsearch.h"

#include "settings_define.h"
#include "shard_state.h"

#define LOCK_TRIES 100

typedef struct KinShardTable
{
	LWLock table_lock;
	int slot_tranche;
	int used_slots;  /* slots below this one have been given out at least once */
	int next_victim; /* where the search for an idle slot goes on */
	pg_atomic_uint64 evictions;
} KinShardTable;

typedef struct KinShardEntry
{
	KinShardKey key;
	int slot;
} KinShardEntry;

static KinShardTable *shard_table;
static KinShardSlot *shard_slots;
static HTAB *shard_hash;


static Size
slots_size(void)
{
	return mul_size(kin_max_shards_setting, sizeof(KinShardSlot));
}

void
kin_shard_state_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(KinShardTable)));
	RequestAddinShmemSpace(slots_size());
	RequestAddinShmemSpace(hash_estimate_size(kin_max_shards_setting, sizeof(KinShardEntry)));
	RequestNamedLWLockTranche("KinesisShard", 1);
}

void
kin_shard_state_startup(void)
{
	bool found;
	HASHCTL info = {0};

	shard_table = ShmemInitStruct("kinesis shard table", sizeof(KinShardTable), &found);
	if (!found)
	{
		/* All locks of the extension share one tranche: tranches are never given back. */
		shard_table->slot_tranche = GetNamedLWLockTranche("KinesisShard")->lock.tranche;
		LWLockInitialize(&shard_table->table_lock, shard_table->slot_tranche);
		shard_table->used_slots = 0;
		shard_table->next_victim = 0;
		pg_atomic_init_u64(&shard_table->evictions, 0);
	}
	shard_slots = ShmemInitStruct("kinesis shard slots", slots_size(), &found);
	if (!found)
	{
		memset(shard_slots, 0, slots_size());
		for (int i = 0; i < kin_max_shards_setting; i++)
		{
			LWLockInitialize(&shard_slots[i].lock, shard_table->slot_tranche);
			pg_atomic_init_u32(&shard_slots[i].writers[0], 0);
			pg_atomic_init_u32(&shard_slots[i].writers[1], 0);
			pg_atomic_init_u32(&shard_slots[i].waiters, 0);
			pg_atomic_init_u32(&shard_slots[i].watchers, 0);
			ConditionVariableInit(&shard_slots[i].readable);
		}
	}
	info.keysize = sizeof(KinShardKey);
	info.entrysize = sizeof(KinShardEntry);
	shard_hash = ShmemInitHash("kinesis shard hash", kin_max_shards_setting, kin_max_shards_setting, &info,
							   HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

void
kin_check_loaded(void)
{
	if (shard_table == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("kinesis must be loaded via shared_preload_libraries"),
			 errhint(
				 "Set shared_preload_libraries = 'kinesis' in postgresql.conf, beside what is there, and restart the server.")));
}

/* Readies a slot for a shard.  The caller holds both locks, or the slot was never used. */
static void
assign_slot(KinShardSlot *slot, const KinShardKey *key)
{
	slot->key = *key;
	slot->used = true;
	slot->loaded = false;
	slot->last_number = 0;
	slot->generation = 0;
	slot->boundary = 0;
	slot->settled = 0;
	slot->prepared_floor = -1;
	slot->tail.file = InvalidOid;
	slot->write_bytes = slot->write_records = slot->read_bytes = slot->read_calls = slot->iterator_calls =
		(KinBucket){0};
}

/* A slot nobody waits on, writes through or has locked; its lock is held on return.  -1: there is none. */
static int
find_victim(void)
{
	for (int n = 0; n < kin_max_shards_setting; n++)
	{
		int i = shard_table->next_victim;
		KinShardSlot *slot = &shard_slots[i];

		shard_table->next_victim = (i + 1) % kin_max_shards_setting;
		if (!LWLockConditionalAcquire(&slot->lock, LW_EXCLUSIVE))
			continue;
		if (pg_atomic_read_u32(&slot->waiters) == 0 && pg_atomic_read_u32(&slot->watchers) == 0 &&
			pg_atomic_read_u32(&slot->writers[0]) == 0 && pg_atomic_read_u32(&slot->writers[1]) == 0)
			return i;
		LWLockRelease(&slot->lock);
	}
	return -1;
}

KinShardSlot *
kin_slot_peek(const KinShardKey *key)
{
	KinShardEntry *entry;
	int i;

	LWLockAcquire(&shard_table->table_lock, LW_SHARED);
	entry = hash_search(shard_hash, key, HASH_FIND, NULL);
	i = entry ? entry->slot : -1;
	LWLockRelease(&shard_table->table_lock);
	return i < 0 ? NULL : &shard_slots[i];
}

KinShardSlot *
kin_slot_find(const KinShardKey *key)
{
	KinShardSlot *slot = kin_slot_peek(key);
	KinShardEntry *entry;
	bool found;
	int i;

	if (slot)
		return slot;

	LWLockAcquire(&shard_table->table_lock, LW_EXCLUSIVE);
	entry = hash_search(shard_hash, key, HASH_FIND, NULL);
	if (entry)
	{
		i = entry->slot;
		LWLockRelease(&shard_table->table_lock);
		return &shard_slots[i];
	}
	if (shard_table->used_slots < kin_max_shards_setting)
	{
		i = shard_table->used_slots++;
		LWLockAcquire(&shard_slots[i].lock, LW_EXCLUSIVE);
	}
	else
	{
		i = find_victim();
		if (i < 0)
		{
			LWLockRelease(&shard_table->table_lock);
			ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
							errmsg("all %d places for shards in shared memory are in use", kin_max_shards_setting),
							errhint("Raise kinesis.max_shards and restart the server.")));
		}
		hash_search(shard_hash, &shard_slots[i].key, HASH_REMOVE, NULL);
		pg_atomic_fetch_add_u64(&shard_table->evictions, 1);
	}
	entry = hash_search(shard_hash, key, HASH_ENTER, &found);
	Assert(!found);
	entry->slot = i;
	assign_slot(&shard_slots[i], key);
	LWLockRelease(&shard_slots[i].lock);
	LWLockRelease(&shard_table->table_lock);
	return &shard_slots[i];
}

/* Whoever holds a slot's lock is done in a microsecond or two; to be put to sleep and woken takes several times that. */
static void
acquire_soon(LWLock *lock)
{
	for (int i = 0; i < LOCK_TRIES; i++)
	{
		if (LWLockConditionalAcquire(lock, LW_EXCLUSIVE))
			return;
		SPIN_DELAY();
	}
	LWLockAcquire(lock, LW_EXCLUSIVE);
}

bool
kin_slot_lock(KinShardSlot *slot, const KinShardKey *key)
{
	acquire_soon(&slot->lock);
	if (memcmp(&slot->key, key, sizeof(*key)) == 0)
		return true;
	LWLockRelease(&slot->lock);
	return false;
}

KinShardSlot *
kin_slot_acquire(const KinShardKey *key)
{
	KinShardSlot *slot;

	/* Between finding and locking, the slot may have gone to another shard. */
	do
	{
		slot = kin_slot_find(key);
	} while (!kin_slot_lock(slot, key));
	return slot;
}

void
kin_slot_unlock(KinShardSlot *slot)
{
	LWLockRelease(&slot->lock);
}

uint64
kin_slot_evictions(void)
{
	return pg_atomic_read_u64(&shard_table->evictions);
}

void
kin_slot_settle(KinShardSlot *slot)
{
	int older = 1 - slot->generation;

	Assert(LWLockHeldByMeInMode(&slot->lock, LW_EXCLUSIVE));
	if (pg_atomic_read_u32(&slot->writers[older]) != 0)
		return;
	if (pg_atomic_read_u32(&slot->writers[slot->generation]) == 0)
	{
		slot->settled = slot->boundary = slot->last_number;
		return;
	}
	slot->settled = slot->boundary;
	slot->boundary = slot->last_number;
	slot->generation = older;
}

static int
used_slots(void)
{
	int n;

	LWLockAcquire(&shard_table->table_lock, LW_SHARED);
	n = shard_table->used_slots;
	LWLockRelease(&shard_table->table_lock);
	return n;
}

KinShardSlot *
kin_slot_next_waiting(int64 stream_id, int *position)
{
	for (int n = used_slots(); *position < n;)
	{
		KinShardSlot *slot = &shard_slots[(*position)++];

		/* Looked at without the lock: a slot with waiters keeps its key. */
		if (pg_atomic_read_u32(&slot->waiters) + pg_atomic_read_u32(&slot->watchers) > 0 &&
			slot->key.stream_id == stream_id && slot->key.database == MyDatabaseId)
			return slot;
	}
	return NULL;
}

/* After COMMIT PREPARED: the backend that runs it does not know which shards the transaction wrote to. */
void
kin_slot_wake_database(void)
{
	int n = used_slots();

	for (int i = 0; i < n; i++)
		if (shard_slots[i].key.database == MyDatabaseId)
			ConditionVariableBroadcast(&shard_slots[i].readable);
}
