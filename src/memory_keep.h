/*
 * memory_keep.h - keeps a backend's freed memory for the next large call.
 */
#ifndef KIN_MEMORY_KEEP_H
#define KIN_MEMORY_KEEP_H

/* Calls that move at least this much are worth it. */
#define KIN_LARGE_CALL (64 * 1024)

extern void kin_keep_memory(void);

#endif
