/*
 * event_form.h - the event that the function of an event source mapping is called with.
 */
#ifndef KIN_EVENT_FORM_H
#define KIN_EVENT_FORM_H

#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* Where the records of an event come from. */
typedef struct KinEventSource
{
	const char *shard_id;
	const char *event_source_arn; /* the stream's, or the consumer's */
	const char *invoke_identity_arn;
	/* The tumbling window; all of this counts only with has_window. */
	bool has_window;
	TimestampTz window_start;
	TimestampTz window_end;
	Jsonb *window_state; /* NULL = {} */
	bool final_invoke;
	bool terminated_early;
} KinEventSource;

/* The event of a kinesis.record[]. */
extern Jsonb *kin_event_form(ArrayType *records, const KinEventSource *source);

/*
 * Bytes that a record adds to the event's JSON text.  An upper estimate when the partition key needs no escapes in JSON,
 * and the names of stream, consumer, region and role have together at most 100 characters; more of them come on top.
 */
extern int64 kin_event_record_bytes(int64 key_len, int64 data_len);

/* ARN of the role that a function runs as. */
extern char *kin_identity_arn(const char *role);

#endif
