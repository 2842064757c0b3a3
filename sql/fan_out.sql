-- Enhanced fan-out: registered consumers, and the events of their subscriptions.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('fan', 2);
SELECT consumer_name, consumer_status, consumer_arn ~ '^arn:aws:kinesis:us-east-1:000000000000:stream/fan/consumer/app:[0-9]+$' AS has_arn, stream_arn
FROM kinesis.register_stream_consumer('arn:aws:kinesis:us-east-1:000000000000:stream/fan', 'app', '{"team": "clicks"}');
SELECT consumer_arn AS app FROM kinesis.describe_stream_consumer('fan', 'app') \gset
SELECT consumer_name, consumer_status FROM kinesis.describe_stream_consumer(consumer_arn => :'app');
SELECT consumer_name FROM kinesis.describe_stream_consumer('fan', 'app', :'app');
SELECT consumer_count FROM kinesis.describe_stream_summary('fan');
SELECT key, value FROM kinesis.list_tags_for_resource(:'app');
SELECT kinesis.tag_resource(:'app', '{"owner": "me"}'), kinesis.untag_resource(:'app', '{team}');
SELECT key, value FROM kinesis.list_tags_for_resource(:'app');
SELECT count(*) AS of_the_stream FROM kinesis.list_tags_for_stream('fan');

-- Wrong calls.
SELECT kinesis.register_stream_consumer('fan', 'app');
SELECT kinesis.register_stream_consumer('fan', 'a b');
SELECT kinesis.register_stream_consumer('fan', '');
SELECT kinesis.register_stream_consumer('fan', NULL);
SELECT kinesis.register_stream_consumer('nowhere', 'app');
SELECT kinesis.describe_stream_consumer('fan');
SELECT kinesis.describe_stream_consumer('fan', 'other');
SELECT kinesis.describe_stream_consumer('fan', 'other', :'app');
SELECT kinesis.describe_stream_consumer(consumer_arn => 'arn:aws:kinesis:us-east-1:000000000000:stream/fan');
SELECT kinesis.untag_resource(:'app', '{""}');
SELECT kinesis.delete_stream('fan');

-- Paging, and AWS's limit.
DO $$ BEGIN FOR i IN 1..19 LOOP PERFORM kinesis.register_stream_consumer('fan', 'c' || lpad(i::text, 2, '0')); END LOOP; END $$;
SELECT kinesis.register_stream_consumer('fan', 'too many');
SELECT kinesis.register_stream_consumer('fan', 'too-many');
SELECT count(*), count(next_token) FROM kinesis.list_stream_consumers('fan');
SELECT consumer_name, next_token IS NOT NULL AS more FROM kinesis.list_stream_consumers('fan', 2);
SELECT next_token AS token FROM kinesis.list_stream_consumers('fan', 2) OFFSET 1 \gset
SELECT consumer_name, next_token IS NOT NULL AS more FROM kinesis.list_stream_consumers('fan', 1, :'token');
SELECT kinesis.list_stream_consumers('fan', 2, 'x');
SELECT kinesis.list_stream_consumers('fan', 0);
DO $$ BEGIN FOR i IN 1..19 LOOP PERFORM kinesis.deregister_stream_consumer('fan', 'c' || lpad(i::text, 2, '0')); END LOOP; END $$;

-- Events: in order, each once, from every kind of position; an empty one when there is nothing.
SELECT count(*) FROM kinesis.put_records('fan', ARRAY['a', 'b', 'c']::bytea[], ARRAY['k', 'k', 'k'], ARRAY[0, 0, 0]);
SELECT continuation_sequence_number AS place, millis_behind_latest, child_shards, (SELECT string_agg(convert_from(data, 'UTF8'), ' ') FROM unnest(records))
FROM kinesis.subscribe_to_shard(:'app', '0', 'TRIM_HORIZON') \gset
SELECT cardinality(records), continuation_sequence_number = :place AS same_place FROM kinesis.subscribe_to_shard(:'app', '0', 'AFTER_SEQUENCE_NUMBER', :place, max_wait => '0');
SELECT cardinality(records), continuation_sequence_number = :place AS same_place FROM kinesis.subscribe_to_shard(:'app', '0', 'AT_SEQUENCE_NUMBER', :place, max_wait => '0');
SELECT cardinality(records), continuation_sequence_number >= :place AS on_from_there FROM kinesis.subscribe_to_shard(:'app', '0', 'LATEST', max_wait => '10 ms');
SELECT cardinality(records) FROM kinesis.subscribe_to_shard(:'app', '0', 'AT_TIMESTAMP', "timestamp" => now() - interval '1 h');
SELECT cardinality(records) FROM kinesis.subscribe_to_shard(:'app', '1', 'TRIM_HORIZON', max_wait => '0');
SELECT kinesis.put_record('fan', 'd', 'k', 0) IS NOT NULL AS put;
SELECT (SELECT string_agg(convert_from(data, 'UTF8'), ' ') FROM unnest(records)) FROM kinesis.subscribe_to_shard(:'app', '0', 'AFTER_SEQUENCE_NUMBER', :place);

-- A quiet shard's place moves with the horizon, so that it can always be gone on from.
SET kinesis.clock_offset = '30 h';
SELECT cardinality(records), continuation_sequence_number > :place AS moved FROM kinesis.subscribe_to_shard(:'app', '0', 'AFTER_SEQUENCE_NUMBER', :place, max_wait => '0');
RESET kinesis.clock_offset;

-- The end of a closed shard: no place to go on from, and the children.
SELECT kinesis.split_shard('fan', 'shardId-000000000000', 5);
SELECT continuation_sequence_number, cardinality(records), (SELECT array_agg(shard_id) FROM unnest(child_shards)) AS children
FROM kinesis.subscribe_to_shard(:'app', '0', 'TRIM_HORIZON');

-- Its throughput is its own: get_records' calls and bytes are not touched, nor another consumer's.
SELECT kinesis.set_shard_limits('fan', NULL, NULL, 100000, 5);
SELECT consumer_arn AS other FROM kinesis.register_stream_consumer('fan', 'other') \gset
SELECT kinesis.put_record('fan', decode(repeat('ab', 150000), 'hex'), 'k', 2::numeric ^ 127) IS NOT NULL AS put;
SELECT cardinality(records) FROM kinesis.subscribe_to_shard(:'app', '1', 'TRIM_HORIZON');
SELECT cardinality(records) AS too_soon FROM kinesis.subscribe_to_shard(:'app', '1', 'TRIM_HORIZON', max_wait => '0');
SELECT cardinality(records) AS others FROM kinesis.subscribe_to_shard(:'other', '1', 'TRIM_HORIZON', max_wait => '0');
SELECT cardinality(records) AS polled FROM kinesis.get_records(kinesis.get_shard_iterator('fan', '1', 'TRIM_HORIZON'));
SELECT cardinality(records) AS in_time FROM kinesis.subscribe_to_shard(:'app', '1', 'TRIM_HORIZON', max_wait => '10 s');

-- Wrong subscriptions.
SELECT kinesis.subscribe_to_shard(NULL, '0', 'LATEST');
SELECT kinesis.subscribe_to_shard('fan', '0', 'LATEST');
SELECT kinesis.subscribe_to_shard('arn:aws:kinesis:us-east-1:000000000000:stream/fan', '0', 'LATEST');
SELECT kinesis.subscribe_to_shard('arn:aws:kinesis:us-east-1:000000000000:stream/fan/consumer/app:12', '0', 'LATEST');
SELECT kinesis.subscribe_to_shard('arn:aws:kinesis:us-east-1:000000000000:stream/nowhere/consumer/app:12', '0', 'LATEST');
SELECT kinesis.subscribe_to_shard('arn:aws:kinesis:us-east-1:000000000000:stream/fan/consumer/app:x', '0', 'LATEST');
SELECT kinesis.subscribe_to_shard(:'app', '77', 'LATEST');
SELECT kinesis.subscribe_to_shard(:'app', '0', 'SOMEWHERE');
SELECT kinesis.subscribe_to_shard(:'app', '0', 'AT_SEQUENCE_NUMBER');
SELECT kinesis.subscribe_to_shard(:'app', '0', 'LATEST', max_wait => '-1 s');
SELECT kinesis.subscribe_to_shard(:'app', '0', 'LATEST', max_wait => '301 s');

-- Rights: those of a consumer of the stream.
CREATE ROLE fan_one;
SELECT kinesis.create_stream('fan-two', 1);
SELECT kinesis.grant_stream('fan-two', 'fan_one', 'consumer');
SET ROLE fan_one;
SELECT consumer_name FROM kinesis.register_stream_consumer('fan-two', 'mine');
SELECT consumer_name FROM kinesis.list_stream_consumers('fan-two');
SELECT kinesis.register_stream_consumer('fan', 'mine');
SELECT kinesis.subscribe_to_shard(:'app', '0', 'LATEST');
SELECT kinesis.deregister_stream_consumer(consumer_arn => :'app');
RESET ROLE;

-- Deregistered and gone; a stream with consumers goes only with a word.
SELECT kinesis.deregister_stream_consumer(consumer_arn => :'app');
SELECT kinesis.subscribe_to_shard(:'app', '0', 'LATEST');
SELECT kinesis.delete_stream('fan');
SELECT kinesis.delete_stream('fan', enforce_consumer_deletion => true);
SELECT kinesis.subscribe_to_shard(:'other', '0', 'LATEST');
SELECT kinesis.delete_stream('fan-two', true);
SELECT count(*) FROM kinesis.consumer;
DROP OWNED BY fan_one;
DROP ROLE fan_one;
