# What functions do with records is done exactly once and in order, whichever of the processes behind it, or of the server, is
# killed meanwhile.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main', conf => "restart_after_crash = on\n");
my @functions = ('take_records', 'take_event');
my @writers;
my $generation = 0;

$node->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('s', 4);
SELECT kinesis.set_shard_limits('s', NULL, NULL, NULL, NULL);
CREATE FUNCTION take_records(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE sql AS $$
    INSERT INTO worked (function, shard, number, data) SELECT 'take_records', c.shard_id, x.number, convert_from(x.data, 'UTF8')
        FROM unnest(r) WITH ORDINALITY AS x(number, arrival, key, data, type, n) ORDER BY n;
$$;
CREATE FUNCTION take_event(event jsonb) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO worked (function, shard, number, data) SELECT 'take_event', split_part(x.r->>'eventID', ':', 1), (x.r #>> '{kinesis,sequenceNumber}')::bigint,
            convert_from(decode(x.r #>> '{kinesis,data}', 'base64'), 'UTF8')
        FROM jsonb_array_elements(event->'Records') WITH ORDINALITY AS x(r, n) ORDER BY n;
    SELECT NULL::jsonb;
$$;
SELECT kinesis.create_event_source_mapping('s', f, batch_size => 50) FROM unnest('{take_records, take_event}'::text[]) AS f;
SQL

sub write_on
{
	$generation++;
	my @new = start_writers($node, 'postgres', 's', "a$generation", "b$generation");
	push @writers, @new;
	wait_for_acknowledged(100, @new);
}

# Both functions go on, with records that come from now on.
sub both_work_on
{
	my ($what) = @_;
	my $last = greatest_number($node, 'postgres', 's');

	ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM (SELECT function FROM worked WHERE number > $last GROUP BY function HAVING count(*) > 200) AS x"), $what);
}

sub pid_of
{
	my ($type) = @_;
	my $query = "SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'";

	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($query) AS x");
	return $node->safe_psql('postgres', $query);
}

# The process of a lane that is being worked on; under load there soon is one.
sub running_worker
{
	my $running = "SELECT pid FROM kinesis.event_source_mapping_lanes WHERE status = 'running' LIMIT 1";
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $pid = '';

	while ($pid eq '')
	{
		die 'no function runs' if time > $deadline;
		$pid = $node->safe_psql('postgres', $running);
	}
	return $pid;
}

write_on();
both_work_on('functions work');

# A worker is killed, and all of the server is started again with it.
kill 'KILL', running_worker();
stop_writers(@writers);
ok($node->poll_query_until('postgres', 'SELECT pg_postmaster_start_time() IS NOT NULL'), 'the server is there again');
like(slurp_file($node->logfile), qr/background worker "kinesis worker" \(PID \d+\) was terminated by signal 9/, 'after the crash of a worker');
write_on();
both_work_on('and functions work');

# Processes that end for themselves.
foreach my $type ('kinesis scheduler', 'kinesis launcher', 'kinesis scheduler')
{
	my $pid = pid_of($type);

	is($node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 60000)"), 't', "a $type ends");
	both_work_on('and functions work');
	cmp_ok(pid_of($type), '!=', $pid, 'there is another one');
}
foreach (1 .. 3)
{
	is($node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . running_worker() . ')'), 't', 'a worker ends');
}
both_work_on('and functions work');

# The whole server.
kill_all_with_9($node);
stop_writers(@writers);
$node->start;
write_on();
both_work_on('functions work after kill -9 of all');
$node->stop('fast');
stop_writers(@writers);
$node->start;

wait_until_done($node, $_) foreach @functions;
my $acknowledged = acknowledged_of(@writers);
is_each_read_once($node, 'postgres', 's', $acknowledged, 'stream');
is_worked_once($node, 's', $_, $_) foreach @functions;
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT state, ' ') FROM kinesis.event_source_mappings"), 'Enabled', 'and both are enabled');
is($node->safe_psql('postgres', "SELECT count(*) FROM kinesis.event_source_mapping_lanes WHERE status <> 'waiting'"), '0', 'and rest');
note $node->safe_psql('postgres', "SELECT function_name, sum(records), sum(invocations), sum(failures) FROM kinesis.event_source_mapping_lanes GROUP BY 1");
is(faults_of($node, 'postgres', 's'), '', 'check_stream finds no fault');

done_testing();
