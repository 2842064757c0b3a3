/*
 * subscription_state.c - subscriptions of registered consumers to shards, in shared memory.
 *
 * Owns:    the table of subscriptions: owner, since when, and the bucket of bytes that each has to itself.
 * Locking: one LWLock for the table, held for moments.
 * Runs in: the postmaster (set-up) and backends.
 *
 * On AWS a subscription is a connection over which events are pushed.  Here it is a session that asks for one event after
 * another: it keeps the subscription by asking, and loses it when it ends, when another session takes it over, or when
 * it has not asked for five minutes.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "error_report.h"
#include "sequence_number.h"
#include "session_live.h"
#include "settings_define.h"
#include "shard_state.h"
#include "subscription_state.h"
#include "throttle_take.h"

/* AWS's rules: who has just subscribed is left alone this long, and a subscription ends after that. */
#define SAFE_MS     5000
#define LIFETIME_MS (5 * 60 * 1000)

typedef struct Subscription
{
	KinSubscriptionKey key;
	int64 owner; /* number of the session; 0 = nobody yet */
	TimestampTz since;
	TimestampTz used;
	KinBucket bytes;
} Subscription;

static HTAB *subscriptions;
static LWLock *table_lock;


void
kin_subscription_state_request(void)
{
	RequestAddinShmemSpace(hash_estimate_size(kin_max_subscriptions_setting, sizeof(Subscription)));
	RequestNamedLWLockTranche("KinesisSubscriptions", 1);
}

void
kin_subscription_state_startup(void)
{
	HASHCTL info = {.keysize = sizeof(KinSubscriptionKey), .entrysize = sizeof(Subscription)};

	table_lock = &GetNamedLWLockTranche("KinesisSubscriptions")->lock;
	subscriptions = ShmemInitHash("kinesis subscriptions", kin_max_subscriptions_setting, kin_max_subscriptions_setting,
								  &info, HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

static bool
is_ours(const Subscription *subscription)
{
	return subscription->owner == kin_session_number();
}

/* Does nobody hold it any more? */
static bool
is_over(const Subscription *subscription, TimestampTz now)
{
	return TimestampDifferenceExceeds(subscription->used, now, LIFETIME_MS) || !kin_session_lives(subscription->owner);
}

/* Makes room by removing subscriptions that are over; false when there is none. */
static bool
remove_those_over(TimestampTz now)
{
	HASH_SEQ_STATUS seq;
	Subscription *subscription;
	bool removed = false;

	hash_seq_init(&seq, subscriptions);
	while ((subscription = hash_seq_search(&seq)) != NULL)
		if (is_over(subscription, now))
		{
			hash_search(subscriptions, &subscription->key, HASH_REMOVE, NULL);
			removed = true;
		}
	return removed;
}

static void
refuse(const char *name, const char *reason)
{
	LWLockRelease(table_lock);
	ereport(ERROR, (kin_errcode(KIN_RESOURCE_IN_USE),
					errmsg("Another active subscription exists for this consumer: %s", name), errdetail("%s", reason)));
}

bool
kin_subscribe(const KinSubscriptionKey *key, const char *name)
{
	TimestampTz now = kin_now_timestamp();
	Subscription *subscription;
	bool found;
	bool taken_over = false;

	LWLockAcquire(table_lock, LW_EXCLUSIVE);
	subscription = hash_search(subscriptions, key, HASH_FIND, NULL);
	if (subscription == NULL)
	{
		subscription = hash_search(subscriptions, key, HASH_ENTER_NULL, &found);
		if (subscription == NULL && remove_those_over(now))
			subscription = hash_search(subscriptions, key, HASH_ENTER_NULL, &found);
		if (subscription == NULL)
		{
			LWLockRelease(table_lock);
			ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
							errmsg("all %d places for subscriptions in shared memory are in use",
								   kin_max_subscriptions_setting),
							errhint("Raise kinesis.max_subscriptions and restart the server.")));
		}
		subscription->owner = 0;
		subscription->bytes = (KinBucket){0};
	}
	if (!is_ours(subscription))
	{
		if (subscription->owner != 0 && !is_over(subscription, now))
		{
			if (!TimestampDifferenceExceeds(subscription->since, now, SAFE_MS))
				refuse(name, "It began less than five seconds ago; after that a new one takes over.");
			taken_over = true;
		}
		subscription->owner = kin_session_number();
		subscription->since = now;
	}
	subscription->used = now;
	LWLockRelease(table_lock);
	return taken_over;
}

/* Finds our subscription and takes the table's lock. */
static Subscription *
lock_ours(const KinSubscriptionKey *key, const char *name)
{
	Subscription *subscription;

	LWLockAcquire(table_lock, LW_EXCLUSIVE);
	subscription = hash_search(subscriptions, key, HASH_FIND, NULL);
	if (subscription == NULL || !is_ours(subscription))
		refuse(name, "Another session has taken it over.");
	return subscription;
}

void
kin_subscription_check(const KinSubscriptionKey *key, const char *name)
{
	(void) lock_ours(key, name);
	LWLockRelease(table_lock);
}

int64
kin_subscription_pause(const KinSubscriptionKey *key, const char *name, double rate)
{
	Subscription *subscription = lock_ours(key, name);
	double missing;

	kin_bucket_refill(&subscription->bytes, rate, GetCurrentTimestamp());
	missing = rate < 0 ? 0 : 1 - subscription->bytes.tokens;
	LWLockRelease(table_lock);
	return missing > 0 ? (int64) (missing / rate * 1000) + 1 : 0;
}

void
kin_subscription_take(const KinSubscriptionKey *key, const char *name, double rate, int64 bytes)
{
	Subscription *subscription = lock_ours(key, name);

	kin_bucket_take(&subscription->bytes, rate, bytes);
	LWLockRelease(table_lock);
}
