# Tumbling windows: aligned by arrival, their state goes from call to call and is neither lost nor counted twice, and each is closed
# once, by a final call.
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

# tally() sums the numbers that are the records' data, as state, and writes each call down.  The table "wish" makes it misbehave.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE call (n bigserial, mapping uuid, shard text, attempt int, first timestamptz, past timestamptz, before jsonb, final boolean, early boolean, number bigint[], after jsonb);
CREATE TABLE wish (stream text PRIMARY KEY, what text);
CREATE FUNCTION sum_of(r kinesis.record[]) RETURNS bigint LANGUAGE sql AS $$ SELECT coalesce(sum(convert_from(x.data, 'UTF8')::bigint), 0) FROM unnest(r) AS x $$;
CREATE FUNCTION tally(r kinesis.record[], c kinesis.batch_context) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    after jsonb := jsonb_build_object('sum', coalesce((c.window_state->>'sum')::bigint, 0) + sum_of(r), 'calls', coalesce((c.window_state->>'calls')::int, 0) + 1);
    what text := (SELECT w.what FROM wish AS w WHERE w.stream = c.stream_name);
BEGIN
    IF what = 'no state' THEN
        RETURN '{"batchItemFailures": []}';
    ELSIF what = 'fail final' AND c.is_final_invoke_for_window OR what = 'fail first' AND c.attempt = 1 THEN
        RAISE 'as wished';
    ELSIF what = 'large' AND sum_of(r) % 100 = 42 THEN
        after := after || jsonb_build_object('ballast', repeat('x', 1100000));
    END IF;
    INSERT INTO call VALUES (DEFAULT, c.mapping, c.shard_id, c.attempt, c.window_start, c.window_end, c.window_state, c.is_final_invoke_for_window, c.is_window_terminated_early,
        ARRAY(SELECT sequence_number FROM unnest(r)), after - 'ballast');
    RETURN jsonb_build_object('state', after);
END $$;
-- Fails from the third record on, once.
CREATE FUNCTION tally_event(e jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    most int := CASE WHEN EXISTS (SELECT FROM wish WHERE what = 'partial') AND (e #>> '{Records,0,kinesis,partitionKey}') <> 'again' AND random() < 0.5 THEN 2 ELSE 10000 END;
    part bigint := (SELECT coalesce(sum(convert_from(decode(x #>> '{kinesis,data}', 'base64'), 'UTF8')::bigint), 0) FROM jsonb_array_elements(e->'Records') WITH ORDINALITY AS r(x, i) WHERE i <= most);
    after jsonb := jsonb_build_object('sum', coalesce((e #>> '{state,sum}')::bigint, 0) + part);
BEGIN
    INSERT INTO call VALUES (DEFAULT, NULL, e->>'shardId' || ' ' || (e->>'eventSourceARN'), 0, (e #>> '{window,start}')::timestamptz, (e #>> '{window,end}')::timestamptz, e->'state',
        (e->>'isFinalInvokeForWindow')::boolean, (e->>'isWindowTerminatedEarly')::boolean,
        ARRAY(SELECT (x #>> '{kinesis,sequenceNumber}')::bigint FROM jsonb_array_elements(e->'Records') WITH ORDINALITY AS r(x, i) WHERE i <= most), after);
    RETURN jsonb_build_object('state', after, 'batchItemFailures', coalesce((SELECT jsonb_agg(jsonb_build_object('itemIdentifier', x #>> '{kinesis,sequenceNumber}'))
        FROM jsonb_array_elements(e->'Records') WITH ORDINALITY AS r(x, i) WHERE i > most), '[]'));
END $$;
SQL

# A stream of one shard that is quarter of an hour old.
sub stream
{
	$node->safe_psql('postgres', "SET kinesis.clock_offset = '-900 s'; SELECT kinesis.create_stream('$_[0]', 1)");
}

# What else it is to have are further arguments.
sub mapping { return create_mapping($node, 'none', @_) }

# Puts numbers as they would have been put so long ago.
sub put_at
{
	my ($stream, $seconds, @numbers) = @_;
	$node->safe_psql('postgres', join ';', "SET kinesis.clock_offset = '${seconds}s'", map { "SELECT kinesis.put_record('$stream', '$_', 'key $_')" } @numbers);
}

sub wish
{
	my ($stream, $what) = @_;
	$node->safe_psql('postgres', "INSERT INTO wish VALUES ('$stream', '$what') ON CONFLICT (stream) DO UPDATE SET what = excluded.what");
}

sub becomes { return becomes_in($node, 'postgres', @_) }

# Faults of one mapping's calls, empty when there are none: the promise.  A call that was not final knows its records; the state
# that goes in is the one that came out of the window's call before.
sub faults
{
	my ($which) = @_;
	return $node->safe_psql('postgres', <<SQL);
WITH c AS (SELECT *, row_number() OVER w AS place, lag(after) OVER w AS previous, lag(final) OVER w AS was_final, lag(first) OVER w AS previous_first
    FROM call WHERE $which WINDOW w AS (PARTITION BY mapping, shard ORDER BY n))
SELECT 'not aligned: ' || first FROM c WHERE extract(epoch FROM first)::numeric % extract(epoch FROM past - first)::numeric <> 0
UNION ALL SELECT 'record ' || x || ' is not of window ' || first FROM c, unnest(number) AS x WHERE kinesis.arrival(x) < first OR kinesis.arrival(x) >= past
UNION ALL SELECT 'state of call ' || n || ' is ' || before || ' after ' || previous FROM c WHERE before IS DISTINCT FROM CASE WHEN place = 1 OR was_final THEN '{}' ELSE previous END
UNION ALL SELECT 'window ' || first || ' begins before ' || previous_first || ' is closed' FROM c WHERE first <> previous_first AND NOT was_final
UNION ALL SELECT 'final call ' || n || ' has records' FROM c WHERE final AND number <> '{}'
UNION ALL SELECT 'call ' || n || ' has none' FROM c WHERE NOT final AND number = '{}'
UNION ALL SELECT 'record ' || x || ' came ' || count(*) || ' times' FROM c, unnest(number) AS x GROUP BY mapping, shard, x HAVING count(*) <> 1
UNION ALL SELECT 'window ' || first || ' was closed ' || count(*) || ' times' FROM c WHERE final AND NOT early GROUP BY mapping, shard, first HAVING count(*) <> 1
SQL
}

sub sum_of_finals { return "SELECT coalesce(sum((before->>'sum')::bigint), 0) FROM call WHERE final AND $_[0]" }

# ---- Many windows, by records and by events ----

stream('s');
put_at('s', -600 + 7 * $_, 10 * $_ + 1 .. 10 * $_ + 5) foreach 0 .. 70;
my $by_records = mapping('s', 'tally', "tumbling_window => '10 s', batch_size => 3");
my $sum = $node->safe_psql('postgres', "SELECT sum(convert_from(data, 'UTF8')::bigint) FROM kinesis_stream.s");
becomes(sum_of_finals("mapping = '$by_records'"), $sum, 'the states of all windows make the sum of all records');
is(faults("mapping = '$by_records'"), '', 'windows are aligned, and the state goes from call to call');
is($node->safe_psql('postgres', "SELECT count(DISTINCT first) = (SELECT count(DISTINCT div(extract(epoch FROM kinesis.arrival(sequence_number))::numeric, 10)) FROM kinesis_stream.s), bool_or(early) FROM call"), 't|f',
	'there were as many windows as there should be, and none was terminated early');
is($node->safe_psql('postgres', "SELECT max(cardinality(number)), count(*) FILTER (WHERE after->>'calls' = '5') > 10 FROM call"), '3|t', 'several calls a window');

wish('', 'partial');
mapping('s', 'tally_event', "tumbling_window => '10 s'", 'batch_size => 4', 'report_batch_item_failures => true');
becomes(sum_of_finals('mapping IS NULL'), $sum, 'so do those of events, with partial answers');
is(faults('mapping IS NULL'), '', 'in the same way');
is($node->safe_psql('postgres', "SELECT count(*) FROM (SELECT first, past, (before->>'sum')::bigint FROM call WHERE final AND mapping IS NULL EXCEPT ALL SELECT first, past, (before->>'sum')::bigint FROM call WHERE final AND mapping IS NOT NULL) AS x"),
	'0', 'both have the same windows with the same sums');
is($node->safe_psql('postgres', "SELECT DISTINCT shard FROM call WHERE mapping IS NULL"), 'shardId-000000000000 arn:aws:kinesis:us-east-1:000000000000:stream/s', 'the event says where it is from');

# ---- Time alone closes a window, and not before a transaction that belongs to it has ended ----

stream('slow');
my $slow = mapping('slow', 'tally', "tumbling_window => '2 s'");
my $session = $node->background_psql('postgres');
# From the beginning of a window on there is time enough to put all three into it.
$session->query_safe(<<'SQL');
SELECT pg_sleep(2 - extract(epoch FROM clock_timestamp()) % 2);
SELECT kinesis.put_record('slow', '1', 'a');
SELECT kinesis.put_record('slow', '2', 'b');
BEGIN;
SELECT kinesis.put_record('slow', '40', 'c');
SQL
becomes("SELECT DISTINCT clock_timestamp() > past + '500 ms' FROM call WHERE mapping = '$slow'", 't', 'a window is open, and its time is over');
is($node->safe_psql('postgres', "SELECT count(*) FROM call WHERE mapping = '$slow' AND final"), '0', 'it is not closed while a transaction with a record of it is open');
$session->query_safe('COMMIT');
$session->quit;
becomes("SELECT sum((before->>'sum')::int), count(DISTINCT first) FROM call WHERE mapping = '$slow' AND final", '43|1', 'but when it has committed, with its record, though no record follows');
is(faults("mapping = '$slow'"), '', 'all in order');

# ---- Failures ----

stream('failing');
put_at('failing', -100, 1 .. 3);
put_at('failing', -60, 100);
wish('failing', 'no state');
my $failing = mapping('failing', 'tally', "tumbling_window => '10 s'", 'batch_size => 2');
becomes("SELECT last_result, error_message, attempts > 1, checkpoint, records FROM kinesis.event_source_mapping_lanes WHERE uuid = '$failing'",
	'PROBLEM: Function call failed|the response has no state, which a tumbling window needs|t||0', 'an answer without state is a failure, and is tried again');
wish('failing', 'fail final');
becomes("SELECT attempts > 2, records, window_start IS NOT NULL, window_state->>'sum' FROM kinesis.mapping_lane WHERE uuid = '$failing'", 't|3|t|6', 'a final call that fails blocks, and the state stays');
wish('failing', 'fail first');
becomes(sum_of_finals("mapping = '$failing'"), '106', 'it goes on when the cause is gone, with nothing lost');
is($node->safe_psql('postgres', "SELECT count(*) FROM call WHERE mapping = '$failing' AND attempt = 2 AND NOT final AND before = '{}'"), '1', 'a call that is tried again has the state that it had');
is(faults("mapping = '$failing'"), '', 'nothing came twice');

stream('limited');
put_at('limited', -100, 7);
put_at('limited', -60, 8);
wish('limited', 'fail final');
my $limited = mapping('limited', 'tally', "tumbling_window => '1 s'", 'maximum_retry_attempts => 2');
becomes("SELECT last_result, invocations, failures, window_start IS NULL, attempts FROM kinesis.mapping_lane WHERE uuid = '$limited'", 'PROBLEM: The state of a tumbling window was discarded: RetryAttemptsExhausted|8|6|t|0',
	'a final call that has failed too often is given up');
wish('limited', '');
put_at('limited', 0, 9);
becomes(sum_of_finals("mapping = '$limited'"), '9', 'and the next window begins anew');

# ---- State that is too large, and the end of the shard ----

stream('large');
wish('large', 'large');
my $large = mapping('large', 'tally', "tumbling_window => '900 s'", 'batch_size => 1');
put_at('large', 0, 1, 42, 3);
becomes("SELECT string_agg(concat_ws(' ', before->>'sum', after->>'sum', final, early), ', ' ORDER BY n) FROM call WHERE mapping = '$large'", '1 f f, 1 43 f f, 43 43 t t, 3 f f',
	'a state above 1 MB ends its window early, and what follows begins with an empty one');
$node->safe_psql('postgres', "SELECT kinesis.split_shard('large', 'shardId-000000000000', 2::numeric ^ 127)");
put_at('large', 0, 101 .. 110);
becomes("SELECT count(*), sum((before->>'sum')::int) FROM call WHERE mapping = '$large' AND shard = 'shardId-000000000000' AND final", '2|46', 'the end of a shard closes its window');
becomes("SELECT sum((window_state->>'sum')::int), count(*) FILTER (WHERE NOT ended) FROM kinesis.mapping_lane WHERE uuid = '$large'", '1055|2', 'and its children begin their own');
is($node->safe_psql('postgres', "SELECT bool_and(early) FROM call WHERE mapping = '$large' AND final"), 't', 'these were all terminated early');
is($node->safe_psql('postgres', "SELECT min(n) FROM call WHERE mapping = '$large' AND shard > 'shardId-000000000000'")
	  > $node->safe_psql('postgres', "SELECT max(n) FROM call WHERE mapping = '$large' AND shard = 'shardId-000000000000'"), 1, 'after the parent was closed');

# ---- A crash ----

$node->safe_psql('postgres', "SELECT kinesis.create_stream('crash', 3), kinesis.set_shard_limits('crash', NULL, NULL, NULL, NULL)");
my $crash = mapping('crash', 'tally', "tumbling_window => '1 s'", 'batch_size => 50', 'parallelization_factor => 2');
$node->safe_psql('postgres', <<'SQL');
CREATE PROCEDURE produce(first int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN first .. first + 999999 LOOP
        PERFORM kinesis.put_record('crash', convert_to(i::text, 'UTF8'), 'key ' || i);
        COMMIT;
    END LOOP;
END $$;
SQL
foreach my $round (1 .. 2)
{
	my $count = $node->safe_psql('postgres', "SELECT count(*) FROM call WHERE final AND mapping = '$crash'");
	my $producer = start_psql($node, 'postgres', 'producer', "CALL produce(${round}000000)");
	ok($node->poll_query_until('postgres', "SELECT count(*) > $count + 6 FROM call WHERE final AND mapping = '$crash'"), "windows are closed, round $round");
	kill_all_with_9($node);
	$producer->{run}->finish;
	$node->start;
}
$sum = $node->safe_psql('postgres', "SELECT sum(convert_from(data, 'UTF8')::bigint) FROM kinesis_stream.crash");
becomes(sum_of_finals("mapping = '$crash'"), $sum, 'after two crashes the states of all windows make the sum of all records');
is($node->safe_psql('postgres', "SELECT sum(cardinality(number)) = (SELECT count(*) FROM kinesis_stream.crash) FROM call WHERE mapping = '$crash'"), 't', 'each record came once');
is($node->safe_psql('postgres', "SELECT count(*) FROM (SELECT shard, x FROM call, unnest(number) AS x WHERE mapping = '$crash' GROUP BY shard, x HAVING count(*) > 1) AS t"), '0', 'none twice');

unlike(slurp_file($node->logfile), qr/WARNING|PANIC|TRAP/, 'no warning in the log');
done_testing();
