/*
 * settings_define.c - defines the settings, alphabetically, with their checks.
 *
 * Owns:    the variables behind the settings, one copy a process.
 * Locking: none; kinesis.max_shards is fixed at server start because it sizes shared memory.
 * Runs in: every process, once, from _PG_init.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/builtins.h"
#include "utils/guc.h"

#include "settings_define.h"

char *kin_account_id_setting;
bool kin_aws_limits_setting;
double kin_clock_offset_setting;
int kin_function_memory_setting;
int kin_function_timeout_setting;
int kin_max_retry_backoff_setting;
int kin_max_shards_setting;
static int kin_max_consumers_setting; /* read by SQL */
int kin_max_subscriptions_setting;
int kin_max_workers_setting;
char *kin_region_setting;
int kin_retained_memory_setting;
int kin_iterator_lifetime_setting;

PG_FUNCTION_INFO_V1(kin_account_id);
PG_FUNCTION_INFO_V1(kin_region);

/* An AWS account is 12 digits; anything else would make ARNs that no client parses. */
static bool
check_account_id(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) == 12 && strspn(*newval, "0123456789") == 12)
		return true;
	GUC_check_errdetail("An AWS account id has exactly 12 digits.");
	return false;
}

static bool
check_region(char **newval, void **extra, GucSource source)
{
	if (**newval != '\0' && strspn(*newval, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(*newval))
		return true;
	GUC_check_errdetail("A region has lower-case letters, digits and hyphens only.");
	return false;
}

void
kin_define_settings(void)
{
	DefineCustomStringVariable("kinesis.account_id", "Account that appears in the ARNs of streams.", NULL,
							   &kin_account_id_setting, "000000000000", PGC_SUSET, 0, check_account_id, NULL, NULL);
	DefineCustomBoolVariable("kinesis.aws_limits", "Enforces AWS's quotas on control-plane calls.",
							 "Call rates, the 2x / half rule of UpdateShardCount and its ten calls a day.",
							 &kin_aws_limits_setting, false, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomRealVariable("kinesis.clock_offset", "Moves the clock of streams. For tests only.",
							 "Records that were put with a moved clock keep their sequence numbers.",
							 &kin_clock_offset_setting, 0, -1e12, 1e12, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("kinesis.function_memory",
							"Memory that the function of an event source mapping may use; 0 means no limit.",
							"A function that wants more gets an error, and its worker lives on.",
							&kin_function_memory_setting, 1024 * 1024, 0, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB, NULL,
							NULL, NULL);
	DefineCustomIntVariable("kinesis.function_timeout",
							"Time after which the function of an event source mapping is cancelled; 0 means never.",
							NULL, &kin_function_timeout_setting, 60000, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL,
							NULL);
	DefineCustomIntVariable("kinesis.max_retry_backoff",
							"Longest time between two attempts of an event source mapping that fails.", NULL,
							&kin_max_retry_backoff_setting, 60000, 100, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL,
							NULL);
	DefineCustomIntVariable("kinesis.max_shards", "Shards, over all databases, that can be in use at the same time.",
							"Each takes about 300 bytes of shared memory. Shards that rest give their place to others.",
							&kin_max_shards_setting, 10000, 16, 1000000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("kinesis.max_consumers_per_stream", "Consumers that may be registered with a stream.", NULL,
							&kin_max_consumers_setting, 20, 0, 10000, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("kinesis.max_subscriptions",
							"Subscriptions of consumers to shards, over all databases, at the same time.",
							"Each takes about 150 bytes of shared memory.", &kin_max_subscriptions_setting, 2000, 16,
							1000000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"kinesis.max_workers",
		"Background processes, over all databases, that run the functions of event source mappings.",
		"0 switches event source mappings and notifications off. A launcher and a process for each "
		"database come on top; all count as max_worker_processes.",
		&kin_max_workers_setting, 4, 0, 256, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("kinesis.region", "Region that appears in the ARNs of streams.", NULL,
							   &kin_region_setting, "us-east-1", PGC_SUSET, 0, check_region, NULL, NULL);
	DefineCustomIntVariable("kinesis.retained_memory",
							"Freed memory that a backend keeps for its next large put_records or get_records.",
							"0 leaves it to the C library, which gives it back to the system after every call.",
							&kin_retained_memory_setting, 64 * 1024, 0, 1024 * 1024, PGC_USERSET, GUC_UNIT_KB, NULL,
							NULL, NULL);
	DefineCustomIntVariable("kinesis.shard_iterator_lifetime",
							"Time after which a shard iterator expires; 0 means never.", NULL,
							&kin_iterator_lifetime_setting, 300, 0, INT_MAX / 1000, PGC_SUSET, GUC_UNIT_S, NULL, NULL,
							NULL);
	MarkGUCPrefixReserved("kinesis");
}

/* kinesis._account_id() */
Datum
kin_account_id(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(kin_account_id_setting));
}

/* kinesis._region() */
Datum
kin_region(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(kin_region_setting));
}
