/*
 * shard_read.c - read_shard: a shard's records as plain rows.
 *
 * Owns:    nothing.
 * Locking: as shard_walk.c.  Between two fetches of a cursor the current slice stays locked (AccessShare) and one page of
 *          it pinned.
 * Runs in: backends, on a primary or a standby.
 *
 * Where it stands in FROM on its own the planner lets it stream (call_scan.c), with columns that point into the pinned
 * page; anywhere else it fills a tuplestore.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "access_check.h"
#include "call_scan.h"
#include "compat.h"
#include "error_report.h"
#include "record_form.h"
#include "sequence_number.h"
#include "shard_read.h"
#include "shard_walk.h"

PG_FUNCTION_INFO_V1(kin_read_shard);

/* Columns of kinesis.record. */
enum
{
	RECORD_NUMBER,
	RECORD_ARRIVAL,
	RECORD_KEY,
	RECORD_DATA,
	RECORD_ENCRYPTION
};

typedef struct ShardScan
{
	KinCallScan call;
	KinShardWalk walk;
	int64 wanted;
	int64 left;      /* how many more records are wanted */
	bool needs_key;  /* somebody looks at the partition key */
	bool needs_data; /* somebody looks at the data */
	Datum encryption_type;
} ShardScan;

/* Checks arguments and rights and begins the walk; returns how many records are wanted. */
static int64
begin_walk(const KinArguments *given, KinShardWalk *walk, Snapshot snapshot)
{
	KinStream *stream;
	KinShard *shard;
	char *shard_id;
	int64 max_records;

	if (given->nulls[0] || given->nulls[1])
		kin_refuse_null(given->nulls[0] ? "streamName" : "shardId");
	stream = kin_stream_open(TextDatumGetCString(given->values[0]));
	shard_id = TextDatumGetCString(given->values[1]);
	kin_require_right(stream, GetUserId(), KIN_RIGHT_CONSUMER, "GetRecords");
	shard = kin_shard_by_id(stream, shard_id);
	max_records = given->nulls[3] ? PG_INT64_MAX : DatumGetInt64(given->values[3]);
	if (max_records < 0)
		ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT), errmsg("max_records must not be negative")));
	kin_walk_begin(walk, stream, shard, snapshot, given->nulls[2] ? -1 : DatumGetInt64(given->values[2]));
	return max_records;
}

/* kinesis.read_shard(stream_name, shard_id, after_sequence_number, max_records) */
Datum
kin_read_shard(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	KinArguments given = kin_arguments(fcinfo);
	KinShardWalk walk;
	HeapTupleHeader stored;
	int64 number;
	int64 left;
	HeapTupleHeaderData header;
	char *buffer = NULL;
	Size size = 0;

	kin_record_header(&header, InvalidOid);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (left = begin_walk(&given, &walk, GetActiveSnapshot()); left > 0; left--)
	{
		struct varlena *key;
		struct varlena *data;
		struct varlena *inline_data;
		HeapTupleData tuple;
		Size room;

		if ((stored = kin_walk_next(&walk, &number)) == NULL)
			break;
		kin_tuple_fields(stored, &key, &data);
		inline_data = kin_inline_data(data);
		room = kin_record_room(key, inline_data);
		if (room > size)
		{
			if (buffer)
				pfree(buffer);
			size = Max(room, 8192);
			buffer = palloc(size);
		}
		tuple.t_len = kin_record_form(buffer, number, key, inline_data, &header);
		tuple.t_data = (HeapTupleHeader) buffer;
		ItemPointerSetInvalid(&tuple.t_self);
		tuple.t_tableOid = InvalidOid;
		tuplestore_puttuple(rsinfo->setResult, &tuple);
		if (inline_data != data)
			pfree(inline_data);
	}
	kin_walk_end(&walk);
	return (Datum) 0;
}

static void
begin_scan(KinCallScan *call)
{
	ShardScan *scan = (ShardScan *) call;

	scan->left = scan->wanted = begin_walk(&call->given, &scan->walk, call->css.ss.ps.state->es_snapshot);
	scan->needs_key = list_member_int(call->used, RECORD_KEY + 1);
	scan->needs_data = list_member_int(call->used, RECORD_DATA + 1);
	scan->encryption_type = CStringGetTextDatum("NONE");
}

static bool
next_record(KinCallScan *call, Datum *values, bool *nulls)
{
	ShardScan *scan = (ShardScan *) call;
	HeapTupleHeader stored;
	struct varlena *key = NULL;
	struct varlena *data = NULL;
	int64 number;

	if (scan->left == 0 || (stored = kin_walk_next(&scan->walk, &number)) == NULL)
		return false;
	scan->left--;
	if (scan->needs_key || scan->needs_data)
		kin_tuple_fields(stored, &key, &data);
	/* What is toasted must be fetched while we hold the slice, not later by whoever keeps the row. */
	if (scan->needs_data && VARATT_IS_EXTENDED(data) && !VARATT_IS_SHORT(data))
	{
		MemoryContext old = MemoryContextSwitchTo(call->css.ss.ps.ps_ExprContext->ecxt_per_tuple_memory);

		data = kin_inline_data(data);
		MemoryContextSwitchTo(old);
	}
	values[RECORD_NUMBER] = Int64GetDatum(number);
	values[RECORD_ARRIVAL] = TimestampTzGetDatum(kin_arrival_time(number));
	values[RECORD_KEY] = PointerGetDatum(key);
	values[RECORD_DATA] = PointerGetDatum(data);
	values[RECORD_ENCRYPTION] = scan->encryption_type;
	nulls[RECORD_KEY] = !scan->needs_key;
	nulls[RECORD_DATA] = !scan->needs_data;
	return true;
}

static void
rewind_scan(KinCallScan *call)
{
	ShardScan *scan = (ShardScan *) call;

	kin_walk_restart(&scan->walk);
	scan->left = scan->wanted;
}

static void
end_scan(KinCallScan *call)
{
	kin_walk_end(&((ShardScan *) call)->walk);
}

void
kin_shard_read_init(void)
{
	static KinScannable read_shard = {
		.symbol = "kin_read_shard",
		.label = "KinesisReadShard",
		.arguments = 4,
		.state_size = sizeof(ShardScan),
		.begin = begin_scan,
		.next = next_record,
		.rewind = rewind_scan,
		.end = end_scan,
	};

	kin_call_scan_register(&read_shard);
}
