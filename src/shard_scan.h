/*
 * shard_scan.h - the executor node that stands in for read_shard() in FROM.
 */
#ifndef KIN_SHARD_SCAN_H
#define KIN_SHARD_SCAN_H

extern void kin_shard_scan_init(void);

#endif
