/*
 * session_live.h - numbers for sessions, and whether they still live.
 */
#ifndef KIN_SESSION_LIVE_H
#define KIN_SESSION_LIVE_H

/* Number of this session, unlike that of any other before or after. */
extern int64 kin_session_number(void);
extern bool kin_session_lives(int64 number);

/* This session counts as ended from now on; for whoever tells others about it at exit. */
extern void kin_session_end(void);

/* In every process that makes or meets the shared memory; see kinesis.c. */
extern void kin_session_live_request(void);
extern void kin_session_live_startup(void);

#endif
