# A prepared transaction's records survive a restart; readers wait behind them, and are woken when they are decided.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main');
my $shard = 'shardId-000000000000';
my $all = "SELECT coalesce(string_agg(convert_from(data, 'UTF8'), ','), '') FROM kinesis.read_shard('s', '$shard')";
$node->safe_psql('postgres', "SELECT kinesis.create_stream('s', 1); SELECT kinesis.put_record('s', 'first', 'k')");

sub waiting_reader
{
	my ($after) = @_;
	my $session = $node->background_psql('postgres');
	$session->query_until(qr/waiting/, <<SQL);
\\echo waiting
SELECT string_agg(convert_from(r.data, 'UTF8'), ',' ORDER BY r.sequence_number) FROM kinesis.get_records(kinesis.get_shard_iterator('s', '$shard', 'AFTER_SEQUENCE_NUMBER', $after), 10, '50 s') AS g, unnest(g.records) AS r;
\\echo done
SQL
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%50 s%' AND pid <> pg_backend_pid()")
	  or die 'the reader does not wait';
	return $session;
}

foreach my $stop ('fast', 'immediate')
{
	my $after = $node->safe_psql('postgres', "SELECT kinesis._last_sequence_number(stream_id, 0) FROM kinesis.stream");
	my $before = $node->safe_psql('postgres', $all);
	$node->safe_psql('postgres', <<SQL);
BEGIN;
SELECT kinesis.put_record('s', 'prepared $stop', 'k');
PREPARE TRANSACTION 'p';
SELECT kinesis.put_record('s', 'behind $stop', 'k');
SQL
	is($node->safe_psql('postgres', $all), $before, 'nothing is read past a prepared transaction');
	$node->stop($stop);
	$node->start;
	is($node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts'), 'p', "the prepared transaction is there after a stop ($stop)");
	is($node->safe_psql('postgres', $all), $before, 'and still nothing is read past it');
	my $number = $node->safe_psql('postgres', "SELECT sequence_number FROM kinesis.put_record('s', 'also behind $stop', 'k')");
	cmp_ok($number, '>', $after, 'puts go on behind it');
	is($node->safe_psql('postgres', $all), $before, 'unread as long as it is undecided');

	my $reader = waiting_reader($after);
	my $start = time;
	$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
	like($reader->query_until(qr/done\n/, ''), qr/^prepared $stop,behind $stop,also behind $stop$/m, 'COMMIT PREPARED wakes the reader, which gets all in order');
	cmp_ok(time - $start, '<', 10, 'at once');
	$reader->quit;
	is(faults_of($node, 'postgres', 's'), '', 'check_stream finds no fault');
}

# Rolled back, its records never were; those behind are free.
my $after = $node->safe_psql('postgres', "SELECT kinesis._last_sequence_number(stream_id, 0) FROM kinesis.stream");
$node->safe_psql('postgres', <<'SQL');
BEGIN;
SELECT kinesis.put_record('s', 'never', 'k');
PREPARE TRANSACTION 'q';
SELECT kinesis.put_record('s', 'freed', 'k');
SQL
my $reader = waiting_reader($after);
$node->safe_psql('postgres', "ROLLBACK PREPARED 'q'");
like($reader->query_until(qr/done\n/, ''), qr/^freed$/m, 'ROLLBACK PREPARED wakes the reader for what was behind');
$reader->quit;
unlike($node->safe_psql('postgres', $all), qr/never/, 'what was rolled back is not read');

# A split waits for the prepared writer of the shard that closes: its records belong to the parent.
$node->safe_psql('postgres', <<'SQL');
BEGIN;
SELECT kinesis.put_record('s', 'before the split', 'k');
PREPARE TRANSACTION 'r';
SQL
my ($status, $out, $err) = $node->psql('postgres', "SET lock_timeout = '500ms'; SET statement_timeout = '5s'; SELECT kinesis.split_shard('s', '$shard', 2::numeric ^ 127)");
isnt($status, 0, 'a split does not close a shard over a prepared transaction');
$node->safe_psql('postgres', "COMMIT PREPARED 'r'; SELECT kinesis.split_shard('s', '$shard', 2::numeric ^ 127)");
like($node->safe_psql('postgres', $all), qr/before the split$/, 'after it is decided the split goes through, and the record is in the parent');
is(faults_of($node, 'postgres', 's'), '', 'check_stream finds no fault');

done_testing();
