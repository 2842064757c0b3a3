# A stream whose table is missing can't be heard of; the notifications of other streams go on.
use strict;
use warnings;
use Time::HiRes qw(usleep);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main');
$node->safe_psql('postgres', q{SELECT kinesis.create_stream(s, 1), kinesis.create_notification(s) FROM unnest('{before,broken,after}'::text[]) AS s});
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN before; LISTEN after; LISTEN new');

# Puts a record, and waits until the listener has heard of it.
my $heard = '';
sub hears_of_put
{
	my ($stream) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $number = $node->safe_psql('postgres', "SELECT sequence_number FROM kinesis.put_record('$stream', 'x', 'key')");

	until ($heard =~ /"stream_name": "$stream", "shard_id": "\S+", "sequence_number": $number\}/ || time > $deadline)
	{
		usleep(10_000);
		$heard .= $listener->query('SELECT 1');
	}
	ok($heard =~ /"sequence_number": $number\}/, "$stream is heard of");
	return;
}

hears_of_put($_) foreach 'before', 'after';
$node->safe_psql('postgres', 'ALTER TABLE kinesis_stream.broken RENAME TO away');
# All are rung anew, because there is another one.
$node->safe_psql('postgres', q{SELECT kinesis.create_stream('new', 1), kinesis.create_notification('new')});
hears_of_put($_) foreach 'before', 'after', 'new';
$listener->quit;

done_testing();
