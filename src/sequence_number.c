/*
 * sequence_number.c - reads the clock and converts between times and sequence numbers.
 *
 * Owns:    nothing.
 * Locking: none; giving numbers out, which needs the shard's lock, is in slice_append.c.
 * Runs in: every process.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/timestamp.h"

#include "sequence_number.h"
#include "settings_define.h"

/* 2020-01-01 UTC in microseconds since PostgreSQL's epoch, 2000-01-01: 7305 days. */
#define KIN_EPOCH_USEC (INT64CONST(7305) * USECS_PER_DAY)

PG_FUNCTION_INFO_V1(kin_now);
PG_FUNCTION_INFO_V1(kin_sequence_at);
PG_FUNCTION_INFO_V1(kin_arrival);

/* The clock of streams.  Tests move it; nothing else may read the system's clock for a stream. */
TimestampTz
kin_now_timestamp(void)
{
	return GetCurrentTimestamp() + (int64) (kin_clock_offset_setting * 1000.0);
}

int64
kin_now_ms(void)
{
	int64 ms = (kin_now_timestamp() - KIN_EPOCH_USEC) / 1000;

	/* A clock before 2020 must not make negative numbers: -1 and below are not valid positions anywhere. */
	return Max(ms, 0);
}

/* Arrival time of the record with this number, to the millisecond. */
TimestampTz
kin_arrival_time(int64 number)
{
	return KIN_EPOCH_USEC + kin_ms_of_number(number) * 1000;
}

/*
 * The smallest number whose arrival time is at or after t, so that "number >= kin_number_at(t)" says the same as
 * "arrival time >= t" (hence the rounding up).
 */
int64
kin_number_at(TimestampTz t)
{
	int64 usec;
	int64 ms;

	if (t <= KIN_EPOCH_USEC) /* also -infinity */
		return 0;
	usec = t - KIN_EPOCH_USEC;
	ms = usec / 1000 + (usec % 1000 != 0);
	if (ms > KIN_MAX_MILLISECONDS) /* also infinity */
		return PG_INT64_MAX;
	return kin_number_of_ms(ms);
}

/* kinesis._now() */
Datum
kin_now(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(kin_now_timestamp());
}

/* kinesis.sequence_at(timestamptz) */
Datum
kin_sequence_at(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(kin_number_at(PG_GETARG_TIMESTAMPTZ(0)));
}

/* kinesis.arrival(bigint) */
Datum
kin_arrival(PG_FUNCTION_ARGS)
{
	int64 number = PG_GETARG_INT64(0);

	if (number < 0)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("sequence number %lld is negative", (long long) number)));
	PG_RETURN_TIMESTAMPTZ(kin_arrival_time(number));
}
