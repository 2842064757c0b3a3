/*
 * filter_compile.c - compiles the filters of event source mappings, and refuses what is none.
 *
 * Owns:    nothing; compiled filters are in the caller's memory context.
 * Locking: none.
 * Runs in: backends and workers.
 *
 * A pattern is an object with patterns or leaves for keys, all of which must match.  A leaf is an array of alternatives, one
 * of which must match.  Details, where AWS's documents leave room:
 *
 * - Literals are equal as text: 300 is not 3.0e2, in "anything-but" neither.  "numeric" compares values; one outside of
 *   -5e9 to 5e9 matches none of them, as in EventBridge.
 * - An array in the event matches if one of its elements does, arrays in arrays included.  What is an object, an empty array
 *   or not there where a leaf is asked for, is absent: only "exists": false matches that.  So it is with the leaves of a
 *   nested pattern when there is no object.
 * - "anything-but" matches every value that is there and is not one of those, of whatever type.
 * - "equals-ignore-case" compares what lower() makes of both under the database's collation; a database that is not in
 *   UTF-8, or has the collation C, knows the letters of ASCII only.
 * - Data that are no JSON match no pattern on data.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"

#include "compat.h"
#include "error_report.h"
#include "filter_compile.h"

#define FILTERS_MAX  10
#define PATTERN_MAX  4096
#define CRITERIA_MAX (256 * 1024) /* bytes; far above what ten patterns need */

#define NUMERIC_FORM "\"numeric\" takes an array of one or two pairs of an operator and a number"

/* Where the compiler is. */
typedef struct Place
{
	const struct Place *outer;
	KinJsonText key; /* "$or", too */
	int element;     /* of the array under the key; -1: none */
} Place;

typedef struct Compiler
{
	KinFilters *filters;
	const KinJson *json; /* the criteria, then a pattern of theirs */
	int filter;          /* -1: before the first */
	const Place *place;
	StringInfoData scratch;
} Compiler;

typedef struct Entry
{
	KinJsonText name;
	uint32 value;
} Entry;

PG_FUNCTION_INFO_V1(kin_check_filters);

static bool
is_word(const KinJsonText *text, const char *word)
{
	return text->kind == KIN_JSON_STRING && text->len == strlen(word) && memcmp(text->text, word, text->len) == 0;
}

/* ---- Refusing ---- */

/* UTF-8 for a message: short, and without what the server's encoding may not have. */
static char *
shown(const char *text, int len)
{
	int clipped = pg_encoding_mbcliplen(PG_UTF8, text, len, 128);
	char *copy = palloc(clipped + 4);

	memcpy(copy, text, clipped);
	for (int i = 0; i < clipped; i++)
		if (copy[i] == '\0' || (IS_HIGHBIT_SET(copy[i]) && GetDatabaseEncoding() != PG_UTF8))
			copy[i] = '?';
	strcpy(copy + clipped, clipped < len ? "..." : "");
	return copy;
}

static void
append_place(StringInfo path, const Place *place)
{
	if (place->outer != NULL)
	{
		append_place(path, place->outer);
		appendStringInfoChar(path, '.');
	}
	appendBinaryStringInfo(path, place->key.text, place->key.len);
	if (place->element >= 0)
		appendStringInfo(path, "[%d]", place->element);
}

static void refuse(const Compiler *c, const char *format, ...) pg_attribute_printf(2, 3) pg_attribute_noreturn();

static void
refuse(const Compiler *c, const char *format, ...)
{
	char problem[512];
	StringInfoData path;
	va_list args;

	va_start(args, format);
	vsnprintf(problem, sizeof(problem), format, args);
	va_end(args);
	initStringInfo(&path);
	if (c->place != NULL)
		append_place(&path, c->place);
	kin_hide_context();
	ereport(ERROR, (kin_errcode(KIN_INVALID_ARGUMENT), errmsg("invalid filter criteria: %s", problem),
					c->filter < 0
						? errdetail("Filter criteria are {\"Filters\": [{\"Pattern\": \"...\"}]} with 1 to %d filters.",
									FILTERS_MAX)
					: c->place == NULL ? errdetail("See Filters[%d].", c->filter)
									   : errdetail("See \"%s\" in the pattern of Filters[%d].",
												   shown(path.data, path.len), c->filter)));
}

static const char *
kind_name(KinJsonKind kind)
{
	static const char *const names[] =
		{[KIN_JSON_NULL] = "null",        [KIN_JSON_FALSE] = "false",       [KIN_JSON_TRUE] = "true",
		 [KIN_JSON_NUMBER] = "a number",  [KIN_JSON_STRING] = "a string",   [KIN_JSON_ARRAY] = "an array",
		 [KIN_JSON_OBJECT] = "an object", [KIN_JSON_UNREADABLE] = "no JSON"};

	return names[kind];
}

/* ---- Reading ---- */

static KinJsonKind
kind_of(const Compiler *c, uint32 node)
{
	return c->json->nodes[node].kind;
}

/* A scalar's text, to be kept. */
static KinJsonText
text_of(Compiler *c, uint32 node)
{
	KinJsonText text = kin_json_text(&c->json->nodes[node], &c->scratch);

	if (c->json->nodes[node].escaped)
	{
		char *copy = palloc(text.len + 1);

		memcpy(copy, text.text, text.len);
		text.text = copy;
	}
	return text;
}

static int
compare_entries(const void *a, const void *b)
{
	int order = kin_json_compare(&((const Entry *) a)->name, &((const Entry *) b)->name);

	return order != 0 ? order : ((const Entry *) a)->value < ((const Entry *) b)->value ? -1 : 1;
}

/* What is in an object, sorted by name; of those with one name the last. */
static Entry *
entries_of(Compiler *c, uint32 object, int *count)
{
	const KinJsonNode *nodes = c->json->nodes;
	Entry *entries;
	int n = 0;
	int kept = 0;

	for (uint32 i = object + 1; i < nodes[object].end; i = nodes[i + 1].end)
		n++;
	entries = palloc((n + 1) * sizeof(Entry));
	n = 0;
	for (uint32 i = object + 1; i < nodes[object].end; i = nodes[i + 1].end)
		entries[n++] = (Entry){.name = text_of(c, i), .value = i + 1};
	qsort(entries, n, sizeof(Entry), compare_entries);
	for (int i = 0; i < n; i++)
	{
		if (kept > 0 && kin_json_compare(&entries[kept - 1].name, &entries[i].name) == 0)
			kept--;
		entries[kept++] = entries[i];
	}
	*count = kept;
	return entries;
}

static int
count_elements(const Compiler *c, uint32 array)
{
	int count = 0;

	for (uint32 i = array + 1; i < c->json->nodes[array].end; i = c->json->nodes[i].end)
		count++;
	return count;
}

/* ---- Leaves ---- */

static void
add_word(Compiler *c, KinFilterTest *test, const char *name, uint32 value)
{
	KinJsonKind kind = kind_of(c, value);
	KinJsonText word;

	if (kind != KIN_JSON_STRING && (test->op != KIN_OP_EQUALS || kind != KIN_JSON_NUMBER))
		refuse(c, "\"%s\" takes %s, not %s", name, test->op == KIN_OP_EQUALS ? "strings and numbers" : "a string",
			   kind_name(kind));
	word = text_of(c, value);
	if (test->negated && word.len == 0 && (test->op == KIN_OP_PREFIX || test->op == KIN_OP_SUFFIX))
		refuse(c, "\"%s\" in \"anything-but\" must not be empty", name);
	if (test->op == KIN_OP_IGNORE_CASE)
		word = kin_json_fold(&word);
	test->words[test->nwords++] = word;
}

/* The strings that an operator is followed by: one, or an array of them where it may be. */
static void
add_words(Compiler *c, KinFilterTest *test, const char *name, uint32 value)
{
	int count = 1;

	if (test->negated && kind_of(c, value) == KIN_JSON_ARRAY)
	{
		count = count_elements(c, value);
		if (count == 0)
			refuse(c, "the array of \"%s\" must not be empty", name);
		test->words = palloc(count * sizeof(KinJsonText));
		for (uint32 i = value + 1; i < c->json->nodes[value].end; i = c->json->nodes[i].end)
			add_word(c, test, name, i);
	}
	else
	{
		test->words = palloc(count * sizeof(KinJsonText));
		add_word(c, test, name, value);
	}
	if (test->op == KIN_OP_EQUALS)
		qsort(test->words, test->nwords, sizeof(KinJsonText), kin_json_compare);
}

/* prefix, suffix, equals-ignore-case: the operators that "anything-but" may have inside. */
static bool
find_text_operator(const KinJsonText *name, KinFilterTest *test)
{
	if (is_word(name, "prefix"))
		test->op = KIN_OP_PREFIX;
	else if (is_word(name, "suffix"))
		test->op = KIN_OP_SUFFIX;
	else if (is_word(name, "equals-ignore-case"))
		test->op = KIN_OP_IGNORE_CASE;
	else
		return false;
	return true;
}

static void
compile_anything_but(Compiler *c, KinFilterTest *test, uint32 value)
{
	Entry *inner;
	int count;

	test->negated = true;
	test->op = KIN_OP_EQUALS;
	if (kind_of(c, value) != KIN_JSON_OBJECT)
	{
		add_words(c, test, "anything-but", value);
		return;
	}
	inner = entries_of(c, value, &count);
	if (count != 1 || !find_text_operator(&inner->name, test))
		refuse(c, "an object in \"anything-but\" must have exactly one of the operators \"prefix\", \"suffix\" and "
				  "\"equals-ignore-case\"");
	add_words(c, test, shown(inner->name.text, inner->name.len), inner->value);
}

/* Sets a bound of "numeric"; false if it has one on that side already. */
static bool
set_bound(Compiler *c, KinFilterTest *test, const KinJsonText *comparison, double bound)
{
	if (is_word(comparison, ">") || is_word(comparison, ">="))
	{
		if (test->has_lower)
			return false;
		test->has_lower = true;
		test->lower = bound;
		test->above_lower = comparison->len == 1;
	}
	else if (is_word(comparison, "<") || is_word(comparison, "<="))
	{
		if (test->has_upper)
			return false;
		test->has_upper = true;
		test->upper = bound;
		test->below_upper = comparison->len == 1;
	}
	else if (is_word(comparison, "="))
	{
		if (test->has_lower || test->has_upper)
			return false;
		test->has_lower = test->has_upper = true;
		test->lower = test->upper = bound;
	}
	else
		refuse(c, "\"numeric\" has no operator \"%s\"", shown(comparison->text, comparison->len));
	return true;
}

/* [operator, number] or [operator, number, operator, number]. */
static void
compile_numeric(Compiler *c, KinFilterTest *test, uint32 value)
{
	int count = kind_of(c, value) == KIN_JSON_ARRAY ? count_elements(c, value) : 0;

	if (count != 2 && count != 4)
		refuse(c, NUMERIC_FORM);
	test->op = KIN_OP_NUMERIC;
	/* A pair is looked at only when those before it are scalars, which follow one another. */
	for (uint32 i = value + 1; i <= value + count; i += 2)
	{
		KinJsonText comparison;
		KinJsonText number;
		double bound;

		if (kind_of(c, i) != KIN_JSON_STRING || kind_of(c, i + 1) != KIN_JSON_NUMBER)
			refuse(c, NUMERIC_FORM);
		comparison = text_of(c, i);
		number = text_of(c, i + 1);
		bound = kin_json_number_value(&number);
		if (bound < -KIN_NUMERIC_MAX || bound > KIN_NUMERIC_MAX)
			refuse(c, "a number in \"numeric\" must be from %.0f to %.0f", -KIN_NUMERIC_MAX, KIN_NUMERIC_MAX);
		if (!set_bound(c, test, &comparison, bound))
			refuse(c, "two pairs in \"numeric\" must be a lower and an upper bound");
	}
	if (count == 4 && test->lower >= test->upper)
		refuse(c, "the lower bound in \"numeric\" must be less than the upper one");
}

static void
compile_test(Compiler *c, KinFilterField *field, uint32 node)
{
	KinFilterTest test = {0};
	char *name;
	int count;
	Entry *entry = entries_of(c, node, &count);

	if (count != 1)
		refuse(c, "an object among alternatives must have exactly one operator, not %d", count);
	name = shown(entry->name.text, entry->name.len);
	if (find_text_operator(&entry->name, &test))
		add_words(c, &test, name, entry->value);
	else if (is_word(&entry->name, "anything-but"))
		compile_anything_but(c, &test, entry->value);
	else if (is_word(&entry->name, "numeric"))
		compile_numeric(c, &test, entry->value);
	else if (is_word(&entry->name, "exists"))
	{
		if (kind_of(c, entry->value) == KIN_JSON_FALSE)
		{
			field->if_absent = true;
			return;
		}
		if (kind_of(c, entry->value) != KIN_JSON_TRUE)
			refuse(c, "\"exists\" takes true or false, not %s", kind_name(kind_of(c, entry->value)));
		test.op = KIN_OP_EXISTS;
	}
	else
		refuse(c, "there is no operator \"%s\"", name);
	field->tests[field->ntests++] = test;
}

static void
compile_leaf(Compiler *c, KinFilterField *field, Place *place, uint32 array)
{
	int count = count_elements(c, array);
	KinFilterTest literals = {.op = KIN_OP_EQUALS};

	if (count == 0)
		refuse(c, "an array of alternatives must not be empty");
	literals.words = palloc(count * sizeof(KinJsonText));
	field->tests = palloc(count * sizeof(KinFilterTest));
	for (uint32 i = array + 1; i < c->json->nodes[array].end; i = c->json->nodes[i].end)
	{
		place->element++;
		if (kind_of(c, i) == KIN_JSON_OBJECT)
			compile_test(c, field, i);
		else if (kind_of(c, i) == KIN_JSON_ARRAY)
			refuse(c, "an alternative must not be an array");
		else
			literals.words[literals.nwords++] = text_of(c, i);
	}
	if (literals.nwords > 0)
	{
		qsort(literals.words, literals.nwords, sizeof(KinJsonText), kin_json_compare);
		field->tests[field->ntests++] = literals;
	}
}

/* ---- Objects ---- */

static KinFilterPattern *compile_pattern(Compiler *c, uint32 object, bool is_event);

static void
compile_choice(Compiler *c, KinFilterChoice *choice, Place *place, uint32 array, bool is_event)
{
	int count = kind_of(c, array) == KIN_JSON_ARRAY ? count_elements(c, array) : 0;

	if (count == 0)
		refuse(c, "\"$or\" takes an array of pattern objects that is not empty");
	choice->patterns = palloc(count * sizeof(KinFilterPattern *));
	for (uint32 i = array + 1; i < c->json->nodes[array].end; i = c->json->nodes[i].end)
	{
		place->element++;
		if (kind_of(c, i) != KIN_JSON_OBJECT)
			refuse(c, "\"$or\" takes an array of pattern objects, not %s", kind_name(kind_of(c, i)));
		choice->patterns[choice->npatterns++] = compile_pattern(c, i, is_event);
	}
}

static void
compile_field(Compiler *c, KinFilterField *field, Place *place, uint32 value, bool is_event)
{
	KinJsonKind kind = kind_of(c, value);

	field->name = place->key;
	field->slot = c->filters->nslots++;
	if (is_event && is_word(&field->name, "data"))
	{
		if (kind != KIN_JSON_OBJECT)
			refuse(c, "the pattern on data must be an object, not %s", kind_name(kind));
		c->filters->on_data = true;
	}
	if (kind == KIN_JSON_OBJECT)
		field->pattern = compile_pattern(c, value, false);
	else if (kind == KIN_JSON_ARRAY)
		compile_leaf(c, field, place, value);
	else
		refuse(c, "a key must have an array of alternatives or an object, not %s", kind_name(kind));
}

static KinFilterPattern *
compile_pattern(Compiler *c, uint32 object, bool is_event)
{
	KinFilterPattern *pattern = palloc0(sizeof(KinFilterPattern));
	const Place *outer = c->place;
	int count;
	Entry *entries = entries_of(c, object, &count);

	if (count == 0)
		refuse(c, "a pattern object must not be empty");
	pattern->fields = palloc0(count * sizeof(KinFilterField));
	for (int i = 0; i < count; i++)
	{
		Place place = {.outer = outer, .key = entries[i].name, .element = -1};

		c->place = &place;
		if (is_word(&place.key, "$or"))
			compile_choice(c, &pattern->either, &place, entries[i].value, is_event);
		else
			compile_field(c, &pattern->fields[pattern->nfields++], &place, entries[i].value, is_event);
		c->place = outer;
	}
	return pattern;
}

static int
count_characters(const char *text, int len)
{
	int count = 0;

	for (int i = 0; i < len; i++)
		count += ((unsigned char) text[i] & 0xC0) != 0x80;
	return count;
}

static KinFilterPattern *
compile_filter(Compiler *c, uint32 node)
{
	const KinJson *criteria = c->json;
	KinJson json;
	KinJsonText text;
	KinFilterPattern *pattern;
	Entry *entry = NULL;
	int count = 0;

	if (kind_of(c, node) == KIN_JSON_OBJECT)
		entry = entries_of(c, node, &count);
	if (count != 1 || !is_word(&entry->name, "Pattern") || kind_of(c, entry->value) != KIN_JSON_STRING)
		refuse(c, "a filter must be an object with the one key \"Pattern\", a string");
	text = text_of(c, entry->value);
	if (count_characters(text.text, text.len) > PATTERN_MAX)
		refuse(c, "a pattern must not be longer than %d characters", PATTERN_MAX);
	kin_json_begin(&json);
	if (!kin_json_parse(&json, text.text, text.len))
		refuse(c, "a pattern must be JSON: %s at character %d", json.problem,
			   count_characters(text.text, json.problem_at) + 1);
	c->json = &json;
	if (kind_of(c, 0) != KIN_JSON_OBJECT)
		refuse(c, "a pattern must be a JSON object, not %s", kind_name(kind_of(c, 0)));
	pattern = compile_pattern(c, 0, true);
	c->json = criteria;
	pfree(json.nodes);
	return pattern;
}

KinFilters *
kin_filters_compile(Jsonb *criteria)
{
	KinJson json;
	Compiler c = {.json = &json, .filter = -1};
	const char *text;
	int len;
	int count = 0;
	Entry *entry = NULL;
	uint32 array;

	if (criteria == NULL)
		return NULL;
	if (VARSIZE(criteria) > CRITERIA_MAX)
		refuse(&c, "they are too large");
	c.filters = palloc0(sizeof(KinFilters));
	initStringInfo(&c.scratch);
	kin_json_begin(&json);
	text = JsonbToCString(NULL, &criteria->root, VARSIZE(criteria));
	len = strlen(text);
	if (!kin_text_as_utf8(&text, &len))
		refuse(&c, "they have characters that are not in Unicode");
	if (!kin_json_parse(&json, text, len))
		refuse(&c, "they have %s", json.problem);
	if (kind_of(&c, 0) == KIN_JSON_OBJECT)
		entry = entries_of(&c, 0, &count);
	if (count != 1 || !is_word(&entry->name, "Filters") || kind_of(&c, entry->value) != KIN_JSON_ARRAY)
		refuse(&c, "they must be an object with the one key \"Filters\", an array");
	array = entry->value;
	count = count_elements(&c, array);
	if (count < 1 || count > FILTERS_MAX)
		refuse(&c, "there must be 1 to %d filters, not %d", FILTERS_MAX, count);
	c.filters->either.patterns = palloc(count * sizeof(KinFilterPattern *));
	for (uint32 i = array + 1; i < json.nodes[array].end; i = json.nodes[i].end)
	{
		c.filter++;
		c.filters->either.patterns[c.filters->either.npatterns++] = compile_filter(&c, i);
	}
	pfree(json.nodes);
	return c.filters;
}

/* kinesis._check_filters(filter_criteria): raises if these are none. */
Datum
kin_check_filters(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(0))
		(void) kin_filters_compile(PG_GETARG_JSONB_P(0));
	PG_RETURN_VOID();
}
