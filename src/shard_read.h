/*
 * shard_read.h - read_shard.
 */
#ifndef KIN_SHARD_READ_H
#define KIN_SHARD_READ_H

extern void kin_shard_read_init(void);

#endif
