# A hot standby serves every way of reading, under the same rule; a put there is refused clearly.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $primary = kinesis_node('primary', allows_streaming => 1);
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

my $shard = 'shardId-000000000000';
$primary->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('s', 1);
SELECT kinesis.set_shard_limits('s', NULL, NULL, NULL, NULL);
SELECT kinesis.put_record('s', convert_to('record ' || i, 'UTF8'), 'k') FROM generate_series(1, 2000) AS i;
-- Aborted rows lie in between.
BEGIN;
SELECT kinesis.put_record('s', 'aborted', 'k');
ROLLBACK;
SELECT kinesis.put_record('s', convert_to('record ' || i, 'UTF8'), 'k') FROM generate_series(2001, 3000) AS i;
SQL
$primary->wait_for_catchup($standby);

is(records_of($standby, 'postgres', 's'), records_of($primary, 'postgres', 's'), 'read_shard gives the same on the standby');
is($standby->safe_psql('postgres', "SELECT count(*) FROM kinesis.read_shard('s', '$shard')"), '3000', 'all of it');

my $fetch = "SELECT string_agg(convert_from(r.data, 'UTF8'), ',') FROM kinesis.get_records(kinesis.get_shard_iterator('s', '$shard', %s), 2) AS g, unnest(g.records) AS r";
my $first = $primary->safe_psql('postgres', "SELECT sequence_number FROM kinesis.read_shard('s', '$shard') OFFSET 2499 LIMIT 1");
is($standby->safe_psql('postgres', sprintf $fetch, "'TRIM_HORIZON'"), 'record 1,record 2', 'TRIM_HORIZON');
is($standby->safe_psql('postgres', sprintf $fetch, "'AT_SEQUENCE_NUMBER', $first"), 'record 2500,record 2501', 'AT_SEQUENCE_NUMBER');
is($standby->safe_psql('postgres', sprintf $fetch, "'AFTER_SEQUENCE_NUMBER', $first"), 'record 2501,record 2502', 'AFTER_SEQUENCE_NUMBER');
like($standby->safe_psql('postgres', sprintf $fetch, "'AT_TIMESTAMP', NULL, kinesis.arrival($first)"), qr/^record \d+/, 'AT_TIMESTAMP');

# An iterator made on one server is good on the other.
my $iterator = $primary->safe_psql('postgres', "SELECT kinesis.get_shard_iterator('s', '$shard', 'AT_SEQUENCE_NUMBER', $first)");
is( $standby->safe_psql('postgres', "SELECT convert_from((records[1]).data, 'UTF8') FROM kinesis.get_records('$iterator', 1)"),
	'record 2500', 'an iterator of the primary is good on the standby');

# A long poll on the standby returns when the record arrives there.
my $reader = $standby->background_psql('postgres');
my $start = time;
$reader->{stdin} .= "\\echo waiting\nSELECT convert_from((records[1]).data, 'UTF8') FROM kinesis.get_records(kinesis.get_shard_iterator('s', '$shard', 'LATEST'), 10, '50 s');\n\\echo done\n";
$reader->query_until(qr/waiting\n/, '');
$standby->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT convert_from%' AND pid <> pg_backend_pid() AND wait_event_type = 'Extension'")
  or die 'the reader does not wait';
$primary->safe_psql('postgres', "SELECT kinesis.put_record('s', 'for the waiting one', 'k')");
like($reader->query_until(qr/done\n/, ''), qr/^for the waiting one\n/m, 'a long poll on the standby gets the record');
cmp_ok(time - $start, '<', 40, 'and did not wait for its time to run out');
$reader->quit;

# A record behind an open transaction waits, on the standby too.
my $open = $primary->background_psql('postgres');
$open->query_safe("BEGIN; SELECT kinesis.put_record('s', 'open', 'k')");
$primary->safe_psql('postgres', "SELECT kinesis.put_record('s', 'behind', 'k')");
$primary->wait_for_catchup($standby);
my $tail = "SELECT coalesce(string_agg(convert_from(data, 'UTF8'), ','), '') FROM kinesis.read_shard('s', '$shard') WHERE data IN ('open', 'behind')";
is($standby->safe_psql('postgres', $tail), '', 'nothing is read past an open transaction');
$open->query_safe('COMMIT');
$primary->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $tail), 'open,behind', 'both are read in order after its commit');
$open->quit;

foreach my $put ("kinesis.put_record('s', 'x', 'k')", "kinesis.put_records('s', ARRAY['x'::bytea], ARRAY['k'])", "kinesis.create_stream('t', 1)")
{
	my ($status, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY verbose\nSELECT $put");
	isnt($status, 0, "$put is refused on the standby");
	like($err, qr/25006: .*(recovery|read-only)/, 'as in any read-only transaction');
}
is(faults_of($standby, 'postgres', 's'), '', 'check_stream works on the standby');

# Resharding and retention arrive as well.
$primary->safe_psql('postgres', "SELECT kinesis.split_shard('s', '$shard', 2::numeric ^ 127); SELECT kinesis.put_record('s', 'child', 'k')");
$primary->wait_for_catchup($standby);
is(records_of($standby, 'postgres', 's'), records_of($primary, 'postgres', 's'), 'children are read on the standby');
is( $standby->safe_psql('postgres', "SELECT next_shard_iterator IS NULL, cardinality(child_shards) FROM kinesis.get_records(kinesis.get_shard_iterator('s', '$shard', 'LATEST'))"),
	't|2', 'the closed shard ends there too and names its children');

done_testing();
