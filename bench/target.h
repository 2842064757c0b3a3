/*
 * target.h - the streams and tables that measurements write to and read from.
 *
 * Owns:    the counter that gives each stream a name of its own.
 * Locking: none.
 * Runs in: the benchmark client, main thread.
 */
#ifndef TARGET_H
#define TARGET_H

#include <stdint.h>

#include <libpq-fe.h>

#include "payload.h"

/* How the benchmark calls the data plane; results are read by column number.  The casts choose between put_records' two forms. */
#define PUT_RECORD       "SELECT kinesis.put_record($1, $2, $3)"
#define PUT_RECORDS      "SELECT * FROM kinesis.put_records($1, $2::bytea[], $3::text[])"
#define GET_RECORDS      "SELECT * FROM kinesis.get_records($1, $2)"
#define GET_RECORDS_WAIT "SELECT * FROM kinesis.get_records($1, 10000, interval '10 s')"
#define READ_SHARD                                                                                                     \
	"SELECT sequence_number, approximate_arrival_timestamp, partition_key, data"                                       \
	" FROM kinesis.read_shard($1, $2, $3, $4)"

#define FIRST_SHARD "shardId-000000000000"
#define NAME_SIZE   64

/* Numbers seen while a stream was filled, each record with the same chance. */
typedef struct Sample
{
	int size;
	int count;
	int64_t seen;
	int64_t *numbers;
} Sample;

extern void stream_create(PGconn *conn, char *name, int shards);
extern void stream_drop(PGconn *conn, const char *name);
extern KeySet *stream_keys_of_shard(PGconn *conn, const char *name, int shard);
extern int64_t stream_count(PGconn *conn, const char *name);
extern void stream_vacuum(PGconn *conn, const char *name);
extern void stream_fill(const char *name, int64_t records, int record_size, Sample *sample);
extern char *stream_iterator(PGconn *conn, const char *name, const char *type);
extern void check_put_records(PGresult *result);
extern Sample *sample_make(int size);

#endif
