/*
 * write_load.c - writers: single puts, batches, transactions with savepoints and rollbacks, prepared transactions.
 *
 * Owns:    each writer its ledger.
 * Locking: none.
 * Runs in: a thread a writer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stress.h"

typedef struct Writer
{
	int id;
	unsigned seed;
	PGconn *conn;
	PGconn *other; /* ends prepared transactions */
	int prepared;
} Writer;

static bool
take_answer(Writer *w, PGresult *result, int row, int n)
{
	Entry *entry = &ledgers[w->id].entries[n];

	if (PQgetisnull(result, row, 0))
	{
		/* The limits are lifted, so nothing is throttled. */
		fault("a put was answered with %s: %s", PQgetvalue(result, row, 2), PQgetvalue(result, row, 3));
		entry->fate = FATE_LOST;
		return false;
	}
	entry->number = atoll(PQgetvalue(result, row, 0));
	entry->shard = atoi(strrchr(PQgetvalue(result, row, 1), '-') + 1);
	return true;
}

/* The writer's own key for records that must stay in order, others to reach all shards. */
static void
choose_key(Writer *w, bool ordered, char *key)
{
	if (ordered)
		sprintf(key, "writer-%d", w->id);
	else
		sprintf(key, "any-%u", draw(&w->seed, 1000));
}

static bool
put_one(Writer *w)
{
	bool ordered = draw(&w->seed, 2) == 0;
	int n = ledger_add(w->id, ordered);
	char key[KEY_MAX];
	char *data;
	const char *values[] = {NULL, key};
	PGresult *result;
	bool good;

	choose_key(w, ordered, key);
	values[0] = data = record_text(w->id, n, key, &w->seed);
	result = ask(w->conn,
				 "SELECT sequence_number, shard_id, 'no number', encryption_type FROM kinesis.put_record('" STREAM
				 "', convert_to($1, 'UTF8'), $2)",
				 2, values);
	free(data);
	good = result && PQresultStatus(result) == PGRES_TUPLES_OK && take_answer(w, result, 0, n);
	check_error(w->conn, result, "put_record", "");
	PQclear(result);
	return good;
}

/* A batch through either form of put_records; the keys spread it over several shards. */
static bool
put_many(Writer *w)
{
	static const char *const forms[] = {
		"SELECT * FROM kinesis.put_records('" STREAM
		"', (SELECT array_agg(convert_to(d, 'UTF8') ORDER BY o) FROM unnest($1::text[]) WITH ORDINALITY u(d, o)), $2::text[], atomic => $3)",
		"SELECT * FROM kinesis.put_records('" STREAM
		"', (SELECT array_agg(ROW(convert_to(d, 'UTF8'), k, NULL)::kinesis.put_records_request_entry ORDER BY o) FROM unnest($1::text[], $2::text[]) WITH ORDINALITY u(d, k, o)), atomic => $3)",
	};
	int count = 1 + draw(&w->seed, draw(&w->seed, 4) == 0 ? 300 : 20);
	int first = ledgers[w->id].count;
	size_t size = 64;
	char *data;
	char *keys = malloc(count * KEY_MAX + 3);
	char *d;
	char *k = keys;
	char **texts = malloc(count * sizeof(char *));
	const char *values[3];
	PGresult *result;
	bool good;

	*k++ = '{';
	for (int i = 0; i < count; i++)
	{
		bool ordered = draw(&w->seed, 4) == 0;
		char key[KEY_MAX];

		choose_key(w, ordered, key);
		texts[i] = record_text(w->id, ledger_add(w->id, ordered), key, &w->seed);
		size += strlen(texts[i]) + 4;
		k += sprintf(k, "%s%s", i ? "," : "", key);
	}
	strcpy(k, "}");
	d = data = malloc(size);
	*d++ = '{';
	for (int i = 0; i < count; i++)
	{
		d += sprintf(d, "%s\"%s\"", i ? "," : "", texts[i]);
		free(texts[i]);
	}
	strcpy(d, "}");
	free(texts);
	values[0] = data;
	values[1] = keys;
	values[2] = draw(&w->seed, 4) == 0 ? "true" : "false";
	result = ask(w->conn, forms[draw(&w->seed, 2)], 3, values);
	good = result && PQresultStatus(result) == PGRES_TUPLES_OK;
	check_error(w->conn, result, "put_records", "");
	if (good && PQntuples(result) != count)
	{
		fault("put_records of %d answers with %d rows", count, PQntuples(result));
		good = false;
	}
	for (int i = 0; good && i < count; i++)
		take_answer(w, result, i, first + i);
	PQclear(result);
	free(data);
	free(keys);
	return good;
}

static bool
put_some(Writer *w)
{
	return draw(&w->seed, 2) ? put_one(w) : put_many(w);
}

/* What is left open when the connection is gone: before the commit was sent it is lost, then uncertain. */
static void
lose_connection(Writer *w, int first, Fate fate)
{
	settle(w->id, first, ledgers[w->id].count, fate);
	w->conn = connect_again(w->conn, primary);
}

static void
autocommit_turn(Writer *w)
{
	int first = ledgers[w->id].count;

	if (put_some(w))
		settle(w->id, first, ledgers[w->id].count, FATE_STORED);
	else if (PQstatus(w->conn) != CONNECTION_OK)
		lose_connection(w, first, FATE_UNCERTAIN);
	else
		settle(w->id, first, ledgers[w->id].count, FATE_LOST);
}

/* Ends a prepared transaction from another session, after a while in which the writer goes on. */
static void
prepare(Writer *w, int first)
{
	int end = ledgers[w->id].count;
	bool commit = draw(&w->seed, 3) != 0;
	char gid[64];
	char sql[128];
	PGresult *result;
	bool good;

	sprintf(gid, "stress_%d_%d", w->id, w->prepared++);
	snprintf(sql, sizeof(sql), "PREPARE TRANSACTION '%s'", gid);
	result = PQexec(w->conn, sql);
	check_error(w->conn, result, sql, "");
	/* A transaction that had failed answers with ROLLBACK, and nothing is prepared. */
	good = PQresultStatus(result) == PGRES_COMMAND_OK && strcmp(PQcmdStatus(result), "PREPARE TRANSACTION") == 0;
	PQclear(result);
	if (!good && PQstatus(w->conn) == CONNECTION_OK)
	{
		settle(w->id, first, end, FATE_LOST);
		return;
	}
	COUNT(prepared);
	if (PQstatus(w->conn) != CONNECTION_OK)
	{
		/* Prepared or not: it will not be committed by us, so it ends as lost; what is still there is rolled back. */
		note_prepared(w->id, first, end, gid, false);
		lose_connection(w, ledgers[w->id].count, FATE_LOST);
		snprintf(sql, sizeof(sql), "ROLLBACK PREPARED '%s'", gid);
		tell(w->conn, sql);
		return;
	}
	note_prepared(w->id, first, end, gid, commit);
	for (int i = draw(&w->seed, 4); i > 0 && PQstatus(w->conn) == CONNECTION_OK; i--)
		autocommit_turn(w);
	pause_ms(draw(&w->seed, 100));
	snprintf(sql, sizeof(sql), "%s PREPARED '%s'", commit ? "COMMIT" : "ROLLBACK", gid);
	for (bool again = false;; again = true)
	{
		result = PQexec(w->other, sql);
		/* It survives a crash, unless the first try had ended it before. */
		check_error(w->other, result, sql, again ? "42704" : "");
		PQclear(result);
		if (PQstatus(w->other) == CONNECTION_OK)
			break;
		w->other = connect_again(w->other, primary);
	}
}

static void
transaction_turn(Writer *w)
{
	int first = ledgers[w->id].count;
	int steps = 1 + draw(&w->seed, 5);
	unsigned end;

	if (!tell(w->conn, "BEGIN"))
	{
		lose_connection(w, first, FATE_LOST);
		return;
	}
	for (int i = 0; i < steps; i++)
	{
		int since = ledgers[w->id].count;
		bool savepoint = draw(&w->seed, 3) == 0;

		if (savepoint)
			tell(w->conn, "SAVEPOINT s");
		if (!put_some(w) && PQstatus(w->conn) == CONNECTION_OK && !savepoint)
		{
			tell(w->conn, "ROLLBACK");
			settle(w->id, first, ledgers[w->id].count, FATE_LOST);
			return;
		}
		if (savepoint && draw(&w->seed, 2) && tell(w->conn, "ROLLBACK TO SAVEPOINT s"))
		{
			settle(w->id, since, ledgers[w->id].count, FATE_LOST);
			COUNT(savepoints);
		}
		if (savepoint)
			tell(w->conn, "RELEASE SAVEPOINT s");
	}
	if (PQstatus(w->conn) != CONNECTION_OK)
	{
		lose_connection(w, first, FATE_LOST);
		return;
	}
	if (draw(&w->seed, 100) == 0)
		pause_ms(1000 + draw(&w->seed, 1000)); /* a long transaction holds readers back, and resharding */
	end = draw(&w->seed, 10);
	if (end < 2)
	{
		prepare(w, first);
		return;
	}
	if (end < 4)
	{
		tell(w->conn, "ROLLBACK");
		settle(w->id, first, ledgers[w->id].count, FATE_LOST);
	}
	else
	{
		PGresult *result = PQexec(w->conn, "COMMIT");

		check_error(w->conn, result, "COMMIT", "");
		/* A transaction that had failed answers COMMIT with ROLLBACK. */
		if (PQresultStatus(result) == PGRES_COMMAND_OK)
			settle(w->id, first, ledgers[w->id].count,
				   strcmp(PQcmdStatus(result), "COMMIT") == 0 ? FATE_STORED : FATE_LOST);
		else if (PQstatus(w->conn) == CONNECTION_OK)
			settle(w->id, first, ledgers[w->id].count, FATE_LOST);
		PQclear(result);
	}
	if (PQstatus(w->conn) != CONNECTION_OK)
		lose_connection(w, first, end < 4 ? FATE_LOST : FATE_UNCERTAIN);
}

void *
write_load(void *arg)
{
	Writer w = {.id = (int) (intptr_t) arg};

	w.seed = first_seed + 17 * (w.id + 1);
	w.conn = connect_again(NULL, primary);
	w.other = connect_again(NULL, primary);
	while (!stop_writing)
	{
		if (draw(&w.seed, 3) == 0)
			transaction_turn(&w);
		else
			autocommit_turn(&w);
		pause_ms(draw(&w.seed, 8));
	}
	PQfinish(w.conn);
	PQfinish(w.other);
	return NULL;
}
