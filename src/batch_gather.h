/*
 * batch_gather.h - the next batch of a lane.
 */
#ifndef KIN_BATCH_GATHER_H
#define KIN_BATCH_GATHER_H

#include "lane_store.h"
#include "shard_await.h"

typedef struct KinBatch
{
	KinReading reading;
	int n;
	int64 *numbers;           /* of the records, ascending */
	int64 upto;               /* the checkpoint when the batch is done: what was filtered out behind it is done, too */
	bool full;                /* nothing more fits into it */
	bool last_of_window;      /* what lies behind belongs to another tumbling window */
	TimestampTz window_start; /* of the batch */
} KinBatch;

/* Reads behind the lane's checkpoint, up to this number at most. */
extern void kin_batch_gather(const KinLane *lane, int64 limit, KinBatch *batch);

/* When a tumbling window began that holds this time. */
extern TimestampTz kin_window_start(const KinLane *lane, TimestampTz t);

#endif
