/*
 * record_put.c - takes checked records through routing to the end of their shards.
 *
 * Owns:    nothing.  All state is the call's own, because a put can begin inside another one: making a slice is DDL, and
 *          somebody's event trigger may put a record about it.
 * Locking: locks every shard's slice (ascending by shard, so that puts can't deadlock with each other) before the first
 *          row is written; see slice_append.c for the rest.
 * Runs in: backends and workers of a primary.
 */
#include "postgres.h"

#include "access/heaptoast.h"
#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "access_check.h"
#include "compat.h"
#include "error_report.h"
#include "memory_keep.h"
#include "record_put.h"
#include "sequence_number.h"
#include "settings_define.h"
#include "slice_scan.h"

/* Line header of a stored record: no nulls, so no bitmap. */
#define STORED_HOFF MAXALIGN(SizeofHeapTupleHeader)

/* Upper bound of the room a stored record takes. */
static inline Size
stored_size(const KinPutEntry *entry)
{
	return MAXALIGN(STORED_HOFF + sizeof(int64) + sizeof(int32) + entry->key_len + entry->data_len +
					2 * (VARHDRSZ + 3));
}

/* Writes a varlena as heap_fill_tuple() would: one byte of header when it is short. */
static inline char *
put_varlena(char *base, char *p, const char *bytes, Size len)
{
	if (len + VARHDRSZ_SHORT <= VARATT_SHORT_MAX)
	{
		SET_VARSIZE_SHORT(p, len + VARHDRSZ_SHORT);
		p += VARHDRSZ_SHORT;
	}
	else
	{
		char *aligned = base + INTALIGN(p - base);

		memset(p, 0, aligned - p);
		p = aligned;
		SET_VARSIZE(p, len + VARHDRSZ);
		p += VARHDRSZ;
	}
	memcpy(p, bytes, len);
	return p + len;
}

/* Forms the heap tuple of a record at 'to' but for its number and shard.  The record's bytes are copied here, once. */
static void
form_record(KinNewRecord *record, const KinPutEntry *entry, char *to)
{
	HeapTupleHeader header = (HeapTupleHeader) to;
	char *base = to + STORED_HOFF;
	char *p = base + sizeof(int64) + sizeof(int32);

	memset(to, 0, STORED_HOFF);
	HeapTupleHeaderSetNatts(header, KIN_STORED_COLUMNS);
	header->t_infomask = HEAP_HASVARWIDTH;
	header->t_hoff = STORED_HOFF;
	p = put_varlena(base, p, entry->key, entry->key_len);
	p = put_varlena(base, p, entry->data, entry->data_len);
	record->tuple.t_data = header;
	record->tuple.t_len = p - to;
	ItemPointerSetInvalid(&record->tuple.t_self);
	record->tuple.t_tableOid = InvalidOid;
}

void
kin_check_key(const char *key, Size len)
{
	int length = len;

	if (length > KIN_KEY_CHARACTERS_MAX)
		length = pg_mbstrlen_with_len(key, len);
	if (length < 1 || length > KIN_KEY_CHARACTERS_MAX)
		ereport(ERROR,
				(kin_errcode(KIN_VALIDATION),
				 errmsg("1 validation error detected: Value at 'partitionKey' failed to satisfy constraint: "
						"Member must have length %s than or equal to %d",
						length < 1 ? "greater" : "less", length < 1 ? 1 : KIN_KEY_CHARACTERS_MAX),
				 errhint("A partition key has 1 to %d characters; this one has %d.", KIN_KEY_CHARACTERS_MAX, length)));
}

static void
check_size(KinStream *stream, const KinPutEntry *entry)
{
	int64 size = (int64) entry->data_len + (int64) entry->key_len;

	if (size > stream->max_record_bytes)
		ereport(ERROR,
				(kin_errcode(KIN_VALIDATION),
				 errmsg("1 validation error detected: Value at 'data' failed to satisfy constraint: "
						"Member must have length less than or equal to %lld",
						(long long) stream->max_record_bytes),
				 errdetail("Data and partition key have %lld bytes together; stream %s allows %lld bytes a record.",
						   (long long) size, stream->name, (long long) stream->max_record_bytes),
				 errhint("kinesis.update_max_record_size raises the limit up to 10240 KiB.")));
}

pg_attribute_noreturn() static void raise_throttled(KinStream *stream, KinShard *shard)
{
	ereport(ERROR,
			(kin_errcode(KIN_THROUGHPUT_EXCEEDED), errmsg_internal("%s", kin_throttled_message(stream, shard)),
			 errhint("Retry after a moment, split the shard, or change its limits with kinesis.set_shard_limits.")));
}

/* Where each entry goes: its explicit hash key or that of its partition key. */
static void
hash_entries(const KinPutEntry *entries, int n, KinHashKey *hashes)
{
	const char *keys[KIN_PUT_RECORDS_MAX];
	int lens[KIN_PUT_RECORDS_MAX];

	for (int i = 0; i < n; i++)
	{
		keys[i] = entries[i].key;
		lens[i] = entries[i].key_len;
	}
	kin_hash_keys_of(keys, lens, n, hashes);
	for (int i = 0; i < n; i++)
		if (entries[i].has_hash_key)
			hashes[i] = entries[i].hash_key;
}

static int
compare_shards(const void *a, const void *b)
{
	const KinNewRecord *x = *(KinNewRecord *const *) a;
	const KinNewRecord *y = *(KinNewRecord *const *) b;

	if (x->shard->index != y->shard->index)
		return x->shard->index < y->shard->index ? -1 : 1;
	return x < y ? -1 : x > y; /* order of the call within a shard */
}

/*
 * Routes the records that have no place yet to the open shards and locks the shards' slices; returns how many are in
 * 'order'.  A map that changes on the way (a split) is read again.
 */
static int
route(KinStream **stream, KinNewRecord *records, const KinHashKey *hashes, int n, KinNewRecord **order)
{
	for (;; *stream = kin_stream_open((*stream)->name))
	{
		bool current = true;
		bool one_shard = true;
		int m = 0;

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < n; i++)
		{
			if (records[i].placed)
				continue;
			records[i].shard = kin_shard_for_hash(*stream, hashes[i]);
			order[m++] = &records[i];
			one_shard &= records[i].shard == order[0]->shard;
		}
		if (!one_shard)
			qsort(order, m, sizeof(*order), compare_shards);
		for (int i = 0; i < m && current; i++)
			if (i == 0 || order[i]->shard != order[i - 1]->shard)
				current = kin_append_prepare(*stream, order[i]->shard);
		if (current)
			return m;
	}
}

/* Appends the routed records shard by shard; false when some must be routed again. */
static bool
place(KinStream *stream, KinNewRecord **order, int m, KinAppendMode mode, int64 minimum)
{
	for (int i = 0, next; i < m; i = next)
	{
		KinShard *shard = order[i]->shard;

		for (next = i + 1; next < m && order[next]->shard == shard; next++)
			;
		switch (kin_append(stream, shard, order + i, next - i, mode, minimum))
		{
			case KIN_APPENDED:
				break;
			case KIN_APPEND_REFUSED:
				raise_throttled(stream, shard);
			case KIN_APPEND_MOVED:
				return false;
		}
		for (int k = i; k < next; k++)
			order[k]->placed = true;
	}
	return true;
}

KinStream *
kin_put_open(const char *stream_name, const char *operation)
{
	KinStream *stream;

	PreventCommandIfReadOnly(operation);
	PreventCommandDuringRecovery(operation);
	PreventCommandIfParallelMode(operation);
	stream = kin_stream_open(stream_name);
	kin_require_right(stream, GetUserId(), KIN_RIGHT_PRODUCER, operation);
	return stream;
}

KinNewRecord *
kin_put(const char *stream_name, const KinPutEntry *entries, int n, KinAppendMode mode, int64 minimum,
		const char *operation, KinStream **stream_out)
{
	KinHashKey hashes[KIN_PUT_RECORDS_MAX];
	KinNewRecord *order[KIN_PUT_RECORDS_MAX];
	KinNewRecord *records = palloc0(n * sizeof(KinNewRecord));
	KinStream *stream;
	Size room = 0;
	char *tuples;
	char *to;

	stream = kin_put_open(stream_name, operation);
	for (int i = 0; i < n; i++)
	{
		kin_check_key(entries[i].key, entries[i].key_len);
		check_size(stream, &entries[i]);
		room = add_size(room, stored_size(&entries[i]));
	}

	hash_entries(entries, n, hashes);

	if (room >= KIN_LARGE_CALL)
		kin_keep_memory();
	to = tuples = MemoryContextAllocHuge(CurrentMemoryContext, room);
	for (int i = 0; i < n; i++)
	{
		records[i].size = entries[i].data_len + entries[i].key_len;
		records[i].number = -1;
		form_record(&records[i], &entries[i], to);
		to += stored_size(&entries[i]);
	}
	for (;; stream = kin_stream_open(stream->name))
	{
		int m = route(&stream, records, hashes, n, order);

		if (place(stream, order, m, mode, minimum))
			break;
	}
	pfree(tuples);
	*stream_out = stream;
	return records;
}
