/*
 * iterator_get.c - get_shard_iterator: a starting point, sealed.
 *
 * Owns:    nothing.
 * Locking: as position_find.c.
 * Runs in: backends, on a primary or a standby.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "access_check.h"
#include "compat.h"
#include "error_report.h"
#include "iterator_seal.h"
#include "position_find.h"
#include "sequence_number.h"
#include "settings_define.h"
#include "throttle_take.h"

#define ITERATORS_A_SECOND 5

PG_FUNCTION_INFO_V1(kin_get_shard_iterator);

/* AWS's five calls a second for a shard. */
static void
throttle(KinStream *stream, KinShard *shard)
{
	KinShardSlot *slot;
	bool allowed;

	slot = kin_slot_acquire(&shard->key);
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
	KinStart start = {.operation = "GetShardIterator", .field = "shardIteratorType"};

	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			kin_refuse_null(fields[i]);
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	stream = kin_stream_find(name);
	shard_id = text_to_cstring(PG_GETARG_TEXT_PP(1));
	/* As on AWS: here a stream that is not there is told as its shard. */
	if (stream == NULL)
		kin_refuse_shard(kin_shard_index_in(shard_id, "shardId", name), kin_name_in_arn(name));
	kin_require_right(stream, GetUserId(), KIN_RIGHT_CONSUMER, "GetShardIterator");
	start.type = text_to_cstring(PG_GETARG_TEXT_PP(2));
	start.has_number = !PG_ARGISNULL(3);
	start.number = start.has_number ? PG_GETARG_INT64(3) : 0;
	start.has_time = !PG_ARGISNULL(4);
	start.time = start.has_time ? PG_GETARG_TIMESTAMPTZ(4) : 0;
	kin_position_check(&start);
	shard = kin_shard_by_id(stream, shard_id);
	if (kin_aws_limits_setting)
		throttle(stream, shard);

	iterator.stream_id = stream->id;
	iterator.shard_index = shard->index;
	iterator.after = kin_position_find(stream, shard, &start);
	iterator.made_at = kin_now_timestamp();
	PG_RETURN_TEXT_P(kin_iterator_seal(&iterator));
}
