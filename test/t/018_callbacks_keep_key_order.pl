# Ten batches of a shard at once: the records of a key are worked on in their order, each once, though functions fail, and though
# the number of batches changes meanwhile.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main', conf => "kinesis.max_workers = 8\n");

# Batches fail at random, poisonous records always.  A single good record never fails, so only the poisonous ones are given up.
$node->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('s', 2);
SELECT kinesis.set_shard_limits('s', NULL, NULL, NULL, NULL);
CREATE TABLE done (id bigserial PRIMARY KEY, key text, counter int);
CREATE TABLE stop (now boolean);
CREATE FUNCTION is_poison(key text, counter int) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT abs(hashtext(key || counter)) % 200 = 0 $$;
CREATE FUNCTION work(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO done (key, counter) SELECT x.key, convert_from(x.data, 'UTF8')::int FROM unnest(r) WITH ORDINALITY AS x(number, arrival, key, data, type, n) ORDER BY n;
    IF (cardinality(r) > 1 AND random() < 0.1) OR EXISTS (SELECT FROM unnest(r) AS x WHERE is_poison(x.partition_key, convert_from(x.data, 'UTF8')::int)) THEN
        RAISE 'failed';
    END IF;
END $$;
SELECT kinesis.create_event_source_mapping('s', 'work', batch_size => 20, parallelization_factor => 10, bisect_batch_on_function_error => true,
    maximum_retry_attempts => 1, on_failure => 'table:discarded');
SQL
make_producer($node, 2 * 8);    # two of them

sub lanes_become
{
	my ($factor) = @_;

	ok($node->poll_query_until('postgres', "SELECT count(*) = 2 * $factor FROM kinesis.event_source_mapping_lanes"), "shards have $factor lanes");
	ok($node->poll_query_until('postgres', 'SELECT bool_and(invocations > 0) FROM kinesis.event_source_mapping_lanes'), 'all of them are worked on');
	ok($node->poll_query_until('postgres', "SELECT count(*) > 500 FROM done WHERE id > $_"), 'and records go through')
	  foreach $node->safe_psql('postgres', 'SELECT max(id) FROM done');
}

my @producers = map { start_psql($node, 'postgres', "producer $_", "CALL put('$_')") } 'a', 'b';
lanes_become(10);
cmp_ok($node->safe_psql('postgres', 'SELECT sum(failures) FROM kinesis.event_source_mapping_lanes'), '>', 0, 'calls fail');
foreach my $factor (3, 7)
{
	update_mapping($node, 'work', parallelization_factor => $factor);
	lanes_become($factor);
}
# Twice in a row: the second change meets the first one half done.
update_mapping($node, 'work', parallelization_factor => 2);
update_mapping($node, 'work', parallelization_factor => 9);
lanes_become(9);
$node->safe_psql('postgres', 'INSERT INTO stop VALUES (true)');
$_->{run}->finish foreach @producers;
is($_->{errors}, '', "$_->{name} saw no error") foreach @producers;
wait_until_done($node, 'work');

is($node->safe_psql('postgres', <<'SQL'), '0|0', 'the records of each key were worked on in their order, none twice');
SELECT count(*) FILTER (WHERE counter < previous), count(*) FILTER (WHERE counter = previous)
  FROM (SELECT counter, lag(counter) OVER (PARTITION BY key ORDER BY id) AS previous FROM done) AS x
SQL
is($node->safe_psql('postgres', <<'SQL'), 't|t|0|0|0|0', 'those that were given up are the poisonous ones, and no other is missing');
WITH stream AS (
    SELECT r.partition_key AS key, convert_from(r.data, 'UTF8')::int AS counter FROM kinesis.list_shards('s') AS s, kinesis.read_shard('s', s.shard_id) AS r),
given_up AS (
    SELECT x.r #>> '{kinesis,partitionKey}' AS key, convert_from(decode(x.r #>> '{kinesis,data}', 'base64'), 'UTF8')::int AS counter
    FROM discarded AS d, jsonb_array_elements(d.invocation_record #> '{payload,Records}') AS x(r))
SELECT (SELECT count(*) > 3000 FROM stream), (SELECT count(*) > 0 FROM given_up),
    (SELECT count(*) FROM (SELECT * FROM stream EXCEPT ALL (SELECT key, counter FROM done UNION ALL SELECT * FROM given_up)) AS x),
    (SELECT count(*) FROM ((SELECT key, counter FROM done UNION ALL SELECT * FROM given_up) EXCEPT ALL SELECT * FROM stream) AS x),
    (SELECT count(*) FROM given_up WHERE NOT is_poison(key, counter)),
    (SELECT count(*) FROM done WHERE is_poison(key, counter))
SQL
is($node->safe_psql('postgres', 'SELECT sum(l.records) - (SELECT count(*) FROM done), sum(l.discarded) - (SELECT count(*) FROM discarded) FROM kinesis.event_source_mapping_lanes AS l'),
	'0|0', 'and the counts say so, through all changes');
note $node->safe_psql('postgres', 'SELECT sum(invocations), sum(failures), sum(records), sum(discarded) FROM kinesis.event_source_mapping_lanes');

done_testing();
