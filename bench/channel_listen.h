/*
 * channel_listen.h - a session that LISTENs, in a thread of its own.
 *
 * Owns:    one thread and one connection a listener.
 * Locking: none; whoever hears runs in the listener's thread, the rest in the thread that started it.
 * Runs in: the benchmark client.
 */
#ifndef CHANNEL_LISTEN_H
#define CHANNEL_LISTEN_H

#include <pthread.h>
#include <stdatomic.h>

#include <libpq-fe.h>

typedef struct Listener
{
	PGconn *conn;
	void (*hear)(const char *payload); /* or NULL */
	atomic_bool must_end;
	pthread_t thread;
} Listener;

extern void listener_start(Listener *listener, PGconn *conn, void (*hear)(const char *payload));
extern void listener_stop(Listener *listener);

#endif
