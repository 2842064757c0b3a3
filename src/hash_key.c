/*
 * hash_key.c - partition keys as unsigned 128-bit integers: the md5 of the key, and the decimal form.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: backends.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "hash_key.h"
#include "md5_compute.h"

PG_FUNCTION_INFO_V1(kin_hash_key);

/* AWS hashes the UTF-8 bytes, so a server with another encoding converts first and clients agree on the shard. */
static void
convert_keys(const char **keys, int *lens, int n)
{
	for (int i = 0; i < n; i++)
	{
		char *utf8 = pg_server_to_any(keys[i], lens[i], PG_UTF8);

		if (utf8 == keys[i])
			continue;
		keys[i] = utf8;
		lens[i] = strlen(utf8);
	}
}

void
kin_hash_keys_of(const char **keys, int *lens, int n, KinHashKey *hashes)
{
	uint32 digests[KIN_MD5_LANES][KIN_MD5_WORDS];

	if (GetDatabaseEncoding() != PG_UTF8)
		convert_keys(keys, lens, n);
	for (int done = 0; done < n; done += KIN_MD5_LANES)
	{
		int count = Min(n - done, KIN_MD5_LANES);

		kin_md5(keys + done, lens + done, count, digests);
		for (int lane = 0; lane < count; lane++)
		{
			hashes[done + lane] = 0;
			for (int i = 0; i < KIN_MD5_WORDS; i++)
				hashes[done + lane] = hashes[done + lane] << 32 | digests[lane][i];
		}
	}
}

KinHashKey
kin_hash_key_of(const char *key, int len)
{
	KinHashKey hash;

	kin_hash_keys_of(&key, &len, 1, &hash);
	return hash;
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
