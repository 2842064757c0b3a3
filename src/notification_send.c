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
#include "shard_walk.h"
#include "worker_start.h"

#define PAUSE_MS        5
#define BROKEN_RETRY_MS 10000

/* The first record behind a number that can be read, up to "last"; -1: there is none. */
static int64
first_readable(KinStream *stream, KinShard *shard, Snapshot snapshot, int64 after, int64 last)
{
	KinShardWalk walk;
	int64 number;
	bool found;

	CHECK_FOR_INTERRUPTS();
	kin_walk_begin(&walk, stream, shard, snapshot, after);
	found = kin_walk_next(&walk, &number) != NULL && number <= last;
	kin_walk_end(&walk);
	return found ? number : -1;
}

/*
 * The last record behind "told" that can be read; -1: there is none.  "last" is LATEST's position: of all numbers up to there it is
 * settled whether they can, and mostly it is one that can.  It is not when what was put last was rolled back; then the last one is
 * searched for by halving, however far it is.
 */
static int64
last_readable(KinStream *stream, KinShard *shard, int64 last, int64 told)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	int64 found = first_readable(stream, shard, snapshot, last - 1, last);

	if (found < 0)
	{
		int64 none_behind = last;

		found = first_readable(stream, shard, snapshot, told, last);
		while (found >= 0 && found < none_behind)
		{
			int64 middle = found + (none_behind - found) / 2;
			int64 next = first_readable(stream, shard, snapshot, middle, last);

			if (next >= 0)
				found = next;
			else
				none_behind = middle;
		}
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
	readable = last_readable(stream, shard, last, bell->last);
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
