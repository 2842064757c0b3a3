/*
 * shard_state.h - the volatile state of shards in shared memory.
 *
 * A slot can be lost at any instant (eviction, crash, restart): everything in it is either rebuilt from the heap (the
 * last number) or a matter of seconds (token buckets, waiters).
 */
#ifndef KIN_SHARD_STATE_H
#define KIN_SHARD_STATE_H

#include "port/atomics.h"
#include "storage/block.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

/*
 * A shard is known by database, stream and index, never by an OID that DDL may change.  The stream's table, which lives as
 * long as the stream, is there because stream ids begin anew when the extension is created again.  No padding: keys are
 * compared as bytes.
 */
typedef struct KinShardKey
{
	int64 stream_id;
	Oid database;
	Oid table;
	int32 shard_index;
	int32 unused;
} KinShardKey;

/* Tokens may be negative: one large record may take a bucket into debt. */
typedef struct KinBucket
{
	double tokens;
	int64 filled_at; /* microseconds of the system's own clock; 0 = never used, so full */
} KinBucket;

/* Where the last append to a shard ended. */
typedef struct KinTail
{
	Oid file;                 /* relfilenode of the slice; InvalidOid = look for the end */
	BlockNumber block;        /* last page with records */
	BlockNumber reserved_end; /* pages behind it and before this one were set aside by us and never used */
} KinTail;

typedef struct KinShardSlot
{
	LWLock lock;     /* guards all but the condition variable and the atomics */
	KinShardKey key; /* changed only under both the table's lock and this one */
	bool used;
	bool loaded;       /* last_number and settled have been read from the heap */
	int64 last_number; /* greatest number ever given out */

	/*
	 * Writers whose transaction is open, in two alternating generations.  A transaction joins the current one when it
	 * first writes to the shard; when the older one is empty, every record up to 'boundary' is settled (committed or
	 * aborted), and the generations change places.  Readers use 'settled' to look for the first open record from there.
	 */
	pg_atomic_uint32 writers[2];
	int generation;
	int64 boundary;
	int64 settled;
	int64 prepared_floor; /* settled when a writer was PREPAREd; -1 = none */

	KinTail tail;

	KinBucket iterator_calls;
	KinBucket write_bytes;
	KinBucket write_records;
	KinBucket read_bytes;
	KinBucket read_calls;

	pg_atomic_uint32 watchers; /* these two belong to shard_watch.c; watchers keep the slot, too */
	int32 first_watch;

	pg_atomic_uint32 waiters;   /* keeps the slot from being given to another shard */
	ConditionVariable readable; /* broadcast when a transaction that wrote to the shard has ended */
} KinShardSlot;

/* In every process that makes or meets the shared memory; see kinesis.c. */
extern void kin_shard_state_request(void);
extern void kin_shard_state_startup(void);

/* Raises an error when the library was not preloaded, so that there is no shared memory. */
extern void kin_check_loaded(void);

/* Finds or makes the slot of a shard; the pointer stays valid memory for ever, but may come to serve another shard. */
extern KinShardSlot *kin_slot_find(const KinShardKey *key);

/* The slot of a shard if it has one, else NULL. */
extern KinShardSlot *kin_slot_peek(const KinShardKey *key);

/* Locks a slot exclusively; false, and no lock, when it serves another shard by now. */
extern bool kin_slot_lock(KinShardSlot *slot, const KinShardKey *key);

/* Both in one: the slot of this shard, locked. */
extern KinShardSlot *kin_slot_acquire(const KinShardKey *key);
extern void kin_slot_unlock(KinShardSlot *slot);

/* Changes whenever any slot has been given to another shard. */
extern uint64 kin_slot_evictions(void);

/* Moves the settled mark as far as the finished writers allow.  The slot is locked. */
extern void kin_slot_settle(KinShardSlot *slot);

/* Next slot, from *position on, of this stream on which somebody waits; NULL when there is none. */
extern KinShardSlot *kin_slot_next_waiting(int64 stream_id, int *position);

/* Wakes every reader of this database, whatever its shard. */
extern void kin_slot_wake_database(void);

#endif
