# Channels hear of the shards that a split or merge has made, also when no mapping works on the stream.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main');
$node->safe_psql('postgres', q{SELECT kinesis.create_stream('s', 1)});
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN s');
$node->safe_psql('postgres', q{SELECT kinesis.create_notification('s')});

# Puts a record, and waits until the listener has heard of it: its shard can be read so far.  Each query delivers what has come.
my $heard = '';
sub hears_of_put
{
	my ($key) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my ($shard, $number) = split /\|/, $node->safe_psql('postgres', "SELECT shard_id, sequence_number FROM kinesis.put_record('s', 'x', '$key')");

	until ($heard =~ /"shard_id": "$shard", "sequence_number": $number\}/ || time > $deadline)
	{
		$heard .= $listener->query('SELECT 1');
	}
	ok(time <= $deadline, "$shard is heard of");
	return;
}

hears_of_put('y');
$node->safe_psql('postgres', q{SELECT kinesis.split_shard('s', '0', 2::numeric ^ 127)});
hears_of_put('y');
hears_of_put('z');
$node->safe_psql('postgres', q{SELECT kinesis.merge_shards('s', '1', '2')});
hears_of_put('z');
$node->safe_psql('postgres', q{SELECT kinesis.update_shard_count('s', 4)});
hears_of_put($_) foreach qw(y z x w);
$listener->quit;
done_testing();
