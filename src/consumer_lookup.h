/*
 * consumer_lookup.h - registered consumers (enhanced fan-out).
 */
#ifndef KIN_CONSUMER_LOOKUP_H
#define KIN_CONSUMER_LOOKUP_H

#include "stream_lookup.h"

typedef struct KinConsumer
{
	int64 id;
	KinStream *stream;
} KinConsumer;

/* The consumer with this ARN, for who may read its stream; raises ResourceNotFoundException when there is none. */
extern KinConsumer kin_consumer_open(const char *arn, const char *operation);

#endif
