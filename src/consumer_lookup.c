/*
 * consumer_lookup.c - finds a registered consumer by its ARN.
 *
 * Owns:    nothing; kinesis.consumer is read each time.
 * Locking: AccessShare on kinesis.consumer while it is read.
 * Runs in: backends.
 *
 * arn:aws:kinesis:<region>:<account>:stream/<stream>/consumer/<consumer>:<seconds when it was registered>.  The seconds tell a
 * consumer from a former one of the same name.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "access_check.h"
#include "consumer_lookup.h"
#include "error_report.h"
#include "name_check.h"
#include "settings_define.h"

/* Columns of kinesis.consumer, in the order of the install script. */
enum
{
	CONSUMER_ID = 1,
	CONSUMER_STREAM,
	CONSUMER_NAME,
	CONSUMER_CREATED
};

#define INFIX "/consumer/"

static void
pg_attribute_noreturn() refuse_arn(const char *arn)
{
	ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT),
					errmsg("\"%s\" is not the ARN of a consumer of a stream of this database", arn),
					errhint("ARNs of consumers here look like %s.",
							kin_stream_arn("my-stream" INFIX "my-consumer:1234567890"))));
}

/* Seconds since 1970, as an ARN has them. */
static int64
epoch_of(TimestampTz t)
{
	return t / USECS_PER_SEC + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY;
}

/* Reads the consumer's row; false when there is none, or it is another one of the same name. */
static bool
read_consumer(int64 stream_id, const char *name, int64 seconds, int64 *id)
{
	Oid nsp = get_namespace_oid("kinesis", false);
	Relation rel = table_open(get_relname_relid("consumer", nsp), AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple tuple;
	bool found = false;

	ScanKeyInit(&key[0], CONSUMER_STREAM, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream_id));
	ScanKeyInit(&key[1], CONSUMER_NAME, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
	scan = systable_beginscan(rel, get_relname_relid("consumer_stream_id_key", nsp), true, NULL, 2, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool isnull;
		TimestampTz created =
			DatumGetTimestampTz(heap_getattr(tuple, CONSUMER_CREATED, RelationGetDescr(rel), &isnull));

		*id = DatumGetInt64(heap_getattr(tuple, CONSUMER_ID, RelationGetDescr(rel), &isnull));
		found = epoch_of(created) == seconds;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

KinConsumer
kin_consumer_open(const char *arn, const char *operation)
{
	KinConsumer consumer;
	char *copy = pstrdup(arn);
	char *infix = strstr(copy, INFIX);
	char *colon = infix ? strrchr(infix, ':') : NULL;
	char *name;
	char *end;
	int64 seconds;

	if (strncmp(arn, "arn:", 4) != 0 || colon == NULL)
		refuse_arn(arn);
	name = infix + strlen(INFIX);
	*infix = *colon = '\0';
	errno = 0;
	seconds = strtoll(colon + 1, &end, 10);
	if (errno != 0 || end == colon + 1 || *end != '\0')
		refuse_arn(arn);
	consumer.stream = kin_stream_open(copy);
	kin_require_right(consumer.stream, GetUserId(), KIN_RIGHT_CONSUMER, operation);
	if (!read_consumer(consumer.stream->id, name, seconds, &consumer.id))
		ereport(ERROR,
				(kin_errcode(KIN_RESOURCE_NOT_FOUND), errmsg("Consumer %s under stream %s not found for account %s.",
															 name, consumer.stream->name, kin_account_id_setting)));
	pfree(copy);
	return consumer;
}
