# A batch that fails is retried, cut in two, or given up by the rules of AWS Lambda's event source mappings, and what is given up
# goes to the destination: nothing is lost on the way there.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main');
my $to_table = "'table:discarded'";
my $fail_if_bad = "IF 'bad' = ANY (texts) THEN RAISE 'a bad record'; END IF;";

# ---- Until it succeeds ----

make_mapping($node, 'retried', "IF c.attempt < 4 AND 'a' = ANY (texts) THEN INSERT INTO worked (function, data) VALUES ('retried', 'undone'); RAISE 'not yet'; END IF;");
put_data($node, 'retried', 'a', 'b', 'c');
wait_until_done($node, 'retried');
put_data($node, 'retried', 'd');
wait_until_done($node, 'retried');
is_called($node, 'retried', [ '1: a b c', '2: a b c', '3: a b c', '4: a b c', '1: d' ], 'a batch is retried as it is until it succeeds, and the next one counts from 1');
is(worked_of($node, 'retried'), 'a b c d', 'what the failed calls did is undone');
is(lane_of($node, 'retried', 'invocations, failures, records, discarded, attempts, status'), '5|3|4|0|0|waiting', 'and counted');

# Records that come meanwhile wait: they are no part of the batch.
make_mapping($node, 'waiting', "IF 'a' = ANY (texts) AND NOT EXISTS (SELECT FROM worked WHERE data = 'go') THEN RAISE 'not yet'; END IF;");
put_data($node, 'waiting', 'a');
wait_for_result($node, 'waiting', 'PROBLEM: Function call failed');
is(lane_of($node, 'waiting', 'error_sqlstate, error_message, status'), 'P0001|not yet|retrying', 'the error is told');
put_data($node, 'waiting', 'b');
$node->safe_psql('postgres', "INSERT INTO worked (function, data) VALUES ('', 'go')");
wait_until_done($node, 'waiting');
is((grep { !/: a$/ } calls_of($node, 'waiting'))[0], '1: b', 'a batch that fails does not grow');

# ---- maximum_retry_attempts ----

make_mapping($node, 'limited', $fail_if_bad, batch_size => 2, maximum_retry_attempts => 2, on_failure => $to_table);
put_data($node, 'limited', 'bad', 'a', 'b', 'c');
wait_until_done($node, 'limited');
is_called($node, 'limited', [ '1: bad a', '2: bad a', '3: bad a', '1: b c' ], 'two retries are three calls');
is_deeply([ discarded_of($node, 'limited') ], ['RetryAttemptsExhausted after 3 calls, 2 records: bad a'], 'then the batch is given up');
is(worked_of($node, 'limited'), 'b c', 'and the position moves on');
is(lane_of($node, 'limited', 'invocations, failures, records, discarded'), '4|3|2|2', 'both are counted');
is($node->safe_psql('postgres', <<'SQL'), 'shardId-000000000000|t|arn:aws:kinesis:us-east-1:000000000000:stream/limited|P0001|a bad record', 'the invocation record says which batch it was');
SELECT invocation_record #>> '{KinesisBatchInfo,shardId}',
    ARRAY[invocation_record #>> '{KinesisBatchInfo,startSequenceNumber}', invocation_record #>> '{KinesisBatchInfo,endSequenceNumber}']::bigint[]
        = (SELECT array_agg(sequence_number ORDER BY sequence_number) FROM kinesis.read_shard('limited', '0') WHERE convert_from(data, 'UTF8') IN ('bad', 'a')),
    invocation_record #>> '{KinesisBatchInfo,streamArn}', invocation_record #>> '{error,sqlstate}', invocation_record #>> '{error,message}'
  FROM discarded WHERE invocation_record #>> '{requestContext,functionArn}' LIKE '%limited'
SQL

make_mapping($node, 'once', $fail_if_bad, maximum_retry_attempts => 0);
put_data($node, 'once', 'bad');
wait_until_done($node, 'once');
put_data($node, 'once', 'a');
wait_until_done($node, 'once');
is_called($node, 'once', [ '1: bad', '1: a' ], 'no retry is one call; without a destination the batch is dropped');

# ---- bisect_batch_on_function_error ----

make_mapping($node, 'halved', $fail_if_bad, bisect_batch_on_function_error => 'true', maximum_retry_attempts => 1, on_failure => $to_table);
put_data($node, 'halved', 1 .. 4, 'bad', 6 .. 8);
wait_until_done($node, 'halved');
put_data($node, 'halved', 9);
wait_until_done($node, 'halved');
is_called($node, 'halved', [ '1: 1 2 3 4 bad 6 7 8', '1: 1 2 3 4', '1: bad 6 7 8', '1: bad 6', '1: bad', '2: bad', '1: 6', '1: 7 8', '1: 9' ],
	'halves are tried in order, and cutting takes no retry');
is_deeply([ discarded_of($node, 'halved') ], ['RetryAttemptsExhausted after 2 calls, 1 records: bad'], 'the bad record alone is given up');
is(worked_of($node, 'halved'), '1 2 3 4 6 7 8 9', 'all others are worked on once, in order');

# Without a limit the bad record blocks what comes behind it, its own half first.
make_mapping($node, 'blocked', $fail_if_bad, bisect_batch_on_function_error => 'true');
put_data($node, 'blocked', 1, 2, 'bad', 4);
ok($node->poll_query_until('postgres', "SELECT attempts >= 3 FROM kinesis.event_source_mapping_lanes WHERE function_name = 'public.blocked'"), 'a bad record is retried alone');
is(worked_of($node, 'blocked'), '1 2', 'after those before it');
make_function($node, 'blocked', '');
wait_until_done($node, 'blocked');
is(worked_of($node, 'blocked'), '1 2 bad 4', 'and before those behind it');

# ---- maximum_record_age ----

# Streams that were made ten minutes ago, with records that were put two minutes ago, as their numbers say.
foreach my $name ('aged', 'ageing')
{
	$node->safe_psql('postgres', <<SQL);
SET kinesis.clock_offset = '-10 min';
SELECT kinesis.create_stream('$name', 1);
SET kinesis.clock_offset = '-2 min';
SELECT kinesis.put_records('$name', ARRAY['bad', 'old']::bytea[], '{key, key}');
SQL
}
put_data($node, 'aged', 'new');
make_mapping($node, 'aged', '', stream => 'aged', maximum_record_age => "'1 min'", on_failure => $to_table);
wait_until_done($node, 'aged');
is_called($node, 'aged', ['1: new'], 'records that are too old are not tried');
is_deeply([ discarded_of($node, 'aged') ], ['RecordAgeExceeded after 0 calls, 2 records: bad old'], 'but given up');

make_mapping($node, 'ageing', $fail_if_bad, stream => 'ageing', on_failure => $to_table);
wait_for_result($node, 'ageing', 'PROBLEM: Function call failed');
put_data($node, 'ageing', 'b');
update_mapping($node, 'ageing', maximum_record_age => "'1 min'");
wait_until_done($node, 'ageing');
like((discarded_of($node, 'ageing'))[0], qr/^RecordAgeExceeded after [1-9]\d* calls, 2 records: bad old$/, 'records of a batch that is retried grow too old as well');
is(worked_of($node, 'ageing'), 'b', 'those behind them do not');

# ---- report_batch_item_failures ----

# Works on what comes before the records that it reports.
my $report_once = <<'SQL';
    IF '3' = ANY (texts) AND c.attempt = 1 THEN
        INSERT INTO worked (function, data) SELECT 'NAME', unnest(texts[:array_position(texts, '3') - 1]);
        RETURN jsonb_build_object('batchItemFailures', jsonb_build_array(
            jsonb_build_object('itemIdentifier', r[array_position(texts, '5')].sequence_number::text), jsonb_build_object('itemIdentifier', r[array_position(texts, '3')].sequence_number::text)));
    END IF;
SQL
# With bisecting a report is a cut, and takes no attempt; the first record reported is a failure, which is cut in halves.
my %calls = (false => [ '1: 1 2 3 4 5 6', '2: 3 4 5 6' ], true => [ '1: 1 2 3 4 5 6', '1: 3 4 5 6', '1: 3 4', '1: 3', '2: 3', '1: 4', '1: 5 6' ]);
foreach my $bisect ('false', 'true')
{
	my $name = "reported_$bisect";
	make_mapping($node, $name, $report_once =~ s/NAME/$name/r, report_batch_item_failures => 'true', bisect_batch_on_function_error => $bisect);
	put_data($node, $name, 1 .. 6);
	wait_until_done($node, $name);
	is_called($node, $name, $calls{$bisect}, "from the lowest reported record on all is retried, bisect $bisect");
	is(worked_of($node, $name), '1 2 3 4 5 6', 'and what was done before it counts');
}
is(lane_of($node, 'reported_false', 'invocations, failures, records, discarded'), '2|1|6|0', 'a report is a failure among the counts');

# The retries of the rest go on counting; its first record reported is a complete failure.
make_mapping($node, 'rest', <<'SQL', report_batch_item_failures => 'true', maximum_retry_attempts => 2, on_failure => $to_table);
    IF 'bad' = ANY (texts) THEN
        INSERT INTO worked (function, data) SELECT 'rest', unnest(texts[:array_position(texts, 'bad') - 1]);
        INSERT INTO worked (function, data) SELECT 'rest', 'undone' WHERE texts[1] = 'bad';
        RETURN jsonb_build_object('batchItemFailures', jsonb_build_array(jsonb_build_object('itemIdentifier', r[array_position(texts, 'bad')].sequence_number::text)));
    END IF;
SQL
put_data($node, 'rest', 1, 2, 'bad', 4);
wait_until_done($node, 'rest');
put_data($node, 'rest', 5);
wait_until_done($node, 'rest');
is_called($node, 'rest', [ '1: 1 2 bad 4', '2: bad 4', '3: bad 4', '1: 5' ], 'the counter of retries goes on for the rest');
is_deeply([ discarded_of($node, 'rest') ], ['RetryAttemptsExhausted after 3 calls, 2 records: bad 4'], 'which is given up in the end');
is(worked_of($node, 'rest'), '1 2 5', 'a report of the first record undoes the call');

# Answers of all kinds; each record is one, with NUMBER for its own number.
my @good = ('null', '{}', '{"batchItemFailures": null}', '{"batchItemFailures": []}', '{"other": 1}', 'NULL');
my @bad = (
	'[]', '"text"', '1', '{"batchItemFailures": {}}', '{"batchItemFailures": [{}]}', '{"batchItemFailures": ["NUMBER"]}',
	'{"batchItemFailures": [{"itemIdentifier": null}]}', '{"batchItemFailures": [{"itemIdentifier": ""}]}', '{"batchItemFailures": [{"itemIdentifier": "1"}]}',
	'{"batchItemFailures": [{"itemIdentifier": NUMBER}]}', '{"batchItemFailures": [{"item": "NUMBER"}]}', '{"batchItemFailures": [{"itemIdentifier": "NUMBER"}]}');
my $answer = <<'SQL';
    INSERT INTO worked (function, data) VALUES ('NAME', texts[1]);
    RETURN nullif(replace(texts[1], 'NUMBER', r[1].sequence_number::text), 'NULL')::jsonb;
SQL
foreach my $report ('true', 'false')
{
	my $name = "answers_$report";
	make_mapping($node, $name, $answer =~ s/NAME/$name/r, batch_size => 1, maximum_retry_attempts => 0, report_batch_item_failures => $report, on_failure => $to_table);
	put_data($node, $name, @good, @bad);
	wait_until_done($node, $name);
}
is(worked_of($node, 'answers_true'), join(' ', @good), 'nothing reported is success');
is_deeply([ discarded_of($node, 'answers_true') ], [ map { "RetryAttemptsExhausted after 1 calls, 1 records: $_" } @bad ], 'what is no report of records of the batch is failure');
is(worked_of($node, 'answers_false'), join(' ', @good, @bad), 'and all of it is ignored when reports are off');

# ---- A window's last call ----

# It blocks its shard until it succeeds ...
make_mapping($node, 'windowed', <<'SQL', tumbling_window => "'1 s'", bisect_batch_on_function_error => 'true', on_failure => $to_table);
    IF c.is_final_invoke_for_window THEN
        INSERT INTO worked (function, data) VALUES ('windowed', c.window_state->>'last');
        IF NOT EXISTS (SELECT FROM worked WHERE data = 'end') THEN
            RAISE 'not yet';
        END IF;
    END IF;
    RETURN jsonb_build_object('state', jsonb_build_object('last', texts[cardinality(texts)]));
SQL
put_data($node, 'windowed', 'a', 'b');
ok($node->poll_query_until('postgres', "SELECT attempts >= 3 AND retry_at IS NOT NULL FROM kinesis.event_source_mapping_lanes WHERE function_name = 'public.windowed'"),
	'a last call that fails is retried, and waits between');
put_data($node, 'windowed', 'c');
$node->safe_psql('postgres', "INSERT INTO worked (function, data) VALUES ('', 'end')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM worked WHERE function = 'windowed'"), 'until it succeeds');
is(worked_of($node, 'windowed'), 'b c', 'then the window is closed, and the next one as well');
is(lane_of($node, 'windowed', 'records, discarded'), '3|0', 'nothing is given up');

# ... or its attempts are used up: then the window is over without it.
make_mapping($node, 'unclosed', <<'SQL', tumbling_window => "'1 s'", maximum_retry_attempts => 1, on_failure => $to_table);
    IF c.is_final_invoke_for_window THEN
        RAISE 'never';
    END IF;
    RETURN jsonb_build_object('state', jsonb_build_object('last', texts[cardinality(texts)]));
SQL
put_data($node, 'unclosed', 'a', 'b');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM discarded WHERE invocation_record #>> '{requestContext,functionArn}' LIKE '%unclosed'"), 'a last call that always fails is given up');
is_deeply([ discarded_of($node, 'unclosed') ], ['RetryAttemptsExhausted after 2 calls, 0 records: '], 'and told of');
put_data($node, 'unclosed', 'c');
ok($node->poll_query_until('postgres', "SELECT records = 3 AND discarded = 0 FROM kinesis.event_source_mapping_lanes WHERE function_name = 'public.unclosed'"), 'and its shard goes on');

# ---- A function that can't be called ----

$node->safe_psql('postgres', 'CREATE ROLE poor; GRANT INSERT ON worked TO poor; GRANT USAGE ON SEQUENCE worked_id_seq TO poor; GRANT CREATE ON SCHEMA public TO poor');
make_function($node, 'absent', '');
$node->safe_psql('postgres', <<'SQL');
REVOKE EXECUTE ON FUNCTION absent FROM public;
GRANT EXECUTE ON FUNCTION absent TO poor;
SELECT kinesis.create_stream('absent', 1);
SELECT kinesis.grant_stream('absent', 'poor', 'consumer');
SET SESSION AUTHORIZATION poor;
SELECT kinesis.create_event_source_mapping('absent', 'absent', maximum_retry_attempts => 0);
SQL
my $function = 'FUNCTION absent(kinesis.record[], kinesis.batch_context)';
my @obstacles = (
	[ "REVOKE EXECUTE ON $function FROM poor", "GRANT EXECUTE ON $function TO poor", '42501' ],
	[ "ALTER $function RENAME TO other", 'ALTER FUNCTION other RENAME TO absent', '42883' ],
	[ 'ALTER SCHEMA public RENAME TO other; CREATE SCHEMA public', 'DROP SCHEMA public; ALTER SCHEMA other RENAME TO public', '42883' ],
	[ "SELECT kinesis.revoke_stream('absent', 'poor', 'consumer')", "SELECT kinesis.grant_stream('absent', 'poor', 'consumer')", 'KN' ],
	[ "DROP $function", undef, '42883' ]);
my @expected;
foreach my $i (0 .. $#obstacles)
{
	my ($hinder, $help, $state) = @{ $obstacles[$i] };

	$node->safe_psql('postgres', $hinder);
	put_data($node, 'absent', "record $i");
	wait_for_result($node, 'absent', 'PROBLEM: The function could not be called');
	like(lane_of($node, 'absent', 'error_sqlstate'), qr/^\Q$state/, "it can't be called: $hinder");
	is(lane_of($node, 'absent', 'attempts, discarded'), '0|0', 'which is no attempt');
	defined $help ? $node->safe_psql('postgres', $help) : make_function($node, 'absent', '');
	wait_until_done($node, 'absent');
	push @expected, "record $i";
	is(worked_of($node, 'absent'), join(' ', @expected), 'and it goes on when it can');
}
is_called($node, 'absent', [ map { "1: $_" } @expected ], 'with one call for each');

# ---- Destinations ----

$node->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('letters', 1);
CREATE FUNCTION take(invocation jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO discarded (invocation_record) VALUES (invocation);
    IF EXISTS (SELECT FROM worked WHERE data = 'refuse') THEN
        RAISE 'refused';
    END IF;
END $$;
INSERT INTO worked (function, data) VALUES ('', 'refuse');
SQL
make_mapping($node, 'to_stream', $fail_if_bad, maximum_retry_attempts => 0, on_failure => "'letters'");
make_mapping($node, 'to_function', $fail_if_bad, maximum_retry_attempts => 0, on_failure => "'function:take'");
make_mapping($node, 'to_table', $fail_if_bad, maximum_retry_attempts => 0, on_failure => $to_table);
$node->safe_psql('postgres', 'ALTER TABLE discarded RENAME COLUMN invocation_record TO other');
put_data($node, 'to_table', 'bad', 'a');
wait_for_result($node, 'to_table', 'PROBLEM: The destination failed');
put_data($node, 'to_table', 'b');
$node->safe_psql('postgres', 'ALTER TABLE discarded RENAME COLUMN other TO invocation_record');
wait_until_done($node, 'to_table');
is_deeply([ discarded_of($node, 'to_table') ], ['RetryAttemptsExhausted after 1 calls, 2 records: bad a'], 'a destination that fails blocks, and gets the record in the end');
is_called($node, 'to_table', [ '1: bad a', '1: b' ], 'the function is not called again meanwhile');

put_data($node, 'to_function', 'bad');
wait_for_result($node, 'to_function', 'PROBLEM: The destination failed');
put_data($node, 'to_function', 'a');
$node->safe_psql('postgres', "DELETE FROM worked WHERE data = 'refuse'");
wait_until_done($node, 'to_function');
is_deeply([ discarded_of($node, 'to_function') ], ['RetryAttemptsExhausted after 1 calls, 1 records: bad'], 'a function as destination; what it did when it failed is undone');
is(worked_of($node, 'to_function'), 'a', 'and what comes behind is worked on');

put_data($node, 'to_stream', 'bad', 'a');
wait_until_done($node, 'to_stream');
is($node->safe_psql('postgres', <<'SQL'), 'shardId-000000000000|RetryAttemptsExhausted|2|YmFk', 'a stream as destination');
SELECT l.partition_key, j #>> '{requestContext,condition}', j #>> '{KinesisBatchInfo,batchSize}', j #>> '{payload,Records,0,kinesis,data}'
  FROM kinesis.read_shard('letters', '0') AS l, LATERAL (SELECT convert_from(l.data, 'UTF8')::jsonb) AS x(j)
SQL

# ---- Calls that end badly ----

# The worker is terminated while the function runs.
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
make_mapping($node, 'lost', "IF 'bad' = ANY (texts) THEN PERFORM pg_advisory_xact_lock(1); END IF;", maximum_retry_attempts => 0, on_failure => $to_table);
put_data($node, 'lost', 'bad', 'a');
is_held($node, 'the function runs');
put_data($node, 'lost', 'b');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
wait_until_done($node, 'lost');
is_deeply([ discarded_of($node, 'lost') ], ['RetryAttemptsExhausted after 1 calls, 2 records: bad a'], 'a worker that is terminated has failed with what it was at');
is(worked_of($node, 'lost'), 'b', 'and with nothing else');
$holder->quit;

# Short from now on: functions that need longer than that fail.
make_mapping($node, 'late', "IF 'bad' = ANY (texts) THEN PERFORM pg_sleep(3600); END IF;", maximum_retry_attempts => 1, on_failure => $to_table, enabled => 'false');
$node->append_conf('postgresql.conf', "kinesis.function_timeout = '700ms'");
$node->restart;
put_data($node, 'late', 'bad');
update_mapping($node, 'late', enabled => 'true');
wait_until_done($node, 'late');
is_called($node, 'late', [ '1: bad', '2: bad' ], 'a function that runs into its timeout has failed');
is_deeply([ discarded_of($node, 'late') ], ['RetryAttemptsExhausted after 2 calls, 1 records: bad'], 'as any other');
is($node->safe_psql('postgres', "SELECT invocation_record #>> '{error,sqlstate}' FROM discarded ORDER BY id DESC LIMIT 1"), '57014', 'with the error of a cancellation');

done_testing();
