# KinesisMapping - event source mappings for the TAP tests, whose functions tell the server's log what they are called with: a
# call is to be seen there even when all it did is undone.
package KinesisMapping;

use strict;
use warnings;
use Exporter 'import';
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  mapping_node make_mapping make_function make_producer put_data wait_until_done wait_for_result calls_of worked_of discarded_of
  lane_of uuid_of is_called is_held is_worked_once update_mapping create_mapping
);

# A server whose mappings don't wait long, with tables for what functions have worked on and what was given up.
sub mapping_node
{
	my ($name, %params) = @_;
	my $conf = delete $params{conf} // '';
	my $node = KinesisNode::kinesis_node($name, %params, conf => "kinesis.max_retry_backoff = '100ms'\n$conf");

	$node->safe_psql('postgres', <<'SQL');
CREATE TABLE worked (id bigserial PRIMARY KEY, function text, shard text, number bigint, data text);
CREATE TABLE discarded (id bigserial PRIMARY KEY, invocation_record jsonb);
SQL
	return $node;
}

# A function (records, context) that tells the log its attempt and the records' data, runs $body, and notes the records as
# worked on.  The body may use r, c and texts, the records' data as an array; what it returns is the answer.
sub make_function
{
	my ($node, $name, $body) = @_;

	$node->safe_psql('postgres', <<SQL);
CREATE OR REPLACE FUNCTION $name(r kinesis.record[], c kinesis.batch_context) RETURNS jsonb LANGUAGE plpgsql AS \$\$
DECLARE
    texts text[] := ARRAY(SELECT convert_from(x.data, 'UTF8') FROM unnest(r) WITH ORDINALITY AS x(number, arrival, key, data, type, n) ORDER BY n);
BEGIN
    RAISE LOG 'call of $name, attempt %: %', c.attempt, array_to_string(texts, ' ');
    $body
    INSERT INTO worked (function, shard, number, data) SELECT '$name', c.shard_id, x.number, convert_from(x.data, 'UTF8')
        FROM unnest(r) WITH ORDINALITY AS x(number, arrival, key, data, type, n) ORDER BY n;
    RETURN NULL;
END \$\$
SQL
}

# A stream of one shard and a mapping of a function, all of the same name.  Settings are SQL; stream => a stream that is there.
sub make_mapping
{
	my ($node, $name, $body, %settings) = @_;
	my $made = delete $settings{stream};
	my $stream = $made // $name;

	make_function($node, $name, $body);
	$node->safe_psql('postgres', "SELECT kinesis.create_stream('$stream', 1); SELECT kinesis.set_shard_limits('$stream', NULL, NULL, NULL, NULL)")
	  unless defined $made;
	$node->safe_psql('postgres', "SELECT kinesis.create_event_source_mapping('$stream', '$name'"
		  . join('', map { ", $_ => $settings{$_}" } sort keys %settings) . ')');
}

# A mapping that belongs to a role (none: to who is connected), with settings as SQL arguments; returns its UUID.
sub create_mapping
{
	my ($node, $role, $stream, $function, @settings) = @_;
	my $arguments = join ', ', "'$stream'", "'$function'", @settings;

	return $node->safe_psql('postgres', "SET ROLE $role; SELECT kinesis.create_event_source_mapping($arguments)");
}

sub uuid_of
{
	my ($node, $name) = @_;
	return $node->safe_psql('postgres', "SELECT uuid FROM kinesis.event_source_mappings WHERE function_name = 'public.$name'");
}

sub update_mapping
{
	my ($node, $name, %settings) = @_;
	my $uuid = uuid_of($node, $name);

	$node->safe_psql('postgres', "SELECT kinesis.update_event_source_mapping('$uuid'"
		  . join('', map { ", $_ => $settings{$_}" } sort keys %settings) . ')');
}

# Records with these data, in one call: they can be read all at the same time.
sub put_data
{
	my ($node, $stream, @data) = @_;
	my $list = join ',', map { "convert_to(\$d\$$_\$d\$, 'UTF8')" } @data;

	$node->safe_psql('postgres', "SELECT kinesis.put_records('$stream', ARRAY[$list], array_fill('key'::text, ARRAY[" . @data . ']), atomic => true)');
}

# A procedure put(who): into stream s eight records a commit, their data a counter that grows for each key, until there is a row in
# table stop.  It does not go too far ahead of those who work: with all that run, a commit makes $rows rows of table done.
sub make_producer
{
	my ($node, $rows) = @_;

	$node->safe_psql('postgres', <<SQL);
CREATE PROCEDURE put(who text) LANGUAGE plpgsql AS \$\$
BEGIN
    FOR i IN 1..1000000 LOOP
        EXIT WHEN EXISTS (SELECT FROM stop);
        WHILE $rows * i > 5000 + (SELECT last_value FROM done_id_seq) LOOP
            PERFORM pg_sleep(0.01);
        END LOOP;
        PERFORM kinesis.put_records('s', array_fill(convert_to(i::text, 'UTF8'), ARRAY[8]), ARRAY(SELECT format('key %s %s', who, (i * 8 + n) % 200) FROM generate_series(1, 8) AS n));
        COMMIT;
    END LOOP;
END \$\$
SQL
}

# Until every record that is there lies behind.
sub wait_until_done
{
	my ($node, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->poll_query_until('postgres', <<SQL) and return;
SELECT coalesce(bool_and(l.status = 'done' OR coalesce(l.checkpoint, -1) >= (SELECT coalesce(max(r.sequence_number), -1) FROM kinesis.read_shard(l.stream_name, l.shard_id) AS r)), false)
  FROM kinesis.event_source_mapping_lanes AS l WHERE l.function_name = 'public.$name'
SQL
	fail("$name comes to the end");
	diag($node->safe_psql('postgres', "SELECT * FROM kinesis.event_source_mapping_lanes WHERE function_name = 'public.$name'"));
}

# Until the last result of a lane is this.
sub wait_for_result
{
	my ($node, $name, $result) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->poll_query_until('postgres', "SELECT last_processing_result = '$result' FROM kinesis.event_source_mappings WHERE function_name = 'public.$name'"),
		"$name: $result");
}

# Calls of a function in their order, "attempt: data data ...".
sub calls_of
{
	my ($node, $name) = @_;
	return slurp_file($node->logfile) =~ /call of \Q$name\E, attempt (\d+: .*)$/mg;
}

# What a function has worked on, in its order.
sub worked_of
{
	my ($node, $name) = @_;
	return $node->safe_psql('postgres', "SELECT string_agg(data, ' ' ORDER BY id) FROM worked WHERE function = '$name'");
}

# What was given up to the table, in its order: condition, number of calls and records, and the records' data.
sub discarded_of
{
	my ($node, $name) = @_;
	return split /\n/, $node->safe_psql('postgres', <<SQL);
SELECT format('%s after %s calls, %s records: %s', invocation_record #>> '{requestContext,condition}', invocation_record #>> '{requestContext,approximateInvokeCount}',
        invocation_record #>> '{KinesisBatchInfo,batchSize}',
        (SELECT string_agg(convert_from(decode(x.value #>> '{kinesis,data}', 'base64'), 'UTF8'), ' ' ORDER BY n)
           FROM jsonb_array_elements(invocation_record #> '{payload,Records}') WITH ORDINALITY AS x(value, n)))
  FROM discarded WHERE invocation_record #>> '{requestContext,functionArn}' LIKE '%:public.$name' ORDER BY id
SQL
}

# Columns of the only lane.
sub lane_of
{
	my ($node, $name, $columns) = @_;
	return $node->safe_psql('postgres', "SELECT $columns FROM kinesis.event_source_mapping_lanes WHERE function_name = 'public.$name'");
}

# Until a function waits for the advisory lock that the test holds.
sub is_held
{
	my ($node, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"), $what);
}

# The promise, for a long stream of which a function has worked on all.
sub is_worked_once
{
	my ($node, $stream, $function, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', <<SQL), 't|0|0|0', "$what has worked on each record exactly once and in order");
WITH stream AS (
    SELECT s.shard_id AS shard, r.sequence_number AS number, convert_from(r.data, 'UTF8') AS data FROM kinesis.list_shards('$stream') AS s, kinesis.read_shard('$stream', s.shard_id) AS r),
done AS (
    SELECT shard, number, data, lag(number) OVER (PARTITION BY shard ORDER BY id) AS previous FROM worked WHERE function = '$function')
SELECT (SELECT count(*) > 1000 FROM stream),
    (SELECT count(*) FROM (SELECT * FROM stream EXCEPT ALL SELECT shard, number, data FROM done) AS x),
    (SELECT count(*) FROM (SELECT shard, number, data FROM done EXCEPT ALL SELECT * FROM stream) AS x),
    (SELECT count(*) FROM done WHERE previous >= number)
SQL
}

sub is_called
{
	my ($node, $name, $calls, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join("\n", calls_of($node, $name)), join("\n", @$calls), $what);
}

1;
