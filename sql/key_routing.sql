-- A key's hash is its md5, whatever the length, alone and in a batch beside keys of other lengths.
CREATE EXTENSION kinesis;
CREATE FUNCTION md5_number(key text) RETURNS numeric LANGUAGE sql IMMUTABLE
RETURN (SELECT sum(('x' || substr(md5(key), 8 * i + 1, 8))::bit(32)::bigint::numeric * 2::numeric ^ (32 * (3 - i))) FROM generate_series(0, 3) i);

-- md5 works on blocks of 64 bytes and pads the last: all lengths up to 17 blocks.
SELECT count(*) AS keys, count(*) FILTER (WHERE kinesis.hash_key(k) IS DISTINCT FROM md5_number(k)) AS wrong
FROM (SELECT left(repeat('kinesis-é-日本', 100), n) FROM generate_series(0, 1000) n) x(k);

-- Batches of 1 to 41 records: every length beside every other, full and partly filled groups.
SELECT kinesis.create_stream('routed', 16);
SELECT kinesis.set_shard_limits('routed', NULL, NULL, NULL, NULL);
CREATE TABLE keys AS SELECT n, k FROM generate_series(1, 861) n, LATERAL (SELECT left(repeat(n || '-ключ-', 60), 1 + n * 37 % 256)) x(k);
DO $$
BEGIN
    FOR i IN 1..41 LOOP
        PERFORM kinesis.put_records('routed', array_agg(n::text::bytea ORDER BY n), array_agg(k ORDER BY n)) FROM keys WHERE n > i * (i - 1) / 2 AND n <= i * (i + 1) / 2;
    END LOOP;
END $$;
SELECT count(*) AS records, count(DISTINCT s.shard_id) AS shards, count(*) FILTER (WHERE md5_number(r.partition_key) BETWEEN s.starting_hash_key AND s.ending_hash_key) AS in_their_shard,
    count(*) FILTER (WHERE kinesis.shard_for_key('routed', r.partition_key) = s.shard_id) AS as_said
FROM kinesis.list_shards('routed') s, kinesis.read_shard('routed', s.shard_id) r JOIN keys ON n = convert_from(r.data, 'UTF8')::int AND k = r.partition_key;

-- A database with another encoding hashes the UTF-8 form, as every AWS client would.
SELECT current_database() AS this \gset
CREATE DATABASE kinesis_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
\c kinesis_latin1
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('latin', 4);
WITH key(k) AS (SELECT convert_from('\xe9e8ff', 'LATIN1') || i FROM generate_series(1, 9) i),
    put AS (SELECT p.* FROM kinesis.put_records('latin', (SELECT array_agg('x'::bytea) FROM key), (SELECT array_agg(k) FROM key)) p)
SELECT count(*) AS put, (SELECT count(*) FROM key WHERE to_hex(floor(kinesis.hash_key(k) / 2::numeric ^ 96)::bigint) = ltrim(left(md5(convert_to(k, 'UTF8')), 8), '0')) AS as_utf8 FROM put;
SELECT count(*) AS in_place FROM kinesis.list_shards('latin') s, kinesis.read_shard('latin', s.shard_id) r
WHERE kinesis.hash_key(r.partition_key) BETWEEN s.starting_hash_key AND s.ending_hash_key;
\c :this
DROP DATABASE kinesis_latin1;
