/*
 * access_check.h - who may do what with a stream.
 */
#ifndef KIN_ACCESS_CHECK_H
#define KIN_ACCESS_CHECK_H

#include "stream_lookup.h"

typedef enum KinRight
{
	KIN_RIGHT_PRODUCER, /* INSERT on the stream's table */
	KIN_RIGHT_CONSUMER, /* SELECT */
	KIN_RIGHT_ADMIN,    /* TRUNCATE */
	KIN_RIGHT_DESCRIBE, /* any of these, or kinesis_monitor */
	KIN_RIGHT_CREATE    /* kinesis_admin */
} KinRight;

/* Raises AccessDeniedException unless the role may; stream is NULL for KIN_RIGHT_CREATE only. */
extern void kin_require_right(KinStream *stream, Oid role, KinRight right, const char *operation);

/* InvalidOid when it is gone. */
extern Oid kin_function_owner(Oid function);

/*
 * Raises an error when a function or table that code runs by its name, with the rights of a role, belongs to somebody who did not own
 * it when it was chosen: whoever may write to its schema could have put it there.  object: as messages name it.
 */
extern void kin_require_chosen(Oid owner, Oid owner_then, Oid role, const char *object);

/* The role on whose behalf control-plane code runs: see control_call.c. */
extern Oid kin_caller(void);

#endif
