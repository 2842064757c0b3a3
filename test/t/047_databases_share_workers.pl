# Databases share the workers: when there are fewer than could work, each gets its turns, and one that is done gives way at once.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main', extension => 0, conf => "kinesis.max_workers = 2\n");
my @databases = ('one', 'two');

# Two mappings each, that have much to do for as long as there is work to do.
foreach my $db (@databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0");
	$node->safe_psql($db, <<'SQL');
CREATE EXTENSION kinesis;
CREATE TABLE turn (mapping uuid, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION work(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1);
    INSERT INTO turn VALUES (c.mapping);
    IF NOT EXISTS (SELECT FROM kinesis.list_streams() WHERE stream_name = 'enough') THEN
        PERFORM kinesis.put_records(c.stream_name, array_fill('x'::bytea, ARRAY[cardinality(r)]), array_fill('key'::text, ARRAY[cardinality(r)]));
    END IF;
END $$;
SELECT kinesis.create_stream(s, 1), kinesis.set_shard_limits(s, NULL, NULL, NULL, NULL) FROM unnest('{a, b}'::text[]) AS s;
SELECT kinesis.put_record(s, 'x', 'key') FROM unnest('{a, b}'::text[]) AS s;
SQL
}
$node->safe_psql($_, "SELECT kinesis.create_event_source_mapping(s, 'work', batch_size => 1) FROM unnest('{a, b}'::text[]) AS s") foreach @databases;

foreach my $db ('one', 'two', 'one')
{
	my $before = $node->safe_psql($db, 'SELECT clock_timestamp()');
	becomes_in($node, $db, "SELECT min(n) > 20 FROM (SELECT (SELECT count(*) FROM turn WHERE mapping = uuid AND at > '$before') AS n FROM kinesis.event_source_mappings) AS x", 't', "both mappings of database $db go on");
}
is($node->safe_psql('postgres', "SELECT count(*) <= 2 FROM pg_stat_activity WHERE backend_type = 'kinesis worker'"), 't', 'in two workers');

# Workers that one database has left idle are not missed in the other.
$node->safe_psql($_, "SELECT kinesis.create_stream('enough', 1)") foreach @databases;
foreach my $db (@databases, @databases)
{
	my $gate = $node->background_psql($db);

	$gate->query_safe('SELECT pg_advisory_lock(1)');
	$node->safe_psql($db, "SELECT kinesis.put_record(s, 'x', 'key') FROM unnest('{a, b}'::text[]) AS s");
	becomes_in($node, $db, "SELECT count(*) FROM kinesis.event_source_mapping_lanes WHERE status = 'running'", '2', "database $db gets both workers");
	$gate->quit;
	becomes_in($node, $db, 'SELECT sum(records_behind) FROM kinesis.event_source_mappings AS m, kinesis.event_source_mapping_lag(m.uuid)', '0', 'and is done');
}
is($node->safe_psql($_, 'SELECT sum(failures) FROM kinesis.event_source_mapping_lanes'), '0', "who gives way has not failed, $_") foreach @databases;

done_testing();
