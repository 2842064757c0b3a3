/*
 * heap_extend.h - makes a slice's heap longer, by many pages at a time.
 */
#ifndef KIN_HEAP_EXTEND_H
#define KIN_HEAP_EXTEND_H

#include "storage/block.h"
#include "utils/relcache.h"

/*
 * Adds pages, all zero, behind the last one, and returns the new number of pages; *reserved tells whether they were only
 * set aside in the file.  The caller holds the shard's slot.
 */
extern BlockNumber kin_extend_heap_many(Relation rel, BlockNumber nblocks, bool *reserved);

#endif
