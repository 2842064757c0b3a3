# A stream with more tables than one transaction has locks for is deleted all the same: it is gone with the commit, its name
# is free, nobody can read what is left, and purge drops that bit by bit.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

# Room for 64 * 24 locks and a little.
my $node = kinesis_node('main', conf => <<'CONF');
max_locks_per_transaction = 64
max_connections = 15
max_prepared_transactions = 5
max_worker_processes = 2
max_wal_senders = 0
wal_level = minimal
autovacuum_max_workers = 1
CONF
my $folder = PostgreSQL::Test::Utils::tempdir;
my $shard = 'shardId-000000000000';
my $locks = 'SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()';
my $tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'kinesis_stream'::regnamespace AND relkind IN ('r', 'p')";

# 60 shards, and by and by seven slices each, as if some hours went by: 60 * (4 + 7 * 6) locks.
sub furnish
{
	my ($stream) = @_;
	$node->safe_psql('postgres', "SELECT kinesis.create_stream('$stream', 60); SELECT kinesis.put_record('$stream', 'record of $stream', 'k')");
	$node->safe_psql('postgres', "SET kinesis.clock_offset = '$_ h'; SELECT kinesis.purge()") foreach 0 .. 4;
}
# Until the locks for all tables that are left fit into one transaction.
sub purge_down_to
{
	my ($db, $most) = @_;
	foreach (1 .. 50)
	{
		return if $node->safe_psql($db, $tables) < $most;
		$node->safe_psql($db, 'SELECT kinesis.purge()');
	}
	die "purge does not come to an end in $db";
}

furnish('big');
$node->safe_psql('postgres', "SELECT kinesis.create_stream('small', 2)");
my $furnished = $node->safe_psql('postgres', $tables);

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE clerk;
CREATE ROLE reporting;
CREATE ROLE colleague;
SELECT kinesis.grant_stream('big', 'clerk', 'consumer');
GRANT USAGE ON SCHEMA kinesis_stream TO reporting, colleague, PUBLIC;
GRANT SELECT (data) ON kinesis_stream.big TO PUBLIC;
GRANT SELECT ON kinesis_stream.big TO reporting WITH GRANT OPTION;
SET ROLE reporting;
GRANT SELECT ON kinesis_stream.big TO colleague;
RESET ROLE;
DO $$ BEGIN EXECUTE format('GRANT SELECT ON kinesis_stream.%I TO clerk', (SELECT min(relname) FROM pg_class WHERE relname LIKE '1/%/%' AND relkind = 'r')); END $$;
CREATE VIEW all_of_it AS SELECT * FROM kinesis_stream.big;
CREATE TABLE bystander (a int);
CREATE RULE looks AS ON INSERT TO bystander DO ALSO SELECT count(*) FROM kinesis_stream.big;
CREATE FUNCTION leak() RETURNS bigint LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC SELECT count(*) FROM kinesis_stream.big; END;
GRANT SELECT ON all_of_it TO clerk;
SQL

# A deletion that is rolled back leaves everything as it was.
my $before = records_of($node, 'postgres', 'big');
my ($status, $out, $err) = $node->psql('postgres', <<SQL);
BEGIN;
SELECT kinesis.delete_stream('big');
$locks;
SELECT string_agg(stream_name, ',') FROM kinesis.list_streams();
ROLLBACK;
SQL
is($err, '', 'a transaction has room for the deletion');
my (undef, $held, $listed) = split /\n/, $out;
cmp_ok($held // 9999, '<', 200, 'it takes few locks');
is($listed, 'small', 'the stream is not listed any more');
is(records_of($node, 'postgres', 'big'), $before, 'rolled back, it has its records');
is(faults_of($node, 'postgres', 'big'), '', 'and no fault');
is($node->safe_psql('postgres', 'SET ROLE clerk; SELECT count(*) FROM all_of_it'), '1', 'its rights, and the view on it');

# Two producers whose transactions are open, and a reader that waits.
my $committer = $node->background_psql('postgres');
$committer->query_safe("BEGIN; SELECT kinesis.put_record('big', 'never to be read', 'k')");
my $producer = $node->background_psql('postgres', on_error_stop => 0);
$producer->query_safe("BEGIN; SELECT kinesis.put_record('big', 'never to be read', 'k')");
my $reader = $node->background_psql('postgres', on_error_stop => 0);
my $other = $node->safe_psql('postgres', "SELECT max(shard_id) FROM kinesis.list_shards('big')");
$reader->query_until(qr/waiting/,
	"\\echo waiting\nSELECT kinesis.get_records(kinesis.get_shard_iterator('big', '$other', 'LATEST'), 10, '50 s');\n");
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%50 s%'")
  or die 'the reader does not wait';

($status, $out, $err) = $node->psql('postgres', "SELECT kinesis.delete_stream('big')");
is($err, '', 'the stream is deleted, though a producer is at work');
is($node->safe_psql('postgres', "INSERT INTO bystander VALUES (1); SELECT to_regprocedure('leak()') IS NULL, to_regclass('all_of_it') IS NULL, (SELECT count(*) FROM bystander)"),
	't|t|1', 'nothing is left through which others could read it, and their tables are');
is($node->safe_psql('postgres', "SELECT string_agg(stream_name, ',') FROM kinesis.list_streams()"), 'small', 'it is not listed');
is($node->safe_psql('postgres', "SELECT count(*) FROM kinesis.shards WHERE stream_name = 'big'"), '0', 'nor are its shards');
foreach my $use ("SELECT kinesis.put_record('big', 'x', 'k')", "SELECT * FROM kinesis.read_shard('big', '$shard')",
	"SELECT kinesis.describe_stream('big')", "SELECT kinesis.delete_stream('big')")
{
	($status, $out, $err) = $node->psql('postgres', $use);
	like($err, qr/ERROR: .*Stream big under account 000000000000 not found/, "not found: $use");
}
$reader->query('');
like($reader->{stderr}, qr/ERROR/, 'the reader that waits is told');
$reader->{stderr} = '';
$producer->query("SELECT kinesis.put_record('big', 'y', 'k')");
like($producer->{stderr}, qr/not found/, 'so is the producer, when it goes on');
$producer->quit;
$reader->quit;
$committer->query_safe('COMMIT');
$committer->quit;

# What is left can be read by nobody but its owner.
is($node->safe_psql('postgres', $tables), $furnished, 'its tables are left');
is($node->safe_psql('postgres', <<'SQL'), '', 'and nobody has a right on them');
SELECT string_agg(format('%s on %s', r.rolname, c.relname), ', ') FROM pg_class c, pg_roles r
 WHERE c.relnamespace = 'kinesis_stream'::regnamespace AND c.relkind IN ('r', 'p') AND (c.relname LIKE '1/%')
   AND (r.rolname LIKE 'kinesis%' OR r.rolname IN ('clerk', 'reporting', 'colleague'))
   AND (has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') OR has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
SQL
is($node->safe_psql('postgres', "SELECT to_regclass('all_of_it') IS NULL"), 't', 'the view on it is gone, as with any table that is dropped');
is($node->safe_psql('postgres', <<'SQL'), '0', 'nor are they in the way when a role that had a right is dropped');
SELECT count(*) FROM pg_shdepend s, pg_class c WHERE s.classid = 'pg_class'::regclass AND s.objid = c.oid AND c.relnamespace = 'kinesis_stream'::regnamespace
   AND s.refobjid IN ('clerk'::regrole, 'reporting'::regrole, 'colleague'::regrole) AND c.relname LIKE '1/%'
SQL

# The name is free at once.
$node->safe_psql('postgres', "SELECT kinesis.create_stream('big', 1); SELECT kinesis.put_record('big', 'of the new one', 'k')");
is($node->safe_psql('postgres', "SELECT convert_from(data, 'UTF8') FROM kinesis.read_shard('big', '$shard')"), 'of the new one', 'a new stream of the name has its own records');
is($node->safe_psql('postgres', 'SELECT count(*) FROM kinesis_stream.big'), '1', 'and its own table');
is(faults_of($node, 'postgres', 'big'), '', 'without fault');

# A restore brings what is left along; purge takes it for its own when the restore is said to be finished.
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-Fc', '-f', "$folder/dump" ], 'pg_dump while tables are left');
$node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
$node->command_ok([ 'pg_restore', '-e', '-d', $node->connstr('restored'), "$folder/dump" ], 'and pg_restore');
my $left = $node->safe_psql('restored', $tables);
is($left, $node->safe_psql('postgres', $tables), 'bring all of them');
is($node->safe_psql('restored', 'SELECT * FROM kinesis.purge()'), '0|0|0', 'purge leaves them alone while the restore may be at work');
is($node->safe_psql('restored', 'SELECT kinesis.finish_restore()'), '2', 'the streams are put in order');
is($node->safe_psql('restored', 'SELECT slices_dropped > 0 FROM kinesis.purge()'), 't', 'then purge drops them there');
is($node->safe_psql('restored', "SELECT convert_from(data, 'UTF8') FROM kinesis.read_shard('big', '$shard')"), 'of the new one', 'and no other');

# Purge: a bounded number of tables a transaction, to the end; and a table that somebody reads is left to the next run.
my $held_slice = $node->safe_psql('postgres', "SELECT min(relname) FROM pg_class WHERE relname LIKE '1/%/%' AND relkind = 'r'");
my $session = $node->background_psql('postgres');
$session->query_safe("BEGIN; SELECT count(*) FROM kinesis_stream.\"$held_slice\"");
my ($runs, $most) = (0, 0);
while ($runs++ < 50)
{
	my ($dropped, $taken) = split /\n/, $node->safe_psql('postgres', "BEGIN; SELECT slices_dropped FROM kinesis.purge(); $locks; COMMIT");
	$most = $taken if $taken > $most;
	last unless $dropped;
}
cmp_ok($runs, '>', 3, 'purge needs some runs');
cmp_ok($most, '<', 64 * 20 / 2, 'each of which takes less than half of the locks');
is($node->safe_psql('postgres', "SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class WHERE relnamespace = 'kinesis_stream'::regnamespace AND relkind = 'r' AND relname LIKE '1/%'"),
	$held_slice, 'only the slice that is being read is left');
$session->query_safe('COMMIT');
$session->quit;
is($node->safe_psql('postgres', 'SELECT slices_dropped > 0 FROM kinesis.purge()'), 't', 'until the reader has ended');
$node->safe_psql('postgres', 'SELECT kinesis.purge()');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relnamespace = 'kinesis_stream'::regnamespace AND relname LIKE '1/%'"), '0', 'then nothing is left');
is(faults_of($node, 'postgres', $_), '', "stream $_ has no fault") foreach 'big', 'small';

# Many shards that expire at once are no more than purge can carry, either.
furnish('resharded');
$node->safe_psql('postgres', "SELECT kinesis.update_shard_count('resharded', 1)");
($runs, $most) = (0, 0);
while ($runs++ < 50)
{
	my ($expired, $taken) = split /\n/, $node->safe_psql('postgres',
		"SET kinesis.clock_offset = '1441 min'; BEGIN; SELECT slices_dropped + shards_expired FROM kinesis.purge(); $locks; COMMIT");
	$most = $taken if $taken > $most;
	last unless $expired;
}
cmp_ok($most, '<', 64 * 20 / 2, 'shards that expire together are dropped within half of the locks a run');
is($node->safe_psql('postgres', "SELECT count(*) FROM kinesis.shard JOIN kinesis.stream USING (stream_id) WHERE stream_name = 'resharded'"), '1', 'until the last one is gone');
is(faults_of($node, 'postgres', 'resharded'), '', 'without fault');

# A small stream goes at once.
$node->safe_psql('postgres', "SELECT kinesis.delete_stream(stream_name) FROM kinesis.list_streams()");
is($node->safe_psql('postgres', $tables), '0', 'small streams leave no tables');

# DROP EXTENSION is refused for streams, and not for what is left of deleted ones.
furnish('large');
$node->safe_psql('postgres', "SELECT kinesis.create_stream('last', 1); SELECT kinesis.delete_stream('large')");
purge_down_to('postgres', 100);
($status, $out, $err) = $node->psql('postgres', 'DROP EXTENSION kinesis');
like($err, qr/table kinesis_stream\.last\b.* depends on/, 'a stream is a reason to refuse DROP EXTENSION');
unlike($err, qr/deleted/, 'a deleted one is not');
$node->safe_psql('postgres', "SELECT kinesis.delete_stream('last')");
cmp_ok($node->safe_psql('postgres', $tables), '>', 0, 'tables are left');
($status, $out, $err) = $node->psql('postgres', 'DROP EXTENSION kinesis');
is($err, '', 'which go with the extension, without CASCADE');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname LIKE 'kinesis%' OR n.oid IS NULL"), '0', 'nothing remains');

# The same in the restored copy.
purge_down_to('restored', 100);
($status, $out, $err) = $node->psql('restored', "SELECT kinesis.delete_stream('big'); SELECT kinesis.delete_stream('small'); DROP EXTENSION kinesis");
is($err, '', 'also where a restore has brought them');

done_testing();
