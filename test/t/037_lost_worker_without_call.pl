# A worker that is terminated before it has called the function costs no attempt: what was never tried is not given up.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main', conf => "kinesis.max_retry_backoff = '200ms'\n");
$node->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('s', 1);
CREATE TABLE done (data text);
CREATE FUNCTION work(records kinesis.record[], context kinesis.batch_context) RETURNS void LANGUAGE sql AS $$
    INSERT INTO done SELECT convert_from(data, 'UTF8') FROM unnest(records)
$$;
SELECT * FROM kinesis.put_records('s', '{1,2,3}'::bytea[], array_fill('key'::text, '{3}'));
SQL

# Nobody can read the shard, so the worker waits before it calls.
my $holder = $node->background_psql('postgres');
$holder->query_safe(q{BEGIN; DO $$ DECLARE slice regclass; BEGIN
    FOR slice IN SELECT relid FROM pg_partition_tree('kinesis_stream.s') WHERE isleaf LOOP EXECUTE 'LOCK TABLE ' || slice; END LOOP; END $$});
$node->safe_psql('postgres', "SELECT kinesis.create_event_source_mapping('s', 'work', maximum_retry_attempts => 0)");
ok($node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM kinesis.event_source_mapping_lanes l JOIN pg_stat_activity a USING (pid)
    WHERE l.status = 'running' AND a.wait_event_type = 'Lock')}), 'a worker waits for the shard');
my $worker = $node->safe_psql('postgres', 'SELECT pid FROM kinesis.event_source_mapping_lanes');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
ok($node->poll_query_until('postgres', "SELECT pid <> $worker FROM kinesis.event_source_mapping_lanes WHERE status = 'running'"), 'another one takes the lane');
$holder->query_safe('COMMIT');
$holder->quit;
ok($node->poll_query_until('postgres', 'SELECT records + discarded = 3 FROM kinesis.event_source_mapping_lanes'), 'the records are done with');
is($node->safe_psql('postgres', "SELECT string_agg(data, ' ' ORDER BY data) FROM done"), '1 2 3', 'by the function');
is($node->safe_psql('postgres', 'SELECT invocations, failures, discarded FROM kinesis.event_source_mapping_lanes'), '1|0|0', 'which was called once');
done_testing();
