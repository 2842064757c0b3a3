# A function that sleeps for ever, ignores its cancellation, crashes the server, eats memory, or may not be called any more, stops its
# own mapping alone: another one on the same stream goes on all the while.  Why is told, and what can go on again does, with nothing lost.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use KinesisNode;
use KinesisMapping;

my $node = kinesis_node('main', conf => <<'CONF');
kinesis.max_workers = 4
kinesis.max_retry_backoff = '200ms'
kinesis.function_timeout = '1s'
kinesis.function_memory = '300MB'
restart_after_crash = on
CONF

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE good;
CREATE ROLE bad IN ROLE pg_execute_server_program;
CREATE ROLE gone;
SELECT kinesis.create_stream('s', 1), kinesis.set_shard_limits('s', NULL, NULL, NULL, NULL);
SELECT kinesis.grant_stream('s', r, 'consumer') FROM unnest('{good, bad, gone}'::text[]) AS r;
CREATE SCHEMA app;
GRANT USAGE, CREATE ON SCHEMA app TO good, bad, gone;
CREATE TABLE app.seen (function text, shard text, number bigint, at timestamptz DEFAULT clock_timestamp());
GRANT INSERT, SELECT ON app.seen TO good, bad, gone;
CREATE TABLE app.failed (invocation_record jsonb);
GRANT INSERT ON app.failed TO bad;

-- What a bad function does is undone with it, what a good one has done is seen.
CREATE FUNCTION app.see(name text, r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE sql AS $$ INSERT INTO app.seen SELECT name, c.shard_id, x.sequence_number FROM unnest(r) AS x $$;
SET ROLE good;
CREATE FUNCTION app.good(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM app.see('good', r, c); END $$;
CREATE FUNCTION app.slow(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.8), app.see('slow', r, c); END $$;
RESET ROLE;
SET ROLE bad;
CREATE FUNCTION app.sleeps(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM app.see('sleeps', r, c), pg_sleep(1000); END $$;
CREATE FUNCTION app.ignores(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM app.see('ignores', r, c);
    LOOP
        BEGIN
            PERFORM pg_sleep(1000);
        EXCEPTION WHEN query_canceled THEN
            NULL;
        END;
    END LOOP;
END $$;
CREATE FUNCTION app.sleeps_at_commit(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM app.see('sleeps_at_commit', r, c);
    EXECUTE 'DECLARE at_commit CURSOR WITH HOLD FOR SELECT pg_sleep(1000)';
END $$;
CREATE FUNCTION app.eats(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    food text[];
BEGIN
    PERFORM app.see('eats', r, c);
    FOR i IN 1..100 LOOP
        food := food || repeat('x', 50000000);
    END LOOP;
END $$;
CREATE FUNCTION app.crashes(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMP TABLE answer (a text);
    COPY answer FROM PROGRAM 'kill -9 $PPID';
END $$;
CREATE FUNCTION app.fails(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'always' USING detail = 'so it is'; END $$;
CREATE FUNCTION app.reads_only(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM app.see('reads_only', r, c); SET default_transaction_read_only = on; END $$;
CREATE FUNCTION app.plain(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM app.see('plain', r, c); END $$;
CREATE FUNCTION app.sleeping_destination(r jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1000); END $$;
RESET ROLE;
SET ROLE gone;
CREATE FUNCTION app.orphaned(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM app.see('orphaned', r, c); END $$;
RESET ROLE;
ALTER FUNCTION app.orphaned OWNER TO good;
SQL

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub put { return sql("SELECT sequence_number FROM kinesis.put_record('s', 'x', 'k')") }

sub mapping
{
	my ($role, $function, @settings) = @_;
	return create_mapping($node, $role, 's', "app.$function", @settings);
}

sub delete_mapping { return sql("SELECT state FROM kinesis.delete_event_source_mapping('$_[0]')") }

sub becomes { return becomes_in($node, 'postgres', @_) }

# What is told of a mapping's failure: the result as those see it who describe it, and the lane's error.
sub fails_with
{
	my ($mapping, $sqlstate, $message, $result, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	becomes("SELECT l.error_sqlstate, l.error_message LIKE '$message', m.last_processing_result, l.status <> 'waiting', l.attempts > 0 OR l.retry_at IS NOT NULL"
		  . " FROM kinesis.event_source_mapping_lanes AS l JOIN kinesis.event_source_mappings AS m USING (uuid) WHERE uuid = '$mapping'",
		"$sqlstate|t|$result|t|t", "$what: the reason is told");
}

my $failed = 'PROBLEM: Function call failed';
my $not_called = 'PROBLEM: The function could not be called';

# The good one goes on: records that are put now are seen within a time that is far below that of a function's end.
sub good_goes_on
{
	my ($what, $most) = @_;
	my $worst = 0;

	foreach my $i (1 .. 3)
	{
		my $began = time;
		my $number = put();
		$node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM app.seen WHERE function = 'good' AND number = $number)") or last;
		$worst = time - $began if time - $began > $worst;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($worst > 0 && $worst < ($most // 1), sprintf("$what: the good function goes on, %.2f s", $worst));
}

# All records that a function was to see have been seen, once.
sub has_all
{
	my ($function, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	becomes("SELECT count(*) = (SELECT count(*) FROM kinesis_stream.s), count(*) = count(DISTINCT number) FROM app.seen WHERE function = '$function'", 't|t', "$what: all records came, once");
}

mapping('good', 'good');
good_goes_on('before');

# ---- Functions that do not end ----

my @sleeping = map { mapping('bad', 'sleeps') } 1 .. 3;
fails_with($_, '57014', 'canceling statement due to statement timeout', $failed, 'sleeps') foreach @sleeping;
good_goes_on('with three that sleep');
push @sleeping, map { mapping('bad', 'sleeps') } 1 .. 3;
fails_with($sleeping[5], '57014', 'canceling statement due to statement timeout', $failed, 'sleeps');
good_goes_on('with more that sleep than there are workers', 10);
delete_mapping($_) foreach @sleeping;
becomes('SELECT count(*) FROM kinesis._running_lanes()', '0', 'they end when their mappings are deleted');

my $mapping = mapping('bad', 'ignores');
becomes("SELECT status FROM kinesis.event_source_mapping_lanes WHERE uuid = '$mapping'", 'running', 'one that ignores its cancellation runs');
my $began = time;
my $pid = sql("SELECT pid FROM kinesis.event_source_mapping_lanes WHERE uuid = '$mapping'");
good_goes_on('with it');
fails_with($mapping, '57P01', 'the worker was terminated while the function ran', $failed, 'ignores');
cmp_ok(time - $began, '<', 9, 'its worker was terminated in time');
is(sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), '0', 'and is gone');
delete_mapping($mapping);

$mapping = mapping('bad', 'sleeps_at_commit');
fails_with($mapping, '57014', 'canceling statement due to statement timeout', $failed, 'sleeps at commit');
good_goes_on('with it');
delete_mapping($mapping);

$mapping = mapping('bad', 'fails', 'maximum_retry_attempts => 1', "on_failure => 'function:app.sleeping_destination'");
fails_with($mapping, '57014', 'canceling statement due to statement timeout', 'PROBLEM: The destination failed', 'a destination that sleeps');
good_goes_on('with it');
delete_mapping($mapping);

# ---- Memory ----

$mapping = mapping('bad', 'eats');
fails_with($mapping, '53200', 'out of memory', $failed, 'eats memory');
good_goes_on('with it');
delete_mapping($mapping);

# ---- What fails in other ways ----

$mapping = mapping('bad', 'fails');
fails_with($mapping, 'P0001', 'always', $failed, 'raises an error');
is(sql("SELECT error_detail, error_context ~ 'app.fails' FROM kinesis.event_source_mapping_lanes WHERE uuid = '$mapping'"), 'so it is|t', 'with its detail and context');
good_goes_on('with it');
delete_mapping($mapping);

$mapping = mapping('bad', 'reads_only', 'batch_size => 2');
has_all('reads_only', 'makes its session read-only');
is(sql("SELECT failures FROM kinesis.event_source_mapping_lanes WHERE uuid = '$mapping'"), '0', 'without a failure');
delete_mapping($mapping);

$mapping = mapping('gone', 'orphaned');
has_all('orphaned', 'owned by somebody');
sql('DROP OWNED BY gone; DROP ROLE gone');
put();
fails_with($mapping, '42704', 'the owner of the event source mapping, role % does not exist', $not_called, 'owned by nobody');
good_goes_on('with it');
is(delete_mapping($mapping), 'Deleting', 'it can be deleted');

$mapping = mapping('bad', 'plain');
has_all('plain', 'plain');
my $definition = sql("SELECT pg_get_functiondef('app.plain'::regproc)");
sql('DROP FUNCTION app.plain');
put();
fails_with($mapping, '42883', 'function app.plain(kinesis.record[], kinesis.batch_context) does not exist', $not_called, 'dropped');
good_goes_on('with it');
sql("$definition; ALTER FUNCTION app.plain OWNER TO bad");
has_all('plain', 'when it is there again');

sql('REVOKE EXECUTE ON FUNCTION app.plain FROM bad, public');
put();
fails_with($mapping, '42501', 'role bad may not execute function app.plain', $not_called, 'revoked');
good_goes_on('with it');
sql('GRANT EXECUTE ON FUNCTION app.plain TO bad');
has_all('plain', 'when it is granted again');

sql("SELECT kinesis.revoke_stream('s', 'bad', 'consumer')");
put();
fails_with($mapping, 'KN009', 'User: bad is not authorized to perform: kinesis:GetRecords on resource: %', $not_called, 'the stream is revoked');
good_goes_on('with it');
sql("SELECT kinesis.grant_stream('s', 'bad', 'consumer')");
has_all('plain', 'when that is granted again');

# ---- Crashes ----

# Somebody else's function runs whenever that happens: it is slow, and some records a second are enough to keep it at work.
my $slow = mapping('good', 'slow', 'batch_size => 10', "starting_position => 'LATEST'");
my $producer = IPC::Run::start([ 'sh', '-c', 'while :; do psql -Xq -d "$0" -c "SELECT kinesis.put_record(\'s\', \'x\', \'k\')" ; sleep 0.05; done', $node->connstr('postgres') ], '>', '/dev/null', '2>', '/dev/null');
becomes("SELECT status, records > 10 FROM kinesis.event_source_mapping_lanes WHERE uuid = '$slow'", 'running|t', 'a function that is slow');
my $crashing = mapping('bad', 'crashes');
becomes("SELECT state, state_transition_reason FROM kinesis.event_source_mappings WHERE uuid = '$crashing'", 'Disabled|The server crashed 3 times in a row while the function ran', 'three crashes in a row disable the mapping, with the reason');
$producer->kill_kill;
good_goes_on('after the crashes');
has_all('plain', 'after the crashes');
is(sql("SELECT string_agg(state, ',') FROM kinesis.event_source_mappings WHERE uuid <> '$crashing'"), 'Enabled,Enabled,Enabled', 'no other mapping is disabled');
becomes("SELECT max(crashes) FROM kinesis.mapping_lane WHERE uuid <> '$crashing'", '0', 'who was only running at the time is soon above suspicion');
is(() = slurp_file($node->logfile) =~ /kinesis worker" \(PID \d+\) was terminated by signal 9/g, 3, 'there were just three');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal 11|signal 6/, 'no other crash in the log');
done_testing();
