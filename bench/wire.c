/*
 * wire.c - building and reading PostgreSQL's binary format: arrays, COPY data, composite records.
 *
 * Owns:    nothing; a Buffer belongs to whoever declared it.
 * Locking: none; a Buffer that threads share is only read.
 * Runs in: the benchmark client, any thread.
 *
 * Everything is big-endian on the wire.  The client speaks binary both ways, so that neither side's text conversion
 * of bytea is part of what is measured.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"
#include "wire.h"

/* Number of the fields of kinesis.record that the benchmark looks at. */
#define FIELD_SEQUENCE_NUMBER 0
#define FIELD_DATA            3

static const char copy_signature[11] = "PGCOPY\n\377\r\n";

/* Makes room for so many bytes more. */
static void
buffer_reserve(Buffer *buffer, int more)
{
	int needed = buffer->length + more;

	if (needed <= buffer->size)
		return;
	buffer->size = needed > 2 * buffer->size ? needed : 2 * buffer->size;
	buffer->data = realloc(buffer->data, buffer->size);
	if (buffer->data == NULL)
		die("out of memory for a buffer of %d bytes", buffer->size);
}

void
buffer_bytes(Buffer *buffer, const void *bytes, int length)
{
	buffer_reserve(buffer, length);
	memcpy(buffer->data + buffer->length, bytes, length);
	buffer->length += length;
}

void
buffer_int16(Buffer *buffer, int16_t value)
{
	uint16_t wire = htobe16((uint16_t) value);

	buffer_bytes(buffer, &wire, sizeof(wire));
}

void
buffer_int32(Buffer *buffer, int32_t value)
{
	uint32_t wire = htobe32((uint32_t) value);

	buffer_bytes(buffer, &wire, sizeof(wire));
}

/* A field of a COPY row or an element of an array: both are a length and the bytes. */
void
buffer_field(Buffer *buffer, const void *bytes, int length)
{
	buffer_int32(buffer, length);
	buffer_bytes(buffer, bytes, length);
}

/* The head of a one-dimensional array without nulls; its elements follow as fields. */
void
buffer_array_header(Buffer *buffer, uint32_t element_type, int count)
{
	buffer_int32(buffer, 1);
	buffer_int32(buffer, 0);
	buffer_int32(buffer, (int32_t) element_type);
	buffer_int32(buffer, count);
	buffer_int32(buffer, 1);
}

void
buffer_copy_header(Buffer *buffer)
{
	buffer_bytes(buffer, copy_signature, sizeof(copy_signature));
	buffer_int32(buffer, 0);
	buffer_int32(buffer, 0);
}

void
buffer_copy_trailer(Buffer *buffer)
{
	buffer_int16(buffer, -1);
}

void
buffer_free(Buffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}

int16_t
wire_int16(const char *bytes)
{
	uint16_t wire;

	memcpy(&wire, bytes, sizeof(wire));
	return (int16_t) be16toh(wire);
}

int32_t
wire_int32(const char *bytes)
{
	uint32_t wire;

	memcpy(&wire, bytes, sizeof(wire));
	return (int32_t) be32toh(wire);
}

int64_t
wire_int64(const char *bytes)
{
	uint64_t wire;

	memcpy(&wire, bytes, sizeof(wire));
	return (int64_t) be64toh(wire);
}

void
wire_put_int32(char *bytes, int32_t value)
{
	uint32_t wire = htobe32((uint32_t) value);

	memcpy(bytes, &wire, sizeof(wire));
}

void
wire_put_int64(char *bytes, int64_t value)
{
	uint64_t wire = htobe64((uint64_t) value);

	memcpy(bytes, &wire, sizeof(wire));
}

/* Begins to walk a kinesis.record[] in binary format; an empty array has no dimensions at all. */
void
walk_begin(RecordWalk *walk, const char *value, int length)
{
	walk->at = value;
	walk->end = value + length;
	walk->left = 0;
	if (length < 12)
		die("a record array of %d bytes is too short", length);
	if (wire_int32(value) == 0)
		return;
	walk->left = wire_int32(value + 12);
	walk->at += 20;
}

/* The next record of the array, false at its end. */
bool
walk_next(RecordWalk *walk, RecordView *record)
{
	int element_length;
	int field_count;
	const char *at;

	if (walk->left == 0)
		return false;
	walk->left--;
	element_length = wire_int32(walk->at);
	at = walk->at + 4;
	if (element_length < 4 || at + element_length > walk->end)
		die("a record array does not parse");
	walk->at = at + element_length;

	field_count = wire_int32(at);
	at += 4;
	for (int field = 0; field < field_count && field <= FIELD_DATA; field++)
	{
		int length = wire_int32(at + 4);

		at += 8;
		if (field == FIELD_SEQUENCE_NUMBER)
			record->sequence_number = wire_int64(at);
		else if (field == FIELD_DATA)
		{
			record->data = at;
			record->data_length = length;
		}
		if (length > 0)
			at += length;
	}
	return true;
}
