/*
 * throttle_take.c - decides whether a shard's limits allow a request.
 *
 * Owns:    nothing; the buckets are in the shard's slot.
 * Locking: the caller holds the slot's lock.
 * Runs in: backends.
 *
 * A bucket holds one second's worth.  An amount above that (a large record, an atomic batch) passes when the bucket is
 * full and takes it into debt once; afterwards everybody waits until the debt is paid, so the mean rate is kept.
 */
#include "postgres.h"

#include "throttle_take.h"

void
kin_bucket_refill(KinBucket *bucket, double rate, int64 now_usec)
{
	if (rate < 0)
		return;
	if (bucket->filled_at == 0)
		bucket->tokens = rate;
	else if (now_usec > bucket->filled_at)
		bucket->tokens = Min(rate, bucket->tokens + rate * (now_usec - bucket->filled_at) / 1000000.0);
	else if (now_usec == bucket->filled_at)
		return;
	/* A system clock that went back gives nothing, and the count goes on from there. */
	bucket->filled_at = now_usec;
}

bool
kin_bucket_allows(const KinBucket *bucket, double rate, double amount)
{
	return rate < 0 || bucket->tokens >= Min(amount, rate);
}

void
kin_bucket_take(KinBucket *bucket, double rate, double amount)
{
	if (rate >= 0)
		bucket->tokens -= amount;
}
