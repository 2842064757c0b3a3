# Members of a group that are terminated, stopped for longer than their deadline, or crash with the server: the others take over
# at once, and every record is worked on exactly once.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use KinesisNode;

my $node = kinesis_node('main');
$node->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('s', 8);
SELECT kinesis.set_shard_limits('s', NULL, NULL, NULL, NULL);
SELECT kinesis.create_group('g', '{s}', lease_duration => '2 s');
CREATE TABLE worked (member text, shard text, number bigint);
CREATE TABLE stop (now boolean);
CREATE FUNCTION work_once(who text, wait interval) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    p record;
BEGIN
    FOR p IN SELECT * FROM kinesis.poll_group('g', who, 200, wait) LOOP
        INSERT INTO worked SELECT who, p.shard_id, r.sequence_number FROM unnest(p.records) AS r;
        PERFORM kinesis.checkpoint('g', p.stream_name, p.shard_id, p.lease_token, (p.records[cardinality(p.records)]).sequence_number, shard_end => p.at_end);
    END LOOP;
END $$;
CREATE PROCEDURE work(who text, liveness text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM kinesis.join_group('g', who, liveness);
    COMMIT;
    WHILE NOT EXISTS (SELECT FROM stop) LOOP
        BEGIN
            PERFORM work_once(who, '500 ms');
        EXCEPTION WHEN SQLSTATE 'KN002' THEN
            NULL;       -- a share has gone to another member: it does the work that was undone here
        END;
        COMMIT;
    END LOOP;
END $$;
CREATE PROCEDURE put() LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..1000000 LOOP
        EXIT WHEN EXISTS (SELECT FROM stop);
        PERFORM kinesis.put_records('s', array_fill('x'::bytea, ARRAY[4]), ARRAY(SELECT 'key ' || i * 4 + j FROM generate_series(1, 4) AS j));
        COMMIT;
    END LOOP;
END $$;
SQL

sub start_member { return start_psql($node, 'postgres', $_[0], "CALL work('$_[0]', 'session')") }

sub pid_of { return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE application_name = '$_[0]'") }

sub shares_become
{
	my ($shares, $what) = @_;
	my $began = time;

	ok($node->poll_query_until('postgres', "SELECT coalesce(string_agg(leases::text, ' ' ORDER BY leases DESC), '') FROM kinesis.group_members", $shares), $what);
	note sprintf('%s: %.0f ms', $what, (time - $began) * 1000);
}

sub grows
{
	my ($member, $what) = @_;
	my $before = $node->safe_psql('postgres', "SELECT count(*) FROM worked WHERE member = '$member'");

	ok($node->poll_query_until('postgres', "SELECT count(*) > $before FROM worked WHERE member = '$member'"), $what);
}

my $producer = start_psql($node, 'postgres', 'producer', 'CALL put()');
my @members = map { start_member("m$_") } 1 .. 3;
my $stopped = $node->background_psql('postgres', on_error_stop => 0);
$stopped->query_safe("SELECT kinesis.join_group('g', 'm4', 'deadline')");
shares_become('2 2 2 2', 'four members share eight shards');
grows("m$_", "m$_ works") foreach 1 .. 3;

$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . pid_of('m1') . ')');
grows('m2', 'a session that ends does not keep the others from working');

# A client that is stopped with records in hand: its deadline passes, the others take over, and what it does afterwards is refused.
$stopped->query_safe("SELECT kinesis.heartbeat('g', 'm4')");
shares_become('3 3 2', 'and leaves its shards to them');
while (1)
{
	$stopped->query_safe("BEGIN; CREATE TEMP TABLE hand ON COMMIT DROP AS SELECT * FROM kinesis.poll_group('g', 'm4', 200, '1 s')");
	last if $stopped->query_safe('SELECT count(*) FROM hand') > 0;
	$stopped->query_safe('COMMIT');
}
my $client = $stopped->{run}->{KIDS}[0]{PID};
kill 'STOP', $client;
ok($node->poll_query_until('postgres', "SELECT sum(leases) = 8 FROM kinesis.group_members WHERE member_name <> 'm4'"), 'a member that is stopped loses its shards when its deadline has passed');
grows('m2', 'the others work on');
kill 'CONT', $client;
$stopped->query("INSERT INTO worked SELECT 'm4', h.shard_id, r.sequence_number FROM hand AS h, unnest(h.records) AS r");
$stopped->query("SELECT kinesis.checkpoint('g', stream_name, shard_id, lease_token, (records[cardinality(records)]).sequence_number) FROM hand");
like($stopped->{stderr}, qr/Member m4 of group g not found|no longer held/, 'the stopped one is told when it goes on');
$stopped->{stderr} = '';
$stopped->query('COMMIT');
is($node->safe_psql('postgres', "SELECT count(*) FROM worked WHERE member = 'm4'"), '0', 'and its work is undone');
eval { $stopped->quit };

$node->safe_psql('postgres', "SELECT kinesis.split_shard('s', 'shardId-000000000000', 1000); SELECT kinesis.merge_shards('s', 'shardId-000000000001', 'shardId-000000000002')");
grows('m3', 'and through a reshard');

# The whole server.
kill_all_with_9($node);
$_->{run}->finish foreach $producer, @members;
$node->start;
$producer = start_psql($node, 'postgres', 'producer', 'CALL put()');
@members = map { start_member("m$_") } 5 .. 7;
shares_become('3 3 2', 'new members share what the old ones had');
grows("m$_", "m$_ works") foreach 5 .. 7;

$node->safe_psql('postgres', 'INSERT INTO stop VALUES (true)');
$_->{run}->finish foreach $producer, @members;
is($_->{errors}, '', "$_->{name} saw no error") foreach @members;
$node->safe_psql('postgres', "SELECT kinesis.join_group('g', 'last', 'deadline'); SELECT work_once('last', '0') FROM generate_series(1, 500)");
is($node->safe_psql('postgres', <<'SQL'), 't|t|t', 'every record was worked on exactly once');
SELECT count(*) > 1000, (SELECT count(*) FROM kinesis_stream.s) = count(*), count(*) = count(DISTINCT (shard, number)) FROM worked
SQL
is($node->safe_psql('postgres', "SELECT sum(records_behind) FROM kinesis.group_lag('g')"), '0', 'nothing is left');
is(faults_of($node, 'postgres', 's'), '', 'check_stream finds no fault');

done_testing();
