/*
 * iterator_seal.c - encodes shard iterators and checks those that come back.
 *
 * Owns:    an HMAC keyed with the database's secret, which is read once a process.
 * Locking: none.
 * Runs in: backends, on a primary or a standby.
 *
 * Layout before base64: version, stream id, shard index, position, time, then the first 16 bytes of
 * HMAC-SHA256(secret, all that || OID of the database).  The OID is there because a database made from a template has
 * its template's secret.
 */
#include "postgres.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "common/base64.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "error_report.h"
#include "iterator_seal.h"
#include "sequence_number.h"
#include "settings_define.h"

#define ITERATOR_VERSION 1
#define MAC_LEN          16

typedef struct Sealed
{
	uint8 body[1 + 8 + 4 + 8 + 8];
	uint8 mac[MAC_LEN];
} Sealed;

/* HMAC with the secret in it, ready to begin anew: to look the algorithms up each time takes longer than the digest. */
static EVP_MAC_CTX *keyed;
static Oid secret_table; /* the extension may be dropped and created anew while we live */

static EVP_MAC_CTX *
key_hmac(const unsigned char *secret, Size len)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, sizeof(digest) - 1), OSSL_PARAM_END};
	EVP_MAC *hmac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
	EVP_MAC_CTX *ctx = hmac ? EVP_MAC_CTX_new(hmac) : NULL;

	EVP_MAC_free(hmac); /* the context holds on to it */
	if (ctx == NULL || !EVP_MAC_init(ctx, secret, len, params))
	{
		EVP_MAC_CTX_free(ctx);
		elog(ERROR, "HMAC-SHA256 is not available in this server's OpenSSL");
	}
	return ctx;
}

/* The secret is the only row of kinesis.secret; CREATE EXTENSION draws it. */
static void
read_secret(void)
{
	Oid table = get_relname_relid("secret", get_namespace_oid("kinesis", false));
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;
	bool isnull;
	bytea *value;
	EVP_MAC_CTX *ctx;

	if (keyed != NULL && table == secret_table)
		return;
	rel = table_open(table, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	tuple = systable_getnext(scan);
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "kinesis.secret is empty");
	value = DatumGetByteaPP(heap_getattr(tuple, 1, RelationGetDescr(rel), &isnull));
	ctx = key_hmac((unsigned char *) VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	EVP_MAC_CTX_free(keyed);
	keyed = ctx;
	secret_table = table;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static void
compute_mac(const Sealed *sealed, uint8 *mac)
{
	uint8 digest[EVP_MAX_MD_SIZE];
	size_t len;
	Oid database = MyDatabaseId;

	read_secret();
	/* No key and no parameters: those of before. */
	if (!EVP_MAC_init(keyed, NULL, 0, NULL) || !EVP_MAC_update(keyed, sealed->body, sizeof(sealed->body)) ||
		!EVP_MAC_update(keyed, (uint8 *) &database, sizeof(database)) ||
		!EVP_MAC_final(keyed, digest, &len, sizeof(digest)))
		elog(ERROR, "could not compute the seal of a shard iterator");
	Assert(len >= MAC_LEN);
	memcpy(mac, digest, MAC_LEN);
}

text *
kin_iterator_seal(const KinIterator *iterator)
{
	Sealed sealed;
	uint8 *p = sealed.body;
	int room = pg_b64_enc_len(sizeof(sealed));
	text *result = palloc(VARHDRSZ + room);
	int len;

	*p++ = ITERATOR_VERSION;
	memcpy(p, &iterator->stream_id, 8);
	memcpy(p + 8, &iterator->shard_index, 4);
	memcpy(p + 12, &iterator->after, 8);
	memcpy(p + 20, &iterator->made_at, 8);
	compute_mac(&sealed, sealed.mac);
	len = pg_b64_encode((char *) &sealed, sizeof(sealed), VARDATA(result), room);
	if (len < 0)
		elog(ERROR, "could not encode a shard iterator");
	SET_VARSIZE(result, VARHDRSZ + len);
	return result;
}

/* The date as AWS prints it, which users match on: Thu Jan 22 01:22:02 UTC 2015. */
static char *
aws_date(TimestampTz t)
{
	pg_time_t seconds = timestamptz_to_time_t(t);
	char *buf = palloc(64);

	pg_strftime(buf, 64, "%a %b %d %H:%M:%S UTC %Y", pg_gmtime(&seconds));
	return buf;
}

KinIterator
kin_iterator_open(const char *text)
{
	Sealed sealed;
	KinIterator iterator;
	uint8 mac[MAC_LEN];
	uint8 difference = 0;
	const uint8 *p = sealed.body + 1;
	char decoded[512];
	Size len = strlen(text);
	TimestampTz now = kin_now_timestamp();
	int n = -1;

	if (len <= 512)
		n = pg_b64_decode(text, (int) len, decoded, sizeof(decoded));
	if (n == (int) sizeof(sealed))
	{
		memcpy(&sealed, decoded, sizeof(sealed));
		compute_mac(&sealed, mac);
		for (int i = 0; i < MAC_LEN; i++)
			difference |= mac[i] ^ sealed.mac[i]; /* in the same time wherever they differ */
	}
	if (n != (int) sizeof(sealed) || difference != 0 || sealed.body[0] != ITERATOR_VERSION)
		ereport(
			ERROR,
			(kin_errcode(KIN_INVALID_ARGUMENT), errmsg("Invalid ShardIterator."),
			 errhint(
				 "Take the iterator as get_shard_iterator or get_records returned it, in the database where it was made.")));
	memcpy(&iterator.stream_id, p, 8);
	memcpy(&iterator.shard_index, p + 8, 4);
	memcpy(&iterator.after, p + 12, 8);
	memcpy(&iterator.made_at, p + 20, 8);
	if (kin_iterator_lifetime_setting > 0 &&
		TimestampDifferenceExceeds(iterator.made_at, now, kin_iterator_lifetime_setting * 1000))
		ereport(
			ERROR,
			(kin_errcode(KIN_EXPIRED_ITERATOR),
			 errmsg("Iterator expired. The iterator was created at time %s while right now it is %s "
					"which is further in the future than the tolerated delay of %d milliseconds.",
					aws_date(iterator.made_at), aws_date(now), kin_iterator_lifetime_setting * 1000),
			 errhint(
				 "Get a new iterator with AFTER_SEQUENCE_NUMBER and the last number read, or raise kinesis.shard_iterator_lifetime.")));
	return iterator;
}
