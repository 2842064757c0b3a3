/*
 * record_form.h - turns stored records into values of kinesis.record.
 */
#ifndef KIN_RECORD_FORM_H
#define KIN_RECORD_FORM_H

#include "access/htup_details.h"

#define KIN_RECORD_COLUMNS 5

/* A kinesis.record[] that grows. */
typedef struct KinRecordArray
{
	Oid type;                   /* of kinesis.record */
	HeapTupleHeaderData header; /* what all records of that type begin with */
	int count;
	char *buffer;
	Size used;
	Size size;
	int64 bytes; /* data and partition keys, as limits count them */
} KinRecordArray;

extern void kin_records_begin(KinRecordArray *array, Oid type);

/* Appends a stored record; false when that would pass max_bytes and there are records already. */
extern bool kin_records_add(KinRecordArray *array, HeapTupleHeader stored, int64 number, int64 max_bytes);
extern Datum kin_records_finish(KinRecordArray *array);

/* Prepares the header of a kinesis.record; its type is InvalidOid for a plain tuple, which is no datum. */
extern void kin_record_header(HeapTupleHeaderData *header, Oid type);

/* Upper bound of a kinesis.record as a tuple, and the tuple itself written at 'to'; returns its length. */
extern Size kin_record_room(struct varlena *key, struct varlena *data);
extern Size kin_record_form(char *to, int64 number, struct varlena *key, struct varlena *data,
							const HeapTupleHeaderData *like);

/* The data of a stored record in line: what was toasted is fetched. */
extern struct varlena *kin_inline_data(struct varlena *data);

#endif
