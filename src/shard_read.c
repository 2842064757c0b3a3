/*
 * shard_read.c - read_shard: a shard's records as plain rows.
 *
 * Owns:    nothing.
 * Locking: as shard_walk.c.
 * Runs in: backends, on a primary or a standby.
 *
 * This is the set-returning function itself, which fills a tuplestore; where it stands in FROM on its own, the planner
 * replaces it by a scan that streams (shard_scan.c).
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "access_check.h"
#include "compat.h"
#include "error_report.h"
#include "record_form.h"
#include "shard_read.h"

PG_FUNCTION_INFO_V1(kin_read_shard);

void
kin_read_begin(KinReadRequest *request, KinShardWalk *walk, Snapshot snapshot)
{
	KinStream *stream;
	KinShard *shard;
	char *shard_id;
	int64 after = -1;

	if (request->nulls[0] || request->nulls[1])
		kin_refuse_null(request->nulls[0] ? "streamName" : "shardId");
	stream = kin_stream_open(TextDatumGetCString(request->args[0]));
	shard_id = TextDatumGetCString(request->args[1]);
	kin_require_right(stream, GetUserId(), KIN_RIGHT_CONSUMER, "GetRecords");
	shard = kin_shard_by_id(stream, shard_id);
	if (!request->nulls[2])
		after = DatumGetInt64(request->args[2]);
	request->max_records = request->nulls[3] ? PG_INT64_MAX : DatumGetInt64(request->args[3]);
	if (request->max_records < 0)
		ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT), errmsg("max_records must not be negative")));
	kin_walk_begin(walk, stream, shard, snapshot, after);
}

/* kinesis.read_shard(stream_name, shard_id, after_sequence_number, max_records) */
Datum
kin_read_shard(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	KinReadRequest request;
	KinShardWalk walk;
	HeapTupleHeader stored;
	int64 number;
	int64 count = 0;
	HeapTupleHeaderData header;
	char *buffer = NULL;
	Size size = 0;

	for (int i = 0; i < 4; i++)
	{
		request.args[i] = fcinfo->args[i].value;
		request.nulls[i] = fcinfo->args[i].isnull;
	}
	kin_record_header(&header, InvalidOid);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	kin_read_begin(&request, &walk, GetActiveSnapshot());
	while (count < request.max_records && (stored = kin_walk_next(&walk, &number)) != NULL)
	{
		struct varlena *key;
		struct varlena *data;
		struct varlena *inline_data;
		HeapTupleData tuple;
		Size room;

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
		count++;
	}
	kin_walk_end(&walk);
	return (Datum) 0;
}
