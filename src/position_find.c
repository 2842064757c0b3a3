/*
 * position_find.c - turns one of the five starting points into a position in a shard.
 *
 * Owns:    nothing.
 * Locking: the shard's slot, for a moment, for LATEST and for numbers ahead of the clock.
 * Runs in: backends, on a primary or a standby.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "error_report.h"
#include "position_find.h"
#include "sequence_number.h"
#include "settings_define.h"
#include "shard_walk.h"
#include "slice_append.h"

static bool
prepared_transactions_exist(void)
{
	bool exist;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute("SELECT FROM pg_catalog.pg_prepared_xact() LIMIT 1", true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for prepared transactions");
	exist = SPI_processed > 0;
	SPI_finish();
	return exist;
}

/* A position at or before the first record whose transaction may still be open. */
static int64
settled_position(KinStream *stream, KinShard *shard)
{
	KinShardSlot *slot;
	int64 settled;
	int64 floor;

	if (RecoveryInProgress())
	{
		/* No writers to count here: look through the newest two slices, far longer than transactions are open. */
		kin_shard_read_slices(stream, shard, false);
		return shard->nslices > 2 ? shard->slices[shard->nslices - 2].lower - 1 : -1;
	}
	slot = kin_shard_lock(stream, shard);
	kin_slot_settle(slot);
	settled = slot->settled;
	floor = slot->prepared_floor;
	kin_slot_unlock(slot);
	if (floor < 0 || floor >= settled)
		return settled;
	if (prepared_transactions_exist())
		return floor;
	slot = kin_shard_lock(stream, shard);
	if (slot->prepared_floor == floor)
		slot->prepared_floor = -1;
	kin_slot_unlock(slot);
	return settled;
}

/*
 * LATEST: just behind the newest record that can be read now.  A record put before this call whose transaction commits
 * later lies behind it, and so is not lost to the consumer.
 */
static int64
latest_position(KinStream *stream, KinShard *shard)
{
	KinShardWalk walk;
	Snapshot snapshot;
	int64 position = settled_position(stream, shard);
	int64 number;

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	kin_walk_begin(&walk, stream, shard, snapshot, position);
	while (kin_walk_next(&walk, &number) != NULL)
		position = number;
	kin_walk_end(&walk);
	UnregisterSnapshot(snapshot);
	return position;
}

static int64
position_of_number(KinStream *stream, KinShard *shard, int64 number, const char *operation)
{
	int64 known = kin_number_of_ms(kin_now_ms() + 1);

	if (number > known && !RecoveryInProgress())
	{
		KinShardSlot *slot = kin_shard_lock(stream, shard);

		known = Max(known, slot->last_number);
		kin_slot_unlock(slot);
	}
	if (number < 0 || (number > known && !RecoveryInProgress()))
		ereport(ERROR,
				(kin_errcode(KIN_INVALID_ARGUMENT),
				 errmsg("StartingSequenceNumber %lld used in %s on shard %s in stream %s under account %s is invalid "
						"because it did not come from this stream.",
						(long long) number, operation, kin_shard_id(shard->index), stream->name,
						kin_account_id_setting)));
	return number;
}

static int64
position_of_time(TimestampTz t)
{
	TimestampTz now = kin_now_timestamp();

	if (t > now)
		ereport(ERROR,
				(kin_errcode(KIN_INVALID_ARGUMENT),
				 errmsg("The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "
						"timestampInMillis: %lld, currentTimestampInMillis: %lld",
						TIMESTAMP_NOT_FINITE(t) ? -1LL
												: (long long) ((t / 1000) + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
																				INT64CONST(86400000)),
						(long long) ((now / 1000) +
									 (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000)))));
	return kin_number_at(t) - 1;
}

void
kin_position_check(const KinStart *start)
{
	const char *type = start->type;
	bool has_number = start->has_number;
	bool has_time = start->has_time;
	bool by_number = strcmp(type, "AT_SEQUENCE_NUMBER") == 0 || strcmp(type, "AFTER_SEQUENCE_NUMBER") == 0;
	bool by_time = strcmp(type, "AT_TIMESTAMP") == 0;

	if (!by_number && !by_time && strcmp(type, "TRIM_HORIZON") != 0 && strcmp(type, "LATEST") != 0)
		ereport(
			ERROR,
			(kin_errcode(KIN_VALIDATION),
			 errmsg(
				 "1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: Member must "
				 "satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]",
				 type, start->field)));
	if (by_time && !has_time)
		ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT),
						errmsg("Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP.")));
	if (by_number != has_number)
		ereport(
			ERROR,
			(kin_errcode(KIN_INVALID_ARGUMENT),
			 errmsg("Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or "
					"(2) TRIM_HORIZON or LATEST and no StartingSequenceNumber.")));
	if (has_time && !by_time)
		ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT), errmsg("Timestamp can be given with AT_TIMESTAMP only.")));
}

int64
kin_position_find(KinStream *stream, KinShard *shard, const KinStart *start)
{
	if (strcmp(start->type, "AT_SEQUENCE_NUMBER") == 0)
		return position_of_number(stream, shard, start->number, start->operation) - 1;
	if (strcmp(start->type, "AFTER_SEQUENCE_NUMBER") == 0)
		return position_of_number(stream, shard, start->number, start->operation);
	if (strcmp(start->type, "AT_TIMESTAMP") == 0)
		return position_of_time(start->time);
	if (strcmp(start->type, "LATEST") == 0)
		return latest_position(stream, shard);
	return -1; /* TRIM_HORIZON: whatever is the oldest when it is read */
}
