# DROP DATABASE is not in our way: nothing of ours stays connected, and a database of the same name begins anew.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main');
my $shard = 'shardId-000000000000';

sub furnish
{
	$node->safe_psql('postgres', 'CREATE DATABASE d');
	$node->safe_psql('d', <<'SQL');
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('s', 2);
SET kinesis.clock_offset = '10min';
SELECT kinesis.put_record('s', 'in d', 'key ' || i) FROM generate_series(1, 100) AS i;
SQL
}

sub poller
{
	my ($db, $stream) = @_;
	my $session = $node->background_psql($db, on_error_stop => 0);
	$session->query_until(qr/waiting/,
		"\\echo waiting\nSELECT kinesis.get_records(kinesis.get_shard_iterator('$stream', '$shard', 'LATEST'), 10, '50 s');\n");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = '$db' AND wait_event_type = 'Extension' AND query LIKE '%50 s%'")
	  or die 'the poller does not wait';
	return $session;
}

# A session elsewhere works with its own stream of the same name all the while.
$node->safe_psql('postgres', "SELECT kinesis.create_stream('s', 1); SELECT kinesis.put_record('s', 'in postgres', 'k')");
my $elsewhere = $node->background_psql('postgres');
$elsewhere->query_safe("SELECT kinesis.put_record('s', 'in postgres', 'k')");

furnish();
my $start = time;
$node->safe_psql('postgres', 'DROP DATABASE d');
cmp_ok(time - $start, '<', 10, 'a database whose sessions have gone is dropped at once');

# A long poller is a session like others: without FORCE it is in the way, with FORCE it goes.
furnish();
my $poller = poller('d', 's');
my ($status, $out, $err) = $node->psql('postgres', 'DROP DATABASE d');
isnt($status, 0, 'a session that polls keeps its database');
like($err, qr/being accessed by other users/, 'with the usual error');
$start = time;
$node->safe_psql('postgres', 'DROP DATABASE d WITH (FORCE)');
cmp_ok(time - $start, '<', 10, 'DROP DATABASE ... WITH (FORCE) is not held up by a poller');
eval { $poller->quit };

# And one that is cancelled or terminated goes as well.
furnish();
$poller = poller('d', 's');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'd'");
eval { $poller->quit };
$node->safe_psql('postgres', 'DROP DATABASE d');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = 'd'"), '0', 'the database is gone after its poller was terminated');

# The name comes again: nothing of the old one shows.
furnish();
is($node->safe_psql('d', "SELECT count(*) FROM kinesis.list_shards('s') AS s, kinesis.read_shard('s', s.shard_id)"), '100', 'the new database has its own records only');
is(faults_of($node, 'd', 's'), '', 'and no fault');
is($node->safe_psql('postgres', "SELECT count(*) FROM kinesis.read_shard('s', '$shard')"), '2', 'the other database has kept its own');
is($elsewhere->query_safe("SELECT convert_from((kinesis.get_records(kinesis.get_shard_iterator('s', '$shard', 'TRIM_HORIZON'), 1)).records[1].data, 'UTF8')"),
	'in postgres', 'a session there goes on');
$elsewhere->quit;

# Template and rename, which also need a database without sessions.
$node->safe_psql('postgres', 'ALTER DATABASE d RENAME TO e');
$node->safe_psql('postgres', 'CREATE DATABASE f TEMPLATE e');
my $least = $node->safe_psql('f', <<'SQL');
SELECT min(last) FROM (SELECT max(sequence_number) AS last FROM kinesis_stream.s GROUP BY shard) AS s
SQL
is(records_of($node, 'f', 's'), records_of($node, 'e', 's'), 'a copy by template has the same records');
is( $node->safe_psql('f', "SELECT count(*) FILTER (WHERE (kinesis.put_record('s', 'in f', 'key ' || i)).sequence_number > $least) FROM generate_series(1, 50) AS i"),
	'50', 'and numbers on above them, though they are of a clock ahead of ours');
is($node->safe_psql('e', "SELECT count(*) FROM kinesis_stream.s"), '100', 'without a trace in the original');
is(faults_of($node, 'f', 's') . faults_of($node, 'e', 's'), '', 'both without fault');

done_testing();
