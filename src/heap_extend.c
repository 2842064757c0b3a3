/*
 * heap_extend.c - makes a slice's heap longer, by many pages at a time.
 *
 * Owns:    nothing.
 * Locking: the relation's extension lock, under the shard's slot.
 * Runs in: backends of a primary.
 *
 * PostgreSQL writes 8 kB of zeros for each new page: for records of 100 bytes that was a quarter of put_records.  Here the
 * file system is asked to set the room aside, which copies nothing and still makes sure that the disk has it.  The pages
 * are zero until they are used, as after a crash between extension and first use, and every reader steps over such pages.
 * Small heaps grow by little, so that a thousand quiet shards do not take half a gigabyte.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/relpath.h"
#include "storage/bufmgr.h"
#include "storage/fd.h"
#include "storage/lmgr.h"
#include "storage/smgr.h"
#include "utils/rel.h"

#include "compat.h"
#include "heap_extend.h"

#define EXTEND_MAX   64
#define EXTEND_SHARE 8 /* by at most an eighth of what is there */

/* Sets room for 'count' pages aside, all in one segment file; false when the file system can't. */
static bool
allocate_pages(Relation rel, BlockNumber first, int count)
{
#ifdef KIN_RESERVES_PAGES
	char *path = kin_path_of(rel);
	BlockNumber segment = first / RELSEG_SIZE;
	int fd;
	bool done;

	if (segment > 0)
		path = psprintf("%s.%u", path, segment);
	fd = OpenTransientFile(path, O_RDWR | PG_BINARY);
	if (fd < 0)
		return false;
	done = fallocate(fd, 0, (off_t) (first % RELSEG_SIZE) * BLCKSZ, (off_t) count * BLCKSZ) == 0;
	CloseTransientFile(fd);
	return done;
#else
	return false;
#endif
}

BlockNumber
kin_extend_heap_many(Relation rel, BlockNumber nblocks, bool *reserved)
{
	int count = Min(EXTEND_MAX, nblocks / EXTEND_SHARE);

	*reserved = false;
	/* A segment file must be full before the next one is begun: PostgreSQL finds the end by that. */
	count = Min(count, RELSEG_SIZE - (int) (nblocks % RELSEG_SIZE));
	if (count > 1 && nblocks % RELSEG_SIZE != 0)
	{
		LockRelationForExtension(rel, ExclusiveLock);
		*reserved = RelationGetNumberOfBlocks(rel) == nblocks && allocate_pages(rel, nblocks, count);
		UnlockRelationForExtension(rel, ExclusiveLock);
	}
	if (!*reserved)
		(void) kin_extend_heap(rel);
	return RelationGetNumberOfBlocks(rel);
}
