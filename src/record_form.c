/*
 * record_form.c - writes values of kinesis.record straight from the page into their final place.
 *
 * Owns:    nothing.
 * Locking: none; the caller keeps the page pinned.
 * Runs in: backends.
 *
 * kinesis.record = (sequence_number bigint, approximate_arrival_timestamp timestamptz, partition_key text, data bytea,
 * encryption_type text), none null.  Forming each with heap_form_tuple() and then an array of them would copy every
 * record three times; here it is once.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "utils/array.h"
#include "utils/typcache.h"

#include "compat.h"
#include "record_form.h"
#include "sequence_number.h"
#include "slice_scan.h"

#define RECORD_HOFF     MAXALIGN(SizeofHeapTupleHeader)
#define ENCRYPTION_NONE "NONE"
#define FIRST_SIZE      8192
#define USUAL_SIZE_MAX  ((Size) 8 * 1024 * 1024)

/* Room to begin with: the next array is mostly as large as the last one, and growing to it by doubling would copy it twice. */
static Size usual_size = FIRST_SIZE;

struct varlena *
kin_inline_data(struct varlena *data)
{
	if (VARATT_IS_EXTERNAL(data) || VARATT_IS_COMPRESSED(data))
		return detoast_attr(data);
	return data;
}

Size
kin_record_room(struct varlena *key, struct varlena *data)
{
	return RECORD_HOFF + 2 * sizeof(int64) + INTALIGN(VARSIZE_ANY(key)) + INTALIGN(VARSIZE_ANY(data)) +
		   2 * ALIGNOF_INT + VARHDRSZ_SHORT + sizeof(ENCRYPTION_NONE) + MAXIMUM_ALIGNOF;
}

/* Copies a varlena as it is: a short header needs no alignment, a long one is aligned to 4. */
static inline char *
copy_varlena(char *base, char *p, struct varlena *value)
{
	Size size = VARSIZE_ANY(value);

	if (!VARATT_IS_SHORT(value))
	{
		char *aligned = base + INTALIGN(p - base);

		memset(p, 0, aligned - p);
		p = aligned;
	}
	memcpy(p, value, size);
	return p + size;
}

Size
kin_record_form(char *to, int64 number, struct varlena *key, struct varlena *data, const HeapTupleHeaderData *like)
{
	HeapTupleHeader header = (HeapTupleHeader) to;
	char *base = to + RECORD_HOFF;
	char *p = base;
	TimestampTz arrival = kin_arrival_time(number);

	memset(to, 0, RECORD_HOFF);
	memcpy(to, like, SizeofHeapTupleHeader);
	memcpy(p, &number, sizeof(number));
	memcpy(p + sizeof(number), &arrival, sizeof(arrival));
	p += sizeof(number) + sizeof(arrival);
	p = copy_varlena(base, p, key);
	p = copy_varlena(base, p, data);
	SET_VARSIZE_SHORT(p, VARHDRSZ_SHORT + strlen(ENCRYPTION_NONE));
	memcpy(p + VARHDRSZ_SHORT, ENCRYPTION_NONE, strlen(ENCRYPTION_NONE));
	p += VARHDRSZ_SHORT + strlen(ENCRYPTION_NONE);

	HeapTupleHeaderSetDatumLength(header, p - to);
	return p - to;
}

void
kin_record_header(HeapTupleHeaderData *header, Oid type)
{
	memset(header, 0, sizeof(*header));
	ItemPointerSetInvalid(&header->t_ctid);
	HeapTupleHeaderSetNatts(header, KIN_RECORD_COLUMNS);
	header->t_infomask = HEAP_HASVARWIDTH;
	header->t_hoff = RECORD_HOFF;
	if (OidIsValid(type))
	{
		TupleDesc columns = lookup_rowtype_tupdesc(type, -1);

		kin_set_datum(header, columns, RECORD_HOFF);
		ReleaseTupleDesc(columns);
	}
}

void
kin_records_begin(KinRecordArray *array, Oid type)
{
	array->type = type;
	kin_record_header(&array->header, type);
	array->count = 0;
	array->used = ARR_OVERHEAD_NONULLS(1);
	array->size = usual_size;
	array->buffer = palloc(array->size);
	array->bytes = 0;
}

bool
kin_records_add(KinRecordArray *array, HeapTupleHeader stored, int64 number, int64 max_bytes)
{
	struct varlena *key;
	struct varlena *data;
	struct varlena *inline_data;
	int64 bytes;
	Size needed;

	kin_tuple_fields(stored, &key, &data);
	/* toast_raw_datum_size() needs no fetch, so a record that is over the limit is not read for nothing. */
	bytes = VARSIZE_ANY_EXHDR(key) + (int64) toast_raw_datum_size(PointerGetDatum(data)) - VARHDRSZ;
	if (array->count > 0 && array->bytes + bytes > max_bytes)
		return false;

	inline_data = kin_inline_data(data);
	needed = MAXALIGN(array->used) + kin_record_room(key, inline_data);
	if (needed > array->size)
	{
		array->size = Max(array->size * 2, needed);
		array->buffer = repalloc(array->buffer, array->size);
	}
	array->used += kin_record_form(array->buffer + array->used, number, key, inline_data, &array->header);
	memset(array->buffer + array->used, 0, MAXALIGN(array->used) - array->used);
	array->used = MAXALIGN(array->used);
	array->count++;
	array->bytes += bytes;
	if (inline_data != data)
		pfree(inline_data);
	return true;
}

Datum
kin_records_finish(KinRecordArray *array)
{
	ArrayType *result = (ArrayType *) array->buffer;

	if (array->count == 0)
		return PointerGetDatum(construct_empty_array(array->type));
	SET_VARSIZE(result, array->used);
	usual_size = Min(Max(array->used + array->used / 8, FIRST_SIZE), USUAL_SIZE_MAX);
	result->ndim = 1;
	result->dataoffset = 0;
	result->elemtype = array->type;
	ARR_DIMS(result)[0] = array->count;
	ARR_LBOUND(result)[0] = 1;
	return PointerGetDatum(result);
}
