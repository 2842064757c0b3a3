/*
 * batch_gather.c - reads the next batch of a lane: its keys, what passes the filter, one tumbling window, within the limits.
 *
 * Owns:    nothing.
 * Locking: as shard_walk.c: none beyond the slice that is being read.
 * Runs in: workers.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "batch_gather.h"
#include "compat.h"
#include "event_form.h"
#include "filter_match.h"
#include "hash_key.h"
#include "sequence_number.h"
#include "slice_scan.h"
#include "sql_run.h"

/* An invocation's payload; for f(records, context) the bytes of the records. */
#define PAYLOAD_MAX (INT64CONST(6) * 1024 * 1024)

/* After so many records that are not ours it is time to write down how far we are. */
#define SKIPS_MAX 100000

/* Microseconds from PostgreSQL's epoch back to that of Unix, by which windows are aligned. */
#define UNIX_EPOCH_US (-(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

typedef struct Gathering
{
	const KinLane *lane;
	KinBatch *batch;
	KinFilters *filters;
	MemoryContext scratch;
	int64 limit;
	int64 payload;
	int skips;
	bool at_limit;
} Gathering;

TimestampTz
kin_window_start(const KinLane *lane, TimestampTz t)
{
	int64 since = t - UNIX_EPOCH_US;

	return UNIX_EPOCH_US + since - since % lane->tumbling_us;
}

static bool
passes(Gathering *g, int64 number, struct varlena *key, struct varlena *data)
{
	MemoryContext old;
	bool passes;

	if (g->filters == NULL)
		return true;
	old = MemoryContextSwitchTo(g->scratch);
	passes = kin_filters_match(g->filters, number, key, kin_inline_data(data));
	MemoryContextSwitchTo(old);
	MemoryContextReset(g->scratch);
	return passes;
}

static KinWanted
wanted(void *arg, HeapTupleHeader tuple, int64 number)
{
	Gathering *g = arg;
	KinBatch *batch = g->batch;
	const KinLane *lane = g->lane;
	struct varlena *key;
	struct varlena *data;
	int64 key_len;
	int64 data_len;
	int64 bytes;

	CHECK_FOR_INTERRUPTS();
	if (number > g->limit)
	{
		g->at_limit = true;
		return KIN_STOP;
	}
	kin_tuple_fields(tuple, &key, &data);
	key_len = VARSIZE_ANY_EXHDR(key);
	if ((lane->lanes > 1 && (int) (kin_hash_key_of(VARDATA_ANY(key), (int) key_len) % lane->lanes) != lane->lane) ||
		!passes(g, number, key, data))
		return ++g->skips > SKIPS_MAX && batch->n == 0 ? KIN_STOP : KIN_SKIP;
	if (lane->tumbling_us > 0)
	{
		TimestampTz window = kin_window_start(lane, kin_arrival_time(number));

		if (batch->n == 0 && batch->window_start == 0)
			batch->window_start = window;
		if (window > batch->window_start)
		{
			batch->last_of_window = true;
			return KIN_STOP;
		}
	}
	data_len = (int64) toast_raw_datum_size(PointerGetDatum(data)) - VARHDRSZ;
	bytes = lane->takes_records ? key_len + data_len : kin_event_record_bytes(key_len, data_len);
	if (batch->n == lane->batch_size || (batch->n > 0 && g->payload + bytes > PAYLOAD_MAX))
	{
		batch->full = true;
		return KIN_STOP;
	}
	g->payload += bytes;
	batch->numbers[batch->n++] = number;
	return KIN_TAKE;
}

void
kin_batch_gather(const KinLane *lane, int64 limit, KinBatch *batch)
{
	Gathering g = {.lane = lane, .batch = batch, .limit = limit};

	*batch = (KinBatch){.window_start = lane->window_start, .numbers = palloc(lane->batch_size * sizeof(int64))};
	g.filters = kin_filters_compile(lane->filter);
	g.scratch = AllocSetContextCreate(CurrentMemoryContext, "kinesis filter", ALLOCSET_DEFAULT_SIZES);
	batch->reading = (KinReading){.stream_id = lane->stream_id,
								  .shard_index = lane->shard_index,
								  .after = lane->checkpoint,
								  .max_records = lane->batch_size,
								  .max_bytes = PG_INT64_MAX,
								  .type = kin_type("record"),
								  .wanted = wanted,
								  .wanted_arg = &g};
	PushActiveSnapshot(GetLatestSnapshot());
	kin_reading_look(&batch->reading, GetActiveSnapshot());
	PopActiveSnapshot();
	MemoryContextDelete(g.scratch);

	batch->full |= batch->n == lane->batch_size;
	batch->upto = batch->reading.last;
	/* All up to the limit is done, or there is no more of it: it was readable once, so it has expired. */
	if (limit != PG_INT64_MAX && (g.at_limit || (!batch->reading.more && !batch->reading.blocked)))
		batch->upto = limit;
}
