/*
 * event_form.c - makes the event that the function of an event source mapping is called with, as AWS Lambda gets it.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: backends and workers.
 *
 * An event has thousands of records with thirteen members each, and pushJsonbValue() would take half of the time to
 * make sure of their order.  So the tree is set up here, in the order in which jsonb keeps members: shorter names first,
 * then by bytes.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "common/base64.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/typcache.h"

#include "compat.h"
#include "error_report.h"
#include "event_form.h"
#include "name_check.h"
#include "record_form.h"
#include "settings_define.h"

/* 1970-01-01 is this many milliseconds before PostgreSQL's epoch. */
#define UNIX_EPOCH_MS (INT64CONST(1000) * SECS_PER_DAY * (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE))

/* What a record takes in the event's text beyond its data and key.  A batch of 10000 small ones has room in 6 MB. */
#define EVENT_RECORD_FIXED 560

PG_FUNCTION_INFO_V1(kin_event);
PG_FUNCTION_INFO_V1(kin_event_bytes);

/* The fields of a record that an event has, in the order of kinesis.record. */
enum
{
	RECORD_NUMBER,
	RECORD_ARRIVAL,
	RECORD_KEY,
	RECORD_DATA
};

/* Members of a record, of its "kinesis" and of the event, in the order of jsonb. */
enum
{
	EVENT_ID,
	KINESIS,
	AWS_REGION,
	EVENT_NAME,
	EVENT_SOURCE,
	EVENT_VERSION,
	EVENT_SOURCE_ARN,
	INVOKE_IDENTITY_ARN,
	OUTER_MEMBERS
};

enum
{
	DATA,
	PARTITION_KEY,
	SEQUENCE_NUMBER,
	SCHEMA_VERSION,
	ARRIVAL,
	INNER_MEMBERS
};

enum
{
	STATE,
	WINDOW,
	RECORDS,
	SHARD_ID,
	WINDOW_SOURCE_ARN,
	IS_FINAL,
	IS_EARLY,
	EVENT_MEMBERS
};

static const char *const outer_names[OUTER_MEMBERS] = {"eventID",        "kinesis",          "awsRegion",
													   "eventName",      "eventSource",      "eventVersion",
													   "eventSourceARN", "invokeIdentityArn"};
static const char *const inner_names[INNER_MEMBERS] = {"data", "partitionKey", "sequenceNumber", "kinesisSchemaVersion",
													   "approximateArrivalTimestamp"};
static const char *const event_names[EVENT_MEMBERS] =
	{"state", "window", "Records", "shardId", "eventSourceARN", "isFinalInvokeForWindow", "isWindowTerminatedEarly"};
static const char *const window_names[] = {"end", "start"};

/* What all records of an event have in common. */
typedef struct EventBuilder
{
	const KinEventSource *source;
	TupleDesc columns;
	JsonbPair outer[OUTER_MEMBERS];
	JsonbPair inner[INNER_MEMBERS];
} EventBuilder;

static inline void
set_bytes(JsonbValue *value, const char *bytes, int len)
{
	value->type = jbvString;
	value->val.string.val = unconstify(char *, bytes);
	value->val.string.len = len;
}

static inline void
set_string(JsonbValue *value, const char *string)
{
	set_bytes(value, string, strlen(string));
}

static void
set_bool(JsonbValue *value, bool truth)
{
	value->type = jbvBool;
	value->val.boolean = truth;
}

static inline void
set_object(JsonbValue *value, JsonbPair *pairs, int n)
{
	value->type = jbvObject;
	value->val.object.pairs = pairs;
	value->val.object.nPairs = n;
}

static void
name_members(JsonbPair *pairs, const char *const *names, int n)
{
	memset(pairs, 0, n * sizeof(JsonbPair));
	for (int i = 0; i < n; i++)
	{
		set_string(&pairs[i].key, names[i]);
		pairs[i].value.type = jbvNull;
	}
}

static void
set_base64(JsonbValue *value, struct varlena *data)
{
	int len = VARSIZE_ANY_EXHDR(data);
	char *encoded;
	int room;

	/* Longer strings would run into the bits beside the length; records of streams are far from that. */
	if (len > JENTRY_OFFLENMASK / 4 * 3 - 3)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("data of a record is too large for an event"),
						errdetail("It has %d bytes.", len)));
	room = pg_b64_enc_len(len);
	encoded = palloc(room);
	room = pg_b64_encode((const void *) VARDATA_ANY(data), len, encoded, room);
	if (room < 0)
		elog(ERROR, "could not encode %d bytes", len);
	set_bytes(value, encoded, room);
}

/* Seconds since 1970, to the millisecond. */
static void
set_arrival(JsonbValue *value, TimestampTz arrival)
{
	if (TIMESTAMP_NOT_FINITE(arrival))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("arrival time of a record is not finite")));
	value->type = jbvNumeric;
	value->val.numeric = int64_div_fast_to_numeric(arrival / 1000 + UNIX_EPOCH_MS, 3);
}

/* Fills in what is the record's own; the pairs are copies of the builder's. */
static void
set_record(const EventBuilder *event, Datum record, JsonbPair *outer, JsonbPair *inner)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(record);
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};
	Datum values[KIN_RECORD_COLUMNS];
	bool nulls[KIN_RECORD_COLUMNS];
	struct varlena *key;
	int shard_len = event->outer[EVENT_ID].value.val.string.len;
	char *id = palloc(shard_len + 1 + MAXINT8LEN + 1);
	char *number = id + shard_len + 1;
	int number_len;

	ItemPointerSetInvalid(&tuple.t_self);
	heap_deform_tuple(&tuple, event->columns, values, nulls);
	if (nulls[RECORD_NUMBER] || nulls[RECORD_ARRIVAL] || nulls[RECORD_KEY] || nulls[RECORD_DATA])
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a record has a null field")));

	memcpy(id, event->source->shard_id, shard_len);
	id[shard_len] = ':';
	number_len = pg_lltoa(DatumGetInt64(values[RECORD_NUMBER]), number);
	set_bytes(&outer[EVENT_ID].value, id, shard_len + 1 + number_len);
	set_object(&outer[KINESIS].value, inner, INNER_MEMBERS);

	key = PG_DETOAST_DATUM_PACKED(values[RECORD_KEY]);
	set_base64(&inner[DATA].value, PG_DETOAST_DATUM_PACKED(values[RECORD_DATA]));
	set_bytes(&inner[PARTITION_KEY].value, VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
	set_bytes(&inner[SEQUENCE_NUMBER].value, number, number_len);
	set_arrival(&inner[ARRIVAL].value, DatumGetTimestampTz(values[RECORD_ARRIVAL]));
}

static void
begin_builder(EventBuilder *event, const KinEventSource *source, TupleDesc columns)
{
	event->source = source;
	event->columns = columns;
	name_members(event->outer, outer_names, OUTER_MEMBERS);
	set_string(&event->outer[EVENT_ID].value, source->shard_id);
	set_string(&event->outer[AWS_REGION].value, kin_region_setting);
	set_string(&event->outer[EVENT_NAME].value, "aws:kinesis:record");
	set_string(&event->outer[EVENT_SOURCE].value, "aws:kinesis");
	set_string(&event->outer[EVENT_VERSION].value, "1.0");
	set_string(&event->outer[EVENT_SOURCE_ARN].value, source->event_source_arn);
	set_string(&event->outer[INVOKE_IDENTITY_ARN].value, source->invoke_identity_arn);
	name_members(event->inner, inner_names, INNER_MEMBERS);
	set_string(&event->inner[SCHEMA_VERSION].value, "1.0");
}

static void
set_records(JsonbValue *value, ArrayType *records, const KinEventSource *source)
{
	Oid type = ARR_ELEMTYPE(records);
	EventBuilder event;
	Datum *elements;
	bool *nulls;
	int n;
	JsonbPair *pairs;

	begin_builder(&event, source, lookup_rowtype_tupdesc(type, -1));
	kin_require_columns(event.columns, KIN_RECORD_COLUMNS);
	deconstruct_array(records, type, -1, false, TYPALIGN_DOUBLE, &elements, &nulls, &n);
	value->type = jbvArray;
	value->val.array.nElems = n;
	value->val.array.rawScalar = false;
	value->val.array.elems = palloc_extended(mul_size(Max(n, 1), sizeof(JsonbValue)), MCXT_ALLOC_HUGE);
	pairs = palloc_extended(mul_size(Max(n, 1), sizeof(event.outer) + sizeof(event.inner)), MCXT_ALLOC_HUGE);
	for (int i = 0; i < n; i++, pairs += OUTER_MEMBERS + INNER_MEMBERS)
	{
		CHECK_FOR_INTERRUPTS();
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a record is null")));
		memcpy(pairs, event.outer, sizeof(event.outer));
		memcpy(pairs + OUTER_MEMBERS, event.inner, sizeof(event.inner));
		set_record(&event, elements[i], pairs, pairs + OUTER_MEMBERS);
		set_object(&value->val.array.elems[i], pairs, OUTER_MEMBERS);
	}
	ReleaseTupleDesc(event.columns);
}

/* Windows begin and end at whole seconds. */
static void
set_time(JsonbValue *value, TimestampTz time)
{
	struct pg_tm tm;
	fsec_t fsec;

	if (timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	set_string(value, psprintf("%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour,
							   tm.tm_min, tm.tm_sec));
}

/* The tree of a jsonb. */
static void
set_jsonb(JsonbValue *value, Jsonb *jsonb)
{
	JsonbParseState *state = NULL;
	JsonbValue whole;

	if (JB_ROOT_IS_SCALAR(jsonb))
	{
		(void) JsonbExtractScalar(&jsonb->root, value);
		return;
	}
	JsonbToJsonbValue(jsonb, &whole);
	*value = *pushJsonbValue(&state, WJB_VALUE, &whole);
}

static void
set_window(JsonbPair *members, const KinEventSource *source)
{
	JsonbPair *window = palloc(lengthof(window_names) * sizeof(JsonbPair));

	if (source->window_state)
		set_jsonb(&members[STATE].value, source->window_state);
	else
		set_object(&members[STATE].value, NULL, 0);
	name_members(window, window_names, lengthof(window_names));
	set_time(&window[0].value, source->window_end);
	set_time(&window[1].value, source->window_start);
	set_object(&members[WINDOW].value, window, lengthof(window_names));
	set_string(&members[SHARD_ID].value, source->shard_id);
	set_string(&members[WINDOW_SOURCE_ARN].value, source->event_source_arn);
	set_bool(&members[IS_FINAL].value, source->final_invoke);
	set_bool(&members[IS_EARLY].value, source->terminated_early);
}

Jsonb *
kin_event_form(ArrayType *records, const KinEventSource *source)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "kinesis event", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	JsonbPair members[EVENT_MEMBERS];
	JsonbValue event;
	Jsonb *result;

	name_members(members, event_names, EVENT_MEMBERS);
	set_records(&members[RECORDS].value, records, source);
	if (source->has_window)
	{
		set_window(members, source);
		set_object(&event, members, EVENT_MEMBERS);
	}
	else
		set_object(&event, members + RECORDS, 1);
	MemoryContextSwitchTo(caller);
	result = JsonbValueToJsonb(&event);
	MemoryContextDelete(scratch);
	return result;
}

int64
kin_event_record_bytes(int64 key_len, int64 data_len)
{
	return (data_len + 2) / 3 * 4 + key_len + EVENT_RECORD_FIXED;
}

char *
kin_identity_arn(const char *role)
{
	return psprintf("arn:aws:iam::%s:role/%s", kin_account_id_setting, role);
}

/* kinesis._event(records, shard_index, event_source_arn, owner [, window_start, window_end, state, final, early]) */
Datum
kin_event(PG_FUNCTION_ARGS)
{
	KinEventSource source = {.has_window = PG_NARGS() > 4};

	for (int i = 0; i < 4; i++)
		if (PG_ARGISNULL(i))
			PG_RETURN_NULL();
	source.shard_id = kin_shard_id(PG_GETARG_INT32(1));
	source.event_source_arn = text_to_cstring(PG_GETARG_TEXT_PP(2));
	source.invoke_identity_arn = kin_identity_arn(text_to_cstring(PG_GETARG_TEXT_PP(3)));
	if (source.has_window)
	{
		source.window_start = PG_GETARG_TIMESTAMPTZ(4);
		source.window_end = PG_GETARG_TIMESTAMPTZ(5);
		source.window_state = PG_ARGISNULL(6) ? NULL : PG_GETARG_JSONB_P(6);
		source.final_invoke = PG_GETARG_BOOL(7);
		source.terminated_early = PG_GETARG_BOOL(8);
	}
	PG_RETURN_JSONB_P(kin_event_form(PG_GETARG_ARRAYTYPE_P(0), &source));
}

/* kinesis._event_record_bytes(key_len, data_len) */
Datum
kin_event_bytes(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(kin_event_record_bytes(PG_GETARG_INT64(0), PG_GETARG_INT64(1)));
}
