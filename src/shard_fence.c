/*
 * shard_fence.c - what control-plane code in SQL needs from the engine: fences, last numbers, invalidation.
 *
 * Owns:    nothing.
 * Locking: ShareLock on the slices of a shard that is to be closed; writers hold RowExclusiveLock there until they end.
 * Runs in: backends of a primary.
 *
 * How a shard is closed: hold its slices (waits for its writers, keeps new ones out), read its last number, write the end
 * into the catalog, invalidate, commit.  A writer that waited for the slice meets the invalidation as soon as it has its
 * lock, reads the map again and routes to the children.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "commit_wake.h"
#include "compat.h"
#include "error_report.h"
#include "slice_append.h"

PG_FUNCTION_INFO_V1(kin_hold_slices);
PG_FUNCTION_INFO_V1(kin_last_sequence_number);
PG_FUNCTION_INFO_V1(kin_touch_stream);
PG_FUNCTION_INFO_V1(kin_refuse_change);

static KinStream *
stream_argument(FunctionCallInfo fcinfo)
{
	KinStream *stream = kin_stream_open_by_id(PG_GETARG_INT64(0));

	if (stream == NULL)
		ereport(ERROR, (kin_errcode(KIN_RESOURCE_NOT_FOUND),
						errmsg("stream %lld does not exist", (long long) PG_GETARG_INT64(0))));
	return stream;
}

static KinShard *
shard_with_index(KinStream *stream, int32 index)
{
	for (int i = 0; i < stream->nshards; i++)
		if (stream->shards[i].index == index)
			return &stream->shards[i];
	ereport(ERROR, (kin_errcode(KIN_RESOURCE_NOT_FOUND),
					errmsg("shard %s of stream %s does not exist", kin_shard_id(index), stream->name)));
}

/*
 * kinesis._hold_slices(stream_id, shard_indexes, timeout_ms): locks the slices of these shards that may get records.
 * Raises lock_not_available after timeout_ms: the caller rolls its subtransaction back, so that the writers it kept out
 * go on, and tries again.
 */
Datum
kin_hold_slices(PG_FUNCTION_ARGS)
{
	KinStream *stream = stream_argument(fcinfo);
	ArrayType *indexes = PG_GETARG_ARRAYTYPE_P(1);
	char timeout[32];
	Datum *elements;
	int n;
	int nest = NewGUCNestLevel();

	snprintf(timeout, sizeof(timeout), "%d", PG_GETARG_INT32(2));
	(void) set_config_option("lock_timeout", timeout, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	deconstruct_array(indexes, INT4OID, sizeof(int32), true, TYPALIGN_INT, &elements, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		KinShard *shard = shard_with_index(stream, DatumGetInt32(elements[i]));
		KinShardSlot *slot = kin_shard_lock(stream, shard);
		int64 last = slot->last_number;

		kin_slot_unlock(slot);
		kin_shard_read_slices(stream, shard, true);
		/* Slices that end at or before the last number get no more records. */
		for (int k = 0; k < shard->nslices; k++)
			if (shard->slices[k].upper > last)
				LockRelationOid(shard->slices[k].relid, ShareLock);
	}
	AtEOXact_GUC(true, nest);
	PG_RETURN_BOOL(true);
}

/*
 * kinesis._last_sequence_number(stream_id, shard_index): the greatest number ever given out.  Whoever asks is about to
 * change the shard, so its readers are woken when this transaction ends.
 */
Datum
kin_last_sequence_number(PG_FUNCTION_ARGS)
{
	KinStream *stream = stream_argument(fcinfo);
	KinShard *shard = shard_with_index(stream, PG_GETARG_INT32(1));
	KinShardSlot *slot;
	int64 last;

	kin_reserve_writer();
	slot = kin_shard_lock(stream, shard);
	kin_join_writers(slot);
	last = slot->last_number;
	kin_slot_unlock(slot);
	PG_RETURN_INT64(last);
}

/*
 * kinesis._touch_stream(stream_id): every backend reads the stream anew before it uses it again, from our commit on (this
 * one from the next command on); whoever waits for records looks again then.
 */
Datum
kin_touch_stream(PG_FUNCTION_ARGS)
{
	int64 stream_id = PG_GETARG_INT64(0);
	Oid table = kin_stream_table(stream_id);
	KinShardSlot *slot;
	int position = 0;

	if (!OidIsValid(table))
		PG_RETURN_VOID();
	CacheInvalidateRelcacheByRelid(table);
	while ((slot = kin_slot_next_waiting(stream_id, &position)) != NULL)
	{
		KinShardKey key = slot->key;

		kin_reserve_writer();
		if (key.stream_id == stream_id && kin_slot_lock(slot, &key))
		{
			kin_join_writers(slot);
			kin_slot_unlock(slot);
		}
	}
	/* What we ourselves know is out of date at once: the caller's next step may already need it. */
	kin_stream_forget(table);
	PG_RETURN_VOID();
}

/* kinesis._refuse_change(): trigger on every table of a stream, and on the rows of slices. */
Datum
kin_refuse_change(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("kinesis._refuse_change() is a trigger function")));
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("records are immutable"),
		 errdetail("%s was tried on table \"%s\" of a stream.",
				   TRIGGER_FIRED_BY_INSERT(data->tg_event)   ? "INSERT"
				   : TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? "UPDATE"
				   : TRIGGER_FIRED_BY_DELETE(data->tg_event) ? "DELETE"
															 : "TRUNCATE",
				   RelationGetRelationName(data->tg_relation)),
		 errhint(
			 "Records enter through kinesis.put_record and put_records, and leave when their retention period is over.")));
}
