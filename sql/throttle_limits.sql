-- Limits of a shard: token buckets with a second of burst; partial failures; retries get through.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('slow', 2);
SELECT write_bytes_per_second, write_records_per_second, read_bytes_per_second, read_calls_per_second FROM kinesis.streams;

-- Ten records a second: of 25 in one call ten pass, the others say why.
SELECT kinesis.set_shard_limits('slow', NULL, 10, NULL, NULL);
SELECT count(sequence_number) AS passed, count(error_code) AS throttled, min(error_code) AS code, min(error_message) AS message
FROM kinesis.put_records('slow', array_fill('x'::bytea, ARRAY[25]), array_fill('k'::text, ARRAY[25]), array_fill(0::numeric, ARRAY[25]));
SELECT kinesis.put_record('slow', 'x', 'k', 0);
\set VERBOSITY sqlstate
SELECT kinesis.put_record('slow', 'x', 'k', 0);
-- Atomic: all or nothing.
SELECT kinesis.put_records('slow', array_fill('x'::bytea, ARRAY[5]), array_fill('k'::text, ARRAY[5]), array_fill(0::numeric, ARRAY[5]), atomic => true);
\set VERBOSITY default
-- The other shard has limits of its own.
SELECT count(sequence_number) AS passed, count(error_code) AS throttled
FROM kinesis.put_records('slow', array_fill('x'::bytea, ARRAY[8]), array_fill('k'::text, ARRAY[8]), array_fill(340282366920938463463374607431768211455, ARRAY[8]));
-- Whoever retries what was throttled gets it through as the bucket fills.
CREATE PROCEDURE put_all(n int) LANGUAGE plpgsql AS $$
DECLARE
    todo int := n;
    done int;
    calls int := 0;
BEGIN
    WHILE todo > 0 LOOP
        SELECT count(sequence_number) INTO done FROM kinesis.put_records('slow', array_fill('retry'::bytea, ARRAY[todo]), array_fill('k'::text, ARRAY[todo]), array_fill(0::numeric, ARRAY[todo]));
        todo := todo - done;
        calls := calls + 1;
        COMMIT;
    END LOOP;
    RAISE NOTICE 'all through: %, several calls: %', todo = 0, calls > 1;
END
$$;
CALL put_all(15);
SELECT count(*) FROM kinesis.read_shard('slow', '0') WHERE data = 'retry';

-- A record above a second's worth passes once, when the bucket is full, and leaves a debt.
SELECT kinesis.set_shard_limits('slow', 1000, NULL, NULL, NULL);
SELECT kinesis.split_shard('slow', 'shardId-000000000000', 2::numeric ^ 126);
SELECT shard_id FROM kinesis.put_record('slow', decode(repeat('ab', 100000), 'hex'), 'k', 0);
SELECT kinesis.put_record('slow', 'x', 'k', 0);
-- An atomic batch above a second's worth: the same.
SELECT count(sequence_number) FROM kinesis.put_records('slow', array_fill(decode(repeat('ab', 1000), 'hex'), ARRAY[5]), array_fill('k'::text, ARRAY[5]), array_fill(2::numeric ^ 126, ARRAY[5]), atomic => true);
SELECT kinesis.put_records('slow', array_fill('x'::bytea, ARRAY[2]), array_fill('k'::text, ARRAY[2]), array_fill(2::numeric ^ 126, ARRAY[2]), atomic => true);

-- Reading: five calls a second, and bytes.
SELECT kinesis.set_shard_limits('slow', NULL, NULL, NULL, 2);
SELECT kinesis.get_shard_iterator('slow', '1', 'TRIM_HORIZON') AS it \gset
SELECT cardinality(records) FROM kinesis.get_records(:'it', 1);
SELECT cardinality(records) FROM kinesis.get_records(:'it', 1);
SELECT cardinality(records) FROM kinesis.get_records(:'it', 1);
SELECT kinesis.set_shard_limits('slow', NULL, NULL, 1000, NULL);
SELECT cardinality(records) FROM kinesis.get_records(kinesis.get_shard_iterator('slow', '2', 'TRIM_HORIZON'));
SELECT cardinality(records) FROM kinesis.get_records(kinesis.get_shard_iterator('slow', '2', 'TRIM_HORIZON'));
-- read_shard is not throttled.
SELECT count(*) FROM kinesis.read_shard('slow', '2');
SELECT kinesis.set_shard_limits('slow', 0, NULL, NULL, NULL);
SELECT kinesis.set_shard_limits('slow', NULL, NULL, NULL, NULL);
SELECT write_bytes_per_second, write_records_per_second, read_bytes_per_second, read_calls_per_second FROM kinesis.streams;
