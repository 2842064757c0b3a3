/*
 * iterator_seal.h - shard iterators: opaque texts that only this database can have made.
 */
#ifndef KIN_ITERATOR_SEAL_H
#define KIN_ITERATOR_SEAL_H

#include "datatype/timestamp.h"

typedef struct KinIterator
{
	int64 stream_id; /* never used again: a recreated stream has another one */
	int32 shard_index;
	int64 after; /* records with greater numbers come next */
	TimestampTz made_at;
} KinIterator;

extern text *kin_iterator_seal(const KinIterator *iterator);

/* Raises InvalidArgumentException for a text that was not sealed here, ExpiredIteratorException for an old one. */
extern KinIterator kin_iterator_open(const char *sealed);

#endif
