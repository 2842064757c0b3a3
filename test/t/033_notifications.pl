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
SELECT kinesis.create_stream('other', 1);
SELECT kinesis.create_notification('other', 'bell');
SQL
my $listener = $node->background_psql('postgres', on_error_stop => 0);
$listener->query('LISTEN bell');

# What was heard: stream, number and the sender's process, for each.  Each query delivers what has come.
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
			die "not understood: $payload" unless $payload =~ /^\{"stream_name": "(s|other)", "shard_id": "shardId-000000000000", "sequence_number": (\d+)\}$/;
			push @heard, { stream => $1, number => $2, pid => $pid };
		}
		return 1 if grep { $_->{number} eq $number } @heard;
	}
	return 0;
}

sub put
{
	my ($stream) = @_;
	return $node->safe_psql('postgres', "SELECT sequence_number FROM kinesis.put_record('" . ($stream // 's') . "', 'x', 'key')");
}

# What was said of the stream by the time that a later put to another one is heard of.
sub said_of_s
{
	hear_until(put('other')) or die 'the other stream is not heard of';
	return map { $_->{number} } grep { $_->{stream} eq 's' } @heard;
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

# What is rolled back is not heard of.
my $gone = "BEGIN; SELECT kinesis.put_record('s', 'gone', 'key'); ROLLBACK";
@heard = ();
$node->safe_psql('postgres', $gone);
is(join(' ', said_of_s()), '', 'a put that was rolled back is not heard of');
$node->safe_psql('postgres', "BEGIN; SELECT kinesis.put_record('s', 'x', 'key'); SAVEPOINT a; SELECT kinesis.put_record('s', 'gone', 'key'); ROLLBACK TO a; COMMIT");
is(join(' ', said_of_s()), greatest_number($node, 'postgres', 's'), 'with one that was not, the number is that of the one that can be read');

# What is prepared is heard of only when it is committed.
@heard = ();
$node->safe_psql('postgres', "BEGIN; SELECT kinesis.put_record('s', 'prepared', 'key'); PREPARE TRANSACTION 'p'");
my $behind = put();
is(join(' ', said_of_s()), '', 'what lies behind a prepared transaction is not said to be readable');
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
ok(hear_until($behind), 'but when that is committed');
is($node->safe_psql('postgres', "SELECT count(*) FROM kinesis.read_shard('s', 'shardId-000000000000') WHERE sequence_number <= $behind"), '204', 'and all up to the number can be read');

# Nobody has heard of a new channel yet: what can be read is found, however long ago that was.
my $last = greatest_number($node, 'postgres', 's');
$node->safe_psql('postgres', "SET kinesis.clock_offset = '2 d'; $gone");
@heard = ();
$node->safe_psql('postgres', "SELECT kinesis.create_notification('s', 'other bell')");
ok(hear_until($last), 'of what was put before others were rolled back, too');
is(scalar(grep { $_->{stream} eq 's' && $_->{number} > $last } @heard), 0, 'and of nothing else');
$node->safe_psql('postgres', "SELECT kinesis.delete_notification('s', 'other bell')");

# A restart, and an end.
$node->safe_psql('postgres', $gone);
$node->restart;
$listener = $node->background_psql('postgres', on_error_stop => 0);
$listener->query('LISTEN bell');
@heard = ();
is(scalar(grep { $_ != $last } said_of_s()), 0, 'after a restart nothing is said but what can be read');
$number = put();
ok(hear_until($number), 'and it goes on');
$node->safe_psql('postgres', "SELECT kinesis.delete_notification(s, 'bell') FROM unnest('{s,other}'::text[]) AS s");
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM ($scheduler) p"), 'without notifications the scheduler leaves');
$listener->quit;

done_testing();
