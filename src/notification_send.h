/*
 * notification_send.h - NOTIFY for programs outside.
 */
#ifndef KIN_NOTIFICATION_SEND_H
#define KIN_NOTIFICATION_SEND_H

#include "datatype/timestamp.h"

/* A shard and the channels that hear of it.  In the scheduler's memory. */
typedef struct KinBell
{
	int64 stream_id;
	int32 shard_index;
	int nchannels;
	char **channels;
	Oid *owners;
	int64 last;             /* number that was sent last */
	bool news;              /* something has ended since */
	bool closed;            /* the shard, and others have come in its place */
	TimestampTz not_before; /* a busy shard rings only so often */
} KinBell;

/*
 * Sends for all bells with news that may ring; returns when the next one may, 0 when none has to wait.  Opens and ends a transaction
 * if there is anything to send.  *sync becomes true when a shard was closed, so that the bells must be read again.
 */
extern TimestampTz kin_bells_ring(KinBell *bells, int n, bool *sync);

#endif
