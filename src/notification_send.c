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
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "notification_send.h"
#include "position_find.h"
#include "worker_start.h"

#define PAUSE_MS 5

/* Sends for one shard, if it can be read further than it was said; true when it is closed, and others have come in its place. */
static bool
ring(KinBell *bell)
{
	static const KinStart latest = {.operation = "Notify", .field = "type", .type = "LATEST"};
	KinStream *stream = kin_stream_open_by_id(bell->stream_id);
	KinShard *shard = stream ? kin_shard_by_index(stream, bell->shard_index) : NULL;
	StringInfoData payload;
	int64 last;

	if (shard == NULL)
		return false; /* gone, and the scheduler will hear of it */
	last = kin_position_find(stream, shard, &latest);
	if (last <= bell->last)
		return shard->ending_number >= 0;
	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"stream_name\": ");
	escape_json(&payload, stream->name);
	appendStringInfo(&payload, ", \"shard_id\": \"%s\", \"sequence_number\": " INT64_FORMAT "}",
					 kin_shard_id(shard->index), last);
	for (int i = 0; i < bell->nchannels; i++)
		if (SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(bell->owners[i])) &&
			pg_class_aclcheck(stream->table, bell->owners[i], ACL_SELECT) == ACLCHECK_OK)
			Async_Notify(bell->channels[i], payload.data);
	bell->last = last;
	return shard->ending_number >= 0;
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
		*sync |= ring(bell);
	}
	if (begun)
		kin_worker_commit();
	return next;
}
