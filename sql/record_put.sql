-- Putting records: where they go, what comes back, and every kind of wrong input.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('put', 4);
SELECT kinesis.set_shard_limits('put', NULL, NULL, NULL, NULL);

-- The shard is the md5 of the key's; an explicit hash key overrides it.
SELECT kinesis.hash_key('user-1') = ('x' || substr(md5('user-1'), 1, 8))::bit(32)::bigint::numeric * 2::numeric ^ 96
    + ('x' || substr(md5('user-1'), 9, 8))::bit(32)::bigint::numeric * 2::numeric ^ 64
    + ('x' || substr(md5('user-1'), 17, 8))::bit(32)::bigint::numeric * 2::numeric ^ 32
    + ('x' || substr(md5('user-1'), 25, 8))::bit(32)::bigint::numeric AS is_md5;
SELECT shard_id = kinesis.shard_for_key('put', 'user-1') AS by_key, encryption_type FROM kinesis.put_record('put', 'one', 'user-1');
SELECT h.key, (SELECT shard_id FROM kinesis.put_record('put', 'x', 'user-1', explicit_hash_key => h.key))
FROM (VALUES (0), (85070591730234615865843651857942052863), (85070591730234615865843651857942052864),
    (340282366920938463463374607431768211455), (170141183460469231731687303715884105728.00)) h(key);
SELECT shard_id FROM kinesis.put_record('arn:aws:kinesis:us-east-1:000000000000:stream/put', 'by arn', 'k', 0);

-- Numbers increase in a shard, and hold the arrival time.
SELECT count(*), bool_and(sequence_number > previous) AS increase,
    bool_and(approximate_arrival_timestamp BETWEEN now() - interval '1 min' AND clock_timestamp() + interval '1 s') AS recent,
    bool_and(kinesis.arrival(sequence_number) = approximate_arrival_timestamp) AS same_time
FROM (SELECT *, coalesce(lag(sequence_number) OVER (ORDER BY o), 0) AS previous
    FROM kinesis.read_shard('put', 'shardId-000000000000') WITH ORDINALITY AS r(sequence_number, approximate_arrival_timestamp, partition_key, data, encryption_type, o)) r;

-- 0 bytes of data; bytes as they are; keys of one and 256 characters, also multi-byte ones.
SELECT max(sequence_number) AS last FROM kinesis.read_shard('put', '0') \gset
SELECT count(kinesis.put_record('put', d, k, 0))
FROM (VALUES (''::bytea, 'k'), ('\x00ff00'::bytea, repeat('k', 256)), ('\xc3'::bytea, repeat('ß', 256)), ('e'::bytea, repeat('𝄞', 256))) v(d, k);
SELECT length(data) AS bytes, data, char_length(partition_key) AS characters, octet_length(partition_key) AS key_bytes
FROM kinesis.read_shard('put', '0', :last);

-- sequence_number_for_ordering: a minimum that may not lie in the future.
SELECT n.sequence_number > o.sequence_number AS larger
FROM kinesis.put_record('put', 'first', 'k') o, LATERAL kinesis.put_record('put', 'second', 'k', sequence_number_for_ordering => o.sequence_number) n;
\set VERBOSITY terse
SELECT kinesis.put_record('put', 'x', 'k', sequence_number_for_ordering => 9000000000000000000);
SELECT kinesis.put_record('put', 'x', 'k', sequence_number_for_ordering => -1);

-- Wrong input.
\set VERBOSITY default
SELECT kinesis.put_record('put', 'x', '');
SELECT kinesis.put_record('put', 'x', repeat('k', 257));
SELECT kinesis.put_record('put', 'x', repeat('ß', 257));
SELECT kinesis.put_record(NULL, 'x', 'k');
SELECT kinesis.put_record('put', NULL, 'k');
SELECT kinesis.put_record('put', 'x', NULL);
SELECT kinesis.put_record('nowhere', 'x', 'k');
SELECT kinesis.put_record(repeat('n', 200), 'x', 'k');
SELECT kinesis.put_record('arn:aws:kinesis:eu-west-1:000000000000:stream/put', 'x', 'k');
SELECT kinesis.put_record('put', 'x', 'k', -1);
SELECT kinesis.put_record('put', 'x', 'k', 1.5);
SELECT kinesis.put_record('put', 'x', 'k', 'NaN');
SELECT kinesis.put_record('put', 'x', 'k', 340282366920938463463374607431768211456);
-- The largest record is 1 MiB with its key; one byte more is too much until the limit is raised.
SELECT shard_id FROM kinesis.put_record('put', decode(repeat('ab', 1048575), 'hex'), 'k', 0);
SELECT kinesis.put_record('put', decode(repeat('ab', 1048576), 'hex'), 'k', 0);
SELECT kinesis.update_max_record_size('put', 10240);
SELECT shard_id FROM kinesis.put_record('put', decode(repeat('ab', 10485759), 'hex'), 'k', 0);
SELECT kinesis.put_record('put', decode(repeat('ab', 10485760), 'hex'), 'k', 0);
SELECT length(data), md5(data) = md5(decode(repeat('ab', length(data)), 'hex')) AS intact FROM kinesis.read_shard('put', '0') WHERE length(data) > 1000;

-- Nothing of a refused put is there, and the stream is sound.
SELECT count(*) FROM kinesis_stream.put;
SELECT * FROM kinesis.check_stream('put');

-- Inside a transaction a record is there for the transaction itself, and goes with it.
BEGIN;
SELECT shard_id FROM kinesis.put_record('put', 'mine', 'tx', 0);
SELECT convert_from(data, 'UTF8') FROM kinesis.read_shard('put', '0') WHERE partition_key = 'tx';
SAVEPOINT s;
SELECT shard_id FROM kinesis.put_record('put', 'lost', 'tx', 0);
ROLLBACK TO s;
SELECT shard_id FROM kinesis.put_record('put', 'kept', 'tx', 0);
COMMIT;
SELECT convert_from(data, 'UTF8') FROM kinesis.read_shard('put', '0') WHERE partition_key = 'tx';
BEGIN READ ONLY;
SELECT kinesis.put_record('put', 'x', 'k');
ROLLBACK;

-- Records are immutable, for the owner too, and in replica mode.
INSERT INTO kinesis_stream.put VALUES (1, 0, 'k', 'x');
UPDATE kinesis_stream.put SET data = 'y';
DELETE FROM kinesis_stream.put;
TRUNCATE kinesis_stream.put;
COPY kinesis_stream.put FROM stdin;
\.
SET session_replication_role = replica;
DELETE FROM kinesis_stream.put;
RESET session_replication_role;
DO $$
DECLARE
    slice regclass;
BEGIN
    FOR slice IN SELECT c.oid FROM pg_class c WHERE relnamespace = 'kinesis_stream'::regnamespace AND relkind IN ('r', 'p') LOOP
        BEGIN
            EXECUTE format('DELETE FROM %s', slice);
            RAISE 'deleted from %', slice;
        EXCEPTION WHEN object_not_in_prerequisite_state THEN
            NULL;
        END;
    END LOOP;
END
$$;

-- An index would miss the records that are appended past the executor.
CREATE INDEX ON kinesis_stream.put (partition_key);
\set VERBOSITY sqlstate
SELECT shard_id FROM kinesis.put_record('put', 'x', 'k', 0);
DROP INDEX kinesis_stream.put_partition_key_idx;
SELECT shard_id FROM kinesis.put_record('put', 'x', 'k', 0);

-- A name that no stream can have is told as such, and shard ids have one rule everywhere.
SELECT kinesis.put_record('', 'x', 'k');
SELECT kinesis.put_record('put!', 'x', 'k');
SELECT kinesis.put_record(repeat('n', 129), 'x', 'k');
SELECT kinesis.get_shard_iterator('put', 'a b/ü-0', 'LATEST');
SELECT count(*) FROM kinesis.read_shard('put', 'a b/ü-0');
SELECT kinesis.split_shard('put', 'a b/ü-0', 5);
SELECT count(*) FROM kinesis.read_shard('put', repeat('x', 127) || '-0');
SELECT count(*) >= 0 AS any_prefix FROM kinesis.read_shard('put', 'any.prefix_of-0');
