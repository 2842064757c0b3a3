/*
 * call_mark.h - finds out whose function brought the server down.
 */
#ifndef KIN_CALL_MARK_H
#define KIN_CALL_MARK_H

/* A call of a function, for a lane; end: the last record that it was called with, or the lane's checkpoint without any. */
typedef struct KinCallMark
{
	int64 lane_id;
	int64 end;
	int64 invoked; /* how often the function had been called, by the lane's row: more now means that it was committed */
	bool alone;    /* no other function was running, in any database */
} KinCallMark;

/* In a worker: from now on, or no longer, a function runs for this lane. */
extern void kin_call_mark_set(int64 lane_id, int64 end, int64 invoked);
extern void kin_call_mark_clear(void);

/* In the launcher, when it starts: notes the calls that a former server did not finish. */
extern void kin_call_marks_collect(void);

/* In a scheduler: the calls in this database that ran when the server crashed; each is given once. */
extern int kin_call_marks_take(KinCallMark *calls, int most);

/* In every process that makes or meets the shared memory; see kinesis.c. */
extern void kin_call_mark_request(void);
extern void kin_call_mark_startup(void);

#endif
