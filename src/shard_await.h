/*
 * shard_await.h - the next records of a shard, now or when they come.
 */
#ifndef KIN_SHARD_AWAIT_H
#define KIN_SHARD_AWAIT_H

#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "record_form.h"
#include "stream_lookup.h"

/* What is to become of a record that a reading has come to. */
typedef enum KinWanted
{
	KIN_TAKE,
	KIN_SKIP,
	KIN_STOP /* it and all behind it are left */
} KinWanted;

typedef struct KinReading
{
	/* What is wanted. */
	int64 stream_id;
	int32 shard_index;
	int64 after; /* records with greater numbers */
	int max_records;
	int64 max_bytes;
	Oid type;                                                            /* of kinesis.record */
	KinWanted (*wanted)(void *arg, HeapTupleHeader tuple, int64 number); /* NULL: all are */
	void *wanted_arg;

	/* What there is. */
	KinStream *stream;
	KinShard *shard;
	KinRecordArray records;
	int64 last;   /* number of the last record that was taken or skipped, or where reading began */
	bool more;    /* a readable record lies behind */
	bool blocked; /* what lies behind is a record whose transaction is open */
	bool at_end;  /* the shard is closed and read to its end */
} KinReading;

/* Finds the stream and the shard; raises ResourceNotFoundException. */
extern void kin_reading_open(KinReading *reading);

/* One look at the shard. */
extern void kin_reading_look(KinReading *reading, Snapshot snapshot);

/*
 * After a look that found nothing: looks again, each time with the latest snapshot, until there is a record, the shard has
 * come to its end, or the time is over.  check(), which may raise, is called in between; may be NULL.
 */
extern void kin_reading_wait(KinReading *reading, int wait_ms, void (*check)(void *arg), void *arg);

/* Milliseconds of an argument that says how long to wait. */
extern int kin_wait_argument(const Interval *wait, const char *name, int max_ms);

/*
 * Fills in the columns that get_records and subscribe_to_shard have in common: records, millis_behind_latest, child_shards.
 * True at the end of the shard, where the second column, the place to go on from, is null; else it is the caller's.
 */
extern bool kin_reading_answer(KinReading *reading, TupleDesc columns, Datum *values, bool *nulls);

/* Milliseconds behind the end of what can be read; 0 = caught up. */
extern int64 kin_reading_behind(const KinReading *reading);

#endif
