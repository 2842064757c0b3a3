# A program that LISTENs is told how far each shard can be read, soon after the commit, by the scheduler and never by the producer.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use KinesisNode;

my $node = kinesis_node('main');
$node->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('s', 1);
SELECT kinesis.set_shard_limits('s', NULL, NULL, NULL, NULL);
SELECT kinesis.create_notification('s', 'bell');
SQL
my $listener = $node->background_psql('postgres', on_error_stop => 0);
$listener->query('LISTEN bell');

# What was heard: number and the sender's process, for each.  Each query delivers what has come.
my @heard;

sub hear_until
{
	my ($number) = @_;
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;

	while (time < $until)
	{
		my $text = $listener->query('SELECT 1');

		while ($text =~ /notification "bell" with payload "(.*?)" received from server process with PID (\d+)/g)
		{
			my ($payload, $pid) = ($1, $2);
			die "not understood: $payload" unless $payload =~ /^\{"stream_name": "(?:s|other)", "shard_id": "shardId-0000000000(\d\d)", "sequence_number": (\d+)\}$/;
			my %said = (shard => $1, number => $2, pid => $pid);
			push @heard, \%said if $payload =~ /"stream_name": "s"/;
		}
		return 1 if grep { $_->{number} eq $number } @heard;
	}
	return 0;
}

sub put
{
	return $node->safe_psql('postgres', "SELECT sequence_number FROM kinesis.put_record('s', 'x', 'key')");
}

my $scheduler = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'kinesis scheduler'";
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($scheduler) p"), 'there is a scheduler');
my $number = put();
ok(hear_until($number), 'a put is heard of');
is($heard[-1]{pid}, $node->safe_psql('postgres', $scheduler), 'from the scheduler');

# Many puts, few notifications: one a shard and pause.
@heard = ();
$node->safe_psql('postgres', "SELECT count(*) FROM (SELECT kinesis.put_record('s', 'x', 'key') FROM generate_series(1, 200)) x");
$number = greatest_number($node, 'postgres', 's');
ok(hear_until($number), '200 puts of one transaction are heard of');
is(scalar(@heard), 1, 'by one notification');

# What is rolled back is not heard of, what is prepared only when it is committed.
@heard = ();
$node->safe_psql('postgres', "BEGIN; SELECT kinesis.put_record('s', 'gone', 'key'); ROLLBACK");
$node->safe_psql('postgres', "BEGIN; SELECT kinesis.put_record('s', 'prepared', 'key'); PREPARE TRANSACTION 'p'");
my $behind = put();
$node->safe_psql('postgres', "SELECT kinesis.create_stream('other', 1), kinesis.create_notification('other', 'bell')");
$listener->query('SELECT 1');
is(scalar(grep { $_->{number} >= $behind } @heard), 0, 'what lies behind a prepared transaction is not said to be readable');
$node->safe_psql('postgres', "COMMIT PREPARED 'p'; SELECT kinesis.delete_stream('other')");
ok(hear_until($behind), 'but when that is committed');
is($node->safe_psql('postgres', "SELECT count(*) FROM kinesis.read_shard('s', 'shardId-000000000000') WHERE sequence_number <= $behind"), '203', 'and all up to the number can be read');

# A restart, and an end.
$node->restart;
$listener = $node->background_psql('postgres', on_error_stop => 0);
$listener->query('LISTEN bell');
$number = put();
ok(hear_until($number), 'after a restart it goes on');
$node->safe_psql('postgres', "SELECT kinesis.delete_notification('s', 'bell')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM ($scheduler) p"), 'without notifications the scheduler leaves');
$listener->quit;

done_testing();
