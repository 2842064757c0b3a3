/*
 * iterator_get.c - get_shard_iterator: turns one of the five starting points into a position.
 *
 * Owns:    nothing.
 * Locking: the shard's slot, for a moment, for LATEST.
 * Runs in: backends, on a primary or a standby.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "access_check.h"
#include "compat.h"
#include "error_report.h"
#include "iterator_seal.h"
#include "sequence_number.h"
#include "settings_define.h"
#include "shard_walk.h"
#include "slice_append.h"
#include "throttle_take.h"

#define ITERATORS_A_SECOND 5

PG_FUNCTION_INFO_V1(kin_get_shard_iterator);

static bool
prepared_transactions_exist(void)
{
	bool exist;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute("SELECT FROM pg_catalog.pg_prepared_xact() LIMIT 1", true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for prepared transactions");
	exist = SPI_processed > 0;
	SPI_finish();
	return exist;
}

/* A position at or before the first record whose transaction may still be open. */
static int64
settled_position(KinStream *stream, KinShard *shard)
{
	KinShardSlot *slot;
	int64 settled;
	int64 floor;

	if (RecoveryInProgress())
	{
		/* No writers to count here: look through the newest two slices, far longer than transactions are open. */
		kin_shard_read_slices(stream, shard, false);
		return shard->nslices > 2 ? shard->slices[shard->nslices - 2].lower - 1 : -1;
	}
	slot = kin_shard_lock(stream, shard);
	kin_slot_settle(slot);
	settled = slot->settled;
	floor = slot->prepared_floor;
	kin_slot_unlock(slot);
	if (floor < 0 || floor >= settled)
		return settled;
	if (prepared_transactions_exist())
		return floor;
	slot = kin_shard_lock(stream, shard);
	if (slot->prepared_floor == floor)
		slot->prepared_floor = -1;
	kin_slot_unlock(slot);
	return settled;
}

/*
 * LATEST: just behind the newest record that can be read now.  A record put before this call whose transaction commits
 * later lies behind it, and so is not lost to the consumer.
 */
static int64
latest_position(KinStream *stream, KinShard *shard)
{
	KinShardWalk walk;
	Snapshot snapshot;
	int64 position = settled_position(stream, shard);
	int64 number;

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	kin_walk_begin(&walk, stream, shard, snapshot, position);
	while (kin_walk_next(&walk, &number) != NULL)
		position = number;
	kin_walk_end(&walk);
	UnregisterSnapshot(snapshot);
	return position;
}

static int64
position_of_number(KinStream *stream, KinShard *shard, int64 number)
{
	int64 known = kin_number_of_ms(kin_now_ms() + 1);

	if (number > known && !RecoveryInProgress())
	{
		KinShardSlot *slot = kin_shard_lock(stream, shard);

		known = Max(known, slot->last_number);
		kin_slot_unlock(slot);
	}
	if (number < 0 || (number > known && !RecoveryInProgress()))
		ereport(
			ERROR,
			(kin_errcode(KIN_INVALID_ARGUMENT),
			 errmsg(
				 "StartingSequenceNumber %lld used in GetShardIterator on shard %s in stream %s under account %s is invalid "
				 "because it did not come from this stream.",
				 (long long) number, kin_shard_id(shard->index), stream->name, kin_account_id_setting)));
	return number;
}

static int64
position_of_time(TimestampTz t)
{
	TimestampTz now = kin_now_timestamp();

	if (t > now)
		ereport(ERROR,
				(kin_errcode(KIN_INVALID_ARGUMENT),
				 errmsg("The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "
						"timestampInMillis: %lld, currentTimestampInMillis: %lld",
						TIMESTAMP_NOT_FINITE(t) ? -1LL
												: (long long) ((t / 1000) + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
																				INT64CONST(86400000)),
						(long long) ((now / 1000) +
									 (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000)))));
	return kin_number_at(t) - 1;
}

static void
check_arguments(const char *type, bool has_number, bool has_time)
{
	bool by_number = strcmp(type, "AT_SEQUENCE_NUMBER") == 0 || strcmp(type, "AFTER_SEQUENCE_NUMBER") == 0;
	bool by_time = strcmp(type, "AT_TIMESTAMP") == 0;

	if (!by_number && !by_time && strcmp(type, "TRIM_HORIZON") != 0 && strcmp(type, "LATEST") != 0)
		ereport(
			ERROR,
			(kin_errcode(KIN_VALIDATION),
			 errmsg(
				 "1 validation error detected: Value '%s' at 'shardIteratorType' failed to satisfy constraint: Member must "
				 "satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]",
				 type)));
	if (by_time && !has_time)
		ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT),
						errmsg("Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP.")));
	if (by_number != has_number)
		ereport(
			ERROR,
			(kin_errcode(KIN_INVALID_ARGUMENT),
			 errmsg("Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or "
					"(2) TRIM_HORIZON or LATEST and no StartingSequenceNumber.")));
	if (has_time && !by_time)
		ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT), errmsg("Timestamp can be given with AT_TIMESTAMP only.")));
}

/* AWS's five calls a second for a shard. */
static void
throttle(KinStream *stream, KinShard *shard)
{
	KinShardSlot *slot;
	bool allowed;

	do
	{
		slot = kin_slot_find(&shard->key);
	} while (!kin_slot_lock(slot, &shard->key));
	kin_bucket_refill(&slot->iterator_calls, ITERATORS_A_SECOND, GetCurrentTimestamp());
	allowed = kin_bucket_allows(&slot->iterator_calls, ITERATORS_A_SECOND, 1);
	if (allowed)
		kin_bucket_take(&slot->iterator_calls, ITERATORS_A_SECOND, 1);
	kin_slot_unlock(slot);
	if (!allowed)
		ereport(ERROR,
				(kin_errcode(KIN_THROUGHPUT_EXCEEDED), errmsg_internal("%s", kin_throttled_message(stream, shard)),
				 errhint("This is AWS's quota; it applies because kinesis.aws_limits is on.")));
}

/* kinesis.get_shard_iterator(stream_name, shard_id, shard_iterator_type, starting_sequence_number, "timestamp") */
Datum
kin_get_shard_iterator(PG_FUNCTION_ARGS)
{
	static const char *const fields[] = {"streamName", "shardId", "shardIteratorType"};
	KinStream *stream;
	KinShard *shard;
	KinIterator iterator;
	char *name;
	char *shard_id;
	char *type;

	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			kin_refuse_null(fields[i]);
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	stream = kin_stream_find(name);
	shard_id = text_to_cstring(PG_GETARG_TEXT_PP(1));
	/* As on AWS: here a stream that is not there is told as its shard. */
	if (stream == NULL)
		kin_refuse_shard(kin_shard_index_in(shard_id, "shardId", name), kin_name_in_arn(name));
	type = text_to_cstring(PG_GETARG_TEXT_PP(2));
	kin_require_right(stream, GetUserId(), KIN_RIGHT_CONSUMER, "GetShardIterator");
	check_arguments(type, !PG_ARGISNULL(3), !PG_ARGISNULL(4));
	shard = kin_shard_by_id(stream, shard_id);
	if (kin_aws_limits_setting)
		throttle(stream, shard);

	iterator.stream_id = stream->id;
	iterator.shard_index = shard->index;
	if (strcmp(type, "AT_SEQUENCE_NUMBER") == 0)
		iterator.after = position_of_number(stream, shard, PG_GETARG_INT64(3)) - 1;
	else if (strcmp(type, "AFTER_SEQUENCE_NUMBER") == 0)
		iterator.after = position_of_number(stream, shard, PG_GETARG_INT64(3));
	else if (strcmp(type, "AT_TIMESTAMP") == 0)
		iterator.after = position_of_time(PG_GETARG_TIMESTAMPTZ(4));
	else if (strcmp(type, "LATEST") == 0)
		iterator.after = latest_position(stream, shard);
	else
		iterator.after = -1; /* whatever is the oldest when it is read */
	iterator.made_at = kin_now_timestamp();
	PG_RETURN_TEXT_P(kin_iterator_seal(&iterator));
}
