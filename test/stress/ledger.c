/*
 * ledger.c - keeps what the writers know of their records: stored, lost, or uncertain.
 *
 * Owns:    a ledger a writer, and the list of prepared transactions under way.
 * Locking: a ledger is its writer's; the list of prepared transactions has a mutex.
 * Runs in: the writers' threads, and the main thread when they have ended.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stress.h"

typedef struct Prepared
{
	int writer;
	int first;
	int end;
	bool commit; /* what its writer has decided */
	char gid[64];
} Prepared;

Ledger ledgers[WRITERS];
static Prepared *prepared;
static int prepared_count;
static int prepared_size;
static pthread_mutex_t prepared_mutex = PTHREAD_MUTEX_INITIALIZER;

/* Count of a new record in its writer's ledger. */
int
ledger_add(int writer, bool ordered)
{
	Ledger *ledger = &ledgers[writer];

	if (ledger->count == ledger->size)
	{
		ledger->size = ledger->size ? ledger->size * 2 : 4096;
		ledger->entries = realloc(ledger->entries, ledger->size * sizeof(Entry));
	}
	ledger->entries[ledger->count] = (Entry){.fate = FATE_OPEN, .ordered = ordered, .number = -1, .shard = -1};
	return ledger->count++;
}

static unsigned
checksum(int writer, int n, const char *key, int filler)
{
	unsigned h = 2166136261u;

	for (int i = 0; i < 3; i++)
		h = (h ^ (unsigned) (i == 0 ? writer : i == 1 ? n : filler)) * 16777619u;
	for (; *key; key++)
		h = (h ^ (unsigned char) *key) * 16777619u;
	return h;
}

/* A byte of the filler.  Neighbouring records and places differ, so bytes of another record or page are seen. */
static char
filler_byte(unsigned sum, int i)
{
	return 'a' + (sum + (unsigned) i * 7 + ((unsigned) i >> 6)) % 26;
}

/* Data of a record: who, which, under what key, how long, a checksum, and a filler that makes sizes vary. */
char *
record_text(int writer, int n, const char *key, unsigned *seed)
{
	unsigned kind = draw(seed, 100);
	int filler = kind < 80 ? (int) draw(seed, 200) : kind < 97 ? (int) draw(seed, 3000) : (int) draw(seed, 20000);
	unsigned sum = checksum(writer, n, key, filler);
	char *text = malloc(filler + KEY_MAX + 64);
	int len = sprintf(text, "%d %d %s %d %u ", writer, n, key, filler, sum);

	for (int i = 0; i < filler; i++)
		text[len + i] = filler_byte(sum, i);
	text[len + filler] = '\0';
	return text;
}

/* Is it what a writer has put, byte by byte, under this key?  A reader sees only records that are in their ledger by now. */
bool
record_parse(const char *data, int len, const char *key, int *writer, int *n)
{
	char put_key[KEY_MAX];
	int filler;
	int head = 0;
	unsigned sum;

	if (sscanf(data, "%d %d %31s %d %u%n", writer, n, put_key, &filler, &sum, &head) != 5 || data[head++] != ' ')
		return false;
	if (strcmp(key, put_key) != 0 || sum != checksum(*writer, *n, key, filler) || len != head + filler)
		return false;
	for (int i = 0; i < filler; i++)
		if (data[head + i] != filler_byte(sum, i))
			return false;
	return *writer >= 0 && *writer < WRITERS && *n >= 0 && *n < ledgers[*writer].count;
}

/* Writes the fate of a run of records that is still open. */
void
settle(int writer, int first, int end, Fate fate)
{
	for (int i = first; i < end; i++)
		if (ledgers[writer].entries[i].fate == FATE_OPEN)
			ledgers[writer].entries[i].fate = fate;
}

void
note_prepared(int writer, int first, int end, const char *gid, bool commit)
{
	pthread_mutex_lock(&prepared_mutex);
	if (prepared_count == prepared_size)
	{
		prepared_size = prepared_size ? prepared_size * 2 : 64;
		prepared = realloc(prepared, prepared_size * sizeof(Prepared));
	}
	prepared[prepared_count] = (Prepared){.writer = writer, .first = first, .end = end, .commit = commit};
	snprintf(prepared[prepared_count++].gid, sizeof(prepared[0].gid), "%s", gid);
	pthread_mutex_unlock(&prepared_mutex);
}

static bool
exists(PGconn *conn, const char *gid)
{
	const char *values[] = {gid};
	PGresult *result = ask(conn, "SELECT FROM pg_prepared_xacts WHERE gid = $1", 1, values);
	bool found = result && PQntuples(result) > 0;

	if (result == NULL || PQresultStatus(result) != PGRES_TUPLES_OK)
		fault("could not look for %s: %s", gid, PQerrorMessage(conn));
	PQclear(result);
	return found;
}

/*
 * What was under way when the server was killed: a transaction that is still prepared is ended now, as its writer had
 * decided; one that is gone either was ended so before, or never was prepared (then its writer has settled it).
 */
void
resolve_prepared(PGconn *conn)
{
	for (int i = 0; i < prepared_count; i++)
	{
		Prepared *p = &prepared[i];
		char sql[128];

		if (exists(conn, p->gid))
		{
			snprintf(sql, sizeof(sql), "%s PREPARED '%s'", p->commit ? "COMMIT" : "ROLLBACK", p->gid);
			if (!tell(conn, sql))
				fault("could not end %s: %s", p->gid, PQerrorMessage(conn));
		}
		settle(p->writer, p->first, p->end, p->commit ? FATE_STORED : FATE_LOST);
	}
}
