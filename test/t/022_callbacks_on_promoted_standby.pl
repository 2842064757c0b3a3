# A standby calls no functions; once it is promoted it goes on where the primary was: what was not done is done, and nothing twice.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $primary = mapping_node('primary', allows_streaming => 1);
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

my $processes = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'kinesis %'";
my $first_records = join ' ', 1 .. 100;

make_mapping($primary, 'all_good', '', batch_size => 10);
# This one stops in the middle of a batch on the primary, where somebody holds the lock.
make_mapping($primary, 'held', "IF 'wait' = ANY (texts) THEN PERFORM pg_advisory_xact_lock(1); END IF;", batch_size => 10);
# And this one is at its retries until the table tells it to go on.
make_mapping($primary, 'failing', "IF 'bad' = ANY (texts) AND NOT EXISTS (SELECT FROM worked WHERE data = 'go') THEN RAISE 'bad'; END IF;", batch_size => 10);
put_data($primary, $_, 1 .. 100) foreach 'all_good', 'held', 'failing';
wait_until_done($primary, $_) foreach 'all_good', 'held', 'failing';
my $holder = $primary->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
put_data($primary, 'held', 101 .. 103, 'wait', 104 .. 120);
put_data($primary, 'failing', 'bad', 101 .. 120);
is_held($primary, 'a function runs on the primary');
ok($primary->poll_query_until('postgres', "SELECT attempts >= 3 FROM kinesis.event_source_mapping_lanes WHERE function_name = 'public.failing'"), 'another one fails');
my @writers = start_writers($primary, 'postgres', 'all_good', 'a', 'b');
wait_for_acknowledged(500, @writers);
ok($primary->poll_query_until('postgres', "SELECT count(*) > 300 FROM worked WHERE function = 'all_good'"), 'a third one works');
$primary->wait_for_catchup($standby);
is($primary->safe_psql('postgres', "$processes AND backend_type = 'kinesis launcher'"), '1', 'the primary has a launcher');
is($standby->safe_psql('postgres', $processes), '0', 'the standby has none, nor any of its kind');
is($standby->safe_psql('postgres', "SELECT string_agg(DISTINCT status, ' ' ORDER BY status) FROM kinesis.event_source_mapping_lanes WHERE function_name IN ('public.held', 'public.failing')"),
	'retrying waiting', 'but it tells how far the primary is');
$primary->stop('immediate');
stop_writers(@writers);
eval { $holder->quit };
ok($standby->poll_query_until('postgres', 'SELECT pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn()'), 'the standby has replayed what it has received');
is(worked_of($standby, 'held'), $first_records, 'what ran on the primary is not done');
is_called($standby, 'held', [], 'and was not called here');

my $attempts = lane_of($standby, 'failing', 'attempts');
my $undone = $standby->safe_psql('postgres', "SELECT (SELECT count(*) FROM kinesis.read_shard('all_good', '0')) - (SELECT count(*) FROM worked WHERE function = 'all_good')");
note "$undone records of the third one are not done";
$standby->promote;
ok($standby->poll_query_until('postgres', "$processes AND backend_type = 'kinesis launcher'", 1), 'the promoted server has a launcher');
wait_until_done($standby, $_) foreach 'all_good', 'held';
is(worked_of($standby, 'held'), "$first_records 101 102 103 wait " . join(' ', 104 .. 120), 'and works on what was not done');
ok($standby->poll_query_until('postgres', "SELECT attempts > $attempts FROM kinesis.event_source_mapping_lanes WHERE function_name = 'public.failing'"), 'what failed fails on');
is((calls_of($standby, 'failing'))[0], ($attempts + 1) . ': bad ' . join(' ', 101 .. 109), 'with the same batch and the next attempt');
$standby->safe_psql('postgres', "INSERT INTO worked (function, data) VALUES ('', 'go')");
put_data($standby, $_, 'new') foreach 'all_good', 'held', 'failing';
wait_until_done($standby, $_) foreach 'all_good', 'held', 'failing';
is(worked_of($standby, 'failing'), "$first_records bad " . join(' ', 101 .. 120) . ' new', 'until it can go on');
is_worked_once($standby, 'all_good', 'all_good', 'the third one');
is(faults_of($standby, 'postgres', 'all_good'), '', 'check_stream finds no fault');

done_testing();
