/*
 * position_find.h - where reading begins.
 */
#ifndef KIN_POSITION_FIND_H
#define KIN_POSITION_FIND_H

#include "datatype/timestamp.h"

#include "stream_lookup.h"

/* A starting point as the caller gave it. */
typedef struct KinStart
{
	const char *operation; /* these two name the call and its argument in errors */
	const char *field;
	const char *type; /* TRIM_HORIZON, LATEST, AT_SEQUENCE_NUMBER, AFTER_SEQUENCE_NUMBER or AT_TIMESTAMP */
	bool has_number;
	int64 number;
	bool has_time;
	TimestampTz time;
} KinStart;

/* Raises when type, number and time do not go together. */
extern void kin_position_check(const KinStart *start);

/* Records with greater numbers than this come next. */
extern int64 kin_position_find(KinStream *stream, KinShard *shard, const KinStart *start);

#endif
