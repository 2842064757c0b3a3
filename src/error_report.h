/*
 * error_report.h - the one table of AWS errors: name, SQLSTATE, default message.
 *
 * Use kin_errcode() inside ereport() in place of errcode(): it sets the SQLSTATE and names the AWS error in the detail.
 * The SQLSTATEs are of our own class "KN", which the SQL standard leaves to implementations.
 */
#ifndef KIN_ERROR_REPORT_H
#define KIN_ERROR_REPORT_H

#include "access/tupdesc.h"

#define KIN_ERRORS(X)                                                                                                  \
	X(KIN_RESOURCE_NOT_FOUND, "ResourceNotFoundException", "KN001", "the requested resource was not found")            \
	X(KIN_RESOURCE_IN_USE, "ResourceInUseException", "KN002",                                                          \
	  "the resource is not in a state that allows this request")                                                       \
	X(KIN_INVALID_ARGUMENT, "InvalidArgumentException", "KN003", "an argument is not valid")                           \
	X(KIN_VALIDATION, "ValidationException", "KN004", "an argument does not satisfy its constraint")                   \
	X(KIN_LIMIT_EXCEEDED, "LimitExceededException", "KN005", "a limit of the service was exceeded")                    \
	X(KIN_THROUGHPUT_EXCEEDED, "ProvisionedThroughputExceededException", "KN006", "rate exceeded for a shard")         \
	X(KIN_EXPIRED_ITERATOR, "ExpiredIteratorException", "KN007", "the shard iterator has expired")                     \
	X(KIN_EXPIRED_NEXT_TOKEN, "ExpiredNextTokenException", "KN008", "the pagination token has expired")                \
	X(KIN_ACCESS_DENIED, "AccessDeniedException", "KN009", "access denied")                                            \
	X(KIN_INTERNAL_FAILURE, "InternalFailureException", "KN010", "internal service failure")

#define KIN_ERROR_ENUM(id, name, sqlstate, message) id,
typedef enum KinError
{
	KIN_ERRORS(KIN_ERROR_ENUM) KIN_ERROR_COUNT
} KinError;

/* Error context of whoever called the control-plane function that runs; see control_call.c. */
extern bool kin_control_context_known;
extern struct ErrorContextCallback *kin_control_context;

/* Raises ValidationException: this argument, named as in the API, is null. */
extern void kin_refuse_null(const char *field) pg_attribute_noreturn();

/* Raises when a row type of the extension no longer has the columns that it was made with. */
extern void kin_require_columns(TupleDesc columns, int count);

extern void kin_hide_context(void);

extern int kin_errcode(KinError error);
extern const char *kin_error_name(KinError error);

#endif
