-- A function of the data plane in FROM is a scan of its own: same rows as the function, and a put happens once.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('from', 1);
SELECT kinesis.set_shard_limits('from', NULL, NULL, NULL, NULL);
CREATE FUNCTION stored() RETURNS bigint LANGUAGE sql RETURN (SELECT count(*) FROM kinesis_stream."from");

EXPLAIN (COSTS OFF) SELECT * FROM kinesis.put_record('from', 'a', 'k');
EXPLAIN (COSTS OFF) SELECT shard_id FROM kinesis.put_records('from', '{a,b}'::bytea[], '{k,k}'::text[]) WHERE error_code IS NULL;
EXPLAIN (COSTS OFF) SELECT * FROM kinesis.put_records('from', ARRAY[('a', 'k', NULL)]::kinesis.put_records_request_entry[]);
EXPLAIN (COSTS OFF) SELECT * FROM kinesis.get_records('x');
SELECT stored() AS by_explain;

-- What needs the function scan keeps it: the row as a whole, row numbers, several functions, arguments from the left.
EXPLAIN (COSTS OFF) SELECT p FROM kinesis.put_record('from', 'a', 'k') p;
EXPLAIN (COSTS OFF) SELECT * FROM kinesis.put_records('from', '{a,b}'::bytea[], '{k,k}'::text[]) WITH ORDINALITY;
EXPLAIN (COSTS OFF) SELECT * FROM ROWS FROM (kinesis.put_record('from', 'a', 'k'), generate_series(1, 2));
EXPLAIN (COSTS OFF) SELECT * FROM generate_series(1, 2) i, kinesis.put_record('from', 'a', 'k' || i);

-- One call, one put, however often the rows are read again.
SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off;
SELECT i, p.error_code FROM generate_series(1, 3) i LEFT JOIN kinesis.put_records('from', '{a,b}'::bytea[], '{k,k}'::text[]) p ON p.sequence_number > i;
SELECT stored() AS by_join;
SELECT i, (SELECT count(*) FROM kinesis.put_records('from', '{a,b}'::bytea[], '{k,k}'::text[]) WHERE sequence_number > i) FROM generate_series(1, 3) i;
SELECT stored() AS by_filter_from_outside;
SELECT i, (SELECT count(*) FROM kinesis.put_record('from', 'a', 'k' || i)) FROM generate_series(1, 3) i;
SELECT stored() AS by_argument_from_outside;
SELECT i, (SELECT count(*) FROM kinesis.put_records('from', ARRAY[('a', 'k' || i, NULL)]::kinesis.put_records_request_entry[])) FROM generate_series(1, 3) i;
SELECT stored() AS by_entries_from_outside;
SELECT a.sequence_number < b.sequence_number AS in_order FROM kinesis.put_record('from', 'a', 'k') a JOIN kinesis.put_record('from', 'b', 'k') b ON true;
SELECT stored() AS by_two_calls;
RESET enable_hashjoin; RESET enable_mergejoin; RESET enable_material;
SELECT * FROM kinesis.put_record('from', 'a', 'k') LIMIT 0;
SELECT stored() AS by_limit_0;
SELECT count(*) FROM (SELECT FROM kinesis.put_records('from', '{a,b}'::bytea[], '{k,k}'::text[]) LIMIT 1) x;
SELECT stored() AS all_by_limit_1;

-- What is known to be empty stays empty: nothing is read, nothing put.
SELECT kinesis.create_stream('other', 1);
SELECT * FROM (SELECT 1 AS k, shard_id FROM kinesis.put_record('from', 'a', 'k') UNION ALL SELECT 2, shard_id FROM kinesis.put_record('other', 'a', 'k')) u WHERE k = 1;
SELECT stored() AS by_union, (SELECT count(*) FROM kinesis_stream.other) AS by_the_other_half;
SELECT kinesis.put_record('other', 'b', 'k') IS NOT NULL AS put;
CREATE VIEW both_streams AS SELECT 'from' AS stream, sequence_number FROM kinesis.read_shard('from', '0') UNION ALL SELECT 'other', sequence_number FROM kinesis.read_shard('other', '0');
SELECT stream, count(*), count(sequence_number) FROM both_streams WHERE stream = 'other' GROUP BY 1;
SELECT count(*) FROM kinesis.put_record('from', 'a', 'k') WHERE false;
SELECT stored() AS by_false;
-- Arguments that depend on the outside in a roundabout way are looked at again.
CREATE TABLE outside(n text);
INSERT INTO outside VALUES ('x'), ('y'), ('x');
CREATE TABLE inside(n text, i int);
INSERT INTO inside VALUES ('x', 1);
SELECT o.n, (SELECT shard_id FROM kinesis.put_record(CASE WHEN 1 IN (SELECT i FROM inside t WHERE t.n = o.n) THEN 'from' ELSE 'other' END, 'A', 'k')) IS NOT NULL AS put FROM outside o;
SELECT stored() AS by_x, (SELECT count(*) FROM kinesis_stream.other) AS by_y;
-- A function that somebody has altered is called as it is now.
ALTER FUNCTION kinesis.read_shard STRICT;
SELECT count(*) FROM kinesis.read_shard('from', NULL);
ALTER FUNCTION kinesis.read_shard CALLED ON NULL INPUT;
ALTER FUNCTION kinesis.read_shard SET work_mem = '1MB';
EXPLAIN (COSTS OFF) SELECT count(*) FROM kinesis.read_shard('from', '0');
ALTER FUNCTION kinesis.read_shard RESET ALL;
-- A shard that is read again within a statement has the same rows, though they expire meanwhile.
SELECT kinesis.create_stream('expiring', 1);
SELECT count(*) FROM kinesis.put_records('expiring', '{a,b,c}'::bytea[], '{k,k,k}'::text[]);
SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off;
SELECT i, count(r.sequence_number) FROM generate_series(1, 6) i LEFT JOIN kinesis.read_shard('expiring', '0') r ON r.sequence_number > i AND set_config('kinesis.clock_offset', (i * 10) || ' h', false) IS NOT NULL GROUP BY 1 ORDER BY 1;
RESET enable_hashjoin; RESET enable_mergejoin; RESET enable_material;
SELECT count(*) AS expired_now FROM kinesis.read_shard('expiring', '0');
RESET kinesis.clock_offset;

-- The rows are those of the function.
WITH a AS MATERIALIZED (SELECT * FROM kinesis.get_records(kinesis.get_shard_iterator('from', '0', 'TRIM_HORIZON'), 5)),
    b AS MATERIALIZED (SELECT (kinesis.get_records(kinesis.get_shard_iterator('from', '0', 'TRIM_HORIZON'), 5)).*)
SELECT a.records = b.records AS same_records, a.millis_behind_latest > 0 AND b.millis_behind_latest > 0 AS behind, a.child_shards IS NULL AND b.child_shards IS NULL AS open, cardinality(a.records) FROM a, b;
SELECT count(*), count(DISTINCT r.sequence_number) FROM kinesis.read_shard('from', '0') r JOIN (SELECT (kinesis.read_shard('from', '0')).*) f ON (r.*) = (f.*);

-- Cursors, back and forth; prepared statements, also after DDL; views; results that outlive the call.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT shard_id, error_code FROM kinesis.put_records('from', '{a,b,c}'::bytea[], '{k,k,k}'::text[]);
FETCH 2 FROM c;
FETCH BACKWARD 1 FROM c;
FETCH ALL FROM c;
SELECT stored() AS by_cursor;
ROLLBACK;
SELECT stored() AS rolled_back;
PREPARE put(text) AS SELECT shard_id, encryption_type FROM kinesis.put_record('from', 'p', $1);
EXECUTE put('k');
CREATE VIEW tail AS SELECT partition_key, data FROM kinesis.read_shard('from', '0', max_records => 2);

SELECT kinesis.split_shard('from', 'shardId-000000000000', 170141183460469231731687303715884105728);
EXECUTE put('k');
SELECT * FROM tail;
CREATE TABLE kept AS SELECT * FROM kinesis.get_records(kinesis.get_shard_iterator('from', '0', 'TRIM_HORIZON'));
SELECT cardinality(records), next_shard_iterator, cardinality(child_shards) FROM kept;

-- Errors and rights are those of the function.
SELECT * FROM kinesis.put_record('from', NULL, 'k');
SELECT * FROM kinesis.put_records('from', '{a,b}'::bytea[], '{k}'::text[]);
SELECT * FROM kinesis.get_records('x');
CREATE ROLE from_nobody;
SET ROLE from_nobody;
SELECT * FROM kinesis.put_record('from', 'a', 'k');
SELECT * FROM kinesis.get_records('x');
RESET ROLE;
DROP ROLE from_nobody;
SELECT * FROM kinesis.check_stream('from');
