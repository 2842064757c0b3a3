/*
 * hash_key.c - computes the md5 of partition keys as unsigned 128-bit integers.
 *
 * Owns:    one OpenSSL digest and context a process, kept for its life: fetching them per record costs more than the hash.
 * Locking: none.
 * Runs in: backends.
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "hash_key.h"

static EVP_MD *md5_digest;
static EVP_MD_CTX *md5_context;

PG_FUNCTION_INFO_V1(kin_hash_key);

static void
prepare_md5(void)
{
	md5_digest = EVP_MD_fetch(NULL, "MD5", NULL);
	md5_context = EVP_MD_CTX_new();
	if (md5_digest == NULL || md5_context == NULL || !EVP_DigestInit_ex2(md5_context, md5_digest, NULL))
	{
		EVP_MD_CTX_free(md5_context);
		EVP_MD_free(md5_digest);
		md5_context = NULL;
		md5_digest = NULL;
		ereport(
			ERROR,
			(errcode(ERRCODE_SYSTEM_ERROR), errmsg("md5 is not available in this server's OpenSSL"),
			 errhint(
				 "Records are routed by the md5 of their partition key; an OpenSSL in FIPS mode does not offer it.")));
	}
}

/* AWS hashes the UTF-8 bytes, so a server with another encoding converts first and clients agree on the shard. */
KinHashKey
kin_hash_key_of(const char *key, int len)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	char *utf8 = (char *) key;
	KinHashKey result = 0;

	if (md5_context == NULL)
		prepare_md5();
	if (GetDatabaseEncoding() != PG_UTF8)
	{
		utf8 = pg_server_to_any(key, len, PG_UTF8);
		if (utf8 != key)
			len = strlen(utf8);
	}
	/* A null type keeps the digest of the context: no fetch, no allocation. */
	if (!EVP_DigestInit_ex2(md5_context, NULL, NULL) || !EVP_DigestUpdate(md5_context, utf8, len) ||
		!EVP_DigestFinal_ex(md5_context, digest, NULL))
		elog(ERROR, "md5 failed");
	for (int i = 0; i < 16; i++)
		result = result << 8 | digest[i];
	return result;
}

bool
kin_hash_key_from_numeric(Datum value, KinHashKey *result)
{
	char *s = DatumGetCString(DirectFunctionCall1(numeric_out, value));
	KinHashKey n = 0;

	for (char *p = s; *p; p++)
	{
		KinHashKey next;

		if (*p == '.' && strspn(p + 1, "0") == strlen(p + 1))
			break; /* 5.00 is a whole number */
		if (*p < '0' || *p > '9')
			return false;
		if (__builtin_mul_overflow(n, (KinHashKey) 10, &next) ||
			__builtin_add_overflow(next, (KinHashKey) (*p - '0'), &n))
			return false;
	}
	pfree(s);
	*result = n;
	return true;
}

Datum
kin_hash_key_to_numeric(KinHashKey key)
{
	char buf[40];
	char *p = buf + sizeof(buf) - 1;

	*p = '\0';
	do
	{
		*--p = '0' + (int) (key % 10);
		key /= 10;
	} while (key != 0);
	return DirectFunctionCall3(numeric_in, CStringGetDatum(p), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

/* kinesis.hash_key(partition_key) */
Datum
kin_hash_key(PG_FUNCTION_ARGS)
{
	text *key = PG_GETARG_TEXT_PP(0);

	PG_RETURN_DATUM(kin_hash_key_to_numeric(kin_hash_key_of(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key))));
}
