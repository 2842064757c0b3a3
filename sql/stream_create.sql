-- Streams: made, described, listed, changed and deleted, with AWS's rules and errors.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('a.b-c_D', 3, tags => '{"team": "web", "cost center": "7"}');
SELECT stream_name, stream_arn, stream_status, stream_mode, retention_period_hours, encryption_type, open_shard_count, consumer_count, max_record_size_in_kib,
    stream_creation_timestamp BETWEEN now() - interval '1 min' AND clock_timestamp() AS just_now FROM kinesis.describe_stream_summary('a.b-c_D');
SELECT stream_name, stream_arn, stream_status, has_more_shards, enhanced_monitoring, key_id, cardinality(shards) AS shards FROM kinesis.describe_stream('a.b-c_D');
SELECT shard_id, starting_hash_key, ending_hash_key, ending_sequence_number FROM kinesis.describe_stream('arn:aws:kinesis:us-east-1:000000000000:stream/a.b-c_D'), unnest(shards);
SELECT has_more_shards, (SELECT array_agg(s.shard_id) FROM unnest(shards) s) FROM kinesis.describe_stream('a.b-c_D', 2);
SELECT has_more_shards, (SELECT array_agg(s.shard_id) FROM unnest(shards) s) FROM kinesis.describe_stream('a.b-c_D', 2, 'shardId-000000000001');
-- On demand: four shards, and no count.
SELECT kinesis.create_stream('demand', stream_mode => 'ON_DEMAND');
SELECT stream_mode, open_shard_count FROM kinesis.describe_stream_summary('demand');
SELECT kinesis.create_stream('demand2', 2, 'ON_DEMAND');
SELECT kinesis.split_shard('demand', '0', 2::numeric ^ 125);
SELECT kinesis.merge_shards('demand', '0', '1');
SELECT kinesis.update_shard_count('demand', 8);
SELECT kinesis.update_stream_mode('demand', 'PROVISIONED');
SELECT open_shard_count FROM kinesis.describe_stream_summary('demand');
SELECT kinesis.update_stream_mode('demand', 'SERVERLESS');
SELECT kinesis.update_stream_mode('demand', NULL);

-- Names.
SELECT kinesis.create_stream('a.b-c_D', 1);
SELECT kinesis.create_stream('', 1);
SELECT kinesis.create_stream('with space', 1);
SELECT kinesis.create_stream('with/slash', 1);
SELECT kinesis.create_stream(repeat('n', 129), 1);
SELECT kinesis.create_stream(NULL, 1);
SELECT kinesis.create_stream(repeat('n', 128), 1);
SELECT shard_id FROM kinesis.put_record(repeat('n', 128), 'x', 'k');
SELECT length(kinesis.stream_table(repeat('n', 128))::text) BETWEEN 40 AND 80 AS table_has_a_shorter_name;
SELECT kinesis.stream_table('a.b-c_D');
-- Counts and sizes.
SELECT kinesis.create_stream('x');
SELECT kinesis.create_stream('x', 0);
SELECT kinesis.create_stream('x', 10001);
SELECT kinesis.create_stream('x', 1, 'SERVERLESS');
SELECT kinesis.create_stream('x', 1, max_record_size_in_kib => 1023);
SELECT kinesis.create_stream('x', 1, max_record_size_in_kib => 10241);
SELECT kinesis.update_max_record_size('demand', 1023);
SELECT kinesis.update_max_record_size('demand', NULL);
SELECT kinesis.update_max_record_size('demand', 2048);
SELECT max_record_size_in_kib FROM kinesis.describe_stream_summary('demand');

-- Lists, whole and page by page.
SELECT stream_name, stream_arn, stream_status, stream_mode, has_more_streams, next_token FROM kinesis.list_streams();
SELECT stream_name FROM kinesis.list_streams(exclusive_start_stream_name => 'b');
SELECT stream_name, has_more_streams, next_token IS NOT NULL AS token FROM kinesis.list_streams(2);
SELECT next_token AS token FROM kinesis.list_streams(1) \gset
SELECT stream_name, has_more_streams FROM kinesis.list_streams(1, next_token => :'token');
SELECT * FROM kinesis.list_streams(next_token => 'nonsense');
SELECT * FROM kinesis.list_streams(next_token => left(:'token', -4));
SELECT * FROM kinesis.list_shards(next_token => :'token');
SELECT * FROM kinesis.list_streams(0);
SELECT * FROM kinesis.list_streams(10001);
SET kinesis.clock_offset = '301 s';
SELECT * FROM kinesis.list_streams(next_token => :'token');
RESET kinesis.clock_offset;
SELECT open_shard_count, on_demand_stream_count FROM kinesis.describe_limits();

-- Other accounts and regions make other ARNs.
SET kinesis.account_id = '123456789012';
SET kinesis.region = 'eu-central-1';
SELECT stream_arn FROM kinesis.describe_stream_summary('demand');
SELECT kinesis.describe_stream_summary('arn:aws:kinesis:us-east-1:000000000000:stream/demand');
SET kinesis.account_id = 'me';
SET kinesis.region = 'Mars';
RESET kinesis.account_id;
RESET kinesis.region;

-- Deleted: everything is gone, and the name is free; a rolled back deletion changes nothing.
SELECT kinesis.describe_stream('nowhere');
SELECT kinesis.delete_stream('nowhere');
BEGIN;
SELECT kinesis.delete_stream('demand');
SELECT shard_id FROM kinesis.put_record('demand', 'x', 'k');
ROLLBACK;
SELECT count(*) FROM kinesis.put_record('demand', 'x', 'k');
SELECT kinesis.delete_stream('demand', enforce_consumer_deletion => true);
SELECT kinesis.delete_stream('a.b-c_D');
SELECT kinesis.delete_stream(repeat('n', 128));
SELECT kinesis.describe_stream('demand');
SELECT count(*) AS streams FROM kinesis.list_streams();
SELECT count(*) AS tables FROM pg_class WHERE relnamespace = 'kinesis_stream'::regnamespace;
SELECT (SELECT count(*) FROM kinesis.shard) AS shards, (SELECT count(*) FROM kinesis.slice) AS slices, (SELECT count(*) FROM kinesis.tag) AS tags;
SELECT kinesis.create_stream('demand', 1);
SELECT count(*) FROM kinesis.read_shard('demand', '0');
-- A table that was dropped by hand: said clearly, and cleaned up.
DROP TABLE kinesis_stream.demand;
SELECT kinesis.put_record('demand', 'x', 'k');
SELECT kinesis.delete_stream('demand');
SELECT count(*) AS streams FROM kinesis.stream;
