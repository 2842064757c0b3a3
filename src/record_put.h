/*
 * record_put.h - the write road: checked records in, shard ids and numbers out.
 */
#ifndef KIN_RECORD_PUT_H
#define KIN_RECORD_PUT_H

#include "slice_append.h"

#define KIN_PUT_RECORDS_MAX    500
#define KIN_PUT_BYTES_MAX      (INT64CONST(10) * 1024 * 1024)
#define KIN_KEY_CHARACTERS_MAX 256

/* A record as the caller gave it.  Pointers must live until the put returns. */
typedef struct KinPutEntry
{
	const char *data;
	Size data_len;
	const char *key;
	Size key_len;
	bool has_hash_key; /* an explicit hash key routes instead of the partition key */
	KinHashKey hash_key;
} KinPutEntry;

/* Opens a stream for putting: refuses where nothing can be written, and who has no right. */
extern KinStream *kin_put_open(const char *stream_name, const char *operation);

/* Raises when a partition key is not of 1 to 256 characters. */
extern void kin_check_key(const char *key, Size len);

/*
 * Stores n records.  Results (shard, number or throttled) are in the array returned, in the order of the entries.
 * KIN_APPEND_ALL raises when a shard refuses its part.
 */
extern KinNewRecord *kin_put(const char *stream_name, const KinPutEntry *entries, int n, KinAppendMode mode,
							 int64 minimum, const char *operation, KinStream **stream);

#endif
