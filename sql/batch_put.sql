-- put_records: a row a record in the order of the call; partial failure is data, a malformed entry is an error.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('many', 2);
CREATE TABLE answers(n int GENERATED ALWAYS AS IDENTITY, sequence_number bigint, shard_id text, error_code text, error_message text);

SELECT shard_id, sequence_number IS NOT NULL AS stored, error_code, error_message
FROM kinesis.put_records('many', ARRAY['a', 'b', 'c']::bytea[], ARRAY['k1', 'k2', 'k3'], ARRAY[0, NULL, 340282366920938463463374607431768211455]);
SELECT shard_id, sequence_number IS NOT NULL AS stored, error_code, error_message
FROM kinesis.put_records('many', ARRAY[('d', 'k4', 0), ('e', 'k5', 340282366920938463463374607431768211455)]::kinesis.put_records_request_entry[]);
-- In the select list, too, and through prepared statements.
PREPARE p(bytea[], text[]) AS SELECT (kinesis.put_records('many', $1, $2, ARRAY[0, 0])).shard_id;
EXECUTE p('{f,g}', '{k6,k7}');
EXECUTE p('{h,i}', '{k8,k9}');
-- Order of the call is order in the shard.
SELECT string_agg(convert_from(data, 'UTF8'), ' ' ORDER BY o) FROM kinesis.read_shard('many', '0') WITH ORDINALITY AS r(sn, at, key, data, enc, o);
-- The answer names the record that was stored.
INSERT INTO answers (sequence_number, shard_id, error_code, error_message)
    SELECT p.* FROM kinesis.put_records('many', (SELECT array_agg(i::text::bytea ORDER BY i) FROM generate_series(1, 500) i), (SELECT array_agg('key-' || i ORDER BY i) FROM generate_series(1, 500) i)) p;
SELECT count(*) AS answers, count(error_code) AS failed, count(DISTINCT (shard_id, sequence_number)) AS different FROM answers;
SELECT count(*) AS same FROM answers a
JOIN (SELECT 'shardId-000000000000' AS shard_id, * FROM kinesis.read_shard('many', '0') UNION ALL SELECT 'shardId-000000000001', * FROM kinesis.read_shard('many', '1')) r USING (shard_id, sequence_number)
WHERE r.partition_key = 'key-' || (a.n) AND convert_from(r.data, 'UTF8') = a.n::text AND kinesis.shard_for_key('many', r.partition_key) = a.shard_id;

-- Malformed calls: nothing is stored.
SELECT count(*) AS before FROM kinesis_stream.many \gset
SELECT kinesis.put_records('many', ARRAY[]::bytea[], ARRAY[]::text[]);
SELECT kinesis.put_records('many', array_fill('x'::bytea, ARRAY[501]), array_fill('k'::text, ARRAY[501]));
SELECT kinesis.put_records('many', ARRAY['a', 'b']::bytea[], ARRAY['k']);
SELECT kinesis.put_records('many', ARRAY['a', 'b']::bytea[], ARRAY['k', 'l'], ARRAY[1]);
SELECT kinesis.put_records('many', ARRAY['a', NULL]::bytea[], ARRAY['k', 'l']);
SELECT kinesis.put_records('many', ARRAY['a', 'b']::bytea[], ARRAY['k', NULL]);
SELECT kinesis.put_records('many', ARRAY['a', 'b']::bytea[], ARRAY['k', '']);
SELECT kinesis.put_records('many', ARRAY['a', 'b']::bytea[], ARRAY['k', repeat('l', 257)]);
SELECT kinesis.put_records('many', ARRAY['a', 'b']::bytea[], ARRAY['k', 'l'], ARRAY[0, 340282366920938463463374607431768211456]);
SELECT kinesis.put_records('many', ARRAY[['a', 'b'], ['c', 'd']]::bytea[], ARRAY['k', 'l']);
SELECT kinesis.put_records('many', NULL::bytea[], ARRAY['k']);
SELECT kinesis.put_records('many', ARRAY['a']::bytea[], NULL);
SELECT kinesis.put_records('nowhere', ARRAY['a']::bytea[], ARRAY['k']);
SELECT kinesis.put_records('many', ARRAY[NULL]::kinesis.put_records_request_entry[]);
SELECT kinesis.put_records('many', ARRAY[(NULL, 'k', NULL)]::kinesis.put_records_request_entry[]);
SELECT kinesis.put_records('many', ARRAY[('d', NULL, NULL)]::kinesis.put_records_request_entry[]);
SELECT kinesis.put_records('many', array_fill(decode(repeat('ab', 1048576 - 1), 'hex'), ARRAY[11]), array_fill('k'::text, ARRAY[11]));
SELECT kinesis.put_records('many', ARRAY['a', decode(repeat('ab', 1048576), 'hex')]::bytea[], ARRAY['k', 'k']);
SELECT count(*) - :before AS stored FROM kinesis_stream.many;
SELECT * FROM kinesis.check_stream('many');

-- A type of the extension that somebody has altered is refused, not walked over.
ALTER TYPE kinesis.put_records_request_entry ADD ATTRIBUTE a int, ADD ATTRIBUTE b int;
SELECT * FROM kinesis.put_records('many', ARRAY[('d', 'k', NULL, 1, 2)]::kinesis.put_records_request_entry[]);
