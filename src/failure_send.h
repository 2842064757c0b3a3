/*
 * failure_send.h - sends the record of a discarded batch to where the owner of its mapping wants it.
 */
#ifndef KIN_FAILURE_SEND_H
#define KIN_FAILURE_SEND_H

#include "utils/jsonb.h"

/*
 * Sends as the current user.  on_failure is 'stream:<name>', 'table:<schema.name>' or 'function:<schema.name>', names of
 * tables and functions as quote_qualified_identifier() writes them; owner_then is whose the table or function was when it
 * was chosen.  Needs an active snapshot.  Raises when it can't be done, be it for a moment only: a stream may be throttled.
 */
extern void kin_failure_send(const char *on_failure, Oid owner_then, Jsonb *record);

#endif
