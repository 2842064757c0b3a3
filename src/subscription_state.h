/*
 * subscription_state.h - who is subscribed to which shard through which consumer, and what each may still read.
 */
#ifndef KIN_SUBSCRIPTION_STATE_H
#define KIN_SUBSCRIPTION_STATE_H

/* One consumer on one shard.  No padding: keys are compared as bytes. */
typedef struct KinSubscriptionKey
{
	int64 consumer_id;
	Oid database;
	Oid table; /* of the stream: ids begin anew when the extension is created again */
	int32 shard_index;
	int32 unused;
} KinSubscriptionKey;

/*
 * Makes the subscription this session's, or goes on with it.  Raises ResourceInUseException while another session has it
 * since less than five seconds; after that it is taken over, and true is returned.  'name' is for the error.
 */
extern bool kin_subscribe(const KinSubscriptionKey *key, const char *name);

/* Raises ResourceInUseException when another session has taken the subscription over. */
extern void kin_subscription_check(const KinSubscriptionKey *key, const char *name);

/* Milliseconds until the subscription may read again (0 = now) at 'rate' bytes a second (negative = without limit). */
extern int64 kin_subscription_pause(const KinSubscriptionKey *key, const char *name, double rate);

/* Takes what was read. */
extern void kin_subscription_take(const KinSubscriptionKey *key, const char *name, double rate, int64 bytes);

/* In every process that makes or meets the shared memory; see kinesis.c. */
extern void kin_subscription_state_request(void);
extern void kin_subscription_state_startup(void);

#endif
