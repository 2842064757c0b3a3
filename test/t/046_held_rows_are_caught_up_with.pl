# While somebody's open transaction holds a row of a mapping, what is to be done about its lanes waits for that, the other mappings do
# not; and it is done when the transaction has ended, even though nothing tells of a rollback.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main');
my $lanes = "SELECT string_agg(shard_id || ' ' || lane, ', ' ORDER BY shard_id, lane) FROM kinesis.event_source_mapping_lanes WHERE function_name = 'public.held' AND status <> 'done'";

make_mapping($node, 'held', '');
make_mapping($node, 'free', '', stream => 'held');
put_data($node, 'held', 'a');
wait_until_done($node, $_) foreach 'held', 'free';
my $uuid = uuid_of($node, 'held');
my $holder = $node->background_psql('postgres');

# What both do with a record put now: the one that is not held is called, twice, so that the scheduler has gone around.
sub others_go_on
{
	my ($record) = @_;
	foreach my $data ("$record 1", "$record 2")
	{
		put_data($node, 'held', $data);
		becomes_in($node, 'postgres', "SELECT string_agg(function, ' ') FROM worked WHERE data = '$data'", 'free', "$data: only the other mapping works");
	}
}

# The mapping's row, when there are new shards.
$holder->query_safe("BEGIN; SELECT kinesis.update_event_source_mapping('$uuid', batch_size => 1)");
$node->safe_psql('postgres', "SELECT kinesis.split_shard('held', '0', 2::numeric ^ 127)");
others_go_on('split');
$holder->query_safe('ROLLBACK');
becomes_in($node, 'postgres', $lanes, 'shardId-000000000001 0, shardId-000000000002 0', 'after the rollback it has lanes for the new shards');
wait_until_done($node, 'held');
is(worked_of($node, 'held'), 'a split 1 split 2', 'and works there');

# The lanes' rows, when another number of them is wanted.
$holder->query_safe("BEGIN; SELECT FROM kinesis.mapping_lane WHERE uuid = '$uuid' FOR UPDATE");
update_mapping($node, 'held', parallelization_factor => 2);
others_go_on('cut');
$holder->query_safe('ROLLBACK');
becomes_in($node, 'postgres', $lanes, join(', ', map { "shardId-00000000000$_" } '1 0', '1 1', '2 0', '2 1'), 'after the rollback it has as many lanes as it wants');
wait_until_done($node, 'held');
is(worked_of($node, 'held'), 'a split 1 split 2 cut 1 cut 2', 'and works there');
$holder->quit;

done_testing();
