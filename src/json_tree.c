/*
 * json_tree.c - parses JSON text that may be anything: bytes of a record, a pattern.
 *
 * Owns:    nothing; lists are in the caller's memory context and point into the text.
 * Locking: none.
 * Runs in: backends and workers.
 *
 * PostgreSQL's lexer reads the tokens.  Its parser is not used: it would resolve all escapes, and in a database that is not
 * UTF-8 it raises an error for a character that the encoding has not, or calls text with \u0000 no JSON.  A record that has
 * such a character in some field which nobody asked for is still a record.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "common/jsonapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/formatting.h"
#include "utils/memutils.h"

#include "compat.h"
#include "json_tree.h"

#define REPLACEMENT_CHARACTER 0xFFFD

typedef enum Expected
{
	EXPECT_VALUE,
	EXPECT_VALUE_OR_END, /* behind [ */
	EXPECT_NAME,
	EXPECT_NAME_OR_END, /* behind { */
	EXPECT_COLON,
	EXPECT_COMMA_OR_END,
	EXPECT_NOTHING
} Expected;

void
kin_json_begin(KinJson *json)
{
	json->room = 64;
	json->nodes = palloc(json->room * sizeof(KinJsonNode));
	json->count = 0;
	json->problem = NULL;
	json->problem_at = 0;
}

/* Appends a value; what is added before its kin_json_end() is in it.  Scalars need no such call. */
uint32
kin_json_add(KinJson *json, KinJsonKind kind, const char *text, uint32 len)
{
	if (json->count == json->room)
	{
		json->nodes = repalloc_huge(json->nodes, (Size) json->room * 2 * sizeof(KinJsonNode));
		json->room *= 2;
	}
	json->nodes[json->count] = (KinJsonNode){.text = text, .len = len, .end = json->count + 1, .kind = kind};
	return json->count++;
}

void
kin_json_end(KinJson *json, uint32 node)
{
	json->nodes[node].end = json->count;
}

static bool
is_ascii(const char *text, int len)
{
	for (int i = 0; i < len; i++)
		if (IS_HIGHBIT_SET(text[i]) || text[i] == '\0')
			return false;
	return true;
}

/* Text in the server's encoding as UTF-8; false if it has no such form. */
bool
kin_text_as_utf8(const char **text, int *len)
{
	int encoding = GetDatabaseEncoding();
	Size room = (Size) *len * MAX_CONVERSION_GROWTH + 1;
	unsigned char *converted;
	Oid conversion;

	/* ASCII is the same in all, also in one that can't be converted. */
	if (is_ascii(*text, *len))
		return true;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return pg_verify_mbstr(PG_UTF8, *text, *len, true);
	conversion = FindDefaultConversionProc(encoding, PG_UTF8);
	if (!OidIsValid(conversion) || room > MaxAllocSize)
		return false;
	converted = palloc(room);
	if (pg_do_encoding_conversion_buf(conversion, encoding, PG_UTF8, (unsigned char *) unconstify(char *, *text), *len,
									  converted, room, true) != *len)
		return false;
	*text = (char *) converted;
	*len = strlen(*text);
	return true;
}

static void
add_token(KinJson *json, KinJsonKind kind, const JsonLexContext *lex)
{
	const char *text = lex->token_start;
	uint32 len = lex->token_terminator - lex->token_start;
	uint32 node;

	if (kind == KIN_JSON_STRING)
	{
		text++;
		len -= 2;
	}
	node = kin_json_add(json, kind, text, len);
	json->nodes[node].escaped = kind == KIN_JSON_STRING && memchr(text, '\\', len) != NULL;
}

/* Appends the value of this text, which is UTF-8, until its problem is known. */
static const char *
parse(KinJson *json, JsonLexContext *lex)
{
	uint32 open[KIN_JSON_DEPTH_MAX];
	int depth = 0;
	Expected expected = EXPECT_VALUE;

	for (;;)
	{
		KinJsonKind kind;
		bool is_end;

		CHECK_FOR_INTERRUPTS();
		if (json_lex(lex) != JSON_SUCCESS)
			return "unexpected text";
		if (lex->token_type == JSON_TOKEN_END)
			return expected == EXPECT_NOTHING ? NULL : "unexpected end";
		is_end = depth > 0 &&
				 lex->token_type == (json->nodes[open[depth - 1]].kind == KIN_JSON_ARRAY ? JSON_TOKEN_ARRAY_END
																						 : JSON_TOKEN_OBJECT_END);
		if (is_end &&
			(expected == EXPECT_VALUE_OR_END || expected == EXPECT_NAME_OR_END || expected == EXPECT_COMMA_OR_END))
		{
			kin_json_end(json, open[--depth]);
			expected = depth > 0 ? EXPECT_COMMA_OR_END : EXPECT_NOTHING;
			continue;
		}
		switch (expected)
		{
			case EXPECT_NAME:
			case EXPECT_NAME_OR_END:
				if (lex->token_type != JSON_TOKEN_STRING)
					return "unexpected text";
				add_token(json, KIN_JSON_STRING, lex);
				expected = EXPECT_COLON;
				continue;
			case EXPECT_COLON:
				if (lex->token_type != JSON_TOKEN_COLON)
					return "unexpected text";
				expected = EXPECT_VALUE;
				continue;
			case EXPECT_COMMA_OR_END:
				if (lex->token_type != JSON_TOKEN_COMMA)
					return "unexpected text";
				expected = json->nodes[open[depth - 1]].kind == KIN_JSON_ARRAY ? EXPECT_VALUE : EXPECT_NAME;
				continue;
			case EXPECT_NOTHING:
				return "unexpected text";
			case EXPECT_VALUE:
			case EXPECT_VALUE_OR_END:
				break;
		}
		switch (lex->token_type)
		{
			case JSON_TOKEN_ARRAY_START:
				kind = KIN_JSON_ARRAY;
				break;
			case JSON_TOKEN_OBJECT_START:
				kind = KIN_JSON_OBJECT;
				break;
			case JSON_TOKEN_STRING:
				kind = KIN_JSON_STRING;
				break;
			case JSON_TOKEN_NUMBER:
				kind = KIN_JSON_NUMBER;
				break;
			case JSON_TOKEN_TRUE:
				kind = KIN_JSON_TRUE;
				break;
			case JSON_TOKEN_FALSE:
				kind = KIN_JSON_FALSE;
				break;
			case JSON_TOKEN_NULL:
				kind = KIN_JSON_NULL;
				break;
			default:
				return "unexpected text";
		}
		add_token(json, kind, lex);
		if (kind == KIN_JSON_ARRAY || kind == KIN_JSON_OBJECT)
		{
			if (depth == KIN_JSON_DEPTH_MAX)
				return "too many levels";
			open[depth++] = json->count - 1;
			expected = kind == KIN_JSON_ARRAY ? EXPECT_VALUE_OR_END : EXPECT_NAME_OR_END;
		}
		else
			expected = depth > 0 ? EXPECT_COMMA_OR_END : EXPECT_NOTHING;
	}
}

/*
 * Appends the value of this text: UTF-8, as JSON should be, or else in the server's encoding.  False if it is no JSON; then
 * nothing is appended.
 */
bool
kin_json_parse(KinJson *json, const char *text, int len)
{
	uint32 before = json->count;
	JsonLexContext *lex;

	json->problem_at = 0;
	if (!pg_verify_mbstr(PG_UTF8, text, len, true) &&
		(GetDatabaseEncoding() == PG_UTF8 || !kin_text_as_utf8(&text, &len)))
	{
		json->problem = "unknown encoding";
		return false;
	}
	lex = kin_json_lexer(text, len);
	json->problem = parse(json, lex);
	if (json->problem == NULL)
		return true;
	json->problem_at = (lex->token_start ? lex->token_start : lex->token_terminator) - text;
	json->count = before;
	return false;
}

static pg_wchar
hex_digits(const char *p)
{
	pg_wchar c = 0;

	for (int i = 0; i < 4; i++)
		c = c * 16 + (p[i] <= '9' ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10);
	return c;
}

/* The character of \uXXXX, or of two of them; *p is at the first digit and is moved to the last. */
static pg_wchar
escaped_character(const char **p, const char *end)
{
	pg_wchar c = hex_digits(*p);

	*p += 3;
	if (is_utf16_surrogate_first(c) && end - *p > 6 && (*p)[1] == '\\' && (*p)[2] == 'u')
	{
		pg_wchar second = hex_digits(*p + 3);

		if (is_utf16_surrogate_second(second))
		{
			*p += 6;
			return surrogate_pair_to_codepoint(c, second);
		}
	}
	/* Half a character: text that was cut has such. */
	return c >= 0xD800 && c <= 0xDFFF ? REPLACEMENT_CHARACTER : c;
}

/* The value of a scalar; valid until scratch is used again. */
KinJsonText
kin_json_text(const KinJsonNode *node, StringInfo scratch)
{
	const char *end = node->text + node->len;

	if (!node->escaped)
		return (KinJsonText){.kind = node->kind, .len = node->len, .text = node->text};
	resetStringInfo(scratch);
	for (const char *p = node->text; p < end; p++)
	{
		const char *plain = p;
		unsigned char utf8[MAX_MULTIBYTE_CHAR_LEN + 1];

		while (p < end && *p != '\\')
			p++;
		appendBinaryStringInfo(scratch, plain, p - plain);
		if (p == end)
			break;
		switch (*++p)
		{
			case 'b':
				appendStringInfoChar(scratch, '\b');
				break;
			case 'f':
				appendStringInfoChar(scratch, '\f');
				break;
			case 'n':
				appendStringInfoChar(scratch, '\n');
				break;
			case 'r':
				appendStringInfoChar(scratch, '\r');
				break;
			case 't':
				appendStringInfoChar(scratch, '\t');
				break;
			case 'u':
				p++;
				unicode_to_utf8(escaped_character(&p, end), utf8);
				appendBinaryStringInfo(scratch, (char *) utf8, pg_utf_mblen(utf8));
				break;
			default: /* a quotation mark or a slash */
				appendStringInfoChar(scratch, *p);
				break;
		}
	}
	return (KinJsonText){.kind = node->kind, .len = scratch->len, .text = scratch->data};
}

/* For qsort() and bsearch(): by kind and value, in no order that means anything. */
int
kin_json_compare(const void *a, const void *b)
{
	const KinJsonText *x = a;
	const KinJsonText *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return memcmp(x->text, y->text, x->len);
}

/* In lower case, palloc'd. */
KinJsonText
kin_json_fold(const KinJsonText *text)
{
	KinJsonText lower = *text;
	char *copy;

	/* str_tolower() works on the server's encoding, and up to a zero byte. */
	if (GetDatabaseEncoding() == PG_UTF8 && memchr(text->text, '\0', text->len) == NULL)
	{
		copy = str_tolower(text->text, text->len, DEFAULT_COLLATION_OID);
		lower.len = strlen(copy);
	}
	else
	{
		copy = palloc(text->len + 1);
		for (uint32 i = 0; i < text->len; i++)
			copy[i] = pg_ascii_tolower(text->text[i]);
	}
	lower.text = copy;
	return lower;
}

/* A number's value; what no double can hold comes as infinity or 0. */
double
kin_json_number_value(const KinJsonText *number)
{
	char *digits = pnstrdup(number->text, number->len);
	double value = strtod(digits, NULL);

	pfree(digits);
	return value;
}
