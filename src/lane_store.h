/*
 * lane_store.h - lanes of event source mappings as their rows have them.
 */
#ifndef KIN_LANE_STORE_H
#define KIN_LANE_STORE_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* Times are 0 where the column is null. */
typedef struct KinLane
{
	/* The mapping. */
	pg_uuid_t uuid;
	Oid owner;
	char *event_source_arn;
	char *function_schema;
	char *function_name;
	bool takes_records; /* f(records, context), else f(event) */
	Oid function_owner; /* when the function was chosen */
	int batch_size;
	int64 batching_window_us;
	int64 maximum_age_us; /* -1 = any age */
	int maximum_retries;  /* -1 = for ever */
	bool bisects;
	char *on_failure;     /* NULL = what is given up is only counted */
	Oid on_failure_owner; /* of the table or function there, when it was chosen */
	bool reports_failures;
	int64 tumbling_us; /* 0 = no windows */
	Jsonb *filter;     /* or NULL */

	/* Where the lane is; what may change. */
	int64 lane_id;
	int64 stream_id;
	char *stream_name;
	int32 shard_index;
	char *shard_id;
	int lane;
	int lanes;
	int64 checkpoint;
	int64 loaded_checkpoint; /* as the row has it */
	int64 invoked;           /* how often the function was called, as the row has it */
	int64 stop_at;           /* PG_INT64_MAX = none */
	int64 *ends;             /* of a failed batch and its halves, the smallest last */
	int nends;
	int attempts;
	int crashes;
	TimestampTz failing_since;
	TimestampTz retry_at;
	TimestampTz window_start;
	Jsonb *window_state;
	bool window_full;
	bool ended;
	const char *last_result;
	TimestampTz processed_at;
	Jsonb *last_error;

	/* Added to the counters. */
	int invocations;
	int failures;
	int64 records;
	int64 discarded;
} KinLane;

/* From now on the batch ends here. */
static inline void
kin_lane_pin(KinLane *lane, int64 end)
{
	if (lane->nends == 0 || lane->ends[lane->nends - 1] > end)
		lane->ends[lane->nends++] = end;
}

/* Has its batch failed as often as it may? */
static inline bool
kin_lane_exhausted(const KinLane *lane)
{
	return lane->maximum_retries >= 0 && lane->attempts > lane->maximum_retries;
}

/*
 * Takes the lane's lock until the transaction ends, and a new snapshot, so that what its last holder has done is seen; false
 * when somebody else has it.
 */
extern bool kin_lane_lock(int64 lane_id);

/* The lane, with room for two ends more; NULL when there is nothing to do for it: it is done, its mapping disabled or gone. */
extern KinLane *kin_lane_load(int64 lane_id);

/* Writes it back; false when it is gone, or no longer at the checkpoint that it was loaded with. */
extern bool kin_lane_save(const KinLane *lane);

#endif
