-- Tags by name and by ARN.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('t', 1, tags => '{"b": "2"}');
SELECT kinesis.add_tags_to_stream('t', '{"a": "1", "c": "", "b": "two"}');
SELECT * FROM kinesis.list_tags_for_stream('t');
SELECT * FROM kinesis.list_tags_for_stream('t', 'a', 1);
SELECT kinesis.remove_tags_from_stream('t', ARRAY['a', 'unknown']);
SELECT kinesis.tag_resource('arn:aws:kinesis:us-east-1:000000000000:stream/t', '{"Zürich @home": "x_.:/=+-@"}');
SELECT * FROM kinesis.list_tags_for_resource('arn:aws:kinesis:us-east-1:000000000000:stream/t');
SELECT kinesis.untag_resource('arn:aws:kinesis:us-east-1:000000000000:stream/t', ARRAY['b']);
SELECT * FROM kinesis.list_tags_for_resource('arn:aws:kinesis:us-east-1:000000000000:stream/t');
-- Wrong ones change nothing.
SELECT kinesis.add_tags_to_stream('t', '{}');
SELECT kinesis.add_tags_to_stream('t', NULL);
SELECT kinesis.add_tags_to_stream('t', '["a"]');
SELECT kinesis.add_tags_to_stream('t', '{"": "x"}');
SELECT kinesis.add_tags_to_stream('t', jsonb_build_object(repeat('k', 129), 'x'));
SELECT kinesis.add_tags_to_stream('t', jsonb_build_object('k', repeat('v', 257)));
SELECT kinesis.add_tags_to_stream('t', '{"k": null}');
SELECT kinesis.add_tags_to_stream('t', '{"k": "semi;colon"}');
SELECT kinesis.add_tags_to_stream('t', '{"aws:k": "x"}');
SELECT kinesis.add_tags_to_stream('t', (SELECT jsonb_object_agg('k' || i, i::text) FROM generate_series(1, 49) i));
SELECT kinesis.remove_tags_from_stream('t', ARRAY[]::text[]);
SELECT kinesis.remove_tags_from_stream('t', NULL);
SELECT kinesis.list_tags_for_stream('t', "limit" => 51);
SELECT kinesis.tag_resource('t', '{"a": "1"}');
SELECT kinesis.tag_resource(NULL, '{"a": "1"}');
SELECT kinesis.list_tags_for_resource('arn:aws:s3:::bucket');
SELECT kinesis.list_tags_for_stream('nowhere');
SELECT count(*) FROM kinesis.list_tags_for_stream('t');
SELECT kinesis.add_tags_to_stream('t', (SELECT jsonb_object_agg('k' || i, i::text) FROM generate_series(1, 48) i));
SELECT count(*), bool_or(has_more_tags) AS more FROM kinesis.list_tags_for_stream('t', "limit" => 50);

-- The session's settings change neither what is allowed nor how a token is read.
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SELECT kinesis.create_stream('settings', 3);
SELECT kinesis.add_tags_to_stream('settings', '{"a;b": "x<y>"}');
SET datestyle = 'SQL, DMY';
SELECT next_token AS token FROM kinesis.list_shards('settings', max_results => 2, shard_filter_type => 'AT_TIMESTAMP', shard_filter_timestamp => now()) OFFSET 1 \gset
SET datestyle = 'ISO, MDY';
SELECT shard_id FROM kinesis.list_shards(next_token => :'token');
RESET standard_conforming_strings;
RESET escape_string_warning;
RESET datestyle;
