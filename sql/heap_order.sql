-- Place order is number order, also after aborts and VACUUM, which frees line pointers that a heap would fill again.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('heap', 1);
SELECT kinesis.set_shard_limits('heap', NULL, NULL, NULL, NULL);
CREATE FUNCTION slice() RETURNS regclass LANGUAGE sql AS $$
    SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'kinesis_stream'::regnamespace AND relkind = 'r' AND pg_relation_size(c.oid) > 0 $$;
CREATE FUNCTION put(what text) RETURNS bigint LANGUAGE sql AS $$ SELECT sequence_number FROM kinesis.put_record('heap', what::bytea, 'k') $$;

-- Lost records in the middle of the last page, then VACUUM: their line pointers are free.
SELECT put('a') IS NOT NULL AS put;
BEGIN;
SELECT put('lost 1') IS NOT NULL AS put;
SELECT put('lost 2') IS NOT NULL AS put;
ROLLBACK;
SELECT put('b') IS NOT NULL AS put;
SELECT format('VACUUM %s', slice()) AS vacuum \gset
:vacuum;
SELECT put('c') IS NOT NULL AS put;
SELECT count(sequence_number) FROM kinesis.put_records('heap', ARRAY['d', 'e']::bytea[], ARRAY['k', 'k']);
SELECT string_agg(convert_from(data, 'UTF8'), ' ' ORDER BY ctid) AS by_place, string_agg(convert_from(data, 'UTF8'), ' ' ORDER BY sequence_number) AS by_number FROM kinesis_stream.heap;
SELECT string_agg(convert_from(data, 'UTF8'), ' ' ORDER BY o) AS by_reader FROM kinesis.read_shard('heap', '0') WITH ORDINALITY AS r(sn, at, key, data, enc, o);

-- All of a page lost: VACUUM leaves an empty page at the end, then in the middle.
BEGIN;
SELECT count(p.sequence_number) FROM generate_series(1, 4) i, LATERAL kinesis.put_records('heap', array_fill(decode(repeat('ab', 100), 'hex'), ARRAY[500]), array_fill(i::text, ARRAY[500])) p;
ROLLBACK;
:vacuum;
SELECT kinesis.get_shard_iterator('heap', '0', 'LATEST') AS latest \gset
SELECT put('f') IS NOT NULL AS put;
SELECT convert_from(r.data, 'UTF8') FROM kinesis.get_records(:'latest') g, unnest(g.records) r;
SELECT string_agg(convert_from(data, 'UTF8'), ' ' ORDER BY o) AS by_reader FROM kinesis.read_shard('heap', '0') WITH ORDINALITY AS r(sn, at, key, data, enc, o);

-- Found from every position, over pages with and without records.
DO $$
BEGIN
    FOR i IN 1 .. 20 LOOP
        PERFORM kinesis.put_records('heap', array_fill(convert_to('kept ' || i, 'UTF8'), ARRAY[200]), array_fill('k'::text, ARRAY[200]));
        BEGIN
            PERFORM kinesis.put_records('heap', array_fill(decode(repeat('ab', 100 * i), 'hex'), ARRAY[200]), array_fill('k'::text, ARRAY[200]));
            RAISE division_by_zero;
        EXCEPTION WHEN division_by_zero THEN
            NULL;
        END;
    END LOOP;
END
$$;
:vacuum;
SELECT count(*) AS positions, count(*) FILTER (WHERE (SELECT count(*) FROM kinesis.read_shard('heap', '0', r.sequence_number)) <> total - n) AS wrong,
    count(*) FILTER (WHERE (SELECT g.records[1].sequence_number FROM kinesis.get_records(kinesis.get_shard_iterator('heap', '0', 'AT_SEQUENCE_NUMBER', r.sequence_number), 1) g) <> r.sequence_number) AS wrong_start
FROM (SELECT sequence_number, row_number() OVER (ORDER BY sequence_number) AS n, count(*) OVER () AS total FROM kinesis.read_shard('heap', '0')) r WHERE n % 97 = 0 OR n < 10 OR total - n < 10;
SELECT * FROM kinesis.check_stream('heap');

-- After a fresh look at the tail (as after a restart) numbers go on above the lost ones or the kept ones, never below a kept one.
SELECT max(sequence_number) AS last FROM kinesis.read_shard('heap', '0') \gset
SET kinesis.clock_offset = '-2 h';
SELECT put('g') > :last AS above;
RESET kinesis.clock_offset;

-- The check finds what is wrong. Only somebody who takes the guard off can do this.
SELECT format('ALTER TABLE %s DISABLE TRIGGER ALL', slice()) AS off \gset
:off;
SELECT kinesis.create_stream('sound', 1);
SELECT slice() AS slice, lower_bound, upper_bound FROM kinesis.slice WHERE slice()::text LIKE '%' || lower_bound || '%' AND stream_id = 1 \gset
INSERT INTO :slice VALUES (:last, 0, 'k', 'twice'), (:lower_bound, 0, 'k', 'early');
SELECT fault, shard_id, regexp_replace(detail, '[0-9]{10,}', 'N', 'g') AS detail FROM kinesis.check_stream('heap');
SELECT kinesis._sort_slice(:'slice') > 0 AS sorted;
SELECT fault, shard_id, regexp_replace(regexp_replace(detail, '[0-9]{10,}', 'N', 'g'), '\(.*\)', '(P)') AS detail FROM kinesis.check_stream('heap');
UPDATE kinesis.shard SET ending_hash_key = ending_hash_key - 1 WHERE stream_id = 1;
UPDATE kinesis.slice SET upper_bound = upper_bound + 1 WHERE stream_id = 1 AND lower_bound = :lower_bound;
INSERT INTO kinesis.slice VALUES (1, 0, 1, 2);
SELECT fault, shard_id, regexp_replace(regexp_replace(detail, '[0-9]{13,}', 'N', 'g'), '\(.*\)', '(P)') AS detail FROM kinesis.check_stream('heap') WHERE fault <> 'records';
SELECT * FROM kinesis.check_stream('sound');
ALTER TABLE kinesis_stream.sound DETACH PARTITION kinesis_stream."2/0";
SELECT fault, shard_id, detail FROM kinesis.check_stream('sound');
