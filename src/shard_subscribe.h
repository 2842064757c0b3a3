/*
 * shard_subscribe.h - subscribe_to_shard.
 */
#ifndef KIN_SHARD_SUBSCRIBE_H
#define KIN_SHARD_SUBSCRIBE_H

extern void kin_shard_subscribe_init(void);

#endif
