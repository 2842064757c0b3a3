/*
 * response_read.h - what the function of an event source mapping has answered.
 */
#ifndef KIN_RESPONSE_READ_H
#define KIN_RESPONSE_READ_H

#include "utils/jsonb.h"

typedef enum KinResponse
{
	KIN_RESPONSE_OK,
	KIN_RESPONSE_PARTIAL, /* done with the records before a number */
	KIN_RESPONSE_FAILED   /* as if the function had raised an error */
} KinResponse;

/*
 * Reads a response (NULL: the function returned null).  'numbers' are those of the batch, ascending.  Without 'report',
 * the response means nothing.  PARTIAL: *from is the lowest number reported.  FAILED: *why says what is wrong.
 */
extern KinResponse kin_response_read(Jsonb *response, bool report, const int64 *numbers, int n, int64 *from,
									 char **why);

/* The state for the next call in a tumbling window; NULL when there is none in the response, which is a failure. */
extern Jsonb *kin_response_state(Jsonb *response);

#endif
