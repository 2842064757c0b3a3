/*
 * sequence_number.h - the sequence number: a hybrid clock in a bigint.
 *
 * milliseconds since 2020-01-01 UTC (41 bits) << 22 | counter (22 bits).  A number holds its record's arrival time, so
 * records need no timestamp column and a time range is a range of numbers.
 */
#ifndef KIN_SEQUENCE_NUMBER_H
#define KIN_SEQUENCE_NUMBER_H

#include "datatype/timestamp.h"

#define KIN_COUNTER_BITS     22
#define KIN_MAX_MILLISECONDS ((INT64CONST(1) << 41) - 1)

/* Milliseconds since 2020-01-01 UTC, by the clock of streams (the system's clock plus kinesis.clock_offset). */
extern int64 kin_now_ms(void);
extern TimestampTz kin_now_timestamp(void);

/* The smallest number of a millisecond, and the millisecond of a number. */
static inline int64
kin_number_of_ms(int64 ms)
{
	return ms << KIN_COUNTER_BITS;
}

static inline int64
kin_ms_of_number(int64 number)
{
	return number >> KIN_COUNTER_BITS;
}

extern TimestampTz kin_arrival_time(int64 number);
extern int64 kin_number_at(TimestampTz t);

#endif
