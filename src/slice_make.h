/*
 * slice_make.h - makes the slices that a producer misses.
 */
#ifndef KIN_SLICE_MAKE_H
#define KIN_SLICE_MAKE_H

#include "stream_lookup.h"

/* Makes slices for this number and some time behind it; afterwards the shard's slices must be read again. */
extern void kin_slice_make(KinStream *stream, KinShard *shard, int64 number);

#endif
