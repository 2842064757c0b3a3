/*
 * lane_list.c - reads the lanes that there are, with their shards, mappings and notifications, and watches the shards.
 *
 * Owns:    kin_lanes, the scheduler's picture of the catalog; lanes outlive its being read again, the rest is made anew.
 * Locking: none beyond the reading transaction's.
 * Runs in: schedulers.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "lane_list.h"
#include "shard_watch.h"
#include "sql_run.h"
#include "stream_lookup.h"
#include "worker_start.h"

typedef struct ShardKey
{
	int64 stream_id;
	int64 shard_index;
} ShardKey;

typedef struct ShardEntry
{
	ShardKey key;
	int shard;
} ShardEntry;

KinLaneMap kin_lanes;

static MemoryContext map_memory; /* of all but the lanes: emptied when they are read again */


void
kin_lane_set_time(KinRunnable *lane, TimestampTz at)
{
	kin_lanes.ntimed += (at != 0) - (lane->at != 0);
	lane->at = at;
}

void
kin_lane_make_ready(KinRunnable *lane)
{
	Assert(lane->state != KIN_LANE_RUNNING);
	if (lane->state == KIN_LANE_READY)
		return;
	lane->state = KIN_LANE_READY;
	kin_lane_set_time(lane, 0);
	lane->ready_since = GetCurrentTimestamp();
	lane->next_ready = NULL;
	if (kin_lanes.last_ready)
		kin_lanes.last_ready->next_ready = lane;
	else
		kin_lanes.first_ready = lane;
	kin_lanes.last_ready = lane;
}

void
kin_lane_forget(KinRunnable *lane)
{
	kin_lane_set_time(lane, 0);
	(void) hash_search(kin_lanes.table, &lane->lane_id, HASH_REMOVE, NULL);
}

static int
find_mapping(const pg_uuid_t *uuid)
{
	for (int i = kin_lanes.nmappings - 1; i >= 0; i--)
		if (memcmp(&kin_lanes.mappings[i].uuid, uuid, sizeof(*uuid)) == 0)
			return i;
	kin_lanes.mappings[kin_lanes.nmappings] = (KinRunnableMapping){.uuid = *uuid};
	return kin_lanes.nmappings++;
}

static int
find_shard(HTAB *index, int64 stream_id, int32 shard_index)
{
	ShardKey key = {stream_id, shard_index};
	bool found;
	ShardEntry *entry = hash_search(index, &key, HASH_ENTER, &found);

	if (!found)
	{
		entry->shard = kin_lanes.nshards;
		kin_lanes.shards[kin_lanes.nshards++] =
			(KinRunnableShard){.stream_id = stream_id, .shard_index = shard_index, .bell = -1};
	}
	return entry->shard;
}

static HTAB *
make_index(Size key_size, Size entry_size, MemoryContext memory)
{
	HASHCTL info = {.keysize = key_size, .entrysize = entry_size, .hcxt = memory};

	return hash_create("kinesis lanes", 256, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Runs a query of the extension's own; its rows are there until SPI_finish(). */
static void
query(const char *sql)
{
	if (SPI_execute(sql, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read event source mappings");
}

static Datum
value(uint64 row, int number, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, isnull);
}

static void
read_lanes(HTAB *index)
{
	bool isnull;

	query("SELECT lane_id, uuid, stream_id, shard_index, retry_at, suspected, owner FROM kinesis._runnable_lanes()");
	kin_lanes.mappings =
		MemoryContextAllocExtended(map_memory, Max(SPI_processed, 1) * sizeof(KinRunnableMapping), MCXT_ALLOC_HUGE);
	kin_lanes.shards =
		MemoryContextAllocExtended(map_memory, (SPI_processed + 1) * sizeof(KinRunnableShard), MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		int64 lane_id = DatumGetInt64(value(i, 1, &isnull));
		bool found;
		KinRunnable *lane = hash_search(kin_lanes.table, &lane_id, HASH_ENTER, &found);
		TimestampTz retry_at = DatumGetTimestampTz(value(i, 5, &isnull));

		CHECK_FOR_INTERRUPTS();
		if (isnull)
			retry_at = 0;
		if (!found)
			memset((char *) lane + sizeof(lane_id), 0, sizeof(KinRunnable) - sizeof(lane_id));
		lane->uuid = *DatumGetUUIDP(value(i, 2, &isnull));
		lane->suspected = DatumGetBool(value(i, 6, &isnull));
		lane->owner = DatumGetObjectId(value(i, 7, &isnull));
		lane->listed = true;
		lane->mapping = find_mapping(&lane->uuid);
		lane->shard = find_shard(index, DatumGetInt64(value(i, 3, &isnull)), DatumGetInt32(value(i, 4, &isnull)));
		lane->next_of_shard = kin_lanes.shards[lane->shard].lanes;
		kin_lanes.shards[lane->shard].lanes = lane;
		if (lane->state == KIN_LANE_RUNNING)
		{
			kin_lanes.mappings[lane->mapping].running++;
			lane->news = true;
		}
		else if (retry_at > GetCurrentTimestamp())
		{
			lane->state = KIN_LANE_LATER;
			kin_lane_set_time(lane, retry_at);
		}
		else
		{
			/* What has changed about it is looked at, whatever it was waiting for. */
			lane->state = KIN_LANE_RESTING;
			kin_lane_make_ready(lane);
		}
	}
}

static void
read_bells(HTAB *index, const KinBell *old, int nold)
{
	bool isnull;

	query(
		"SELECT n.stream_id, h.shard_index, pg_catalog.array_agg(n.channel), pg_catalog.array_agg(n.owner::pg_catalog.oid) "
		"FROM kinesis.notification n JOIN kinesis.shard h ON h.stream_id = n.stream_id WHERE n.home = kinesis._home() "
		"AND h.closed_at IS NULL GROUP BY n.stream_id, h.shard_index");
	kin_lanes.bells = MemoryContextAllocZero(map_memory, Max(SPI_processed, 1) * sizeof(KinBell));
	kin_lanes.nbells = (int) SPI_processed;
	kin_lanes.shards =
		repalloc_huge(kin_lanes.shards, (kin_lanes.nshards + SPI_processed + 1) * sizeof(KinRunnableShard));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		KinBell *bell = &kin_lanes.bells[i];
		Datum *channels;
		Datum *owners;
		int n;

		bell->stream_id = DatumGetInt64(value(i, 1, &isnull));
		bell->shard_index = DatumGetInt32(value(i, 2, &isnull));
		deconstruct_array(DatumGetArrayTypeP(value(i, 3, &isnull)), TEXTOID, -1, false, TYPALIGN_INT, &channels, NULL,
						  &bell->nchannels);
		deconstruct_array(DatumGetArrayTypeP(value(i, 4, &isnull)), OIDOID, sizeof(Oid), true, TYPALIGN_INT, &owners,
						  NULL, &n);
		bell->channels = MemoryContextAlloc(map_memory, bell->nchannels * sizeof(char *));
		bell->owners = MemoryContextAlloc(map_memory, bell->nchannels * sizeof(Oid));
		for (int c = 0; c < bell->nchannels; c++)
		{
			bell->channels[c] = MemoryContextStrdup(map_memory, TextDatumGetCString(channels[c]));
			bell->owners[c] = DatumGetObjectId(owners[c]);
		}
		bell->last = -1;
		for (int o = 0; o < nold; o++)
			if (old[o].stream_id == bell->stream_id && old[o].shard_index == bell->shard_index && old[o].nchannels == n)
				bell->last = old[o].last;
		/* What came before anybody watched is told, too: a bell may be rung once too often, but not too little. */
		bell->news = true;
		kin_lanes.shards[find_shard(index, bell->stream_id, bell->shard_index)].bell = (int) i;
	}
}

/* Begins to watch a shard, if it has not expired. */
static void
watch_shard(void *arg)
{
	int place = *(int *) arg;
	const KinRunnableShard *runnable = &kin_lanes.shards[place];
	KinStream *stream = kin_stream_open_by_id(runnable->stream_id);
	KinShard *shard = stream ? kin_shard_by_index(stream, runnable->shard_index) : NULL;

	if (shard)
		kin_lanes.watches[place] = kin_watch_keep(&shard->key);
}

/*
 * Watches all shards.  What is wrong with one stream, or too much for shared memory, is no reason to let the others wait: its lanes
 * are looked at again later, and get to know why.
 */
static void
watch_shards(void)
{
	int64 told = -1; /* of this stream's shards one was said to fail: there may be thousands */

	kin_lanes.watches = MemoryContextAllocZero(map_memory, Max(kin_lanes.nshards, 1) * sizeof(int32));
	kin_lanes.rung = MemoryContextAlloc(map_memory, Max(kin_lanes.nshards, 1) * sizeof(int));
	for (int i = 0; i < kin_lanes.nshards; i++)
	{
		int64 stream_id = kin_lanes.shards[i].stream_id;

		CHECK_FOR_INTERRUPTS();
		if (kin_worker_try(watch_shard, &i, told != stream_id))
			continue;
		told = stream_id;
		kin_lanes.left_over = true;
	}
}

static void
forget_unlisted_lanes(void)
{
	HASH_SEQ_STATUS seq;
	KinRunnable *lane;

	hash_seq_init(&seq, kin_lanes.table);
	while ((lane = hash_seq_search(&seq)) != NULL)
	{
		/* One that runs is forgotten when its worker is done with it. */
		if (lane->listed || lane->state == KIN_LANE_RUNNING)
			continue;
		kin_lane_forget(lane);
	}
}

bool
kin_lanes_read(void)
{
	HASH_SEQ_STATUS seq;
	KinRunnable *lane;
	HTAB *index;
	KinBell *old;
	int nold = kin_lanes.nbells;
	int nest;
	MemoryContext caller = CurrentMemoryContext; /* of the turn: emptied soon */

	if (map_memory == NULL)
	{
		map_memory = AllocSetContextCreate(TopMemoryContext, "kinesis map", ALLOCSET_DEFAULT_SIZES);
		kin_lanes.table = make_index(sizeof(int64), sizeof(KinRunnable), TopMemoryContext);
	}
	kin_worker_begin();
	if (!OidIsValid(get_extension_oid("kinesis", true)))
	{
		kin_worker_commit();
		return false;
	}
	kin_lanes.left_over = DatumGetBool(kin_run_sql("_sync_mappings", 0, NULL, NULL));
	CommandCounterIncrement();

	MemoryContextSwitchTo(caller);
	old = palloc(Max(nold, 1) * sizeof(KinBell));
	if (nold > 0)
		memcpy(old, kin_lanes.bells, nold * sizeof(KinBell));
	index = make_index(sizeof(ShardKey), sizeof(ShardEntry), caller);
	kin_watch_keep_none();
	MemoryContextReset(map_memory);
	kin_lanes.nmappings = kin_lanes.nshards = kin_lanes.nbells = 0;
	kin_lanes.first_ready = kin_lanes.last_ready = NULL;
	hash_seq_init(&seq, kin_lanes.table);
	while ((lane = hash_seq_search(&seq)) != NULL)
		lane->listed = false;

	nest = kin_pin_settings();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PushActiveSnapshot(GetLatestSnapshot());
	read_lanes(index);
	read_bells(index, old, nold);
	PopActiveSnapshot();
	SPI_finish();
	AtEOXact_GUC(true, nest);
	forget_unlisted_lanes();
	watch_shards();
	kin_worker_commit();
	return kin_lanes.nshards > 0 || kin_lanes.left_over;
}
