/*
 * notification_send.c - tells programs that LISTEN how far shards can be read.
 *
 * Owns:    nothing.
 * Locking: the commit takes the lock that every NOTIFY takes, which is why no producer's transaction does this.
 * Runs in: schedulers.
 *
 * One NOTIFY a shard and channel, with the last number that can be read, however many records have come.  A shard that is put to
 * without pause rings every few milliseconds: nobody hears more often than that, and each NOTIFY costs all sessions that listen.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/async.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "notification_send.h"
#include "position_find.h"
#include "sequence_number.h"
#include "shard_walk.h"
#include "worker_start.h"

#define PAUSE_MS        5
#define BROKEN_RETRY_MS 10000
#define LOOK_BACK_MS    60000 /* what came while there was no scheduler: so long it may take until there is one again */

/*
 * The last record behind "floor" that can be read, where "last" is the last number of which it is settled whether it can; -1 when
 * there is none.  Mostly it is "last" itself; where puts were rolled back it is looked for further and further before it.
 */
static int64
last_readable(KinStream *stream, KinShard *shard, int64 last, int64 floor)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	int64 found = -1;
	int64 after = last;

	for (int64 step = 1; found < 0 && after > floor; step *= 4)
	{
		KinShardWalk walk;
		int64 number;

		after = Max(last - step, floor);
		kin_walk_begin(&walk, stream, shard, snapshot, after);
		while (kin_walk_next(&walk, &number) != NULL)
		{
			CHECK_FOR_INTERRUPTS();
			found = number;
		}
		kin_walk_end(&walk);
	}
	UnregisterSnapshot(snapshot);
	return found;
}

/* Sends for one shard, if it can be read further than it was said. */
static void
ring(void *arg)
{
	KinBell *bell = arg;
	static const KinStart latest = {.operation = "Notify", .field = "type", .type = "LATEST"};
	KinStream *stream = kin_stream_open_by_id(bell->stream_id);
	KinShard *shard = stream ? kin_shard_by_index(stream, bell->shard_index) : NULL;
	StringInfoData payload;
	int64 last;
	int64 readable;

	if (shard == NULL)
		return; /* gone, and the scheduler will hear of it */
	bell->closed = shard->ending_number >= 0;
	last = kin_position_find(stream, shard, &latest);
	if (last <= bell->last)
		return;
	readable = last_readable(stream, shard, last, bell->last >= 0 ? bell->last : last - kin_number_of_ms(LOOK_BACK_MS));
	bell->last = Max(last, readable);
	if (readable < 0)
		return;
	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"stream_name\": ");
	escape_json(&payload, stream->name);
	appendStringInfo(&payload, ", \"shard_id\": \"%s\", \"sequence_number\": " INT64_FORMAT "}",
					 kin_shard_id(shard->index), readable);
	for (int i = 0; i < bell->nchannels; i++)
		if (SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(bell->owners[i])) &&
			pg_class_aclcheck(stream->table, bell->owners[i], ACL_SELECT) == ACLCHECK_OK)
			Async_Notify(bell->channels[i], payload.data);
}

TimestampTz
kin_bells_ring(KinBell *bells, int n, bool *sync)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = 0;
	bool begun = false;

	for (int i = 0; i < n; i++)
	{
		KinBell *bell = &bells[i];

		if (!bell->news)
			continue;
		if (bell->not_before > now)
		{
			next = kin_sooner(next, bell->not_before);
			continue;
		}
		if (!begun)
			kin_worker_begin();
		begun = true;
		bell->news = false;
		bell->not_before = TimestampTzPlusMilliseconds(now, PAUSE_MS);
		/* What is wrong with one stream is no reason to say nothing of the others. */
		if (!kin_worker_try(ring, bell, true))
		{
			bell->news = true;
			bell->last = -1;
			bell->not_before = TimestampTzPlusMilliseconds(now, BROKEN_RETRY_MS);
			next = kin_sooner(next, bell->not_before);
		}
		*sync |= bell->closed;
	}
	if (begun)
		kin_worker_commit();
	return next;
}
