/*
 * hash_key.h - the 128-bit hash of a partition key and its decimal form.
 */
#ifndef KIN_HASH_KEY_H
#define KIN_HASH_KEY_H

/* palloc aligns to 8 bytes, the compiler would count on 16. */
typedef unsigned __int128 KinHashKey __attribute__((aligned(MAXIMUM_ALIGNOF)));

/* Hash of a partition key of len bytes in the server's encoding. */
extern KinHashKey kin_hash_key_of(const char *key, int len);

/* The same of n keys, which takes a fraction of the time; keys and lens may be changed to the converted keys. */
extern void kin_hash_keys_of(const char **keys, int *lens, int n, KinHashKey *hashes);

/* Value of a numeric; false when it is no whole number in [0, 2^128 - 1]. */
extern bool kin_hash_key_from_numeric(Datum value, KinHashKey *result);
extern Datum kin_hash_key_to_numeric(KinHashKey key);

#endif
