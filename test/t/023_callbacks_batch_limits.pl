# A batch ends at its number of records, at the payload's limit or when its time is over, whichever comes first.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main');

make_mapping($node, 'sized', '', batch_size => 4);
put_data($node, 'sized', 1 .. 10);
wait_until_done($node, 'sized');
is_called($node, 'sized', [ '1: 1 2 3 4', '1: 5 6 7 8', '1: 9 10' ], 'a batch has batch_size records at most');
make_mapping($node, 'single', '', batch_size => 1);
put_data($node, 'single', 1 .. 3);
wait_until_done($node, 'single');
is_called($node, 'single', [ '1: 1', '1: 2', '1: 3' ], 'one if that is 1');

# Held until it is full: the window is longer than the test may take.  A mapping without window tells when a record can be read.
make_mapping($node, 'held', '', batch_size => 3, maximum_batching_window => "'300 s'");
make_mapping($node, 'quick', '', stream => 'held');
foreach my $data (1, 2)
{
	put_data($node, 'held', $data);
	wait_until_done($node, 'quick');
}
is(lane_of($node, 'held', 'invocations'), '0', 'a batch that is not full is held in its window');
put_data($node, 'held', 3, 4);
ok($node->poll_query_until('postgres', "SELECT records = 3 FROM kinesis.event_source_mapping_lanes WHERE function_name = 'public.held'"), 'a full one is not');
is_called($node, 'held', ['1: 1 2 3'], 'it is one batch');
update_mapping($node, 'held', maximum_batching_window => "'0'");
wait_until_done($node, 'held');
is_called($node, 'held', [ '1: 1 2 3', '1: 4' ], 'a window that is changed counts at once');

# Until the window is over: it begins with the first record, or when the call before it has ended.
make_mapping($node, 'timed', "INSERT INTO worked (function, data) VALUES ('time', extract(epoch FROM clock_timestamp() - r[1].approximate_arrival_timestamp));",
	maximum_batching_window => "'1500 ms'");
$node->safe_psql('postgres', "SELECT kinesis.put_record('timed', '1', 'key'); SELECT kinesis.put_record('timed', '2', 'key')");
wait_until_done($node, 'timed');
is_called($node, 'timed', ['1: 1 2'], 'what comes in the window is one batch');
cmp_ok($node->safe_psql('postgres', "SELECT min(data::float8) FROM worked WHERE function = 'time'"), '>=', 1.5, 'which is called when the window is over');

# A batch that has failed does not wait for its window again.
make_mapping($node, 'again', "IF c.attempt = 1 THEN RAISE 'not yet'; END IF;", batch_size => 2, maximum_batching_window => "'300 s'", bisect_batch_on_function_error => 'true');
put_data($node, 'again', 1, 2);
wait_until_done($node, 'again');
is_called($node, 'again', [ '1: 1 2', '1: 1', '2: 1', '1: 2', '2: 2' ], 'halves are not held');

# 6 MiB: of keys and data for records, of base64 and all around it for events.
my $megabyte = "ARRAY(SELECT convert_to(rpad(i::text, 1000000, '-'), 'UTF8') FROM generate_series(1, 10) AS i)";
$node->safe_psql('postgres', <<SQL);
SELECT kinesis.create_stream('large', 1);
SELECT kinesis.set_shard_limits('large', NULL, NULL, NULL, NULL);
CREATE FUNCTION take_records(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE sql AS \$\$
    INSERT INTO worked (function, data) VALUES ('take_records', cardinality(r));
\$\$;
CREATE FUNCTION take_event(event jsonb) RETURNS jsonb LANGUAGE sql AS \$\$
    INSERT INTO worked (function, data) VALUES ('take_event', jsonb_array_length(event->'Records') || CASE WHEN octet_length(event::text) <= 6 * 1024 * 1024 THEN '' ELSE ' too large' END) RETURNING NULL::jsonb;
\$\$;
SELECT kinesis.create_event_source_mapping('large', f) FROM unnest('{take_records, take_event}'::text[]) AS f;
SELECT kinesis.put_records('large', $megabyte, array_fill('key'::text, ARRAY[10]), atomic => true);
SQL
wait_until_done($node, $_) foreach 'take_records', 'take_event';
is(worked_of($node, 'take_records'), '6 4', 'records end at 6 MiB');
is(worked_of($node, 'take_event'), '4 4 2', 'and so do events');

done_testing();
