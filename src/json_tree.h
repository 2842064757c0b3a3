/*
 * json_tree.h - JSON text as a flat list of its values, without an error for what is no JSON.
 *
 * Values stand in the order of the text, so what is in an array or object follows it: a loop that takes every value steps
 * in, one that goes on at a value's end steps over it.  In an object, names and values alternate.
 */
#ifndef KIN_JSON_TREE_H
#define KIN_JSON_TREE_H

#include "lib/stringinfo.h"

/* Deeper text counts as no JSON. */
#define KIN_JSON_DEPTH_MAX 500

typedef enum KinJsonKind
{
	KIN_JSON_NULL,
	KIN_JSON_FALSE,
	KIN_JSON_TRUE,
	KIN_JSON_NUMBER,
	KIN_JSON_STRING,
	KIN_JSON_ARRAY,
	KIN_JSON_OBJECT,
	KIN_JSON_UNREADABLE /* stands for text that is no JSON; the parser makes none */
} KinJsonKind;

typedef struct KinJsonNode
{
	const char *text; /* of a scalar, in UTF-8, as it stood there; a string's without quotes */
	uint32 len;
	uint32 end; /* number of the value behind this one and all that is in it */
	KinJsonKind kind;
	bool escaped; /* a string that has escapes */
} KinJsonNode;

typedef struct KinJson
{
	KinJsonNode *nodes;
	uint32 count;
	uint32 room;
	const char *problem; /* why kin_json_parse() gave false, and at which byte */
	uint32 problem_at;
} KinJson;

/* A string's value, or another scalar's text: not terminated, may have a zero byte in it. */
typedef struct KinJsonText
{
	KinJsonKind kind;
	uint32 len;
	const char *text;
} KinJsonText;

extern void kin_json_begin(KinJson *json);
extern uint32 kin_json_add(KinJson *json, KinJsonKind kind, const char *text, uint32 len);
extern void kin_json_end(KinJson *json, uint32 node);
extern bool kin_json_parse(KinJson *json, const char *text, int len);
extern KinJsonText kin_json_text(const KinJsonNode *node, StringInfo scratch);
extern int kin_json_compare(const void *a, const void *b);
extern KinJsonText kin_json_fold(const KinJsonText *text);
extern double kin_json_number_value(const KinJsonText *number);
extern bool kin_text_as_utf8(const char **text, int *len);

#endif
