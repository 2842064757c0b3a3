/*
 * slice_make.c - makes slices on demand, when maintenance has not made them ahead of time.
 *
 * Owns:    nothing; kinesis._make_slices() does the work and takes the stream's row lock.
 * Locking: none here.
 * Runs in: the producer that misses a slice, and a background worker that it starts.
 *
 * A slice made inside the producer's transaction would be invisible to all other producers until it commits, and they
 * would queue behind it.  So a worker makes it in a transaction of its own.  Only when that can't work (no worker to be
 * had; a stream that this very transaction has made) does the producer do it itself.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/inval.h"

#include "compat.h"
#include "error_report.h"
#include "settings_define.h"
#include "slice_make.h"
#include "sql_run.h"
#include "worker_start.h"

typedef struct MakeRequest
{
	Oid database;
	int32 shard_index;
	int64 stream_id;
	int64 number;
	double clock_offset;
} MakeRequest;

StaticAssertDecl(sizeof(MakeRequest) <= BGW_EXTRALEN, "request must fit into the worker's extra data");

PGDLLEXPORT void kin_slice_maker_main(Datum arg);

static void
make_slices(int64 stream_id, int32 shard_index, int64 number)
{
	const Oid types[3] = {INT8OID, INT4OID, INT8OID};
	const Datum values[3] = {Int64GetDatum(stream_id), Int32GetDatum(shard_index), Int64GetDatum(number)};

	kin_run_sql("_make_slices", 3, types, values);
}

/* Entry point of the worker: one transaction, one shard. */
void
kin_slice_maker_main(Datum arg)
{
	MakeRequest request;
	char offset[64];

	memcpy(&request, MyBgworkerEntry->bgw_extra, sizeof(request));
	kin_worker_signals();
	kin_worker_connect(request.database);

	/* The producer's session may hold what we wait for: give up soon, and it will do the work itself. */
	SetConfigOption("lock_timeout", "2s", PGC_SUSET, PGC_S_SESSION);
	snprintf(offset, sizeof(offset), "%.3f", request.clock_offset);
	SetConfigOption("kinesis.clock_offset", offset, PGC_SUSET, PGC_S_SESSION);

	kin_worker_report("kinesis slice maker");
	kin_worker_begin();
	make_slices(request.stream_id, request.shard_index, request.number);
	kin_worker_commit();
	kin_worker_report(NULL);
}

/* Runs the worker to its end; false when it could not be started. */
static bool
run_worker(const MakeRequest *request)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	kin_worker_describe(&worker, "kinesis slice maker", "kin_slice_maker_main");
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, request, sizeof(*request));
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return false;
	if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
		ereport(FATAL,
				(errcode(ERRCODE_ADMIN_SHUTDOWN), errmsg("the postmaster died while kinesis waited for a slice")));
	return true;
}

void
kin_slice_make(KinStream *stream, KinShard *shard, int64 number)
{
	MakeRequest request = {
		.database = MyDatabaseId,
		.shard_index = shard->index,
		.stream_id = stream->id,
		.number = number,
		.clock_offset = kin_clock_offset_setting,
	};

	if (run_worker(&request))
	{
		AcceptInvalidationMessages();
		kin_shard_read_slices(stream, shard, true);
		if (kin_slice_for_number(shard, number))
			return;
	}
	make_slices(stream->id, shard->index, number);
	AcceptInvalidationMessages();
	kin_shard_read_slices(stream, shard, true);
	if (kin_slice_for_number(shard, number) == NULL && kin_stream_is_current(stream))
		ereport(ERROR, (kin_errcode(KIN_INTERNAL_FAILURE),
						errmsg("could not make a slice of shard %s in stream %s for sequence number %lld",
							   kin_shard_id(shard->index), stream->name, (long long) number),
						errhint("kinesis.check_stream tells what is wrong with the stream.")));
}
