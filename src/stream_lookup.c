/*
 * stream_lookup.c - reads the catalog of streams and keeps it in the backend's memory.
 *
 * Owns:    a hash of streams by name; each stream has a memory context of its own, dropped when it is read again.
 * Locking: none beyond AccessShare on the catalog tables while they are read.  The catalog is always read with a fresh
 *          snapshot, as PostgreSQL's own is: a REPEATABLE READ writer must see the shard that was closed a moment ago.
 * Runs in: backends and workers.
 *
 * Every change of a stream sends a relcache invalidation of its table (ATTACH does, kinesis._touch_stream() does), and
 * the callback here only sets a flag: it fires at moments when nothing may be read.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "lib/ilist.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "error_report.h"
#include "name_check.h"
#include "restore_finish.h"
#include "sequence_number.h"
#include "settings_define.h"
#include "stream_lookup.h"

/* Columns of kinesis.stream, kinesis.shard and kinesis.slice, in the order of the install script. */
enum
{
	STREAM_ID = 1,
	STREAM_NAME,
	STREAM_STATUS,
	STREAM_MODE,
	STREAM_CREATED,
	STREAM_RETENTION,
	STREAM_MAX_RECORD,
	STREAM_WRITE_BYTES,
	STREAM_WRITE_RECORDS,
	STREAM_READ_BYTES,
	STREAM_READ_CALLS,
	STREAM_NEXT_SHARD,
	STREAM_TABLE,
	STREAM_HOME,
	STREAM_TRIMMED,
	STREAM_COLUMNS = STREAM_TRIMMED
};
enum
{
	SHARD_STREAM = 1,
	SHARD_INDEX,
	SHARD_PARENT,
	SHARD_ADJACENT,
	SHARD_LO,
	SHARD_HI,
	SHARD_START,
	SHARD_END,
	SHARD_CREATED,
	SHARD_CLOSED,
	SHARD_COLUMNS = SHARD_CLOSED
};
enum
{
	SLICE_STREAM = 1,
	SLICE_SHARD,
	SLICE_LOWER,
	SLICE_UPPER
};

typedef struct StreamEntry
{
	char name[KIN_NAME_MAX + 1];
	KinStream *stream; /* NULL while there is none */
} StreamEntry;

static HTAB *streams;

static void
table_invalidated(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS seq;
	StreamEntry *entry;

	hash_seq_init(&seq, streams);
	while ((entry = hash_seq_search(&seq)) != NULL)
		if (entry->stream && (relid == InvalidOid || entry->stream->table == relid))
			entry->stream->valid = false;
}

static void
prepare_streams(void)
{
	HASHCTL info = {0};

	kin_check_loaded();
	if (streams)
		return;
	info.keysize = sizeof(((StreamEntry *) NULL)->name);
	info.entrysize = sizeof(StreamEntry);
	streams = hash_create("kinesis streams", 64, &info, HASH_ELEM | HASH_STRINGS);
	CacheRegisterRelcacheCallback(table_invalidated, (Datum) 0);
}

static Oid
catalog_oid(const char *schema, const char *name)
{
	Oid nsp = get_namespace_oid(schema, true);
	Oid oid = OidIsValid(nsp) ? get_relname_relid(name, nsp) : InvalidOid;

	if (!OidIsValid(oid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("table %s.%s does not exist", schema, name),
						errhint("Create the extension in this database: CREATE EXTENSION kinesis.")));
	return oid;
}

static double
rate_or_unlimited(Datum value, bool isnull)
{
	return isnull ? -1 : (double) DatumGetInt64(value);
}

static int
compare_ranges(const void *a, const void *b)
{
	KinHashKey x = (*(KinShard *const *) a)->starting_hash_key;
	KinHashKey y = (*(KinShard *const *) b)->starting_hash_key;

	return x < y ? -1 : x > y;
}

static KinHashKey
range_end(Datum value)
{
	KinHashKey key;

	if (!kin_hash_key_from_numeric(value, &key))
		elog(ERROR, "hash range out of bounds in kinesis.shard");
	return key;
}

/* Reads the shards of a stream into its context. */
static void
read_shards(KinStream *stream)
{
	Relation rel = table_open(catalog_oid("kinesis", "shard"), AccessShareLock);
	Relation index;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	int size = 16;

	stream->shards = MemoryContextAlloc(stream->context, size * sizeof(KinShard));
	ScanKeyInit(&key, SHARD_STREAM, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream->id));
	index = index_open(catalog_oid("kinesis", "shard_pkey"), AccessShareLock);
	scan = systable_beginscan_ordered(rel, index, NULL, 1, &key);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		Datum v[SHARD_COLUMNS + 1];
		bool null[SHARD_COLUMNS + 1];
		KinShard *shard;

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(tuple, RelationGetDescr(rel), v + 1, null + 1);
		if (stream->nshards == size)
		{
			size *= 2;
			stream->shards = repalloc(stream->shards, size * sizeof(KinShard));
		}
		shard = &stream->shards[stream->nshards++];
		memset(shard, 0, sizeof(*shard));
		shard->index = DatumGetInt32(v[SHARD_INDEX]);
		shard->parent = null[SHARD_PARENT] ? -1 : DatumGetInt32(v[SHARD_PARENT]);
		shard->adjacent_parent = null[SHARD_ADJACENT] ? -1 : DatumGetInt32(v[SHARD_ADJACENT]);
		shard->starting_hash_key = range_end(v[SHARD_LO]);
		shard->ending_hash_key = range_end(v[SHARD_HI]);
		shard->starting_number = DatumGetInt64(v[SHARD_START]);
		shard->ending_number = null[SHARD_END] ? -1 : DatumGetInt64(v[SHARD_END]);
		shard->closed_ms =
			null[SHARD_CLOSED] ? 0 : kin_ms_of_number(kin_number_at(DatumGetTimestampTz(v[SHARD_CLOSED])));
		shard->key = (KinShardKey){.stream_id = stream->id,
								   .database = MyDatabaseId,
								   .table = stream->table,
								   .shard_index = shard->index};
		shard->nslices = -1;
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);

	stream->open = MemoryContextAlloc(stream->context, Max(stream->nshards, 1) * sizeof(KinShard *));
	for (int i = 0; i < stream->nshards; i++)
		if (stream->shards[i].ending_number < 0)
			stream->open[stream->nopen++] = &stream->shards[i];
	qsort(stream->open, stream->nopen, sizeof(KinShard *), compare_ranges);
}

/* One column of a stream's row, as a copy; NULL when there is no such stream. */
static char *
read_column(int64 stream_id, AttrNumber column)
{
	Relation rel = table_open(catalog_oid("kinesis", "stream"), AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	char *value = NULL;

	ScanKeyInit(&key, STREAM_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream_id));
	scan = systable_beginscan(rel, catalog_oid("kinesis", "stream_pkey"), true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		value = SPI_getvalue(tuple, RelationGetDescr(rel), column);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return value;
}

Oid
kin_stream_table(int64 stream_id)
{
	char *name = read_column(stream_id, STREAM_TABLE);

	return name ? get_relname_relid(name, get_namespace_oid("kinesis_stream", false)) : InvalidOid;
}

char *
kin_stream_name_of(int64 stream_id)
{
	return read_column(stream_id, STREAM_NAME);
}

void
kin_stream_forget(Oid table)
{
	prepare_streams();
	table_invalidated((Datum) 0, table);
}

/* Reads a stream by one column of its row; NULL when there is none.  The result is in a context of its own. */
static KinStream *
read_stream(AttrNumber column, Datum value, RegProcedure equal, const char *index, bool *restored)
{
	Relation rel = table_open(catalog_oid("kinesis", "stream"), AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	KinStream *stream = NULL;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, equal, value);
	scan = systable_beginscan(rel, catalog_oid("kinesis", index), true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Datum v[STREAM_COLUMNS + 1];
		bool null[STREAM_COLUMNS + 1];
		MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "kinesis stream", ALLOCSET_SMALL_SIZES);
		Oid nsp = get_namespace_oid("kinesis_stream", false);

		heap_deform_tuple(tuple, RelationGetDescr(rel), v + 1, null + 1);
		stream = MemoryContextAllocZero(context, sizeof(KinStream));
		stream->context = context;
		stream->id = DatumGetInt64(v[STREAM_ID]);
		strlcpy(stream->name, TextDatumGetCString(v[STREAM_NAME]), sizeof(stream->name));
		stream->table = get_relname_relid(NameStr(*DatumGetName(v[STREAM_TABLE])), nsp);
		if (!OidIsValid(stream->table))
			ereport(
				ERROR,
				(kin_errcode(KIN_INTERNAL_FAILURE),
				 errmsg("table kinesis_stream.%s of stream %s is missing",
						quote_identifier(NameStr(*DatumGetName(v[STREAM_TABLE]))), stream->name),
				 errhint(
					 "It was dropped or renamed by hand. kinesis.delete_stream removes what is left of the stream.")));
		stream->retention_ms = DatumGetInt32(v[STREAM_RETENTION]) * INT64CONST(3600000);
		stream->max_record_bytes = DatumGetInt32(v[STREAM_MAX_RECORD]) * INT64CONST(1024);
		stream->write_bytes_rate = rate_or_unlimited(v[STREAM_WRITE_BYTES], null[STREAM_WRITE_BYTES]);
		stream->write_records_rate = rate_or_unlimited(v[STREAM_WRITE_RECORDS], null[STREAM_WRITE_RECORDS]);
		stream->read_bytes_rate = rate_or_unlimited(v[STREAM_READ_BYTES], null[STREAM_READ_BYTES]);
		stream->read_calls_rate = rate_or_unlimited(v[STREAM_READ_CALLS], null[STREAM_READ_CALLS]);
		stream->trimmed_before = DatumGetInt64(v[STREAM_TRIMMED]);
		*restored = !null[STREAM_HOME] && strcmp(TextDatumGetCString(v[STREAM_HOME]), kin_home_name()) != 0;
		stream->valid = true;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (stream)
		read_shards(stream);
	return stream;
}

/*
 * Puts a stream that was just read into the cache, in place of what was there.  The old one lives on until the
 * transaction ends, because callers may still hold pointers into it.
 */
static KinStream *
keep_stream(KinStream *stream)
{
	StreamEntry *entry;
	bool found;

	entry = hash_search(streams, stream->name, HASH_ENTER, &found);
	if (found && entry->stream)
		MemoryContextSetParent(entry->stream->context, TopTransactionContext);
	entry->stream = stream;
	MemoryContextSetParent(stream->context, CacheMemoryContext);
	return stream;
}

/*
 * Reads and keeps a stream.  A copy of the database that a logical restore has made is put in order first: COPY may
 * have laid the records of a slice out of order.
 */
static KinStream *
load_stream(AttrNumber column, Datum value, RegProcedure equal, const char *index)
{
	bool restored = false;
	KinStream *stream = read_stream(column, value, equal, index, &restored);

	if (stream && restored)
	{
		kin_finish_restore(stream->id, stream->name);
		MemoryContextDelete(stream->context);
		stream = read_stream(column, value, equal, index, &restored);
	}
	return stream ? keep_stream(stream) : NULL;
}

KinStream *
kin_stream_find(const char *name)
{
	StreamEntry *entry;

	prepare_streams();
	name = kin_name_in_arn(name);
	/* Whatever was committed before this call began must be seen by it. */
	AcceptInvalidationMessages();
	if (strlen(name) <= KIN_NAME_MAX)
	{
		entry = hash_search(streams, name, HASH_FIND, NULL);
		if (entry && entry->stream && entry->stream->valid)
			return entry->stream;
	}
	kin_check_stream_name(name);
	return load_stream(STREAM_NAME, CStringGetTextDatum(name), F_TEXTEQ, "stream_stream_name_key");
}

KinStream *
kin_stream_open(const char *name)
{
	KinStream *stream = kin_stream_find(name);

	if (stream == NULL)
		ereport(ERROR, (kin_errcode(KIN_RESOURCE_NOT_FOUND), errmsg("Stream %s under account %s not found.",
																	kin_name_in_arn(name), kin_account_id_setting)));
	return stream;
}

KinStream *
kin_stream_open_by_id(int64 stream_id)
{
	HASH_SEQ_STATUS seq;
	StreamEntry *entry;

	prepare_streams();
	AcceptInvalidationMessages();
	hash_seq_init(&seq, streams);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		if (entry->stream && entry->stream->id == stream_id && entry->stream->valid)
		{
			hash_seq_term(&seq);
			return entry->stream;
		}
	}
	return load_stream(STREAM_ID, Int64GetDatum(stream_id), F_INT8EQ, "stream_pkey");
}

KinShard *
kin_shard_for_hash(KinStream *stream, KinHashKey key)
{
	int lo = 0;
	int hi = stream->nopen - 1;

	while (lo < hi)
	{
		int mid = lo + (hi - lo + 1) / 2;

		if (stream->open[mid]->starting_hash_key <= key)
			lo = mid;
		else
			hi = mid - 1;
	}
	if (lo > hi || key < stream->open[lo]->starting_hash_key || key > stream->open[lo]->ending_hash_key)
		ereport(ERROR, (kin_errcode(KIN_INTERNAL_FAILURE),
						errmsg("no open shard of stream %s holds the hash key", stream->name),
						errhint("kinesis.check_stream tells what is wrong with the stream.")));
	return stream->open[lo];
}

KinShard *
kin_shard_by_index(KinStream *stream, int32 index)
{
	int lo = 0;
	int hi = stream->nshards - 1;

	while (lo <= hi)
	{
		int mid = lo + (hi - lo) / 2;

		if (stream->shards[mid].index == index)
		{
			KinShard *shard = &stream->shards[mid];

			if (shard->ending_number >= 0 && shard->closed_ms < kin_now_ms() - stream->retention_ms)
				return NULL; /* expired: all its records are past retention */
			return shard;
		}
		if (stream->shards[mid].index < index)
			lo = mid + 1;
		else
			hi = mid - 1;
	}
	return NULL;
}

void
kin_refuse_shard(int32 index, const char *stream_name)
{
	ereport(ERROR,
			(kin_errcode(KIN_RESOURCE_NOT_FOUND), errmsg("Shard %s in stream %s under account %s does not exist",
														 kin_shard_id(index), stream_name, kin_account_id_setting)));
}

KinShard *
kin_shard_by_id(KinStream *stream, const char *shard_id)
{
	int32 index = kin_shard_index_in(shard_id, "shardId", stream->name);
	KinShard *shard = kin_shard_by_index(stream, index);

	if (shard == NULL)
		kin_refuse_shard(index, stream->name);
	return shard;
}

int64
kin_stream_horizon(const KinStream *stream)
{
	int64 ms = kin_now_ms() - stream->retention_ms;

	return Max(kin_number_of_ms(Max(ms, 0)), stream->trimmed_before);
}

void
kin_shard_read_slices(KinStream *stream, KinShard *shard, bool again)
{
	Relation rel;
	Relation index;
	Oid nsp;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple tuple;
	int size = 4;
	int n = 0;
	KinSlice *slices;

	if (shard->nslices >= 0 && !again)
		return;
	rel = table_open(catalog_oid("kinesis", "slice"), AccessShareLock);
	nsp = get_namespace_oid("kinesis_stream", false);
	slices = MemoryContextAlloc(stream->context, size * sizeof(KinSlice));
	ScanKeyInit(&key[0], SLICE_STREAM, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream->id));
	ScanKeyInit(&key[1], SLICE_SHARD, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(shard->index));
	index = index_open(catalog_oid("kinesis", "slice_pkey"), AccessShareLock);
	scan = systable_beginscan_ordered(rel, index, NULL, 2, key);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		bool isnull;
		int64 lower = DatumGetInt64(heap_getattr(tuple, SLICE_LOWER, RelationGetDescr(rel), &isnull));
		char *name = psprintf("%lld/%d/%lld", (long long) stream->id, shard->index, (long long) lower);
		Oid relid = get_relname_relid(name, nsp);

		pfree(name);
		if (!OidIsValid(relid))
			continue; /* dropped a moment ago; its records were past retention */
		if (n == size)
		{
			size *= 2;
			slices = repalloc(slices, size * sizeof(KinSlice));
		}
		slices[n].lower = lower;
		slices[n].upper = DatumGetInt64(heap_getattr(tuple, SLICE_UPPER, RelationGetDescr(rel), &isnull));
		slices[n++].relid = relid;
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	if (shard->nslices >= 0)
		pfree(shard->slices);
	shard->slices = slices;
	shard->nslices = n;
}

KinSlice *
kin_slice_for_number(KinShard *shard, int64 number)
{
	/* Newest first: that is where almost every caller wants to go. */
	for (int i = shard->nslices - 1; i >= 0; i--)
	{
		if (number >= shard->slices[i].upper)
			return NULL;
		if (number >= shard->slices[i].lower)
			return &shard->slices[i];
	}
	return NULL;
}

char *
kin_throttled_message(KinStream *stream, KinShard *shard)
{
	return psprintf("Rate exceeded for shard %s in stream %s under account %s.", kin_shard_id(shard->index),
					stream->name, kin_account_id_setting);
}
