/*
 * read_tail.c - readers that follow the stream from its first shards through all splits and merges.
 *
 * Owns:    each reader its list of what it has read, in the order in which it read it.
 * Locking: none.
 * Runs in: a thread a reader.  Positions are kept over crashes of the server; nothing is read twice on purpose.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stress.h"

typedef struct Shard
{
	bool known;
	bool done;   /* read to its end */
	int parents; /* parents not done yet */
	char *iterator;
	int64_t after;
} Shard;

typedef struct Reader
{
	int id;
	const char *conninfo;
	int wait_ms; /* -1: read_shard, 0: get_records, more: long poll */
	PGconn *conn;
	Shard *shards;
	int nshards;
	const char *allowed; /* SQLSTATEs of errors after which it just tries again */
	bool at_end;         /* the last round met nothing new and no closed shard that is not done */
} Reader;

static const struct
{
	const char *name;
	bool on_standby;
	int wait_ms;
} kinds[READERS] = {
	{"get_records", false, 0},        {"long poll", false, 40},          {"read_shard", false, -1},
	{"long poll, standby", true, 40}, {"read_shard, standby", true, -1},
};

List lists[READERS];

static void
list_add(List *list, int shard, int64_t number, const char *data, int len, const char *key)
{
	Read *read;

	if (list->count == list->size)
	{
		list->size = list->size ? list->size * 2 : 65536;
		list->reads = realloc(list->reads, list->size * sizeof(Read));
	}
	read = &list->reads[list->count++];
	*read = (Read){.shard = shard, .number = number};
	if (!record_parse(data, len, key, &read->writer, &read->n))
		read->writer = -1; /* the verdict names it */
}

/* Learns of shards that were not there before, with the parents that must be read first. */
static bool
learn_shards(Reader *r)
{
	PGresult *result =
		ask(r->conn,
			"SELECT shard_id, parent_shard_id, adjacent_parent_shard_id, ending_sequence_number IS NOT NULL "
			"FROM kinesis.list_shards('" STREAM "')",
			0, NULL);
	bool good = result && PQresultStatus(result) == PGRES_TUPLES_OK;

	check_error(r->conn, result, "list_shards", r->allowed);
	for (int i = 0; good && i < PQntuples(result); i++)
	{
		int index = atoi(strrchr(PQgetvalue(result, i, 0), '-') + 1);

		if (index >= r->nshards)
			r->nshards = index + 1;
		r->shards[index].known = true;
		r->shards[index].parents = 0;
		for (int c = 1; c <= 2; c++)
			if (!PQgetisnull(result, i, c) && !r->shards[atoi(strrchr(PQgetvalue(result, i, c), '-') + 1)].done)
				r->shards[index].parents++;
	}
	PQclear(result);
	return good;
}

/*
 * Is a shard closed and read to its end?  Only get_records tells: read_shard gives no rows at an open transaction, too, and
 * on a standby a transaction that died in a crash of the primary can count as open behind the end of its shard.
 */
static int
is_at_end(Reader *r, int index)
{
	char id[32];
	char after[32];
	const char *values[] = {id, after};
	PGresult *result;
	int at_end = -1;

	sprintf(id, "shardId-%012d", index);
	sprintf(after, "%lld", (long long) (r->shards[index].after < 0 ? 0 : r->shards[index].after));
	result = ask(r->conn,
				 "SELECT next_shard_iterator IS NULL AND records = '{}' FROM "
				 "kinesis.get_records(kinesis.get_shard_iterator('" STREAM "', $1, 'AFTER_SEQUENCE_NUMBER', $2), 1)",
				 2, values);
	check_error(r->conn, result, "get_records at the end", r->allowed);
	if (result && PQresultStatus(result) == PGRES_TUPLES_OK)
		at_end = PQgetvalue(result, 0, 0)[0] == 't';
	PQclear(result);
	return at_end;
}

/* One call of read_shard; number of records, -1 when the connection is lost. */
static int
turn_read_shard(Reader *r, int index)
{
	char id[32];
	char after[32];
	const char *values[] = {id, after};
	PGresult *result;
	int n;

	sprintf(id, "shardId-%012d", index);
	sprintf(after, "%lld", (long long) r->shards[index].after);
	result = ask(r->conn,
				 "SELECT sequence_number, convert_from(data, 'UTF8'), partition_key FROM kinesis.read_shard('" STREAM
				 "', $1, $2, 500)",
				 2, values);
	if (result == NULL || PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		check_error(r->conn, result, "read_shard", r->allowed);
		PQclear(result);
		return -1;
	}
	n = PQntuples(result);
	for (int i = 0; i < n; i++)
	{
		r->shards[index].after = atoll(PQgetvalue(result, i, 0));
		list_add(&lists[r->id], index, r->shards[index].after, PQgetvalue(result, i, 1), PQgetlength(result, i, 1),
				 PQgetvalue(result, i, 2));
	}
	PQclear(result);
	if (n == 0)
	{
		int at_end = is_at_end(r, index);

		if (at_end < 0)
			return -1;
		r->shards[index].done = at_end;
	}
	return n;
}

/* One call of get_records.  A row that carries the next iterator comes first, then one a record. */
static int
turn_get_records(Reader *r, int index)
{
	Shard *shard = &r->shards[index];
	char id[32];
	char wait[32];
	const char *values[] = {NULL, wait};
	PGresult *result;
	int n = 0;

	sprintf(id, "shardId-%012d", index);
	sprintf(wait, "%d ms", r->wait_ms);
	if (shard->iterator == NULL)
	{
		const char *arguments[] = {id};

		result = ask(r->conn, "SELECT kinesis.get_shard_iterator('" STREAM "', $1, 'TRIM_HORIZON')", 1, arguments);
		if (result == NULL || PQresultStatus(result) != PGRES_TUPLES_OK)
		{
			check_error(r->conn, result, "get_shard_iterator", r->allowed);
			PQclear(result);
			return -1;
		}
		shard->iterator = strdup(PQgetvalue(result, 0, 0));
		PQclear(result);
	}
	values[0] = shard->iterator;
	result = ask(
		r->conn,
		"SELECT g.next_shard_iterator, r.sequence_number, convert_from(r.data, 'UTF8'), cardinality(g.child_shards), r.partition_key "
		"FROM kinesis.get_records($1, 500, $2::interval) g LEFT JOIN LATERAL unnest(g.records) r ON true",
		2, values);
	if (result == NULL || PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		check_error(r->conn, result, "get_records", r->allowed);
		PQclear(result);
		return -1;
	}
	for (int i = 0; i < PQntuples(result); i++)
		if (!PQgetisnull(result, i, 1))
		{
			list_add(&lists[r->id], index, atoll(PQgetvalue(result, i, 1)), PQgetvalue(result, i, 2),
					 PQgetlength(result, i, 2), PQgetvalue(result, i, 4));
			n++;
		}
	if (PQgetisnull(result, 0, 0))
	{
		if (PQgetisnull(result, 0, 3) || atoi(PQgetvalue(result, 0, 3)) < 1)
			fault("%s ended without children", id);
		shard->done = true;
	}
	else
	{
		free(shard->iterator);
		shard->iterator = strdup(PQgetvalue(result, 0, 0));
	}
	PQclear(result);
	return n;
}

/* A round over all shards whose parents are done; false when the connection is lost. */
static bool
read_round(Reader *r)
{
	int met = 0;

	if (!learn_shards(r))
		return false;
	for (int index = 0; index < r->nshards; index++)
	{
		Shard *shard = &r->shards[index];
		int n;

		if (!shard->known || shard->done || shard->parents > 0)
		{
			if (shard->known && !shard->done)
				met++; /* still to come */
			continue;
		}
		n = r->wait_ms < 0 ? turn_read_shard(r, index) : turn_get_records(r, index);
		if (n < 0)
			return false;
		met += n + shard->done;
	}
	r->at_end = met == 0;
	return true;
}

void *
read_tail(void *arg)
{
	Reader r = {.id = (int) (intptr_t) arg};
	int quiet = 0;

	r.conninfo = kinds[r.id].on_standby ? standby : primary;
	r.wait_ms = kinds[r.id].wait_ms;
	r.allowed = kinds[r.id].on_standby ? "40001" : ""; /* replay may cancel what stands in its way */
	r.shards = calloc(SHARDS_MAX, sizeof(Shard));
	for (int i = 0; i < SHARDS_MAX; i++)
		r.shards[i].after = -1;
	lists[r.id].name = kinds[r.id].name;
	r.conn = connect_again(NULL, r.conninfo);

	/* At the end of a quiet stream the same answer must come several times: a standby may lag, and is waited for. */
	while (quiet < 3)
	{
		if (!read_round(&r))
		{
			pause_ms(20);
			r.conn = connect_again(r.conn, r.conninfo);
			r.at_end = false;
		}
		quiet = stop_reading && r.at_end ? quiet + 1 : 0;
	}
	PQfinish(r.conn);
	free(r.shards);
	return NULL;
}

/* The whole stream by one read at the end: the truth that the readers are compared with. */
void
read_all(PGconn *conn, List *list)
{
	PGresult *result = PQexec(
		conn,
		"SELECT s.shard_id, r.sequence_number, convert_from(r.data, 'UTF8'), r.key FROM kinesis.list_shards('" STREAM
		"') s, "
		"LATERAL kinesis.read_shard('" STREAM
		"', s.shard_id) WITH ORDINALITY AS r(sequence_number, at, key, data, enc, o) ORDER BY s.shard_id, r.o");

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		fprintf(stderr, "FAULT: reading all: %s", PQresultErrorMessage(result));
		exit(2);
	}
	for (int i = 0; i < PQntuples(result); i++)
		list_add(list, atoi(strrchr(PQgetvalue(result, i, 0), '-') + 1), atoll(PQgetvalue(result, i, 1)),
				 PQgetvalue(result, i, 2), PQgetlength(result, i, 2), PQgetvalue(result, i, 3));
	PQclear(result);
}
