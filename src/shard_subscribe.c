/*
 * shard_subscribe.c - subscribe_to_shard: one event of a registered consumer, as soon as there is one.
 *
 * Owns:    nothing.
 * Locking: as subscription_state.c and shard_await.c.
 * Runs in: backends, on a primary or a standby.
 *
 * Each consumer has a bucket of its own for each shard, as large as the stream's read limit, and is not counted by it: other
 * consumers and get_records take nothing from it.  Who is ahead of it is not refused but waits, as AWS pushes at that pace.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "call_scan.h"
#include "compat.h"
#include "consumer_lookup.h"
#include "error_report.h"
#include "position_find.h"
#include "shard_await.h"
#include "shard_subscribe.h"
#include "subscription_state.h"

#define EVENT_RECORDS_MAX 10000
#define EVENT_BYTES_MAX   (INT64CONST(2) * 1024 * 1024)
#define WAIT_DEFAULT_MS   5000
#define WAIT_MAX_MS       (5 * 60 * 1000)

PG_FUNCTION_INFO_V1(kin_subscribe_to_shard);

/* What must stay true while we wait. */
typedef struct Standing
{
	const char *arn;
	char *name; /* of the subscription, for errors */
	KinSubscriptionKey key;
	MemoryContext scratch; /* emptied after each look: there may be one for each commit, for minutes */
} Standing;

/* The consumer is still registered, and the subscription ours. */
static void
check_standing(void *arg)
{
	Standing *standing = arg;
	MemoryContext old = MemoryContextSwitchTo(standing->scratch);

	(void) kin_consumer_open(standing->arn, "SubscribeToShard");
	kin_subscription_check(&standing->key, standing->name);
	MemoryContextSwitchTo(old);
	MemoryContextReset(standing->scratch);
}

/* Waits until the subscription may read again, until 'until' at most; false when it may not yet. */
static bool
keep_pace(Standing *standing, double rate, TimestampTz until)
{
	for (;;)
	{
		int64 pause = kin_subscription_pause(&standing->key, standing->name, rate);
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		if (pause <= 0 || left <= 0)
			return pause <= 0;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(pause, left), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Whoever had the subscription may be waiting for records of the shard: it is to look up. */
static void
wake_former(const KinShard *shard)
{
	KinShardSlot *slot = kin_slot_peek(&shard->key);

	if (slot)
		ConditionVariableBroadcast(&slot->readable);
}

static KinStart
start_argument(const KinArguments *given)
{
	KinStart start = {.operation = "SubscribeToShard", .field = "startingPosition.type"};

	start.type = TextDatumGetCString(given->values[2]);
	start.has_number = !given->nulls[3];
	start.number = start.has_number ? DatumGetInt64(given->values[3]) : 0;
	start.has_time = !given->nulls[4];
	start.time = start.has_time ? DatumGetTimestampTz(given->values[4]) : 0;
	kin_position_check(&start);
	return start;
}

/* One call; the values are the columns of subscribe_to_shard. */
static void
subscribe_to_shard(const KinArguments *given, TupleDesc columns, Datum *values, bool *nulls)
{
	static const char *const fields[] = {"consumerARN", "shardId", "startingPosition"};
	KinReading reading = {.max_records = EVENT_RECORDS_MAX, .max_bytes = EVENT_BYTES_MAX};
	Standing standing = {.key = {.database = MyDatabaseId}};
	KinStart start;
	KinConsumer consumer;
	KinShard *shard;
	double rate;
	int wait_ms = given->nulls[5] ? WAIT_DEFAULT_MS
								  : kin_wait_argument(DatumGetIntervalP(given->values[5]), "max_wait", WAIT_MAX_MS);
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);

	for (int i = 0; i < 3; i++)
		if (given->nulls[i])
			kin_refuse_null(fields[i]);
	start = start_argument(given);
	standing.arn = TextDatumGetCString(given->values[0]);
	standing.scratch = AllocSetContextCreate(CurrentMemoryContext, "kinesis subscription", ALLOCSET_SMALL_SIZES);
	consumer = kin_consumer_open(standing.arn, "SubscribeToShard");
	shard = kin_shard_by_id(consumer.stream, TextDatumGetCString(given->values[1]));
	rate = consumer.stream->read_bytes_rate;

	standing.name = psprintf("%s, shard %s", standing.arn, kin_shard_id(shard->index));
	standing.key.consumer_id = consumer.id;
	standing.key.table = consumer.stream->table;
	standing.key.shard_index = shard->index;
	if (kin_subscribe(&standing.key, standing.name))
		wake_former(shard);

	reading.type = get_element_type(TupleDescAttr(columns, 0)->atttypid);
	reading.stream_id = consumer.stream->id;
	reading.shard_index = shard->index;
	reading.after = kin_position_find(consumer.stream, shard, &start);
	if (!keep_pace(&standing, rate, until))
		reading.max_records = 0; /* an event without records */
	kin_reading_look(&reading, GetActiveSnapshot());
	if (reading.max_records > 0 && reading.records.count == 0 && !reading.at_end && wait_ms > 0)
		kin_reading_wait(&reading, Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until), 0),
						 check_standing, &standing);
	kin_subscription_take(&standing.key, standing.name, rate, reading.records.bytes);

	/* The place goes on by itself as records expire, so that a subscription to a quiet shard never falls behind the horizon. */
	if (!kin_reading_answer(&reading, columns, values, nulls))
		values[1] = Int64GetDatum(Max(reading.last, kin_stream_horizon(reading.stream) - 1));
}

/* kinesis.subscribe_to_shard(consumer_arn, shard_id, starting_position, sequence_number, "timestamp", max_wait) */
Datum
kin_subscribe_to_shard(PG_FUNCTION_ARGS)
{
	return kin_row_call(fcinfo, subscribe_to_shard);
}

void
kin_shard_subscribe_init(void)
{
	static KinScannable scannable = {.symbol = "kin_subscribe_to_shard",
									 .label = "KinesisSubscribeToShard",
									 .arguments = 6,
									 .row = subscribe_to_shard};

	kin_call_scan_register(&scannable);
}
