# A batch that was committed when the server went down has not failed: that is not held against the batch that comes next.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main', allows_streaming => 1);
make_mapping($node, 'work', '', maximum_retry_attempts => 0, on_failure => "'table:discarded'");
put_data($node, 'work', 'a');
wait_until_done($node, 'work');

# The commit is on disk, and its worker waits for a standby to have it, too, while the server goes down.
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'\n");
$node->reload;
$node->safe_psql('postgres', "SET synchronous_commit = local; SELECT kinesis.put_record('work', 'b', 'key')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'kinesis worker' AND wait_event = 'SyncRep'"), 'a turn is being committed');
$node->stop('immediate');
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
$node->start;
put_data($node, 'work', 'c');
wait_until_done($node, 'work');

is(worked_of($node, 'work'), 'a b c', 'each batch is done');
is(lane_of($node, 'work', 'discarded, failures'), '0|0', 'and has not failed');

done_testing();
