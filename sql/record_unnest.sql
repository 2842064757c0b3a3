-- unnest(kinesis.record[]) in FROM is a scan of its own: the same rows as core's, whatever the array is like.
CREATE EXTENSION kinesis;
CREATE FUNCTION r(n int, data bytea DEFAULT 'data') RETURNS kinesis.record LANGUAGE sql IMMUTABLE RETURN ROW(n, '2026-01-01'::timestamptz + n * interval '1 s', 'key ' || n, data, 'NONE')::kinesis.record;
CREATE FUNCTION records(n int) RETURNS kinesis.record[] LANGUAGE sql STABLE RETURN ARRAY(SELECT r(i) FROM generate_series(1, n) i);
SET timezone = 'UTC';

EXPLAIN (COSTS OFF) SELECT * FROM unnest(records(3));
SELECT * FROM unnest(records(3));
SELECT data, sequence_number FROM unnest(records(3)) WHERE partition_key <> 'key 2';
SELECT count(*) FROM unnest(records(100000));
-- What needs the function scan keeps it; so do other arrays.
EXPLAIN (COSTS OFF) SELECT x FROM unnest(records(3)) x;
EXPLAIN (COSTS OFF) SELECT * FROM unnest(records(3)) WITH ORDINALITY;
EXPLAIN (COSTS OFF) SELECT * FROM generate_series(1, 2) i, unnest(records(i));
EXPLAIN (COSTS OFF) SELECT * FROM unnest(records(3), '{1,2}'::int[]);
EXPLAIN (COSTS OFF) SELECT * FROM unnest('{1,2}'::int[]);
CREATE TYPE other AS (sequence_number bigint);
EXPLAIN (COSTS OFF) SELECT * FROM unnest(ARRAY[ROW(1)]::other[]);

-- Nothing, nulls, rows with nulls, several dimensions.
SELECT * FROM unnest(NULL::kinesis.record[]);
SELECT * FROM unnest('{}'::kinesis.record[]);
SELECT * FROM unnest(ARRAY[r(1), NULL, ROW(NULL, NULL, NULL, NULL, NULL)::kinesis.record, ROW(2, NULL, '', '', NULL)::kinesis.record, r(3)]);
SELECT sequence_number, partition_key FROM unnest(ARRAY[[r(1), r(2)], [r(3), r(4)]]);
-- Long and compressed values, and an array that is stored.
SELECT sequence_number, length(data), md5(data) = md5(repeat('x', 100000)) AS same FROM unnest(ARRAY[r(1, repeat('x', 100000)::bytea), r(2, repeat('x', 100)::bytea)]);
CREATE TABLE stored AS SELECT ARRAY[r(1, repeat('x', 100000)::bytea), r(2)] AS records;
INSERT INTO stored SELECT records(2000);
SELECT count(*), sum(sequence_number), sum(length(data)) FROM stored, unnest(records);
PREPARE given(kinesis.record[]) AS SELECT count(*), sum(length(data)) FROM unnest($1);
DO $$
DECLARE
    a kinesis.record[] := (SELECT records FROM stored LIMIT 1);
    n bigint;
BEGIN
    SELECT sum(length(data)) INTO n FROM unnest(a);
    RAISE NOTICE 'stored: %', n;
    -- An array that was taken apart.
    a[2] := r(7, 'more');
    a[4] := r(8);
    SELECT sum(length(data)) INTO n FROM unnest(a);
    RAISE NOTICE 'changed: %, %', n, (SELECT count(*) FROM unnest(a) WHERE data IS NULL);
END $$;
EXECUTE given(records(10));
EXECUTE given(NULL);

-- Read again, in part, backwards and forwards.
SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off;
SELECT i, x.sequence_number FROM generate_series(1, 3) i LEFT JOIN unnest(records(4)) x ON x.sequence_number > i + 1 ORDER BY 1, 2;
RESET enable_hashjoin; RESET enable_mergejoin; RESET enable_material;
SELECT a.sequence_number FROM unnest(records(2)) a, unnest(records(2)) b;
SELECT * FROM unnest(records(3)) LIMIT 1;
SELECT i, (SELECT string_agg(partition_key, ' ') FROM unnest(records(3)) WHERE sequence_number <= i) FROM generate_series(0, 3) i;
SELECT i, (SELECT string_agg(partition_key, ' ') FROM unnest(records(i))) FROM generate_series(0, 3) i;
BEGIN;
DECLARE c CURSOR FOR SELECT sequence_number FROM unnest(records(5));
FETCH 2 FROM c;
FETCH 2 FROM c;
FETCH ALL FROM c;
COMMIT;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT sequence_number FROM unnest(records(3));
FETCH ALL FROM c;
FETCH BACKWARD 2 FROM c;
COMMIT;
-- The rows of a long array are the same by both.
SELECT count(*) FROM (SELECT * FROM unnest(records(5000)) EXCEPT ALL SELECT (x).* FROM (SELECT unnest(records(5000)) AS x) u) d;
SELECT count(*) FROM (SELECT (x).* FROM (SELECT unnest(records(5000)) AS x) u EXCEPT ALL SELECT * FROM unnest(records(5000))) d;

-- Rights are asked for, as by the function scan.
REVOKE EXECUTE ON FUNCTION unnest(anyarray) FROM PUBLIC;
CREATE ROLE unnest_nobody;
SET ROLE unnest_nobody;
SELECT * FROM unnest(NULL::kinesis.record[]);
RESET ROLE;
DROP ROLE unnest_nobody;
