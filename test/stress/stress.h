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
#define KEY_MAX    32

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
extern unsigned first_seed; /* every thread draws its own from it */
extern long faults_met;     /* what went wrong while the load ran, and must not */
extern double away;         /* longest time in seconds until the server answered again */

/* What the load consisted of. */
typedef struct Work
{
	long reshards;
	long refused;  /* reshardings that the rules refused, since the other session was faster */
	long timeouts; /* and those that writers did not let through in time */
	long reconnects;
	long prepared;
	long savepoints; /* rolled back to */
	long purges;
	long vacuums;
	long checkpoints;
} Work;

extern Work work;

#define COUNT(what) __sync_fetch_and_add(&work.what, 1)

/* connection.c: sessions that come back after the server has been killed. */
extern PGconn *connect_again(PGconn *conn, const char *conninfo);
extern PGresult *ask(PGconn *conn, const char *sql, int n,
					 const char *const *values); /* NULL: the connection is lost */
extern bool tell(PGconn *conn, const char *sql);
extern void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void check_error(PGconn *conn, const PGresult *result, const char *what, const char *allowed);
extern unsigned draw(unsigned *seed, unsigned below);
extern void pause_ms(int ms);

/* ledger.c */
extern int ledger_add(int writer, bool ordered);
extern char *record_text(int writer, int n, const char *key, unsigned *seed);
extern bool record_parse(const char *data, int len, const char *key, int *writer, int *n);
extern void resolve_prepared(PGconn *conn);
extern void note_prepared(int writer, int first, int end, const char *gid, bool commit);
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
extern int self_test_alone(void);

#endif
