/*
 * record_get.c - get_records: by iterator, throttled, with long polling.
 *
 * Owns:    nothing.
 * Locking: the shard's slot, for a moment, for its limits; as shard_await.c while it waits.
 * Runs in: backends, on a primary or a standby.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "access_check.h"
#include "call_scan.h"
#include "compat.h"
#include "error_report.h"
#include "iterator_seal.h"
#include "record_get.h"
#include "sequence_number.h"
#include "settings_define.h"
#include "shard_await.h"
#include "throttle_take.h"

#define GET_RECORDS_MAX 10000
#define GET_BYTES_MAX   (INT64CONST(10) * 1024 * 1024)
#define WAIT_MAX_MS     60000

PG_FUNCTION_INFO_V1(kin_get_records);

/* Takes the call, or the bytes it has returned, from the shard's limits. */
static void
throttle_read(KinStream *stream, KinShard *shard, int64 bytes)
{
	KinShardSlot *slot;
	int64 now = GetCurrentTimestamp();
	bool allowed = true;

	if (stream->read_calls_rate < 0 && stream->read_bytes_rate < 0)
		return;
	slot = kin_slot_acquire(&shard->key);
	kin_bucket_refill(&slot->read_calls, stream->read_calls_rate, now);
	kin_bucket_refill(&slot->read_bytes, stream->read_bytes_rate, now);
	if (bytes > 0)
		kin_bucket_take(&slot->read_bytes, stream->read_bytes_rate, bytes);
	else
	{
		/* A large answer takes the bucket into debt; the calls after it wait until that is paid. */
		allowed = kin_bucket_allows(&slot->read_calls, stream->read_calls_rate, 1) &&
				  kin_bucket_allows(&slot->read_bytes, stream->read_bytes_rate, 1);
		if (allowed)
			kin_bucket_take(&slot->read_calls, stream->read_calls_rate, 1);
	}
	kin_slot_unlock(slot);
	if (!allowed)
		ereport(ERROR,
				(kin_errcode(KIN_THROUGHPUT_EXCEEDED), errmsg_internal("%s", kin_throttled_message(stream, shard)),
				 errhint(
					 "Read less often or wait in get_records, or change the limits with kinesis.set_shard_limits.")));
}

/* One call; the values are the columns of get_records. */
static void
get_records(const KinArguments *given, TupleDesc columns, Datum *values, bool *nulls)
{
	KinIterator iterator;
	KinReading reading = {.max_bytes = GET_BYTES_MAX, .type = get_element_type(TupleDescAttr(columns, 0)->atttypid)};
	int max_records = given->nulls[1] ? GET_RECORDS_MAX : DatumGetInt32(given->values[1]);
	int wait_ms = given->nulls[2] ? 0 : kin_wait_argument(DatumGetIntervalP(given->values[2]), "wait", WAIT_MAX_MS);

	if (given->nulls[0])
		kin_refuse_null("shardIterator");
	if (max_records < 1)
		ereport(ERROR, (kin_errcode(KIN_VALIDATION),
						errmsg("1 validation error detected: Value '%d' at 'limit' failed to satisfy "
							   "constraint: Member must have value greater than or equal to 1",
							   max_records)));
	if (max_records > GET_RECORDS_MAX)
		ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT),
						errmsg("max_records must be between 1 and %d, not %d", GET_RECORDS_MAX, max_records)));
	iterator = kin_iterator_open(TextDatumGetCString(given->values[0]));
	reading.stream_id = iterator.stream_id;
	reading.shard_index = iterator.shard_index;
	reading.after = iterator.after;
	reading.max_records = max_records;

	kin_reading_open(&reading);
	kin_require_right(reading.stream, GetUserId(), KIN_RIGHT_CONSUMER, "GetRecords");
	throttle_read(reading.stream, reading.shard, 0);
	kin_reading_look(&reading, GetActiveSnapshot());
	if (wait_ms > 0 && reading.records.count == 0 && !reading.at_end)
		kin_reading_wait(&reading, wait_ms, NULL, NULL);
	if (reading.records.count > 0)
		throttle_read(reading.stream, reading.shard, reading.records.bytes);

	if (kin_reading_answer(&reading, columns, values, nulls))
		return;
	iterator.after = reading.last;
	iterator.made_at = kin_now_timestamp();
	values[1] = PointerGetDatum(kin_iterator_seal(&iterator));
}

/* kinesis.get_records(shard_iterator, max_records, wait) */
Datum
kin_get_records(PG_FUNCTION_ARGS)
{
	return kin_row_call(fcinfo, get_records);
}

void
kin_record_get_init(void)
{
	static KinScannable scannable = {.symbol = "kin_get_records",
									 .label = "KinesisGetRecords",
									 .arguments = 3,
									 .row = get_records};

	kin_call_scan_register(&scannable);
}
