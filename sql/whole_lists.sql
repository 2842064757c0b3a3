-- A list that is asked for without a limit is whole, however long it is.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('wide', 101);
SELECT has_more_shards, cardinality(shards) AS shards FROM kinesis.describe_stream('wide');
SELECT has_more_shards, cardinality(shards) AS shards FROM kinesis.describe_stream('wide', 10000);
SELECT has_more_shards, cardinality(shards) AS shards FROM kinesis.describe_stream('wide', exclusive_start_shard_id => 'shardId-000000000000');
SELECT kinesis.delete_stream('wide');
-- Closed shards are listed, too: many, without many tables.
SELECT kinesis.create_stream('old', 1);
DO $$
BEGIN
    FOR i IN 1..3 LOOP
        PERFORM kinesis.update_shard_count('old', 120);
        PERFORM kinesis.update_shard_count('old', 1);
    END LOOP;
END
$$;
SELECT count(*) AS shards, count(next_token) AS tokens, count(*) = (SELECT count(*) FROM kinesis.shards) AS all_of_them FROM kinesis.list_shards('old');
SELECT count(*) AS shards, count(next_token) AS tokens FROM kinesis.list_shards('old', max_results => 10000);
SELECT count(kinesis.create_stream('s' || i, 1)) FROM generate_series(1, 101) i;
SELECT count(*) AS streams, count(next_token) AS tokens, bool_or(has_more_streams) AS more FROM kinesis.list_streams();
SELECT count(*) AS streams, count(next_token) AS tokens, bool_and(has_more_streams) AS more FROM kinesis.list_streams(10000);
