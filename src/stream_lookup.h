/*
 * stream_lookup.h - a backend's view of streams: their shards, limits and slices.
 *
 * The pointers are valid until the end of the transaction, but what they say may be out of date: whoever ran SQL, took a
 * lock or waited asks kin_stream_is_current(), and opens the stream again when it is not.
 */
#ifndef KIN_STREAM_LOOKUP_H
#define KIN_STREAM_LOOKUP_H

#include "nodes/pg_list.h"

#include "hash_key.h"
#include "name_check.h"
#include "shard_state.h"

/* One time slice of a shard: a heap with the numbers in [lower, upper). */
typedef struct KinSlice
{
	int64 lower;
	int64 upper;
	Oid relid;
} KinSlice;

typedef struct KinShard
{
	int32 index;
	int32 parent;          /* -1 = none */
	int32 adjacent_parent; /* -1 = none */
	KinHashKey starting_hash_key;
	KinHashKey ending_hash_key; /* inclusive */
	int64 starting_number;
	int64 ending_number; /* -1 while the shard is open */
	int64 closed_ms;     /* when it was closed; meaningless while open */
	KinShardKey key;
	KinShardSlot *slot; /* a guess: kin_slot_lock() tells */
	int nslices;        /* -1 = not read yet */
	KinSlice *slices;   /* ascending */
	int64 locked_slice; /* lower bound of the slice that the put under way has locked */
} KinShard;

/* NULL limits are kept as -1 = unlimited. */
typedef struct KinStream
{
	int64 id;
	char name[KIN_NAME_MAX + 1];
	Oid table; /* the partitioned table that SQL users read */
	int64 retention_ms;
	int64 trimmed_before; /* numbers below were past retention once and stay so */
	int64 max_record_bytes;
	double write_bytes_rate;
	double write_records_rate;
	double read_bytes_rate;
	double read_calls_rate;
	int nshards;
	KinShard *shards; /* ascending by index */
	int nopen;
	KinShard **open; /* open shards, ascending by hash range */
	bool valid;      /* cleared by invalidation messages */
	MemoryContext context;
} KinStream;

/* The name may be an ARN.  No such stream: the first raises ResourceNotFoundException, the others give NULL. */
extern KinStream *kin_stream_open(const char *name);
extern KinStream *kin_stream_find(const char *name);
extern KinStream *kin_stream_open_by_id(int64 stream_id);

/* The stream's table, and its name, read from the catalog alone; InvalidOid and NULL when there is no such stream. */
extern Oid kin_stream_table(int64 stream_id);
extern char *kin_stream_name_of(int64 stream_id);

/* What this backend knows of a stream is out of date at once; others learn of it by an invalidation. */
extern void kin_stream_forget(Oid table);

/* Has the map changed since the stream was opened?  Messages arrive whenever a lock is taken. */
static inline bool
kin_stream_is_current(const KinStream *stream)
{
	return stream->valid;
}

/* Open shard that holds a hash key. */
extern KinShard *kin_shard_for_hash(KinStream *stream, KinHashKey key);

/* Shard by its id as a user writes it, or by its index.  No such shard, or expired: the first raises, the second gives NULL. */
extern KinShard *kin_shard_by_id(KinStream *stream, const char *shard_id);
extern KinShard *kin_shard_by_index(KinStream *stream, int32 index);

/* Raises ResourceNotFoundException for a shard that is not there. */
extern void kin_refuse_shard(int32 index, const char *stream_name) pg_attribute_noreturn();

/* First number that is still within the retention period. */
extern int64 kin_stream_horizon(const KinStream *stream);

/* Reads the shard's slices from the catalog, when they are not there yet or 'again' is set. */
extern void kin_shard_read_slices(KinStream *stream, KinShard *shard, bool again);
extern KinSlice *kin_slice_for_number(KinShard *shard, int64 number);

/* What a caller is told whom the shard's limits refuse. */
extern char *kin_throttled_message(KinStream *stream, KinShard *shard);

#endif
