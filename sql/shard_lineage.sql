-- update_shard_count: the lineage is shallow, has no more shards than needed, and ends in exactly the uniform ranges.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('l', 1);
SELECT kinesis.set_shard_limits('l', NULL, NULL, NULL, NULL);
CREATE FUNCTION put(what text) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(sequence_number) FROM kinesis.put_records('l', (SELECT array_agg(what::bytea) FROM generate_series(1, 40)), (SELECT array_agg('key-' || i) FROM generate_series(1, 40) i)) $$;

-- Each shard with each of its parents.
CREATE FUNCTION family() RETURNS TABLE (child text, parent text, merged boolean, low numeric, high numeric) LANGUAGE sql AS $$
    SELECT shard_id, unnest(ARRAY[parent_shard_id, adjacent_parent_shard_id]), adjacent_parent_shard_id IS NOT NULL, starting_hash_key, ending_hash_key FROM kinesis.list_shards('l') $$;
-- Generations between the shards that were open before a call and those that are open behind it.
CREATE FUNCTION depth(before text[]) RETURNS int LANGUAGE sql AS $$
    WITH RECURSIVE lineage AS MATERIALIZED (SELECT * FROM family()), road AS (
        SELECT unnest(before) AS shard_id, 0 AS depth
        UNION
        SELECT child, depth + 1 FROM road JOIN lineage ON parent = shard_id
    )
    SELECT max(depth) FROM road $$;
-- The least number of new shards: two for each border that is new, one for each that goes.
CREATE FUNCTION least_new(before numeric[], n int) RETURNS bigint LANGUAGE sql AS $$
    WITH uniform AS (SELECT i * div(2::numeric ^ 128, n) AS border FROM generate_series(0, n - 1) i)
    SELECT 2 * count(*) FILTER (WHERE old IS NULL) + count(*) FILTER (WHERE border IS NULL) FROM uniform FULL JOIN unnest(before) old ON old = border $$;
CREATE FUNCTION reshape(n int, OUT depth int, OUT shallow boolean, OUT new_shards bigint, OUT fewest boolean, OUT uniform boolean, OUT closed_at_once boolean,
    OUT families boolean, OUT faults bigint) LANGUAGE plpgsql AS $$
DECLARE
    before text[];
    borders numeric[];
BEGIN
    SELECT array_agg(shard_id), array_agg(starting_hash_key) INTO before, borders FROM kinesis.list_shards('l', shard_filter_type => 'AT_LATEST');
    SELECT count(*) INTO new_shards FROM kinesis.list_shards('l');
    PERFORM put('before ' || n);
    PERFORM kinesis.update_shard_count('l', n);
    PERFORM put('behind ' || n);
    depth := depth(before);
    shallow := depth <= 2 * ceil(log(2, greatest(n, cardinality(before)))) + 2 AND depth <= ceil(log(2, n)) + ceil(log(2, cardinality(before)));
    SELECT count(*) - new_shards INTO new_shards FROM kinesis.list_shards('l');
    fewest := new_shards = least_new(borders, n);
    SELECT array_agg((starting_hash_key, ending_hash_key) ORDER BY starting_hash_key) =
        (SELECT array_agg((i * step, CASE i WHEN n - 1 THEN 2::numeric ^ 128 ELSE (i + 1) * step END - 1) ORDER BY i) FROM generate_series(0, n - 1) i, div(2::numeric ^ 128, n) step)
        INTO uniform FROM kinesis.list_shards('l', shard_filter_type => 'AT_LATEST');
    -- Of the new shards only those that stay open have tables.
    SELECT bool_and((to_regclass(format('kinesis_stream."1/%s"', shard_index)) IS NULL) = (ending_sequence_number IS NOT NULL))
        INTO closed_at_once FROM kinesis.shard WHERE kinesis._shard_id(shard_index) > (SELECT max(b) FROM unnest(before) b);
    -- A split makes two children of one parent, whose ranges they share; a merge one child of two neighbours.
    SELECT bool_and(CASE WHEN ending_sequence_number IS NULL THEN children = 0 WHEN merges = 0 THEN children = 2 AND (low, high) = (starting_hash_key, ending_hash_key)
        ELSE children = 1 AND merges = 1 END) INTO families
        FROM (SELECT starting_hash_key, ending_hash_key, ending_sequence_number, count(child) AS children, count(*) FILTER (WHERE merged) AS merges, min(low) AS low, max(high) AS high
            FROM kinesis.list_shards('l') p LEFT JOIN family() ON parent = shard_id GROUP BY p.shard_id, starting_hash_key, ending_hash_key, ending_sequence_number) f;
    SELECT count(*) INTO faults FROM kinesis.check_stream('l');
END
$$;

SELECT 300 AS target, * FROM reshape(300);
SELECT 1 AS target, * FROM reshape(1);
SELECT target, r.* FROM unnest(ARRAY[7, 5, 5, 64, 63, 2, 3, 1]) WITH ORDINALITY AS t(target, i), LATERAL reshape(target) r ORDER BY i;
-- From ranges of very different sizes.
SELECT kinesis.split_shard('l', (SELECT max(shard_id) FROM kinesis.list_shards('l')), 5);
SELECT kinesis.split_shard('l', (SELECT max(shard_id) FROM kinesis.list_shards('l')), 2::numeric ^ 127 + 12345);
SELECT kinesis.split_shard('l', (SELECT max(shard_id) FROM kinesis.list_shards('l')), 2::numeric ^ 128 - 7);
SELECT kinesis.split_shard('l', (SELECT max(shard_id) FROM kinesis.list_shards('l')), 2::numeric ^ 128 - 4);
SELECT 40 AS target, * FROM reshape(40);
SELECT 3 AS target, * FROM reshape(3);

-- Each key's records are in the order in which they were put, over all generations.
SELECT count(*) AS keys, sum(records) AS records, count(DISTINCT said) AS orders, max(said) FROM (
    SELECT partition_key, count(*) AS records, string_agg(convert_from(data, 'UTF8'), ', ' ORDER BY sequence_number) AS said FROM kinesis_stream.l GROUP BY partition_key) k;
