-- kinesis.record[] has a send function of its own: the same bytes as PostgreSQL's, whatever the array holds.
CREATE EXTENSION kinesis;
SELECT typsend FROM pg_type WHERE oid = 'kinesis.record[]'::regtype;
SELECT kinesis.create_stream('wire', 1, max_record_size_in_kib => 1024);
SELECT kinesis.set_shard_limits('wire', NULL, NULL, NULL, NULL);
SELECT count(*) FROM kinesis.put_records('wire', (SELECT array_agg(convert_to(repeat('x', i * 3), 'UTF8') ORDER BY i) FROM generate_series(0, 400) i),
    (SELECT array_agg(left(repeat('ключ', 64), 1 + i % 256) ORDER BY i) FROM generate_series(0, 400) i));
SELECT shard_id FROM kinesis.put_record('wire', convert_to(repeat('0123456789', 100000), 'UTF8'), 'large');

CREATE TABLE arrays(name text, records kinesis.record[]);
INSERT INTO arrays SELECT 'as get_records makes them', records FROM kinesis.get_records(kinesis.get_shard_iterator('wire', '0', 'TRIM_HORIZON'));
INSERT INTO arrays SELECT 'aggregated', array_agg(r) FROM kinesis.read_shard('wire', '0') r;
INSERT INTO arrays VALUES
    ('none', '{}'),
    ('a null element', ARRAY[(1, now(), 'k', 'd', 'NONE'), NULL]::kinesis.record[]),
    ('null fields', ARRAY[(1, now(), 'k', NULL, NULL), (NULL, NULL, NULL, 'd', 'NONE')]::kinesis.record[]),
    ('two dimensions', ARRAY[[(1, now(), 'k', 'd', 'NONE')], [(2, now(), 'l', 'e', 'NONE')]]::kinesis.record[]),
    ('another lower bound', '[5:6]={"(1,2026-11-24,k,d,NONE)","(2,infinity,,\"\",KMS)"}'),
    ('compressed data', ARRAY[(1, now(), 'k', convert_to(repeat('z', 1000000), 'UTF8'), 'NONE')]::kinesis.record[]);
-- Fields that are compressed or out of line inside the element.
CREATE TABLE wide(r kinesis.record);
INSERT INTO wide VALUES ((1, now(), repeat('k', 200), convert_to(repeat('z', 1000000), 'UTF8'), 'NONE'));
INSERT INTO arrays SELECT 'from a stored row', ARRAY[r] FROM wide;
CREATE TABLE parts(k text, d bytea);
INSERT INTO parts VALUES (repeat('key', 2000), convert_to(repeat('z', 5000), 'UTF8'));
INSERT INTO arrays SELECT 'compressed fields', ARRAY[(1, now(), k, d, 'NONE')::kinesis.record] FROM parts;

SELECT name, cardinality(records) AS n, kinesis._records_send(records) = array_send(records) AS same FROM arrays;
SET client_encoding = 'ISO_8859_5';
SELECT name, kinesis._records_send(records) = array_send(records) AS same FROM arrays WHERE name IN ('aggregated', 'null fields');
RESET client_encoding;

-- And they are read back as what they were.
CREATE TABLE back(LIKE arrays);
SELECT format('COPY arrays TO PROGRAM %L (FORMAT binary)', 'cat > ' || current_setting('data_directory') || '/arrays.bin') AS out,
    format('COPY back FROM PROGRAM %L (FORMAT binary)', 'cat ' || current_setting('data_directory') || '/arrays.bin; rm ' || current_setting('data_directory') || '/arrays.bin') AS back \gset
:out;
:back;
SELECT a.name, a.records = b.records AS same FROM arrays a JOIN back b USING (name);
