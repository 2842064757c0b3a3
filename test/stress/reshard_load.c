/*
 * reshard_load.c - splits, merges and rescales at random; purges, vacuums and checkpoints now and then.
 *
 * Owns:    the count of reshardings that worked.
 * Locking: none.
 * Runs in: two resharding threads and one for maintenance.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stress.h"

long reshards;

/* Two sessions reshard at the same time, so "it is closed by now" and the like are part of the game. */
static void
reshard(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);

	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		__sync_fetch_and_add(&reshards, 1);
	else if (PQstatus(conn) == CONNECTION_OK)
	{
		const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

		/* Refused by the rules, or stopped by statement_timeout because writers would not end. */
		if (state && strncmp(state, "KN", 2) != 0 && strcmp(state, "57014") != 0)
			fprintf(stderr, "%s: %s", sql, PQresultErrorMessage(result));
	}
	PQclear(result);
}

void *
reshard_load(void *arg)
{
	unsigned seed = 4711 + (unsigned) (intptr_t) arg;
	PGconn *conn = connect_again(NULL, primary);

	while (!stop_writing)
	{
		char sql[512];

		tell(conn, "SET statement_timeout = '10s'");
		switch (draw(&seed, 5))
		{
			case 0:
			case 1:
				reshard(conn, "SELECT kinesis.split_shard('" STREAM
							  "', shard_id, trunc((starting_hash_key + ending_hash_key) / 2)) "
							  "FROM (SELECT * FROM kinesis.list_shards('" STREAM
							  "', shard_filter_type => 'AT_LATEST') ORDER BY random() LIMIT 1) s "
							  "WHERE (SELECT count(*) FROM kinesis.list_shards('" STREAM
							  "', shard_filter_type => 'AT_LATEST')) < 12");
				break;
			case 2:
			case 3:
				reshard(
					conn,
					"SELECT kinesis.merge_shards('" STREAM
					"', a.shard_id, b.shard_id) FROM kinesis.list_shards('" STREAM
					"', shard_filter_type => 'AT_LATEST') a "
					"JOIN kinesis.list_shards('" STREAM
					"', shard_filter_type => 'AT_LATEST') b ON b.starting_hash_key = a.ending_hash_key + 1 ORDER BY random() LIMIT 1");
				break;
			default:
				snprintf(sql, sizeof(sql), "SELECT kinesis.update_shard_count('" STREAM "', %u)", 2 + draw(&seed, 6));
				reshard(conn, sql);
		}
		if (PQstatus(conn) != CONNECTION_OK)
			conn = connect_again(conn, primary);
		pause_ms(100 + draw(&seed, 900));
	}
	PQfinish(conn);
	return NULL;
}

void *
maintain(void *arg)
{
	unsigned seed = 99;
	PGconn *conn = connect_again(NULL, primary);

	(void) arg;
	while (!stop_writing)
	{
		PGresult *slices;

		if (!tell(conn, "SELECT kinesis.purge()") && PQstatus(conn) == CONNECTION_OK)
			fprintf(stderr, "purge: %s", PQerrorMessage(conn));
		slices = PQexec(
			conn,
			"SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'kinesis_stream'::regnamespace AND relkind = 'r' AND relpages >= 0 ORDER BY random() LIMIT 5");
		for (int i = 0; PQresultStatus(slices) == PGRES_TUPLES_OK && i < PQntuples(slices); i++)
		{
			char sql[256];

			snprintf(sql, sizeof(sql), "VACUUM %s", PQgetvalue(slices, i, 0));
			tell(conn, sql);
		}
		PQclear(slices);
		if (draw(&seed, 4) == 0)
			tell(conn, "CHECKPOINT");
		if (PQstatus(conn) != CONNECTION_OK)
			conn = connect_again(conn, primary);
		pause_ms(300 + draw(&seed, 700));
	}
	PQfinish(conn);
	return NULL;
}
