# With bisecting, a report of batch item failures cuts the batch and takes no attempt: what is good behind a bad record is not
# discarded with it, even when nothing may be tried again.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main');
$node->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('s', 1);
CREATE TABLE done (number bigint PRIMARY KEY, data text);
CREATE TABLE failed (invocation_record jsonb);
CREATE FUNCTION work(records kinesis.record[], context kinesis.batch_context) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    r kinesis.record;
BEGIN
    FOREACH r IN ARRAY records LOOP
        IF convert_from(r.data, 'UTF8') LIKE 'bad%' THEN
            RETURN jsonb_build_object('batchItemFailures', jsonb_build_array(jsonb_build_object('itemIdentifier', r.sequence_number::text)));
        END IF;
        INSERT INTO done VALUES (r.sequence_number, convert_from(r.data, 'UTF8'));
    END LOOP;
    RETURN NULL;
END $$;
SELECT * FROM kinesis.put_records('s', '{1,2,bad 3,4,5,bad 6,7,8}'::bytea[], array_fill('key'::text, '{8}'));
SELECT kinesis.create_event_source_mapping('s', 'work', maximum_retry_attempts => 0, bisect_batch_on_function_error => true,
    report_batch_item_failures => true, on_failure => 'table:failed');
SQL
ok($node->poll_query_until('postgres', 'SELECT sum(records + discarded) = 8 FROM kinesis.event_source_mapping_lanes'),
	'all records are done with');
is($node->safe_psql('postgres', q{SELECT string_agg(data, ' ' ORDER BY number) FROM done}), '1 2 4 5 7 8', 'what is good is done, once and in order');
is( $node->safe_psql('postgres', q{SELECT string_agg(convert_from(decode(r #>> '{kinesis,data}', 'base64'), 'UTF8'), ', ' ORDER BY 1)
	FROM failed, jsonb_array_elements(invocation_record #> '{payload,Records}') AS r}),
	'bad 3, bad 6', 'and what is not has gone to the destination');
done_testing();
