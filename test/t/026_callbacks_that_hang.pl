# A function that does not even end when it is cancelled loses its worker: it has failed, and holds up nobody but its own shard.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main', conf => "kinesis.max_workers = 2\nkinesis.function_timeout = '500ms'\n");
my $hang_if_bad = <<'SQL';
    WHILE 'bad' = ANY (texts) LOOP
        BEGIN
            PERFORM pg_sleep(3600);
        EXCEPTION WHEN query_canceled THEN
            INSERT INTO worked (function, data) VALUES ('', 'cancelled');
        END;
    END LOOP;
SQL

sub runs
{
	my ($name) = @_;
	ok($node->poll_query_until('postgres', "SELECT status = 'running' FROM kinesis.event_source_mapping_lanes WHERE function_name = 'public.$name'"), "$name runs");
}

make_mapping($node, 'orphaned', $hang_if_bad);
make_mapping($node, 'hanging', $hang_if_bad, maximum_retry_attempts => 0, on_failure => "'table:discarded'");
make_mapping($node, 'other', '');

# The first one's scheduler ends before the function does: the next one must see to it.
put_data($node, 'orphaned', 'bad');
runs('orphaned');
my $worker = lane_of($node, 'orphaned', 'pid');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'kinesis scheduler'");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'kinesis scheduler'"), 'there is another scheduler');
make_function($node, 'orphaned', '');
put_data($node, 'hanging', 'bad', 'a');
runs('hanging');
put_data($node, 'hanging', 'b');
wait_until_done($node, 'hanging');
is_deeply([ discarded_of($node, 'hanging') ], ['RetryAttemptsExhausted after 1 calls, 2 records: bad a'], 'a function that hangs has failed with its batch');
is(worked_of($node, 'hanging'), 'b', 'and goes on with what comes next');
wait_until_done($node, 'orphaned');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $worker"), '0', 'so does one that was left by its scheduler');
is(worked_of($node, 'orphaned'), 'bad', 'it is done once');
is($node->safe_psql('postgres', "SELECT count(*) FROM worked WHERE data = 'cancelled'"), '0', 'what hanging functions did is undone');
put_data($node, 'other', 'a');
wait_until_done($node, 'other');
is(worked_of($node, 'other'), 'a', 'the workers are there again');

done_testing();
