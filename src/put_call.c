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

#include "access_check.h"
#include "call_scan.h"
#include "compat.h"
#include "error_report.h"
#include "put_call.h"
#include "record_put.h"
#include "sequence_number.h"
#include "settings_define.h"

PG_FUNCTION_INFO_V1(kin_put_record);
PG_FUNCTION_INFO_V1(kin_put_records_arrays);
PG_FUNCTION_INFO_V1(kin_put_records_entries);
PG_FUNCTION_INFO_V1(kin_shard_for_key);

static char *
stream_name_argument(const KinArguments *given)
{
	if (given->nulls[0])
		kin_refuse_null("streamName");
	return TextDatumGetCString(given->values[0]);
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
	KinStream *stream = kin_put_open(stream_name, "PutRecord");
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

/* Puts one record; the values are the columns of put_record. */
static void
put_record(const KinArguments *given, TupleDesc columns, Datum *values, bool *nulls)
{
	char *stream_name = stream_name_argument(given);
	KinPutEntry entry = {0};
	KinNewRecord *record;
	KinStream *stream;
	int64 minimum = -1;

	if (given->nulls[1])
		kin_refuse_null("data");
	if (given->nulls[2])
		kin_refuse_null("partitionKey");
	set_bytes(&entry.data, &entry.data_len, given->values[1]);
	set_bytes(&entry.key, &entry.key_len, given->values[2]);
	if (!given->nulls[3])
		set_hash_key(&entry, given->values[3]);
	if (!given->nulls[4])
	{
		minimum = DatumGetInt64(given->values[4]);
		check_ordering(stream_name, &entry, minimum);
	}
	record = kin_put(stream_name, &entry, 1, KIN_APPEND_ALL, minimum, "PutRecord", &stream);
	values[0] = CStringGetTextDatum(kin_shard_id(record->shard->index));
	values[1] = Int64GetDatum(record->number);
	values[2] = CStringGetTextDatum("NONE");
}

/* kinesis.put_record(stream_name, data, partition_key, explicit_hash_key, sequence_number_for_ordering) */
Datum
kin_put_record(PG_FUNCTION_ARGS)
{
	KinArguments given = kin_arguments(fcinfo);
	Datum values[3];
	bool nulls[3] = {false, false, false};

	put_record(&given, NULL, values, nulls);
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

/* A row of put_records' answer. */
typedef struct PutRow
{
	int64 number;     /* -1 when the record was refused */
	Datum shard_id;   /* these two when it was stored ... */
	Datum error_code; /* ... and these when it was not */
	Datum error_message;
} PutRow;

typedef struct PutAnswer
{
	int count;
	PutRow rows[FLEXIBLE_ARRAY_MEMBER];
} PutAnswer;

static void
row_values(const PutRow *row, Datum *values, bool *nulls)
{
	bool failed = row->number < 0;

	values[0] = Int64GetDatum(row->number);
	values[1] = row->shard_id;
	values[2] = row->error_code;
	values[3] = row->error_message;
	nulls[0] = nulls[1] = failed;
	nulls[2] = nulls[3] = !failed;
}

/* Stores the entries and makes the answer of what became of each. */
static PutAnswer *
put_entries(const char *stream_name, KinPutEntry *entries, int n, bool atomic)
{
	PutAnswer *answer;
	int64 bytes = 0;
	KinStream *stream;
	KinNewRecord *records;
	KinShard *named = NULL; /* shard whose id is in 'shard_id' */
	Datum shard_id = 0;

	for (int i = 0; i < n; i++)
		bytes += entries[i].data_len + entries[i].key_len;
	if (bytes > KIN_PUT_BYTES_MAX)
		ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT), errmsg("Records size exceeds 10 MB limit"),
						errdetail("Data and partition keys have %lld bytes together; a call takes %lld.",
								  (long long) bytes, (long long) KIN_PUT_BYTES_MAX)));
	records = kin_put(stream_name, entries, n, atomic ? KIN_APPEND_ALL : KIN_APPEND_PARTIAL, -1, "PutRecords", &stream);

	answer = palloc(offsetof(PutAnswer, rows) + n * sizeof(PutRow));
	answer->count = n;
	for (int i = 0; i < n; i++)
	{
		PutRow *row = &answer->rows[i];

		if (records[i].throttled)
		{
			row->number = -1;
			row->error_code = CStringGetTextDatum(kin_error_name(KIN_THROUGHPUT_EXCEEDED));
			row->error_message = CStringGetTextDatum(kin_throttled_message(stream, records[i].shard));
			continue;
		}
		if (named != records[i].shard)
		{
			named = records[i].shard;
			shard_id = CStringGetTextDatum(kin_shard_id(named->index));
		}
		row->number = records[i].number;
		row->shard_id = shard_id;
	}
	return answer;
}

/* The call with an array of each: data, partition keys, explicit hash keys. */
static PutAnswer *
put_arrays(const KinArguments *given)
{
	char *stream_name = stream_name_argument(given);
	KinPutEntry entries[KIN_PUT_RECORDS_MAX] = {0};
	bool has_hash_keys = !given->nulls[3];
	ArrayWalk data;
	ArrayWalk keys;
	ArrayWalk hash_keys = {0};

	if (given->nulls[1])
		kin_refuse_null("data");
	if (given->nulls[2])
		kin_refuse_null("partitionKeys");
	walk_begin(&data, "data", given->values[1], TYPALIGN_INT);
	walk_begin(&keys, "partition_keys", given->values[2], TYPALIGN_INT);
	if (has_hash_keys)
		walk_begin(&hash_keys, "explicit_hash_keys", given->values[3], TYPALIGN_INT);
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
	return put_entries(stream_name, entries, data.length, !given->nulls[4] && DatumGetBool(given->values[4]));
}

/* The call with one array of put_records_request_entry. */
static PutAnswer *
put_request_entries(const KinArguments *given)
{
	char *stream_name = stream_name_argument(given);
	KinPutEntry entries[KIN_PUT_RECORDS_MAX] = {0};
	ArrayWalk records;
	TupleDesc columns;

	if (given->nulls[1])
		kin_refuse_null("records");
	walk_begin(&records, "records", given->values[1], TYPALIGN_DOUBLE);
	check_count(records.length);
	columns = lookup_rowtype_tupdesc(ARR_ELEMTYPE(DatumGetArrayTypeP(given->values[1])), -1);
	kin_require_columns(columns, 3);
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
	return put_entries(stream_name, entries, records.length, !given->nulls[2] && DatumGetBool(given->values[2]));
}

static void
return_rows(FunctionCallInfo fcinfo, const PutAnswer *answer)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int i = 0; i < answer->count; i++)
	{
		Datum values[4];
		bool nulls[4];

		row_values(&answer->rows[i], values, nulls);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/* kinesis.put_records(stream_name, data[], partition_keys[], explicit_hash_keys[], atomic) */
Datum
kin_put_records_arrays(PG_FUNCTION_ARGS)
{
	KinArguments given = kin_arguments(fcinfo);

	return_rows(fcinfo, put_arrays(&given));
	return (Datum) 0;
}

/* kinesis.put_records(stream_name, records kinesis.put_records_request_entry[], atomic) */
Datum
kin_put_records_entries(PG_FUNCTION_ARGS)
{
	KinArguments given = kin_arguments(fcinfo);

	return_rows(fcinfo, put_request_entries(&given));
	return (Datum) 0;
}

/* kinesis.shard_for_key(stream_name, partition_key): id of the open shard that a record with this key goes to. */
Datum
kin_shard_for_key(PG_FUNCTION_ARGS)
{
	KinStream *stream = kin_stream_open(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	text *key = PG_GETARG_TEXT_PP(1);
	KinShard *shard;

	kin_require_right(stream, GetUserId(), KIN_RIGHT_DESCRIBE, "ListShards");
	kin_check_key(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
	shard = kin_shard_for_hash(stream, kin_hash_key_of(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)));
	PG_RETURN_TEXT_P(cstring_to_text(kin_shard_id(shard->index)));
}

typedef struct PutScan
{
	KinCallScan call;
	PutAnswer *answer;
	int next;
} PutScan;

static void
scan_begin_arrays(KinCallScan *call)
{
	((PutScan *) call)->answer = put_arrays(&call->given);
	((PutScan *) call)->next = 0;
}

static void
scan_begin_entries(KinCallScan *call)
{
	((PutScan *) call)->answer = put_request_entries(&call->given);
	((PutScan *) call)->next = 0;
}

static bool
scan_next_row(KinCallScan *call, Datum *values, bool *nulls)
{
	PutScan *scan = (PutScan *) call;

	if (scan->next == scan->answer->count)
		return false;
	row_values(&scan->answer->rows[scan->next++], values, nulls);
	return true;
}

static void
scan_rewind(KinCallScan *call)
{
	((PutScan *) call)->next = 0;
}

void
kin_put_call_init(void)
{
	static KinScannable arrays = {.symbol = "kin_put_records_arrays",
								  .label = "KinesisPutRecords",
								  .arguments = 5,
								  .state_size = sizeof(PutScan),
								  .begin = scan_begin_arrays,
								  .next = scan_next_row,
								  .rewind = scan_rewind};
	static KinScannable entries = {.symbol = "kin_put_records_entries",
								   .label = "KinesisPutRecordsEntries",
								   .arguments = 3,
								   .state_size = sizeof(PutScan),
								   .begin = scan_begin_entries,
								   .next = scan_next_row,
								   .rewind = scan_rewind};
	static KinScannable record = {.symbol = "kin_put_record",
								  .label = "KinesisPutRecord",
								  .arguments = 5,
								  .row = put_record};

	kin_call_scan_register(&arrays);
	kin_call_scan_register(&entries);
	kin_call_scan_register(&record);
}
