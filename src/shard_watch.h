/*
 * shard_watch.h - waiting for news of several shards at once.
 */
#ifndef KIN_SHARD_WATCH_H
#define KIN_SHARD_WATCH_H

#include "shard_state.h"

/* From now on this process is woken when something ends that was written through the slot.  The caller has it locked. */
extern void kin_watch_add(KinShardSlot *slot);

/* Watches nothing any more; happens by itself when the transaction ends. */
extern void kin_watch_end(void);

/* Sleeps until there was news since the slots were added, or since the last call, or the time is over; true for news. */
extern bool kin_watch_sleep(long timeout_ms);

/*
 * For processes that watch beyond the end of a transaction: begins to watch a shard until kin_watch_keep_none(), and returns the
 * watch.  kin_watch_rung() tells which of n watches (0 is none) had news since it was asked last, by their places in the array;
 * rung may be NULL.
 */
extern int32 kin_watch_keep(const KinShardKey *key);
extern void kin_watch_keep_none(void);
extern int kin_watch_rung(const int32 *watches, int n, int *rung);

/* Wakes whoever watches the slot. */
extern void kin_watch_wake(KinShardSlot *slot);

/* Wakes all who watch anything in this database. */
extern void kin_watch_wake_database(void);

/* In every process that makes or meets the shared memory; see kinesis.c. */
extern void kin_shard_watch_request(void);
extern void kin_shard_watch_startup(void);

extern void kin_shard_watch_init(void);

#endif
