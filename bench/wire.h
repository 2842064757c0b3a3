/*
 * wire.h - building and reading PostgreSQL's binary format: arrays, COPY data, composite records.
 *
 * Owns:    nothing; a Buffer belongs to whoever declared it.
 * Locking: none; a Buffer that threads share is only read.
 * Runs in: the benchmark client, any thread.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stdint.h>

#define OID_BYTEA 17
#define OID_INT8  20
#define OID_INT4  23
#define OID_TEXT  25

typedef struct Buffer
{
	char *data;
	int length;
	int size;
} Buffer;

/* One element of a kinesis.record[]; the pointers go into the result that is being walked. */
typedef struct RecordView
{
	int64_t sequence_number;
	const char *data;
	int data_length;
} RecordView;

typedef struct RecordWalk
{
	const char *at;
	const char *end;
	int left;
} RecordWalk;

extern void buffer_bytes(Buffer *buffer, const void *bytes, int length);
extern void buffer_int16(Buffer *buffer, int16_t value);
extern void buffer_int32(Buffer *buffer, int32_t value);
extern void buffer_field(Buffer *buffer, const void *bytes, int length);
extern void buffer_array_header(Buffer *buffer, uint32_t element_type, int count);
extern void buffer_copy_header(Buffer *buffer);
extern void buffer_copy_trailer(Buffer *buffer);
extern void buffer_free(Buffer *buffer);

extern int16_t wire_int16(const char *bytes);
extern int32_t wire_int32(const char *bytes);
extern int64_t wire_int64(const char *bytes);
extern void wire_put_int32(char *bytes, int32_t value);
extern void wire_put_int64(char *bytes, int64_t value);

extern void walk_begin(RecordWalk *walk, const char *value, int length);
extern bool walk_next(RecordWalk *walk, RecordView *record);

#endif
