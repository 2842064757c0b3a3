/*
 * restore_finish.h - puts a stream in order after a logical restore.
 */
#ifndef KIN_RESTORE_FINISH_H
#define KIN_RESTORE_FINISH_H

/* Names this copy of the database: "system identifier/database OID". */
extern const char *kin_home_name(void);

/* Runs kinesis._finish_restore(stream_id) as the extension's owner. */
extern void kin_finish_restore(int64 stream_id, const char *stream_name);

#endif
