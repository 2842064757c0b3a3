/*
 * stress.h - what the threads of the stress test share.
 *
 * Owns:    the types; the ledger is in ledger.c, what readers have read in read_tail.c.
 * Locking: a ledger belongs to its writer and a list to its reader until all threads have ended.
 * Runs in: the stress client, one process.
 */
#ifndef STRESS_H
#define STRESS_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#define STREAM     "stress"
#define WRITERS    6
#define RESHARDERS 2
#define READERS    5
#define SHARDS_MAX 20000

typedef enum Fate
{
	FATE_OPEN,     /* its transaction has not ended yet */
	FATE_STORED,   /* the commit was acknowledged */
	FATE_LOST,     /* rolled back */
	FATE_UNCERTAIN /* the connection was lost while it was committed */
} Fate;

typedef struct Entry
{
	Fate fate;
	bool ordered; /* has the writer's own key: its records must stay in order over all shards */
	int64_t number;
	int shard;
} Entry;

typedef struct Ledger
{
	Entry *entries; /* by the record's count in its writer */
	int count;
	int size;
} Ledger;

typedef struct Read
{
	int shard;
	int64_t number;
	int writer;
	int n;
} Read;

typedef struct List
{
	const char *name;
	Read *reads; /* in the order they were read */
	int count;
	int size;
} List;

extern const char *primary;
extern const char *standby;
extern volatile bool stop_writing; /* writers, resharders and maintenance end their turn and go */
extern volatile bool stop_reading; /* readers go on until they are at the end of all shards */
extern Ledger ledgers[WRITERS];
extern List lists[READERS];
extern long reshards;
extern long reconnects;

/* connection.c: sessions that come back after the server has been killed. */
extern PGconn *connect_again(PGconn *conn, const char *conninfo);
extern PGresult *ask(PGconn *conn, const char *sql, int n,
					 const char *const *values); /* NULL: the connection is lost */
extern bool tell(PGconn *conn, const char *sql);
extern unsigned draw(unsigned *seed, unsigned below);
extern void pause_ms(int ms);

/* ledger.c */
extern int ledger_add(int writer, bool ordered);
extern char *record_text(int writer, int n, unsigned *seed);
extern bool record_parse(const char *data, int len, int *writer, int *n);
extern void resolve_prepared(PGconn *conn);
extern void note_prepared(int writer, int first, int count, const char *gid, bool commit);
extern void settle(int writer, int first, int end, Fate fate);

/* write_load.c, reshard_load.c, read_tail.c: thread bodies; the argument is their number. */
extern void *write_load(void *arg);
extern void *reshard_load(void *arg);
extern void *maintain(void *arg);
extern void *read_tail(void *arg);
extern void read_all(PGconn *conn, List *list);

/* verify_lists.c: number of faults, which it prints. */
extern int verify(const List *truth, const List *reader);
extern int verify_ledger(const List *truth);
extern int self_test(const List *truth);

#endif
