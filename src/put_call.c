/*
 * put_call.c - the SQL doors of the write road: put_record and the two shapes of put_records.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: backends of a primary.
 *
 * A malformed entry fails the whole call before anything is written; a throttled one is a row of the result, unless the
 * call is atomic.  Arguments are read in place: no array is taken apart into datums.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "compat.h"
#include "error_report.h"
#include "record_put.h"
#include "sequence_number.h"
#include "settings_define.h"

PG_FUNCTION_INFO_V1(kin_put_record);
PG_FUNCTION_INFO_V1(kin_put_records_arrays);
PG_FUNCTION_INFO_V1(kin_put_records_entries);
PG_FUNCTION_INFO_V1(kin_shard_for_key);

static char *
stream_name_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		kin_refuse_null("streamName");
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

static void
set_hash_key(KinPutEntry *entry, Datum value)
{
	entry->has_hash_key = true;
	if (!kin_hash_key_from_numeric(value, &entry->hash_key))
		ereport(
			ERROR,
			(kin_errcode(KIN_INVALID_ARGUMENT),
			 errmsg(
				 "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was %s",
				 DatumGetCString(DirectFunctionCall1(numeric_out, value)))));
}

/* Bytes of a varlena datum; a compressed or toasted one is expanded first. */
static inline void
set_bytes(const char **bytes, Size *len, Datum value)
{
	struct varlena *v = PG_DETOAST_DATUM_PACKED(value);

	*bytes = VARDATA_ANY(v);
	*len = VARSIZE_ANY_EXHDR(v);
}

/* The columns (shard_id text, sequence_number bigint, encryption_type text) of put_record, made once a process. */
static TupleDesc
put_record_columns(void)
{
	static TupleDesc columns = NULL;

	if (columns == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
		TupleDesc desc = CreateTemplateTupleDesc(3);

		TupleDescInitEntry(desc, 1, "shard_id", TEXTOID, -1, 0);
		TupleDescInitEntry(desc, 2, "sequence_number", INT8OID, -1, 0);
		TupleDescInitEntry(desc, 3, "encryption_type", TEXTOID, -1, 0);
		columns = BlessTupleDesc(desc);
		MemoryContextSwitchTo(old);
	}
	return columns;
}

/* sequence_number_for_ordering must be a number that may have been given out: not one of the future. */
static void
check_ordering(const char *stream_name, const KinPutEntry *entry, int64 ordering)
{
	KinStream *stream = kin_stream_open(stream_name);
	KinShard *shard =
		kin_shard_for_hash(stream, entry->has_hash_key ? entry->hash_key : kin_hash_key_of(entry->key, entry->key_len));
	KinShardSlot *slot = kin_shard_lock(stream, shard);
	int64 last = slot->last_number;

	kin_slot_unlock(slot);
	if (ordering < 0 || (ordering > last && ordering >= kin_number_of_ms(kin_now_ms() + 1)))
		ereport(
			ERROR,
			(kin_errcode(KIN_INVALID_ARGUMENT),
			 errmsg("ExclusiveMinimumSequenceNumber %lld used in PutRecord on stream %s under account %s is invalid.",
					(long long) ordering, stream->name, kin_account_id_setting)));
}

/* kinesis.put_record(stream_name, data, partition_key, explicit_hash_key, sequence_number_for_ordering) */
Datum
kin_put_record(PG_FUNCTION_ARGS)
{
	char *stream_name = stream_name_argument(fcinfo);
	KinPutEntry entry = {0};
	KinNewRecord *record;
	KinStream *stream;
	int64 minimum = -1;
	Datum values[3];
	bool nulls[3] = {false, false, false};

	if (PG_ARGISNULL(1))
		kin_refuse_null("data");
	if (PG_ARGISNULL(2))
		kin_refuse_null("partitionKey");
	set_bytes(&entry.data, &entry.data_len, PG_GETARG_DATUM(1));
	set_bytes(&entry.key, &entry.key_len, PG_GETARG_DATUM(2));
	if (!PG_ARGISNULL(3))
		set_hash_key(&entry, PG_GETARG_DATUM(3));
	if (!PG_ARGISNULL(4))
	{
		minimum = PG_GETARG_INT64(4);
		check_ordering(stream_name, &entry, minimum);
	}
	record = kin_put(stream_name, &entry, 1, KIN_APPEND_ALL, minimum, "PutRecord", &stream);
	values[0] = CStringGetTextDatum(kin_shard_id(record->shard->index));
	values[1] = Int64GetDatum(record->number);
	values[2] = CStringGetTextDatum("NONE");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(put_record_columns(), values, nulls)));
}

/* Walks the elements of a one-dimensional array of variable-length values. */
typedef struct ArrayWalk
{
	const char *field;
	int length;
	int next;
	char *at;
	bits8 *nulls;
	char align;
} ArrayWalk;

static void
walk_begin(ArrayWalk *walk, const char *field, Datum value, char align)
{
	ArrayType *array = DatumGetArrayTypeP(value);

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (kin_errcode(KIN_VALIDATION), errmsg("\"%s\" must be an array of one dimension", field)));
	walk->field = field;
	walk->length = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	walk->next = 0;
	walk->at = ARR_DATA_PTR(array);
	walk->nulls = ARR_NULLBITMAP(array);
	walk->align = align;
}

/* Next element; false when it is null. */
static inline bool
walk_next(ArrayWalk *walk, Datum *value)
{
	int i = walk->next++;

	if (walk->nulls && !(walk->nulls[i / 8] & (1 << (i % 8))))
		return false;
	walk->at = (char *) att_align_nominal(walk->at, walk->align);
	*value = PointerGetDatum(walk->at);
	walk->at += VARSIZE_ANY(walk->at);
	return true;
}

static void
check_count(int n)
{
	if (n < 1 || n > KIN_PUT_RECORDS_MAX)
		ereport(ERROR, (kin_errcode(KIN_VALIDATION),
						errmsg("1 validation error detected: Value at 'records' failed to satisfy constraint: "
							   "Member must have length %s than or equal to %d",
							   n < 1 ? "greater" : "less", n < 1 ? 1 : KIN_PUT_RECORDS_MAX),
						errhint("A call takes 1 to %d records; this one has %d.", KIN_PUT_RECORDS_MAX, n)));
}

/* Stores the entries and returns a row for each. */
static void
put_and_return(FunctionCallInfo fcinfo, const char *stream_name, KinPutEntry *entries, int n, bool atomic)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int64 bytes = 0;
	KinStream *stream;
	KinNewRecord *records;
	KinShard *named = NULL; /* shard whose id is in 'shard_id' */
	Datum values[4] = {0};

	for (int i = 0; i < n; i++)
		bytes += entries[i].data_len + entries[i].key_len;
	if (bytes > KIN_PUT_BYTES_MAX)
		ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT), errmsg("Records size exceeds 10 MB limit"),
						errdetail("Data and partition keys have %lld bytes together; a call takes %lld.",
								  (long long) bytes, (long long) KIN_PUT_BYTES_MAX)));
	records = kin_put(stream_name, entries, n, atomic ? KIN_APPEND_ALL : KIN_APPEND_PARTIAL, -1, "PutRecords", &stream);

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int i = 0; i < n; i++)
	{
		bool failed = records[i].throttled;
		bool nulls[4] = {failed, failed, !failed, !failed};

		if (failed)
		{
			values[2] = CStringGetTextDatum(kin_error_name(KIN_THROUGHPUT_EXCEEDED));
			values[3] = CStringGetTextDatum(kin_throttled_message(stream, records[i].shard));
		}
		else
		{
			if (named != records[i].shard)
			{
				named = records[i].shard;
				values[1] = CStringGetTextDatum(kin_shard_id(named->index));
			}
			values[0] = Int64GetDatum(records[i].number);
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/* kinesis.put_records(stream_name, data[], partition_keys[], explicit_hash_keys[], atomic) */
Datum
kin_put_records_arrays(PG_FUNCTION_ARGS)
{
	char *stream_name = stream_name_argument(fcinfo);
	KinPutEntry entries[KIN_PUT_RECORDS_MAX] = {0};
	bool has_hash_keys = !PG_ARGISNULL(3);
	ArrayWalk data;
	ArrayWalk keys;
	ArrayWalk hash_keys = {0};

	if (PG_ARGISNULL(1))
		kin_refuse_null("data");
	if (PG_ARGISNULL(2))
		kin_refuse_null("partitionKeys");
	walk_begin(&data, "data", PG_GETARG_DATUM(1), TYPALIGN_INT);
	walk_begin(&keys, "partition_keys", PG_GETARG_DATUM(2), TYPALIGN_INT);
	if (has_hash_keys)
		walk_begin(&hash_keys, "explicit_hash_keys", PG_GETARG_DATUM(3), TYPALIGN_INT);
	if (data.length != keys.length || (has_hash_keys && hash_keys.length != data.length))
		ereport(ERROR,
				(kin_errcode(KIN_VALIDATION), errmsg("arrays of records have different lengths"),
				 has_hash_keys ? errdetail("data has %d elements, partition_keys %d, explicit_hash_keys %d.",
										   data.length, keys.length, hash_keys.length)
							   : errdetail("data has %d elements, partition_keys %d.", data.length, keys.length)));
	check_count(data.length);
	for (int i = 0; i < data.length; i++)
	{
		Datum value;

		if (!walk_next(&data, &value))
			kin_refuse_null("data");
		set_bytes(&entries[i].data, &entries[i].data_len, value);
		if (!walk_next(&keys, &value))
			kin_refuse_null("partitionKey");
		set_bytes(&entries[i].key, &entries[i].key_len, value);
		if (has_hash_keys && walk_next(&hash_keys, &value))
			set_hash_key(&entries[i], value);
	}
	put_and_return(fcinfo, stream_name, entries, data.length, !PG_ARGISNULL(4) && PG_GETARG_BOOL(4));
	return (Datum) 0;
}

/* kinesis.put_records(stream_name, records kinesis.put_records_request_entry[], atomic) */
Datum
kin_put_records_entries(PG_FUNCTION_ARGS)
{
	char *stream_name = stream_name_argument(fcinfo);
	KinPutEntry entries[KIN_PUT_RECORDS_MAX] = {0};
	ArrayWalk records;
	TupleDesc columns;

	if (PG_ARGISNULL(1))
		kin_refuse_null("records");
	walk_begin(&records, "records", PG_GETARG_DATUM(1), TYPALIGN_DOUBLE);
	check_count(records.length);
	columns = lookup_rowtype_tupdesc(ARR_ELEMTYPE(DatumGetArrayTypeP(PG_GETARG_DATUM(1))), -1);
	for (int i = 0; i < records.length; i++)
	{
		HeapTupleHeader header;
		HeapTupleData tuple;
		Datum value;
		Datum values[3];
		bool nulls[3];

		if (!walk_next(&records, &value))
			kin_refuse_null("records");
		header = DatumGetHeapTupleHeader(value);
		tuple.t_len = HeapTupleHeaderGetDatumLength(header);
		ItemPointerSetInvalid(&tuple.t_self);
		tuple.t_tableOid = InvalidOid;
		tuple.t_data = header;
		heap_deform_tuple(&tuple, columns, values, nulls);
		if (nulls[0])
			kin_refuse_null("data");
		if (nulls[1])
			kin_refuse_null("partitionKey");
		set_bytes(&entries[i].data, &entries[i].data_len, values[0]);
		set_bytes(&entries[i].key, &entries[i].key_len, values[1]);
		if (!nulls[2])
			set_hash_key(&entries[i], values[2]);
	}
	ReleaseTupleDesc(columns);
	put_and_return(fcinfo, stream_name, entries, records.length, !PG_ARGISNULL(2) && PG_GETARG_BOOL(2));
	return (Datum) 0;
}

/* kinesis.shard_for_key(stream_name, partition_key): id of the open shard that a record with this key goes to. */
Datum
kin_shard_for_key(PG_FUNCTION_ARGS)
{
	KinStream *stream = kin_stream_open(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	text *key = PG_GETARG_TEXT_PP(1);
	KinShard *shard = kin_shard_for_hash(stream, kin_hash_key_of(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)));

	PG_RETURN_TEXT_P(cstring_to_text(kin_shard_id(shard->index)));
}
