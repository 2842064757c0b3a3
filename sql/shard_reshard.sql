-- Splitting, merging, and any number of shards in one call: ranges tile, lineage is whole, nothing is lost.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('r', 2);
SELECT kinesis.set_shard_limits('r', NULL, NULL, NULL, NULL);
CREATE FUNCTION put(n int) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(sequence_number) FROM kinesis.put_records('r', (SELECT array_agg(i::text::bytea) FROM generate_series(1, n) i), (SELECT array_agg('key-' || i) FROM generate_series(1, n) i)) $$;
CREATE FUNCTION refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END
$$;
SELECT put(100);
-- Where a split may be: each child keeps at least two keys.
SELECT refused($$SELECT kinesis.split_shard('r', '0', 0)$$);
SELECT refused($$SELECT kinesis.split_shard('r', '0', 1)$$);
SELECT refused($$SELECT kinesis.split_shard('r', '0', 170141183460469231731687303715884105727)$$);
SELECT refused($$SELECT kinesis.split_shard('r', '0', 170141183460469231731687303715884105728)$$);
SELECT refused($$SELECT kinesis.split_shard('r', '0', 5.5)$$);
SELECT refused($$SELECT kinesis.split_shard('r', '0', NULL)$$);
SELECT refused($$SELECT kinesis.split_shard('r', 'shardId-000000000009', 5)$$);
SELECT refused($$SELECT kinesis.split_shard('r', 'nonsense', 5)$$);
SELECT refused($$SELECT kinesis.split_shard('r', '99999999999', 5)$$);
SELECT refused($$SELECT kinesis.split_shard('nowhere', '0', 5)$$);
SELECT kinesis.split_shard('r', '0', 2);
SELECT kinesis.split_shard('r', '1', 340282366920938463463374607431768211454);
SELECT shard_id, parent_shard_id, starting_hash_key, ending_hash_key FROM kinesis.list_shards('r', shard_filter_type => 'AT_LATEST');
SELECT refused($$SELECT kinesis.split_shard('r', '0', 100)$$);
SELECT refused($$SELECT kinesis.split_shard('r', '2', 1)$$);
-- Merges: neighbours, the lower one first, both open.
SELECT refused($$SELECT kinesis.merge_shards('r', '3', '2')$$);
SELECT refused($$SELECT kinesis.merge_shards('r', '2', '4')$$);
SELECT refused($$SELECT kinesis.merge_shards('r', '2', '2')$$);
SELECT refused($$SELECT kinesis.merge_shards('r', '0', '1')$$);
SELECT refused($$SELECT kinesis.merge_shards('r', '2', NULL)$$);
SELECT kinesis.merge_shards('r', '2', '3');
SELECT put(100);

-- Any target, from any shape.
CREATE FUNCTION shape() RETURNS text LANGUAGE sql AS $$
    SELECT format('%s open, tiling %s, uniform %s, orphans %s, faults %s', count(*),
        sum(ending_hash_key - starting_hash_key + 1) = 2::numeric ^ 128 AND count(*) FILTER (WHERE follows IS NOT NULL AND follows <> ending_hash_key + 1) = 0,
        max(ending_hash_key - starting_hash_key) - min(ending_hash_key - starting_hash_key) < count(*),
        (SELECT count(*) FROM kinesis.list_shards('r') c WHERE c.parent_shard_id IS NULL AND c.shard_id > 'shardId-000000000001'),
        (SELECT count(*) FROM kinesis.check_stream('r')))
    FROM (SELECT *, lead(starting_hash_key) OVER (ORDER BY starting_hash_key) AS follows FROM kinesis.list_shards('r', shard_filter_type => 'AT_LATEST')) s $$;
CREATE TABLE progress (target int, answer kinesis.update_shard_count_result, put bigint, shape text);
DO $$
DECLARE
    n int;
    answer kinesis.update_shard_count_result;
BEGIN
    FOREACH n IN ARRAY ARRAY[1, 2, 3, 7, 4, 16, 16, 5, 1, 10] LOOP
        answer := kinesis.update_shard_count('r', n);
        INSERT INTO progress VALUES (n, answer, put(50), shape());
    END LOOP;
END
$$;
SELECT target, (answer).current_shard_count, (answer).target_shard_count, put, shape FROM progress;
SELECT refused($$SELECT kinesis.update_shard_count('r', 0)$$);
SELECT refused($$SELECT kinesis.update_shard_count('r', 10001)$$);
SELECT refused($$SELECT kinesis.update_shard_count('r', NULL)$$);
SELECT refused($$SELECT kinesis.update_shard_count('r', 4, 'SOME')$$);

-- Followed from the first shards through all generations, every record is met once, and parents end before children begin.
CREATE TABLE met (shard text, n bigint);
WITH RECURSIVE road AS (
    SELECT shard_id, 0 AS depth FROM kinesis.list_shards('r') WHERE parent_shard_id IS NULL
    UNION
    SELECT c.shard_id, depth + 1 FROM road JOIN kinesis.list_shards('r') c ON road.shard_id IN (c.parent_shard_id, c.adjacent_parent_shard_id)
)
INSERT INTO met SELECT s.shard_id, (SELECT count(*) FROM kinesis.read_shard('r', s.shard_id)) FROM (SELECT DISTINCT shard_id FROM road) s;
SELECT sum(n) AS met, (SELECT count(*) FROM kinesis_stream.r) AS stored, 200 + sum(put) AS put FROM met, (SELECT sum(put) AS put FROM progress) p GROUP BY p.put;
SELECT bool_and(p.ending_sequence_number < c.starting_sequence_number) AS in_order
FROM kinesis.list_shards('r') c JOIN kinesis.list_shards('r') p ON p.shard_id IN (c.parent_shard_id, c.adjacent_parent_shard_id);
-- The end of every closed shard names children that name it as a parent.
SELECT count(*) AS closed, count(*) FILTER (WHERE g.next_shard_iterator IS NULL AND cardinality(g.child_shards) > 0
    AND (SELECT bool_and(s.shard_id = ANY (c.parent_shards)) FROM unnest(g.child_shards) c)) AS well_ended
FROM kinesis.list_shards('r') s, LATERAL kinesis.get_records(kinesis.get_shard_iterator('r', s.shard_id, 'LATEST')) g WHERE s.ending_sequence_number IS NOT NULL;

-- A shard that was written to and split in one transaction, and the same rolled back.
SELECT kinesis.create_stream('one', 1);
BEGIN;
SELECT shard_id FROM kinesis.put_record('one', 'x', 'k', 0);
SELECT kinesis.split_shard('one', '0', 2::numeric ^ 127);
SELECT shard_id FROM kinesis.put_record('one', 'y', 'k', 0);
ROLLBACK;
SELECT shard_id FROM kinesis.put_record('one', 'z', 'k', 0);
BEGIN;
SELECT shard_id FROM kinesis.put_record('one', 'x', 'k', 0);
SELECT kinesis.split_shard('one', '0', 2::numeric ^ 127);
SELECT shard_id FROM kinesis.put_record('one', 'y', 'k', 0);
COMMIT;
SELECT s.shard_id, convert_from(data, 'UTF8') AS data FROM kinesis.list_shards('one') s, LATERAL kinesis.read_shard('one', s.shard_id) ORDER BY 1, sequence_number;
SELECT * FROM kinesis.check_stream('one');
