/*
 * commit_wake.h - what a transaction that wrote to shards owes them at its end.
 */
#ifndef KIN_COMMIT_WAKE_H
#define KIN_COMMIT_WAKE_H

#include "shard_state.h"

extern void kin_commit_wake_init(void);

/* Counts this transaction among the writers of a locked slot, once a transaction. */
extern void kin_join_writers(KinShardSlot *slot);

/* Grows the list kin_join_writers() appends to, so that it can't fail under the slot's lock. */
extern void kin_reserve_writer(void);

#endif
