-- AWS's quotas apply only where kinesis.aws_limits is on.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('q', 1);
SELECT count(kinesis.describe_limits()) FROM generate_series(1, 20);
SELECT (kinesis.update_shard_count('q', 4)).target_shard_count;
SELECT (kinesis.update_shard_count('q', 1)).target_shard_count;
SET kinesis.aws_limits = on;
\set VERBOSITY sqlstate
-- One call a second.
SELECT count(kinesis.describe_limits());
SELECT count(kinesis.describe_limits());
\set VERBOSITY default
SELECT count(kinesis.describe_limits());
SET kinesis.clock_offset = '2 s';
SELECT count(kinesis.describe_limits());
-- A read-only transaction can't count calls, and does not fail for that.
BEGIN READ ONLY;
SELECT count(kinesis.describe_limits()) FROM generate_series(1, 3);
COMMIT;
-- Twice or half.
SELECT kinesis.update_shard_count('q', 3);
SELECT (kinesis.update_shard_count('q', 2)).target_shard_count;
SELECT (kinesis.update_shard_count('q', 4)).target_shard_count;
SELECT kinesis.update_shard_count('q', 1);
-- Ten times a day for a stream: eight more.
SELECT count(kinesis.update_shard_count('q', 4)) FROM generate_series(1, 8);
SELECT kinesis.update_shard_count('q', 2);
SET kinesis.clock_offset = '10 s';
SELECT kinesis.update_shard_count('q', 2);
SET kinesis.clock_offset = '25 h';
SELECT (kinesis.update_shard_count('q', 2)).target_shard_count;
-- Mode twice a day.
SELECT kinesis.update_stream_mode('q', 'ON_DEMAND'), kinesis.update_stream_mode('q', 'PROVISIONED');
SELECT kinesis.update_stream_mode('q', 'ON_DEMAND');

-- GetShardIterator: five calls a second for a shard, and only while the setting is on.
CREATE FUNCTION iterators(n int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..n LOOP
        PERFORM kinesis.get_shard_iterator('iterators', '0', 'LATEST');
    END LOOP;
    RETURN 'all';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END $$;
RESET kinesis.aws_limits;
SELECT kinesis.create_stream('iterators', 1);
SELECT iterators(50);
SET kinesis.aws_limits = on;
SELECT iterators(50);
RESET kinesis.aws_limits;
