/*
 * batch_call.h - calls the function of an event source mapping.
 */
#ifndef KIN_BATCH_CALL_H
#define KIN_BATCH_CALL_H

#include "lane_store.h"

typedef struct KinCallWindow
{
	TimestampTz start;
	TimestampTz end;
	bool final_invoke;
	bool terminated_early;
} KinCallWindow;

/*
 * The function that the lane's mapping names, and its owner may call; raises an error when that is no longer so, or when the
 * owner may no longer read the stream.
 */
extern Oid kin_batch_function(const KinLane *lane);

/*
 * Calls it as the mapping's owner, with its time limited, and checks its deferred constraints.  The session stays the
 * owner's: so must the transaction end, since what the function has left to be done then is to be done with his rights.
 * end: the last record's number, for whoever must note that it never returned.  Returns what it returned; NULL for null and void.
 */
extern Jsonb *kin_batch_call(const KinLane *lane, Oid function, Datum records, int64 end, const KinCallWindow *window);

/*
 * Becomes the owner, and limits the time that his code takes, be it the function's or a destination's.  It ends by itself
 * before the transaction commits; who catches an error ends it.  end: as above, or KIN_NO_CALL for a destination's.
 */
extern void kin_call_begin(const KinLane *lane, int64 end);
extern void kin_call_end(void);

/* What was deferred is checked while its worth is still to be decided, not at commit. */
extern void kin_call_check_deferred(void);

/* Once in each worker. */
extern void kin_batch_call_init(void);

/* Leaves nothing in the session that one mapping's function could have left for another's. */
extern void kin_forget_session(void);

#endif
