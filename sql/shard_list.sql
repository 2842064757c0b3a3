-- list_shards: every filter of the API, and pages.
CREATE EXTENSION kinesis;
SELECT 1000 * extract(epoch FROM date_trunc('hour', now()) + interval '61 min' - now()) AS base \gset
SET kinesis.clock_offset = :base;
SELECT kinesis.create_stream('l', 2);
CREATE FUNCTION ids(filter text, shard text DEFAULT NULL, at timestamptz DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(ltrim(split_part(shard_id, '-', 2), '0') , ' ' ORDER BY shard_id), '-') FROM kinesis.list_shards('l', shard_filter_type => filter, shard_filter_shard_id => shard, shard_filter_timestamp => at) $$;
SELECT kinesis._now() AS t0 \gset
SELECT :base + 3600000.0 AS clock \gset
SET kinesis.clock_offset = :clock;
SELECT kinesis.split_shard('l', '0', 2::numeric ^ 126);
SELECT kinesis._now() AS t1 \gset
SELECT :base + 7200000.0 AS clock \gset
SET kinesis.clock_offset = :clock;
SELECT kinesis.merge_shards('l', '3', '1');
-- 0 -> 2, 3; 3 + 1 -> 4
SELECT shard_id, parent_shard_id, adjacent_parent_shard_id, starting_hash_key, ending_hash_key, ending_sequence_number IS NULL AS open FROM kinesis.list_shards('l');
SELECT ids(NULL) AS default, ids('FROM_TRIM_HORIZON') AS from_trim_horizon, ids('AT_LATEST') AS at_latest, ids('AT_TRIM_HORIZON') AS at_trim_horizon, ids('AFTER_SHARD_ID', 'shardId-000000000001') AS after_1;
SELECT ids('AT_TIMESTAMP', at => :'t0') AS at_t0, ids('AT_TIMESTAMP', at => :'t1') AS at_t1, ids('AT_TIMESTAMP', at => kinesis._now()) AS at_now, ids('AT_TIMESTAMP', at => '2001-01-01') AS long_ago;
SELECT ids('FROM_TIMESTAMP', at => :'t0') AS from_t0, ids('FROM_TIMESTAMP', at => :'t1') AS from_t1, ids('FROM_TIMESTAMP', at => kinesis._now()) AS from_now, ids('FROM_TIMESTAMP', at => '2001-01-01') AS long_ago;
-- A day and a half hour later: 0 has expired.
SELECT :base + 3600000.0 * 25.5 AS clock \gset
SET kinesis.clock_offset = :clock;
SELECT ids(NULL) AS default, ids('AT_TRIM_HORIZON') AS at_trim_horizon, ids('AT_TIMESTAMP', at => :'t0') AS at_t0, ids('FROM_TIMESTAMP', at => :'t0') AS from_t0;
SELECT kinesis._now() AS t2 \gset

SELECT shard_id, next_token IS NOT NULL AS token FROM kinesis.list_shards('l', max_results => 2);
SELECT next_token AS token FROM kinesis.list_shards('l', max_results => 1) WHERE next_token IS NOT NULL \gset
SELECT shard_id, next_token IS NOT NULL AS token FROM kinesis.list_shards(next_token => :'token');
SELECT shard_id FROM kinesis.list_shards('l', exclusive_start_shard_id => 'shardId-000000000003');
SELECT count(*) FROM kinesis.list_shards('l', stream_creation_timestamp => (SELECT stream_creation_timestamp FROM kinesis.describe_stream_summary('l')));
\set VERBOSITY sqlstate
SELECT count(*) FROM kinesis.list_shards('l', stream_creation_timestamp => '2001-01-01');
\set VERBOSITY default
SELECT * FROM kinesis.list_shards();
SELECT * FROM kinesis.list_shards('l', :'token');
SELECT * FROM kinesis.list_shards(next_token => :'token', exclusive_start_shard_id => 'shardId-000000000000');
SELECT * FROM kinesis.list_shards('nowhere');
SELECT * FROM kinesis.list_shards('l', max_results => 0);
SELECT * FROM kinesis.list_shards('l', shard_filter_type => 'SOME');
SELECT * FROM kinesis.list_shards('l', shard_filter_type => 'AFTER_SHARD_ID');
SELECT * FROM kinesis.list_shards('l', shard_filter_type => 'AT_LATEST', shard_filter_shard_id => '0');
SELECT * FROM kinesis.list_shards('l', shard_filter_type => 'AT_TIMESTAMP');
SELECT * FROM kinesis.list_shards('l', shard_filter_timestamp => now());
SELECT * FROM kinesis.list_shards('l', exclusive_start_shard_id => 'x');
-- The token is the stream's: deleted with it.
SELECT kinesis.delete_stream('l');
SELECT * FROM kinesis.list_shards(next_token => :'token');
