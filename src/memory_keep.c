/*
 * memory_keep.c - tells the C library not to give memory back to the kernel after every large call.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: backends, from the first large put_records or get_records on; other backends are left alone.
 *
 * A call of 500 x 1 KB passes half a megabyte several times (message, parameters, rows), and sending 10,000 records makes
 * core allocate some 40 MB that live until the row is out.  glibc returns such memory at once, and the next call pays for
 * page faults and zeroing: that was a third of put_records and more than half of get_records.  bench/README.md has the
 * figures; kinesis.retained_memory sets how much a backend may keep, 0 leaves the C library as it is.
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "memory_keep.h"
#include "settings_define.h"

/* glibc takes no larger threshold for blocks that are mapped one by one. */
#define MMAP_THRESHOLD_MAX (32 * 1024 * 1024)

void
kin_keep_memory(void)
{
	static int applied = 0;
	int bytes = kin_retained_memory_setting * 1024;

	if (bytes == applied || bytes == 0)
		return;
#ifdef __GLIBC__
	mallopt(M_TRIM_THRESHOLD, bytes);
	mallopt(M_MMAP_THRESHOLD, Min(bytes, MMAP_THRESHOLD_MAX));
#endif
	applied = bytes;
}
