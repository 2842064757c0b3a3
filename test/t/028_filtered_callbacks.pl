# Filters: a function sees the records that match alone, each once and in order; those that do not match are passed over without a call,
# with several batches a shard, halved batches and partial answers as well, and a changed filter counts from then on.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = kinesis_node('main', conf => <<'CONF');
kinesis.max_retry_backoff = '200ms'
CONF

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE seen (n bigserial, mapping uuid, shard text, attempt int, number bigint, key text, data text);
CREATE TABLE failed (invocation_record jsonb);
CREATE FUNCTION data_of(kind text, i int) RETURNS bytea LANGUAGE sql AS $$ SELECT convert_to(format('{"kind": "%s", "i": %s}', kind, i), 'UTF8') $$;
CREATE FUNCTION filter_of(VARIADIC patterns text[]) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('Filters', jsonb_agg(jsonb_build_object('Pattern', p))) FROM unnest(patterns) AS p $$;
CREATE FUNCTION see(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE sql AS $$
    INSERT INTO seen SELECT nextval('seen_n_seq'), c.mapping, c.shard_id, c.attempt, x.sequence_number, x.partition_key, encode(x.data, 'escape') FROM unnest(r) WITH ORDINALITY AS x ORDER BY x.ordinality
$$;
CREATE FUNCTION see_or_fail(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM see(r, c);
    IF EXISTS (SELECT FROM unnest(r) AS x WHERE encode(x.data, 'escape')::jsonb->'poison' = 'true') THEN
        RAISE 'poison';
    END IF;
END $$;
-- Does five records a call.
CREATE FUNCTION see_five(r kinesis.record[], c kinesis.batch_context) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM see(r[1:5], c);
    RETURN jsonb_build_object('batchItemFailures', CASE WHEN cardinality(r) > 5 THEN jsonb_build_array(jsonb_build_object('itemIdentifier', r[6].sequence_number::text)) END);
END $$;
-- Some records with one kind and other ones between them.
CREATE FUNCTION fill(stream text, kind text, first int, last int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM kinesis.put_record(stream, data_of(CASE WHEN i % 3 = 0 THEN kind ELSE 'other' END, i), 'key ' || i % 10) FROM generate_series(first, last) AS i;
END $$;
SQL

sub stream
{
	my ($stream, $shards) = @_;
	$node->safe_psql('postgres', "SELECT kinesis.create_stream('$stream', $shards), kinesis.set_shard_limits('$stream', NULL, NULL, NULL, NULL)");
}

sub mapping { return create_mapping($node, 'none', @_) }

sub fill
{
	my ($stream, $kind, $first, $last) = @_;
	$node->safe_psql('postgres', "SELECT fill('$stream', '$kind', $first, $last)");
}

# All that is in the stream has been read, and no call is under way.
sub is_passed
{
	my ($mapping, $stream, $what) = @_;
	return becomes_in($node, 'postgres', <<SQL, 't', $what);
SELECT bool_and(l.status <> 'running' AND l.checkpoint >= coalesce((SELECT max(r.sequence_number) FROM kinesis.read_shard('$stream', l.shard_id) AS r), 0)) FROM kinesis.event_source_mapping_lanes AS l WHERE l.uuid = '$mapping'
SQL
}

# The promise: what was seen is what a condition on the stream's records says, once each, and in order for each key.
sub is_seen
{
	my ($mapping, $stream, $condition, $what) = @_;
	my $expected = "SELECT shard, sequence_number, encode(data, 'escape') FROM (SELECT s.shard_id AS shard, r.* FROM kinesis.list_shards('$stream') AS s, kinesis.read_shard('$stream', s.shard_id) AS r) AS x WHERE $condition";
	my $seen = "SELECT shard, number, data FROM seen WHERE mapping = '$mapping'";

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', <<SQL), 't|0|0|0', $what);
SELECT EXISTS ($seen), (SELECT count(*) FROM ($seen EXCEPT ALL ($expected)) AS x), (SELECT count(*) FROM ($expected EXCEPT ALL ($seen)) AS x),
    (SELECT count(*) FROM (SELECT number, lag(number) OVER (PARTITION BY shard, key ORDER BY n) AS previous FROM seen WHERE mapping = '$mapping') AS x WHERE number < previous)
SQL
}

my $kind_a = q(filter_criteria => filter_of('{"data": {"kind": ["a"]}}'));
my $is_a = q(encode(data, 'escape') LIKE '{"kind": "a"%');

# ---- Passed over without a call ----

stream('s', 2);
my $plain = mapping('s', 'see', $kind_a);
fill('s', 'b', 1, 500);
$node->safe_psql('postgres', "SELECT kinesis.put_record('s', 'this is not JSON', 'k'), kinesis.put_record('s', '\"a\"', 'k'), kinesis.put_record('s', '\\x00ff', 'k')");
is_passed($plain, 's', 'records that do not match are passed over');
is($node->safe_psql('postgres', "SELECT sum(invocations), sum(records), sum(discarded), count(*) FILTER (WHERE last_result <> 'No records processed') FROM kinesis.event_source_mapping_lanes WHERE uuid = '$plain'"),
	'0|0|0|0', 'without any call');
fill('s', 'a', 501, 1000);
is_passed($plain, 's', 'the others');
is_seen($plain, 's', $is_a, 'those that match come, once and in order');
is($node->safe_psql('postgres', "SELECT sum(records) = (SELECT count(*) FROM seen WHERE mapping = '$plain') FROM kinesis.event_source_mapping_lanes WHERE uuid = '$plain'"), 't', 'and only they are counted');

# More than a turn looks at.
$node->safe_psql('postgres', <<'SQL');
SELECT count(p.sequence_number) FROM generate_series(1, 240) AS n, LATERAL kinesis.put_records('s', array_fill('{"kind": "b"}'::bytea, ARRAY[500]), array_fill('one key ' || n % 2, ARRAY[500])) AS p;
SELECT fill('s', 'a', 1001, 1030);
SQL
is_passed($plain, 's', 'so are very many');
is_seen($plain, 's', $is_a, 'and one that matches behind them comes');

# By more than one pattern, and by what is not data.
my $keys = mapping('s', 'see', q(filter_criteria => filter_of('{"partitionKey": ["key 3", {"prefix": "key 4"}]}', '{"partitionKey": ["key 5"], "data": {"i": [{"numeric": [">", 1000]}]}}')));
is_passed($keys, 's', 'two patterns');
is_seen($keys, 's', "partition_key IN ('key 3', 'key 4') OR partition_key = 'key 5' AND CASE WHEN partition_key = 'key 5' THEN (encode(data, 'escape')::jsonb->'i')::int > 1000 END", 'either of which may match');

# ---- With several batches a shard at once ----

my $wide = mapping('s', 'see', $kind_a, 'parallelization_factor => 4', 'batch_size => 7');
is_passed($wide, 's', 'four batches a shard at once');
fill('s', 'a', 1101, 1300);
is_passed($wide, 's', 'that go on');
is_seen($wide, 's', $is_a, 'each of those that match comes once, and in order for its key');
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT checkpoint) FROM kinesis.event_source_mapping_lanes WHERE uuid = '$wide'"), '8|2', 'all of a shard are equally far');

# ---- Failures ----

stream('f', 1);
$node->safe_psql('postgres', <<'SQL');
SELECT fill('f', 'a', 1, 60), kinesis.put_record('f', '{"kind": "a", "poison": true}', 'p'), kinesis.put_record('f', '{"kind": "b", "poison": true}', 'p'), fill('f', 'a', 61, 120);
SQL
my $halves = mapping('f', 'see_or_fail', $kind_a, 'bisect_batch_on_function_error => true', 'maximum_retry_attempts => 1', "on_failure => 'table:failed'");
is_passed($halves, 'f', 'a record that fails is found by halves');
is_seen($halves, 'f', $is_a . q( AND encode(data, 'escape') !~ 'poison'), 'the others that match come once');
is($node->safe_psql('postgres', "SELECT count(*), min(invocation_record #>> '{KinesisBatchInfo,batchSize}'), min(invocation_record #>> '{requestContext,condition}'), min(invocation_record #>> '{payload,Records,0,kinesis,partitionKey}') FROM failed"),
	'1|1|RetryAttemptsExhausted|p', 'and it alone is discarded');
is($node->safe_psql('postgres', "SELECT discarded FROM kinesis.event_source_mapping_lanes WHERE uuid = '$halves'"), '1', 'which is counted');

my $parts = mapping('f', 'see_five', $kind_a, 'report_batch_item_failures => true');
is_passed($parts, 'f', 'a function that reports a part as failed each time');
is_seen($parts, 'f', $is_a, 'sees each record that matches once');
is($node->safe_psql('postgres', "SELECT failures > 5, records FROM kinesis.event_source_mapping_lanes WHERE uuid = '$parts'"), 't|41', 'in parts');

# A filter that is changed while a batch is stuck: what matches no longer is not in it any more.
my $stuck = mapping('f', 'see_or_fail', q(filter_criteria => filter_of('{"data": {"kind": ["a", "b"]}}')), 'batch_size => 3');
becomes_in($node, 'postgres', "SELECT attempts > 2, records FROM kinesis.event_source_mapping_lanes WHERE uuid = '$stuck'", 't|18', 'a batch is stuck');
$node->safe_psql('postgres', qq(SELECT kinesis.update_event_source_mapping('$stuck', filter_criteria => filter_of('{"data": {"kind": ["a", "b"], "poison": [{"exists": false}]}}'))));
is_passed($stuck, 'f', 'until the filter lets its record out');
is_seen($stuck, 'f', $is_a . q( AND encode(data, 'escape') !~ 'poison'), 'nothing else is lost');

# ---- A filter that is changed ----

stream('u', 1);
my $changed = mapping('u', 'see', $kind_a);
fill('u', 'a', 1, 30);
fill('u', 'b', 31, 60);
is_passed($changed, 'u', 'the first filter');
my $before = $node->safe_psql('postgres', "SELECT max(sequence_number) FROM kinesis_stream.u");
$node->safe_psql('postgres', qq(SELECT kinesis.update_event_source_mapping('$changed', filter_criteria => filter_of('{"data": {"kind": ["b"]}}'))));
fill('u', 'a', 61, 90);
fill('u', 'b', 91, 120);
is_passed($changed, 'u', 'another filter');
is_seen($changed, 'u', qq($is_a AND sequence_number <= $before OR encode(data, 'escape') LIKE '{"kind": "b"%' AND sequence_number > $before), 'counts for all that come then, and for none that were passed over');
$node->safe_psql('postgres', qq(DELETE FROM seen WHERE mapping = '$changed'; SELECT kinesis.update_event_source_mapping('$changed', filter_criteria => '{}')));
$before = $node->safe_psql('postgres', "SELECT max(sequence_number) FROM kinesis_stream.u");
fill('u', 'a', 121, 150);
is_passed($changed, 'u', 'no filter');
is_seen($changed, 'u', "sequence_number > $before", 'lets all through');

unlike(slurp_file($node->logfile), qr/WARNING|PANIC|TRAP/, 'no warning in the log');
done_testing();
