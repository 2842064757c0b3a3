/*
 * drain_prepare.c - a full shard and a plain heap with the same rows, for the goals that drain.
 *
 * Owns:    nothing; a drain is the goal's that prepared it.
 * Locking: none.
 * Runs in: the benchmark client, main thread.
 *
 * Both are vacuumed before the first round, so each way finds the same state of hint bits and visibility map.  The session
 * works without parallel workers: one core is compared with one core.
 */
#include "drain_prepare.h"
#include "session.h"

#define RECORD_SIZE 100

void
drain_prepare(Drain *drain, int64_t records)
{
	drain->conn = session_open(NULL);
	drain->records = records;
	stream_create(drain->conn, drain->name, 1);
	stream_fill(drain->name, records, RECORD_SIZE, NULL);
	session_run(drain->conn, "CREATE TABLE bench_plain AS SELECT " DRAIN_COLUMNS " FROM kinesis.read_shard('%s', '%s')",
				drain->name, FIRST_SHARD);
	session_run(drain->conn, "VACUUM bench_plain");
	stream_vacuum(drain->conn, drain->name);
	session_run(drain->conn, "CHECKPOINT");
	session_run(drain->conn, "SET max_parallel_workers_per_gather = 0");
}

void
drain_end(Drain *drain)
{
	session_run(drain->conn, "DROP TABLE bench_plain");
	stream_drop(drain->conn, drain->name);
	PQfinish(drain->conn);
}
