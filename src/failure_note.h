/*
 * failure_note.h - what becomes of a lane whose turn has failed.
 */
#ifndef KIN_FAILURE_NOTE_H
#define KIN_FAILURE_NOTE_H

#include "batch_gather.h"
#include "call_mark.h"
#include "lane_store.h"

/* How far a turn came. */
typedef enum KinPhase
{
	KIN_PHASE_READ,    /* the function was not called: it can't be, or the shard could not be read */
	KIN_PHASE_CALL,    /* the function has failed */
	KIN_PHASE_DISCARD, /* the destination has failed */
	KIN_PHASE_SAVE,    /* the function was called, and the lane's row is being written */
	KIN_PHASE_GONE     /* the lane is no longer there: deleted by somebody, or by the function itself */
} KinPhase;

/*
 * In a transaction of its own: counts the failure, cuts the batch in two if the mapping wants that, and says when to try
 * again; 0 when there is no such lane any more, or nothing to do for it.  Lane and batch are those of the turn that has
 * failed, NULL if it did not come so far.
 */
extern TimestampTz kin_failure_note(int64 lane_id, const KinLane *failed, const KinBatch *batch, KinPhase phase,
									const ErrorData *error);

/*
 * The worker of this lane has ended in the middle of a turn.  end: the last record that the function was running with, KIN_NO_CALL when
 * it was not.  Returns when to try again.
 */
extern TimestampTz kin_failure_lost(int64 lane_id, int64 end);

/* The server has ended while this call was running. */
extern void kin_failure_crashed(const KinCallMark *call);

/* When a lane that fails is tried again: it waits as long as it has been failing, within limits, and a random part less. */
extern TimestampTz kin_failure_retry_at(const KinLane *lane);

/* Sends what is given up to the mapping's destination, as its owner. */
extern void kin_failure_discard(const KinLane *lane, Datum records, const char *condition);

#endif
