# A function that deletes its own mapping fails, is heard of, and is tried again at the pace of failures; it may disable it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main', conf => "kinesis.max_retry_backoff = '200ms'\n");
$node->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('s', 1);
CREATE FUNCTION work(records kinesis.record[], context kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM kinesis.delete_event_source_mapping(context.mapping);
END $$;
SELECT kinesis.create_event_source_mapping('s', 'work');
SELECT * FROM kinesis.put_record('s', 'x', 'key');
SQL
ok($node->poll_query_until('postgres', 'SELECT attempts >= 3 FROM kinesis.event_source_mapping_lanes'), 'each call is a failed attempt');
is($node->safe_psql('postgres', 'SELECT error_message FROM kinesis.event_source_mapping_lanes'),
	'the event source mapping was deleted or changed while its function ran', 'the lane says why');
like(slurp_file($node->logfile), qr/LOG:  the function has deleted its own event source mapping.*?\n.*?CONTEXT:  event source mapping \S+ of function public\.work/s,
	'and the log, of which mapping');

$node->safe_psql('postgres', <<'SQL');
CREATE OR REPLACE FUNCTION work(records kinesis.record[], context kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM kinesis.update_event_source_mapping(context.mapping, enabled => false);
END $$;
SQL
ok($node->poll_query_until('postgres', q{SELECT state = 'Disabled' FROM kinesis.event_source_mappings}), 'it can disable the mapping');
is($node->safe_psql('postgres', 'SELECT records, attempts FROM kinesis.event_source_mapping_lanes'), '1|0', 'and has done its work');
done_testing();
