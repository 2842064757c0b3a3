/*
 * mapping.h - event source mappings for the goals of callbacks: made, watched, deleted.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: the benchmark client, main thread.
 */
#ifndef MAPPING_H
#define MAPPING_H

#include <stdint.h>

#include <libpq-fe.h>

#define UUID_SIZE        40
#define BACKGROUND_LIMIT 64

/* A background process of kinesis, and what it has used so far. */
typedef struct Background
{
	int pid;
	int is_worker;
	double cpu_seconds; /* utime + stime */
	int64_t sleeps;     /* voluntary context switches */
} Background;

extern void mapping_create(PGconn *conn, char *uuid, const char *stream, const char *function, const char *position,
						   const char *more);
extern void mapping_enable(PGconn *conn, const char *uuid);
extern void mapping_delete(PGconn *conn, const char *uuid);
extern int64_t mapping_records(PGconn *conn, const char *uuid);
extern double mappings_await_rest(PGconn *conn, double patience);
extern int background_list(PGconn *conn, Background *list);

#endif
