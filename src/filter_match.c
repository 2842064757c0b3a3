/*
 * filter_match.c - tells which records the filters of an event source mapping let through.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: backends and workers.
 *
 * filter_compile.c has the rules.  The event is a list of values with the metadata before the data, so a pattern may speak of
 * both.  An object of it is looked through once for each pattern object that it may match: time grows with the data's size,
 * not faster.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "filter_match.h"
#include "sequence_number.h"

#define SCHEMA_VERSION    "1.0"
#define FOLDED_GROWTH     4 /* a character of one byte may come from one of three */
#define UNIX_EPOCH_MICROS ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)
#define ABSENT            0 /* number of the value that stands for none */

typedef struct Matcher
{
	const KinJson *json;
	uint32 *found;
	StringInfoData scratch;
} Matcher;

PG_FUNCTION_INFO_V1(kin_match_filters);

static bool
has_word(const KinFilterTest *test, const KinJsonText *text)
{
	return bsearch(text, test->words, test->nwords, sizeof(KinJsonText), kin_json_compare) != NULL;
}

static bool
match_word(KinFilterOperator op, const KinJsonText *text, const KinJsonText *word)
{
	return text->len >= word->len &&
		   memcmp(op == KIN_OP_PREFIX ? text->text : text->text + text->len - word->len, word->text, word->len) == 0;
}

static bool
match_ignoring_case(const KinFilterTest *test, const KinJsonText *text)
{
	uint32 longest = 0;
	bool matches = false;
	KinJsonText lower;

	for (int i = 0; i < test->nwords; i++)
		longest = Max(longest, test->words[i].len);
	/* Much longer text is not worth looking at. */
	if (text->len > longest * FOLDED_GROWTH)
		return false;
	lower = kin_json_fold(text);
	for (int i = 0; i < test->nwords && !matches; i++)
		matches = kin_json_compare(&lower, &test->words[i]) == 0;
	pfree(unconstify(char *, lower.text));
	return matches;
}

static bool
match_number(const KinFilterTest *test, const KinJsonText *text)
{
	double value = kin_json_number_value(text);

	if (value < -KIN_NUMERIC_MAX || value > KIN_NUMERIC_MAX)
		return false;
	if (test->has_lower && !(test->above_lower ? value > test->lower : value >= test->lower))
		return false;
	return !test->has_upper || (test->below_upper ? value < test->upper : value <= test->upper);
}

static bool
match_test(const KinFilterTest *test, const KinJsonText *text)
{
	bool matches = false;

	switch (test->op)
	{
		case KIN_OP_EQUALS:
			matches = has_word(test, text);
			break;
		case KIN_OP_PREFIX:
		case KIN_OP_SUFFIX:
			for (int i = 0; i < test->nwords && !matches; i++)
				matches = text->kind == KIN_JSON_STRING && match_word(test->op, text, &test->words[i]);
			break;
		case KIN_OP_IGNORE_CASE:
			matches = text->kind == KIN_JSON_STRING && match_ignoring_case(test, text);
			break;
		case KIN_OP_NUMERIC:
			matches = text->kind == KIN_JSON_NUMBER && match_number(test, text);
			break;
		case KIN_OP_EXISTS:
			matches = true;
			break;
	}
	return matches != test->negated;
}

/* Does this value, or an element of it, match the leaf? */
static bool
match_leaf(Matcher *m, const KinFilterField *field, uint32 node)
{
	const KinJsonNode *nodes = m->json->nodes;
	bool is_absent = true;
	uint32 next;

	if (node == ABSENT)
		return field->if_absent;
	for (uint32 i = node; i < nodes[node].end; i = next)
	{
		KinJsonText text;

		CHECK_FOR_INTERRUPTS();
		next = nodes[i].kind == KIN_JSON_ARRAY ? i + 1 : nodes[i].end;
		if (nodes[i].kind == KIN_JSON_ARRAY || nodes[i].kind == KIN_JSON_OBJECT)
			continue;
		is_absent = false;
		text = kin_json_text(&nodes[i], &m->scratch);
		for (int t = 0; t < field->ntests; t++)
			if (match_test(&field->tests[t], &text))
				return true;
	}
	return is_absent && field->if_absent;
}

static bool match_pattern(Matcher *m, const KinFilterPattern *pattern, uint32 node);

/* Does this value, if it is an object, or an object in this array, match the pattern? */
static bool
match_nested(Matcher *m, const KinFilterPattern *pattern, uint32 node)
{
	const KinJsonNode *nodes = m->json->nodes;
	bool is_absent = true;
	uint32 next;

	if (nodes[node].kind == KIN_JSON_UNREADABLE)
		return false;
	for (uint32 i = node; i < nodes[node].end; i = next)
	{
		CHECK_FOR_INTERRUPTS();
		next = nodes[i].kind == KIN_JSON_ARRAY ? i + 1 : nodes[i].end;
		if (nodes[i].kind != KIN_JSON_OBJECT)
			continue;
		is_absent = false;
		if (match_pattern(m, pattern, i))
			return true;
	}
	return is_absent && match_pattern(m, pattern, ABSENT);
}

static bool
match_choice(Matcher *m, const KinFilterChoice *choice, uint32 node)
{
	for (int i = 0; i < choice->npatterns; i++)
		if (match_pattern(m, choice->patterns[i], node))
			return true;
	return false;
}

/* Leaves the values of the pattern's fields in this object in their slots, the last of each name. */
static void
find_fields(Matcher *m, const KinFilterPattern *pattern, uint32 node)
{
	const KinJsonNode *nodes = m->json->nodes;

	for (int i = 0; i < pattern->nfields; i++)
		m->found[pattern->fields[i].slot] = ABSENT;
	if (nodes[node].kind != KIN_JSON_OBJECT || pattern->nfields == 0)
		return;
	for (uint32 i = node + 1; i < nodes[node].end; i = nodes[i + 1].end)
	{
		KinJsonText name;
		const KinFilterField *field;

		CHECK_FOR_INTERRUPTS();
		name = kin_json_text(&nodes[i], &m->scratch);
		field = bsearch(&name, pattern->fields, pattern->nfields, sizeof(KinFilterField), kin_json_compare);
		if (field != NULL)
			m->found[field->slot] = i + 1;
	}
}

static bool
match_pattern(Matcher *m, const KinFilterPattern *pattern, uint32 node)
{
	find_fields(m, pattern, node);
	for (int i = 0; i < pattern->nfields; i++)
	{
		const KinFilterField *field = &pattern->fields[i];
		uint32 value = m->found[field->slot];

		if (!(field->pattern != NULL ? match_nested(m, field->pattern, value) : match_leaf(m, field, value)))
			return false;
	}
	return pattern->either.npatterns == 0 || match_choice(m, &pattern->either, node);
}

static void
add_field(KinJson *json, const char *name, KinJsonKind kind, const char *text, int len)
{
	kin_json_add(json, KIN_JSON_STRING, name, strlen(name));
	kin_json_add(json, kind, text, len);
}

bool
kin_filters_match(const KinFilters *filters, int64 number, struct varlena *key, struct varlena *data)
{
	KinJson json;
	Matcher m = {.json = &json};
	uint32 event;
	const char *key_text = VARDATA_ANY(key);
	int key_len = VARSIZE_ANY_EXHDR(key);
	char number_text[32];
	char arrival_text[32];

	if (filters == NULL)
		return true;
	/* A key that UTF-8 has not is compared as it is. */
	(void) kin_text_as_utf8(&key_text, &key_len);
	snprintf(number_text, sizeof(number_text), INT64_FORMAT, number);
	snprintf(arrival_text, sizeof(arrival_text), "%.3f", (kin_arrival_time(number) + UNIX_EPOCH_MICROS) / 1e6);

	kin_json_begin(&json);
	kin_json_add(&json, KIN_JSON_NULL, "", 0); /* ABSENT */
	event = kin_json_add(&json, KIN_JSON_OBJECT, "", 0);
	add_field(&json, "kinesisSchemaVersion", KIN_JSON_STRING, SCHEMA_VERSION, strlen(SCHEMA_VERSION));
	add_field(&json, "partitionKey", KIN_JSON_STRING, key_text, key_len);
	add_field(&json, "sequenceNumber", KIN_JSON_STRING, number_text, strlen(number_text));
	add_field(&json, "approximateArrivalTimestamp", KIN_JSON_NUMBER, arrival_text, strlen(arrival_text));
	if (filters->on_data)
	{
		kin_json_add(&json, KIN_JSON_STRING, "data", strlen("data"));
		if (!kin_json_parse(&json, VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data)))
			kin_json_add(&json, KIN_JSON_UNREADABLE, "", 0);
	}
	kin_json_end(&json, event);

	m.found = palloc(filters->nslots * sizeof(uint32));
	initStringInfo(&m.scratch);
	return match_choice(&m, &filters->either, event);
}

/* kinesis._filters_match(filter_criteria, sequence_number, partition_key, data): does this record pass? */
Datum
kin_match_filters(PG_FUNCTION_ARGS)
{
	KinFilters *filters = PG_ARGISNULL(0) ? NULL : kin_filters_compile(PG_GETARG_JSONB_P(0));

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	PG_RETURN_BOOL(kin_filters_match(filters, PG_GETARG_INT64(1), PG_GETARG_VARLENA_PP(2), PG_GETARG_VARLENA_PP(3)));
}
