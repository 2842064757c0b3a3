/*
 * channel_listen.c - a session that LISTENs, in a thread of its own.
 *
 * Owns:    one thread and one connection a listener.
 * Locking: none; whoever hears runs in the listener's thread, the rest in the thread that started it.
 * Runs in: the benchmark client.
 *
 * A client that sleeps in poll() is what a LISTENing program is.  It looks up now and then only to see whether it must end.
 */
#include <poll.h>
#include <stdbool.h>

#include "channel_listen.h"
#include "session.h"

#define LOOK_UP_MILLISEC 100

static void *
listener_main(void *argument)
{
	Listener *listener = argument;
	struct pollfd socket = {.fd = PQsocket(listener->conn), .events = POLLIN};

	while (!listener->must_end)
	{
		PGnotify *notice;

		if (poll(&socket, 1, LOOK_UP_MILLISEC) <= 0)
			continue;
		if (!PQconsumeInput(listener->conn))
			die("the LISTENing session: %s", PQerrorMessage(listener->conn));
		while ((notice = PQnotifies(listener->conn)) != NULL)
		{
			if (listener->hear)
				listener->hear(notice->extra);
			PQfreemem(notice);
		}
	}
	return NULL;
}

/* The connection LISTENs already; it is the listener's from now on. */
void
listener_start(Listener *listener, PGconn *conn, void (*hear)(const char *payload))
{
	listener->conn = conn;
	listener->hear = hear;
	listener->must_end = false;
	if (pthread_create(&listener->thread, NULL, listener_main, listener) != 0)
		die("could not start the listener");
}

void
listener_stop(Listener *listener)
{
	listener->must_end = true;
	pthread_join(listener->thread, NULL);
	PQfinish(listener->conn);
}
