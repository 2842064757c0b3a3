# Commands that want a database for themselves get it at once, however busy its workers are; and what was under way is done again, once.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use KinesisNode;

my $node = kinesis_node('main', conf => "kinesis.max_workers = 4\nkinesis.max_retry_backoff = '200ms'\n");

# A database whose function waits for a lock that somebody holds, so that all its workers are busy for as long as we like.
sub busy_database
{
	my ($db) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, <<'SQL');
CREATE EXTENSION kinesis;
CREATE TABLE gate ();
CREATE TABLE worked (shard text, number bigint);
CREATE FUNCTION work(records kinesis.record[], context kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO worked SELECT context.shard_id, r.sequence_number FROM unnest(records) r;
    IF current_setting('work.sleeps', true) = 'on' THEN
        PERFORM pg_sleep(1000);
    END IF;
END $$;
SELECT kinesis.create_stream('s', 8);
SELECT kinesis.create_event_source_mapping('s', 'work');
SELECT count(*) FROM kinesis.put_records('s', array_fill('x'::bytea, '{64}'), ARRAY(SELECT 'key ' || i FROM generate_series(1, 64) i));
SQL
}

sub all_busy
{
	my ($db, $what) = @_;

	ok($node->poll_query_until($db, "SELECT count(*) = 4 FROM kinesis.event_source_mapping_lanes WHERE status = 'running'"), "$what: all workers are busy");
}

# Runs it, and says that it took less than the time after which such commands give up, or a function ends by itself.
sub quickly
{
	my ($db, $sql, $what) = @_;
	my $began = time;
	my ($rc, $out, $err) = $node->psql($db, $sql, extra_params => [ '-v', 'VERBOSITY=terse' ]);

	unlike($err, qr/ERROR|WARNING|FATAL/, "$what: no complaint");
	cmp_ok(time - $began, '<', 5, sprintf("$what: at once (%.0f ms)", (time - $began) * 1000));
}

sub each_once
{
	my ($db, $what) = @_;

	ok($node->poll_query_until($db, 'SELECT sum(records_behind) = 0 FROM kinesis.list_event_source_mappings() m, kinesis.event_source_mapping_lag(m.uuid)'), "$what: all is done");
	is($node->safe_psql($db, 'SELECT count(*), count(DISTINCT (shard, number)) FROM worked'), '64|64', "$what: each record once");
}

$node->append_conf('postgresql.conf', "work.sleeps = on\n");
$node->restart;

busy_database('renamed');
all_busy('renamed', 'rename');
quickly('postgres', 'ALTER DATABASE renamed RENAME TO other', 'rename');
all_busy('other', 'after the rename');
quickly('postgres', 'CREATE DATABASE copy TEMPLATE other', 'copy');
all_busy('other', 'after the copy');
is($node->safe_psql('copy', 'SELECT state FROM kinesis.event_source_mappings'), 'Disabled', 'the copy does not call the function');
is($node->safe_psql('copy', "SELECT count(*) FROM pg_stat_activity WHERE datname = 'copy' AND backend_type = 'kinesis worker'"), '0', 'and has no worker');

my $space = PostgreSQL::Test::Utils::tempdir;
quickly('postgres', "SET allow_in_place_tablespaces = on; CREATE TABLESPACE away LOCATION ''", 'make a tablespace');
quickly('postgres', 'ALTER DATABASE other SET TABLESPACE away', 'move');
all_busy('other', 'after the move');

# DROP EXTENSION, and its undoing.
quickly('other', 'BEGIN; DROP EXTENSION kinesis CASCADE; ROLLBACK', 'drop the extension, and not');
all_busy('other', 'after the rollback');

# Who may not drop a database does not disturb it.
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN');
my $pids = "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE backend_type = 'kinesis worker'";
my $before = $node->safe_psql('postgres', $pids);
my ($rc, $out, $err) = $node->psql('postgres', 'SET ROLE nobody; DROP DATABASE other');
like($err, qr/must be owner of database other/, 'a stranger is refused');
is($node->safe_psql('postgres', $pids), $before, 'and the workers are those that they were');

# A shutdown does not wait for them either, and after it all is done once.
my $began = time;
$node->stop('fast');
cmp_ok(time - $began, '<', 10, sprintf('shutdown: %.1f s', time - $began));
$node->append_conf('postgresql.conf', "work.sleeps = off\n");
$node->start;
each_once('other', 'after all that');
$node->safe_psql('copy', 'SELECT kinesis.finish_restore()');
each_once('copy', 'the copy, when it is told to');

# Dropped with all workers busy; the place in the pool is for the others.
$node->append_conf('postgresql.conf', "work.sleeps = on\n");
$node->reload;
busy_database('doomed');
all_busy('doomed', 'drop');
quickly('postgres', 'DROP DATABASE doomed', 'drop');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('kinesis worker', 'kinesis scheduler') AND datname = 'doomed'"), '0', 'nothing of it is left');
quickly('other', 'DROP EXTENSION kinesis CASCADE', 'drop the extension');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('kinesis worker', 'kinesis scheduler') AND datname = 'other'"), 'nobody is left where the extension was');

# Two databases and one worker: each gets its turn.
$node->append_conf('postgresql.conf', "work.sleeps = off\nkinesis.max_workers = 1\n");
$node->restart;
$node->safe_psql('copy', 'TRUNCATE worked');
busy_database('second');
each_once('second', 'two databases, one worker');
$node->safe_psql('copy', "SELECT count(*) FROM kinesis.put_records('s', array_fill('x'::bytea, '{64}'), ARRAY(SELECT 'key ' || i FROM generate_series(1, 64) i))");
each_once('copy', 'and the other one');

my $log = slurp_file($node->logfile);
unlike($log, qr/leak/, 'nothing leaks');
unlike($log, qr/PANIC|TRAP|was terminated by signal/, 'nothing crashes');

done_testing();
