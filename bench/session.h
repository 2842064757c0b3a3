/*
 * session.h - connections to the server: opening them, running commands, prepared calls in binary.
 *
 * Owns:    the connection string, set once before any thread starts.
 * Locking: none; a connection belongs to one thread.
 * Runs in: the benchmark client, any thread.
 */
#ifndef SESSION_H
#define SESSION_H

#include <stdint.h>

#include <libpq-fe.h>

/* One parameter of a prepared call, in binary. */
typedef struct Param
{
	const char *value;
	int length;
} Param;

#define CALL_MAX_PARAMS 5

extern void session_target(const char *conninfo);
extern PGconn *session_open(const char *setup);
extern void session_run(PGconn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern int64_t session_int64(PGconn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern char *session_text(PGconn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern void session_prepare(PGconn *conn, const char *name, const char *sql);
extern PGresult *session_call(PGconn *conn, const char *name, const Param *params, int count);
extern void session_call_void(PGconn *conn, const char *name, const Param *params, int count);
extern void session_copy_in(PGconn *conn, const char *sql, const char *data, int length);
extern int64_t session_wal(PGconn *conn);
extern Param text_param(const char *text);

extern double now(void);
extern void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
extern void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
