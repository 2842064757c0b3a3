# A worker calls functions of one role's mappings all its life: what a function leaves in its session, in memory that no reset reaches,
# is not for another role's.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

# Each of them has to make way for the other.
my $node = mapping_node('main', conf => "kinesis.max_workers = 1\n");
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE alice;
CREATE ROLE bob;
SELECT kinesis.create_stream('s', 1);
CREATE TABLE called (run_as name, data text, random float8, pid int DEFAULT pg_backend_pid(), at timestamptz DEFAULT clock_timestamp());
GRANT INSERT ON called TO PUBLIC;
-- DISCARD ALL leaves the generator's state as it is.
CREATE FUNCTION work(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.called (run_as, data, random) SELECT current_user, convert_from(data, 'UTF8'), pg_catalog.random() FROM unnest(r);
    PERFORM setseed(0.5);
END $$;
SELECT setseed(0.5);
CREATE TABLE known AS SELECT random();
SELECT kinesis.grant_stream('s', x, 'consumer') FROM unnest('{alice, bob}'::text[]) AS x;
SQL
$node->safe_psql('postgres', "SET ROLE $_; SELECT kinesis.create_event_source_mapping('s', 'work') FROM generate_series(1, 2)") foreach 'alice', 'bob';

foreach my $data (1 .. 3)
{
	put_data($node, 's', $data);
	becomes_in($node, 'postgres', "SELECT count(*) FROM called WHERE data = '$data'", '4', "all mappings work, $data");
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT pid FROM called GROUP BY pid HAVING count(DISTINCT run_as) > 1) AS x'), '0', 'no worker has worked for both');
is($node->safe_psql('postgres', <<'SQL'), '0', 'none finds what the other one has left');
SELECT count(*) FROM (SELECT run_as, random, lag(run_as) OVER (PARTITION BY pid ORDER BY at) AS before FROM called) AS x JOIN known USING (random) WHERE run_as <> before
SQL

done_testing();
