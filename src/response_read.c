/*
 * response_read.c - understands what the function of an event source mapping has answered, by the rules of AWS Lambda.
 *
 * Owns:    nothing.
 * Locking: none.
 * Runs in: backends and workers.
 *
 * {"batchItemFailures": [{"itemIdentifier": "<sequence number>"}, ...]} reports records that are to come again.  A report
 * that can't be understood fails the whole batch: taken for a success it would lose records.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "call_scan.h"
#include "response_read.h"

#define FAILURES   "batchItemFailures"
#define IDENTIFIER "itemIdentifier"

/* Bytes of an identifier that a message repeats. */
#define QUOTED_MAX 64

PG_FUNCTION_INFO_V1(kin_response);
PG_FUNCTION_INFO_V1(kin_response_state_of);

static JsonbValue *
member(JsonbContainer *object, const char *name)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), NULL);
}

static const char *
kind_of(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return "null";
		case jbvString:
			return "a string";
		case jbvNumeric:
			return "a number";
		case jbvBool:
			return "a boolean";
		case jbvBinary:
			return JsonContainerIsArray(value->val.binary.data) ? "an array" : "an object";
		default:
			return "of unknown kind";
	}
}

static bool
is_container(const JsonbValue *value, uint32 kind)
{
	return value->type == jbvBinary && (value->val.binary.data->header & kind) != 0;
}

/* A number as events write it: digits alone, no zeros before them. */
static bool
parse_number(const char *text, int len, int64 *number)
{
	uint64 n = 0;

	if (len < 1 || len > MAXINT8LEN - 1 || (text[0] == '0' && len > 1))
		return false;
	for (int i = 0; i < len; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return false;
		n = n * 10 + (text[i] - '0'); /* 19 digits fit */
	}
	*number = (int64) n;
	return n <= PG_INT64_MAX;
}

static bool
is_in_batch(int64 number, const int64 *numbers, int n)
{
	int low = 0;
	int high = n;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (numbers[middle] < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && numbers[low] == number;
}

/* The number that an item reports; false: *why says why there is none. */
static bool
read_item(const JsonbValue *item, int index, const int64 *numbers, int n, int64 *number, char **why)
{
	JsonbValue *identifier;
	const char *text;
	int len;

	if (!is_container(item, JB_FOBJECT))
	{
		*why = psprintf(FAILURES "[%d] is %s, not an object", index, kind_of(item));
		return false;
	}
	identifier = member(item->val.binary.data, IDENTIFIER);
	if (identifier == NULL)
	{
		*why = psprintf(FAILURES "[%d] has no " IDENTIFIER, index);
		return false;
	}
	if (identifier->type != jbvString)
	{
		*why = psprintf(FAILURES "[%d]." IDENTIFIER " is %s, not a string", index, kind_of(identifier));
		return false;
	}
	text = identifier->val.string.val;
	len = identifier->val.string.len;
	if (len == 0)
	{
		*why = psprintf(FAILURES "[%d]." IDENTIFIER " is empty", index);
		return false;
	}
	if (!parse_number(text, len, number) || !is_in_batch(*number, numbers, n))
	{
		int shown = pg_mbcliplen(text, len, QUOTED_MAX);

		*why = psprintf(FAILURES "[%d]." IDENTIFIER " \"%.*s%s\" is no sequence number of the batch", index, shown,
						text, shown < len ? "..." : "");
		return false;
	}
	return true;
}

static KinResponse
read_failures(JsonbContainer *failures, const int64 *numbers, int n, int64 *from, char **why)
{
	int count = JsonContainerSize(failures);
	int64 lowest = PG_INT64_MAX;
	JsonbIterator *it = JsonbIteratorInit(failures);
	JsonbIteratorToken token;
	JsonbValue item;
	int index = 0;

	if (count == 0)
		return KIN_RESPONSE_OK;
	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		int64 number;

		CHECK_FOR_INTERRUPTS();
		if (token != WJB_ELEM)
			continue;
		if (!read_item(&item, index++, numbers, n, &number, why))
			return KIN_RESPONSE_FAILED;
		lowest = Min(lowest, number);
	}
	*from = lowest;
	return KIN_RESPONSE_PARTIAL;
}

KinResponse
kin_response_read(Jsonb *response, bool report, const int64 *numbers, int n, int64 *from, char **why)
{
	JsonbValue *failures;

	if (!report || response == NULL)
		return KIN_RESPONSE_OK;
	if (!JB_ROOT_IS_OBJECT(response))
	{
		JsonbValue scalar;

		if (JB_ROOT_IS_SCALAR(response) && JsonbExtractScalar(&response->root, &scalar))
		{
			if (scalar.type == jbvNull)
				return KIN_RESPONSE_OK;
			*why = psprintf("the response is %s, not an object", kind_of(&scalar));
		}
		else
			*why = pstrdup("the response is an array, not an object");
		return KIN_RESPONSE_FAILED;
	}
	failures = member(&response->root, FAILURES);
	if (failures == NULL || failures->type == jbvNull)
		return KIN_RESPONSE_OK;
	if (!is_container(failures, JB_FARRAY))
	{
		*why = psprintf(FAILURES " is %s, not an array", kind_of(failures));
		return KIN_RESPONSE_FAILED;
	}
	return read_failures(failures->val.binary.data, numbers, n, from, why);
}

Jsonb *
kin_response_state(Jsonb *response)
{
	JsonbValue *state;

	if (response == NULL || !JB_ROOT_IS_OBJECT(response))
		return NULL;
	state = member(&response->root, "state");
	return state && state->type != jbvNull ? JsonbValueToJsonb(state) : NULL;
}

static void
response_row(const KinArguments *given, TupleDesc columns, Datum *values, bool *nulls)
{
	static const char *const outcomes[] = {
		[KIN_RESPONSE_OK] = "ok",
		[KIN_RESPONSE_PARTIAL] = "partial",
		[KIN_RESPONSE_FAILED] = "failed",
	};
	Datum *elements = NULL;
	int64 *numbers;
	int64 from;
	char *why;
	int n = 0;
	KinResponse outcome;

	if (!given->nulls[2])
		deconstruct_array(DatumGetArrayTypeP(given->values[2]), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
						  TYPALIGN_DOUBLE, &elements, NULL, &n);
	numbers = palloc(mul_size(Max(n, 1), sizeof(int64)));
	for (int i = 0; i < n; i++)
		numbers[i] = DatumGetInt64(elements[i]);
	outcome = kin_response_read(given->nulls[0] ? NULL : DatumGetJsonbP(given->values[0]),
								!given->nulls[1] && DatumGetBool(given->values[1]), numbers, n, &from, &why);
	values[0] = CStringGetTextDatum(outcomes[outcome]);
	nulls[1] = outcome != KIN_RESPONSE_PARTIAL;
	if (!nulls[1])
		values[1] = Int64GetDatum(from);
	nulls[2] = outcome != KIN_RESPONSE_FAILED;
	if (!nulls[2])
		values[2] = CStringGetTextDatum(why);
}

/* kinesis._response(response, report, numbers): (outcome, from_number, why), for tests. */
Datum
kin_response(PG_FUNCTION_ARGS)
{
	return kin_row_call(fcinfo, response_row);
}

/* kinesis._response_state(response), for tests. */
Datum
kin_response_state_of(PG_FUNCTION_ARGS)
{
	Jsonb *state = kin_response_state(PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0));

	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(state);
}
