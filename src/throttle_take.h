/*
 * throttle_take.h - token buckets with one second of burst.
 */
#ifndef KIN_THROTTLE_TAKE_H
#define KIN_THROTTLE_TAKE_H

#include "shard_state.h"

/* Adds what has flowed in since the last call; a rate of -1 is unlimited. */
extern void kin_bucket_refill(KinBucket *bucket, double rate, int64 now_usec);

/* May this amount be taken now? */
extern bool kin_bucket_allows(const KinBucket *bucket, double rate, double amount);
extern void kin_bucket_take(KinBucket *bucket, double rate, double amount);

#endif
