# A function that crashes the server: it counts as a failure of the batch that it was called with, and after three crashes in a
# row the mapping is disabled, so that the server lives.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main', conf => "restart_after_crash = on\n");
# The shell's parent is the worker.
my $crash_if_bad = q{IF 'bad' = ANY (texts) THEN COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'; END IF;};

sub crashes
{
	return scalar(() = slurp_file($node->logfile) =~ /background worker "kinesis worker" \(PID \d+\) was terminated by signal 9/g);
}

# The server may crash before it can tell us that they are stored, so we look before we put them again.
sub put_once
{
	my ($stream, @data) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $list = join ',', map { "'$_'" } @data;
	my $query = "SELECT kinesis.put_records('$stream', ARRAY[$list]::bytea[], array_fill('key'::text, ARRAY[" . @data . ']), atomic => true)'
	  . " WHERE NOT EXISTS (SELECT FROM kinesis.read_shard('$stream', '0') WHERE data = '$data[0]')";

	until ($node->psql('postgres', $query) == 0)
	{
		die "cannot put to $stream" if time > $deadline;
		$node->poll_query_until('postgres', 'SELECT true');
	}
}

# Until the log tells of a call, which is soon: nothing else is to be seen of one that crashes.
sub wait_for_call
{
	my ($name, $call) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	until (grep { $_ eq $call } calls_of($node, $name))
	{
		die "no call $call of $name" if time > $deadline;
		select undef, undef, undef, 0.02;
	}
}

make_mapping($node, 'limited', $crash_if_bad, maximum_retry_attempts => 1, on_failure => "'table:discarded'");
make_mapping($node, 'innocent', '');
put_data($node, 'innocent', 'a');
wait_until_done($node, 'innocent');
put_once('limited', 'bad', 'a');
wait_for_call('limited', '1: bad a');
put_once('limited', 'b', 'c');
wait_until_done($node, 'limited');
is(crashes(), 2, 'one retry is two crashes');
is_called($node, 'limited', [ '1: bad a', '2: bad a', '1: b c' ], 'calls that crashed are counted');
is_deeply([ discarded_of($node, 'limited') ], ['RetryAttemptsExhausted after 2 calls, 2 records: bad a'], 'and their batch alone is given up');

make_mapping($node, 'endless', $crash_if_bad);
put_once('endless', 'bad');
ok($node->poll_query_until('postgres', "SELECT state = 'Disabled' FROM kinesis.event_source_mappings WHERE function_name = 'public.endless'"), 'three crashes in a row disable the mapping');
is(crashes(), 5, 'not more');
like($node->safe_psql('postgres', "SELECT state_transition_reason FROM kinesis.event_source_mappings WHERE function_name = 'public.endless'"), qr/crashed 3 times in a row/, 'the reason is told');
is(lane_of($node, 'endless', 'attempts, error_sqlstate'), '3|57P02', 'so are attempts and error');
make_function($node, 'endless', '');
update_mapping($node, 'endless', enabled => 'true');
put_data($node, 'endless', 'a');
wait_until_done($node, 'endless');
is(worked_of($node, 'endless'), 'bad a', 'it goes on when it is enabled again');

# Several functions were running when the server crashed: a call is not held against one whose fault it is not.
my $lock = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', 'SELECT pg_advisory_lock(1), pg_sleep(1000)' ], '>', '/dev/null', '2>', '/dev/null');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"), 'the lock is held until the crash');
make_mapping($node, 'bystander', 'PERFORM pg_advisory_xact_lock(1);', maximum_retry_attempts => 0, on_failure => "'table:discarded'");
put_data($node, 'bystander', 'a');
wait_for_call('bystander', '1: a');
make_mapping($node, 'culprit', $crash_if_bad, maximum_retry_attempts => 0, on_failure => "'table:discarded'");
put_once('culprit', 'bad');
wait_for_call('culprit', '1: bad');
$lock->finish;
wait_until_done($node, $_) foreach 'bystander', 'culprit';
is_deeply([ discarded_of($node, 'bystander') ], [], 'the batch of a function that only ran at the same time is not given up');
is(worked_of($node, 'bystander'), 'a', 'it is worked on');
is(scalar(() = discarded_of($node, 'culprit')), 1, 'that of the one that crashes is');
is(crashes(), 7, 'after the second crash');

put_data($node, 'innocent', 'b');
wait_until_done($node, 'innocent');
is(worked_of($node, 'innocent'), 'a b', 'another mapping is not harmed');
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT state, ' ') FROM kinesis.event_source_mappings"), 'Enabled', 'nor disabled');

done_testing();
