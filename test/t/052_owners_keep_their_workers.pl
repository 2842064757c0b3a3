# A worker is ended for one of another owner only when that owner has none, or has waited: with many mappings of few owners the same
# workers go on.  And where processes are few, the end of one and the start of another take no longer than that.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use KinesisNode;

my $node = kinesis_node('main', conf => <<'CONF');
kinesis.max_workers = 3
max_worker_processes = 20
max_parallel_workers = 0
CONF

sub sql { return $node->safe_psql('postgres', $_[0]) }

# A stream, and mappings of the same function, for each owner.
sub make_owner
{
	my ($owner, $mappings, $body) = @_;

	sql(<<SQL);
CREATE ROLE $owner;
SELECT kinesis.create_stream('$owner', 1), kinesis.set_shard_limits('$owner', NULL, NULL, NULL, NULL), kinesis.grant_stream('$owner', '$owner', 'consumer');
GRANT USAGE, CREATE ON SCHEMA public TO $owner;
SET ROLE $owner;
CREATE FUNCTION $owner(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO public.seen SELECT '$owner', pg_backend_pid(), x.sequence_number FROM unnest(r) AS x; $body END \$\$;
SELECT kinesis.create_event_source_mapping('$owner', '$owner') FROM generate_series(1, $mappings);
SQL
}

sub workers_of { return sql("SELECT count(DISTINCT pid) FROM seen WHERE owner IN ($_[0])") }

sql('CREATE TABLE seen (owner text, pid int, number bigint); GRANT INSERT ON seen TO PUBLIC');
make_owner($_, 5, 'PERFORM pg_sleep(0.005);') foreach 'a', 'b';
foreach my $i (1 .. 60)
{
	sql("SELECT kinesis.put_record(s, 'x', 'k') FROM unnest('{a,b}'::text[]) AS s");
}
ok($node->poll_query_until('postgres', 'SELECT count(*) = 600 FROM seen'), 'all records are seen by all mappings');
cmp_ok(workers_of("'a', 'b'"), '<', 20, 'by few workers');

# One that is suspected of a crash waits for another one, and has nobody ended meanwhile.
make_owner($_, 1, 'PERFORM pg_advisory_xact_lock(1);') foreach 'c', 'd';
sql("BEGIN; SELECT pg_advisory_xact_lock(1); PREPARE TRANSACTION 'holder'");
sql("SELECT kinesis.put_record(s, 'x', 'k') FROM unnest('{c,d}'::text[]) AS s");
my $waiting = "SELECT count(*) = %d FROM pg_stat_activity WHERE backend_type = 'kinesis worker' AND wait_event = 'advisory'";
ok($node->poll_query_until('postgres', sprintf($waiting, 2)), 'two run');
sql("SELECT kinesis.delete_event_source_mapping(uuid) FROM kinesis.event_source_mappings WHERE owner = 'b'");
sql("UPDATE kinesis.mapping_lane l SET crashes = 1 FROM kinesis.event_source_mapping m WHERE m.uuid = l.uuid AND m.owner::text IN ('c', 'd')");
$node->append_conf('postgresql.conf', "kinesis.max_workers = 2\n");
$node->restart;
ok($node->poll_query_until('postgres', sprintf($waiting, 1)), 'of two suspects one runs');
sql("DELETE FROM seen");
sql("SELECT kinesis.put_record('a', 'x', 'k')") foreach 1 .. 60;
ok($node->poll_query_until('postgres', "SELECT count(*) = 300 FROM seen WHERE owner = 'a'"), 'the other owner goes on');
cmp_ok(workers_of("'a'"), '<', 10, 'with few workers');
sql("COMMIT PREPARED 'holder'");
ok($node->poll_query_until('postgres', "SELECT count(DISTINCT owner) = 2 FROM seen WHERE owner IN ('c', 'd')"), 'one suspect after the other is done');

# As many processes as workers: each owner's turn is the end of another's worker.
sql('SELECT kinesis.delete_event_source_mapping(uuid) FROM kinesis.event_source_mappings');
make_owner($_, 1, '') foreach 'e', 'f', 'g';
$node->append_conf('postgresql.conf', "max_worker_processes = 5\n");
$node->restart;
is(sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'logical replication|kinesis launcher'"), '2', 'two more, and the scheduler, leave two for workers');
my $began = time;
foreach my $i (1 .. 10)
{
	sql("SELECT kinesis.put_record(s, 'x', 'k') FROM unnest('{e,f,g}'::text[]) AS s");
	$node->poll_query_until('postgres', "SELECT count(*) = 3 * $i FROM seen WHERE owner IN ('e', 'f', 'g')") or last;
}
is(sql("SELECT count(*) FROM seen WHERE owner IN ('e', 'f', 'g')"), '30', 'all have their turns');
# Each pause was of 5 s.
cmp_ok(time - $began, '<', 25, 'without pauses');
done_testing();
