/*
 * lane_list.h - the lanes that there are, as a scheduler knows them.
 */
#ifndef KIN_LANE_LIST_H
#define KIN_LANE_LIST_H

#include "datatype/timestamp.h"
#include "utils/hsearch.h"
#include "utils/uuid.h"

#include "notification_send.h"

typedef enum KinRunnableState
{
	KIN_LANE_RESTING, /* until its shard has news, or the time has come */
	KIN_LANE_READY,
	KIN_LANE_RUNNING,
	KIN_LANE_LATER /* until the time has come, whatever its shard has */
} KinRunnableState;

typedef struct KinRunnable
{
	int64 lane_id; /* hash key */
	pg_uuid_t uuid;
	KinRunnableState state;
	TimestampTz at; /* 0 = no time */
	bool news;      /* came while it ran */
	bool listed;    /* by the reading of the catalog under way */
	Oid owner;      /* of the mapping */
	bool suspected; /* the server crashed while it ran, and it has not done well since */
	bool synced;    /* for its sake the catalog was read anew, and it has not done anything else since */
	TimestampTz ready_since;
	int mapping; /* in mappings */
	int shard;   /* in shards */
	struct KinRunnable *next_ready;
	struct KinRunnable *next_of_shard;
} KinRunnable;

typedef struct KinRunnableMapping
{
	pg_uuid_t uuid;
	int running;
} KinRunnableMapping;

typedef struct KinRunnableShard
{
	int64 stream_id;
	int32 shard_index;
	KinRunnable *lanes;
	int bell; /* in bells, or -1 */
} KinRunnableShard;

/* One a scheduler. */
typedef struct KinLaneMap
{
	HTAB *table; /* of lanes by lane_id */
	int ntimed;  /* lanes that wait for a time */
	KinRunnable *first_ready;
	KinRunnable *last_ready;
	KinRunnableMapping *mappings;
	int nmappings;
	KinRunnableShard *shards;
	int nshards;
	int32 *watches; /* of the shards, in their order */
	int *rung;      /* room for as many */
	KinBell *bells;
	int nbells;
	bool left_over; /* a row could not be changed as it must: to be read again soon */
} KinLaneMap;

extern KinLaneMap kin_lanes;

/*
 * Reads what there is, and watches its shards.  Watches begin before anything is looked at: what comes between is not missed.
 * False when there is nothing to do in this database.
 */
extern bool kin_lanes_read(void);

/* To be given to a worker; at the end of the line. */
extern void kin_lane_make_ready(KinRunnable *lane);

/* To be made ready then; 0 = at no time. */
extern void kin_lane_set_time(KinRunnable *lane, TimestampTz at);
extern void kin_lane_forget(KinRunnable *lane);

#endif
