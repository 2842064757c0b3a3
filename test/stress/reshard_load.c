/*
 * reshard_load.c - splits, merges and rescales at random; purges, vacuums and checkpoints now and then.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: two resharding threads and one for maintenance.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stress.h"

/* Two sessions reshard at the same time, so "it is closed by now" and the like are part of the game. */
static void
reshard(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);

	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		COUNT(reshards);
	else if (PQstatus(conn) == CONNECTION_OK)
	{
		const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

		/* Refused by the rules, or stopped by statement_timeout because writers would not end. */
		check_error(conn, result, sql, "KN001 KN002 KN003 KN004 KN005 57014");
		if (state && strcmp(state, "57014") == 0)
			COUNT(timeouts);
		else
			COUNT(refused);
	}
	PQclear(result);
}

void *
reshard_load(void *arg)
{
	unsigned seed = first_seed + 4711 + (unsigned) (intptr_t) arg;
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
	unsigned seed = first_seed + 99;
	PGconn *conn = connect_again(NULL, primary);

	(void) arg;
	while (!stop_writing)
	{
		PGresult *slices = PQexec(conn, "SELECT kinesis.purge()");

		check_error(conn, slices, "purge", "");
		PQclear(slices);
		COUNT(purges);
		/* Slices that hold something; the newest, where aborted records make room in the tail page, more often than others. */
		slices = PQexec(
			conn,
			"SELECT c.oid::regclass FROM pg_class c JOIN kinesis.shard s ON s.shard_index::text = split_part(relname, '/', 2) "
			"WHERE relnamespace = 'kinesis_stream'::regnamespace AND relkind = 'r' AND pg_relation_size(c.oid) > 0 "
			"ORDER BY s.ending_sequence_number IS NULL AND random() < 0.5 DESC, random() LIMIT 5");
		check_error(conn, slices, "looking for slices", "");
		for (int i = 0; PQresultStatus(slices) == PGRES_TUPLES_OK && i < PQntuples(slices); i++)
		{
			char sql[256];

			PGresult *result;

			snprintf(sql, sizeof(sql), "VACUUM %s%s", draw(&seed, 4) == 0 ? "FREEZE " : "", PQgetvalue(slices, i, 0));
			result = PQexec(conn, sql);
			check_error(conn, result, sql, "");
			if (PQresultStatus(result) == PGRES_COMMAND_OK)
				COUNT(vacuums);
			PQclear(result);
		}
		PQclear(slices);
		if (draw(&seed, 4) == 0 && tell(conn, "CHECKPOINT"))
			COUNT(checkpoints);
		if (PQstatus(conn) != CONNECTION_OK)
			conn = connect_again(conn, primary);
		pause_ms(300 + draw(&seed, 700));
	}
	PQfinish(conn);
	return NULL;
}
