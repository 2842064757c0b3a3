# A stream that can't be watched, since its table is missing, or since it has more shards than the server has room for, stops nobody but
# its own mappings; and they go on, those of a missing table when it is there again.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main', conf => "kinesis.max_shards = 16\n");
my $scheduler = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'kinesis scheduler'";

make_mapping($node, $_, '') foreach 'before', 'broken', 'after';
put_data($node, $_, 1) foreach 'before', 'broken', 'after';
wait_until_done($node, $_) foreach 'before', 'broken', 'after';
put_data($node, 'broken', 2);
wait_until_done($node, 'broken');
my $pid = $node->safe_psql('postgres', $scheduler);

$node->safe_psql('postgres', 'ALTER TABLE kinesis_stream.broken RENAME TO away');
# The shards are watched anew, because there is another one to watch.
make_mapping($node, 'new', '');
put_data($node, $_, 2) foreach 'before', 'after', 'new';
wait_until_done($node, $_) foreach 'before', 'after', 'new';
is(worked_of($node, 'new'), '2', 'a new mapping works');
put_data($node, $_, 3) foreach 'before', 'after', 'new';
wait_until_done($node, $_) foreach 'before', 'after', 'new';
is(worked_of($node, $_), '1 2 3', "$_ goes on") foreach 'before', 'after';
becomes_in($node, 'postgres', "SELECT last_result, error_message FROM kinesis.event_source_mapping_lanes WHERE function_name = 'public.broken'",
	'PROBLEM: The function could not be called|table kinesis_stream.broken of stream broken is missing', 'the reason is told');

$node->safe_psql('postgres', 'ALTER TABLE kinesis_stream.away RENAME TO broken');
put_data($node, 'broken', 3);
wait_until_done($node, 'broken');
is(worked_of($node, 'broken'), '1 2 3', 'when the table is there again, so does that mapping');
$node->safe_psql('postgres', "SELECT kinesis.create_stream('large', 30)");
$node->safe_psql('postgres', join '', map { "SELECT kinesis.put_record('large', 'x', 'key $_');\n" } 1 .. 100);
make_mapping($node, 'large', '', stream => 'large');
wait_until_done($node, 'large');
is($node->safe_psql('postgres', "SELECT count(*) FROM worked WHERE function = 'large'"), '100', 'a mapping of too many shards works');
put_data($node, $_, 4) foreach 'before', 'after';
wait_until_done($node, $_) foreach 'before', 'after';
is(worked_of($node, $_), '1 2 3 4', "$_ goes on") foreach 'before', 'after';
is(($node->psql('postgres', "SELECT kinesis.create_stream('plain', 1); SELECT kinesis.put_record('plain', 'x', 'key')"))[2], '', 'there is a place for a stream that nobody watches');
is($node->safe_psql('postgres', $scheduler), $pid, 'the scheduler is the one that it was');

done_testing();
