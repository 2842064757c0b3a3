-- Reading a shard as rows, the end of closed shards, and SQL over the whole stream.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('rows', 2);
SELECT kinesis.set_shard_limits('rows', NULL, NULL, NULL, NULL);
SELECT count(error_code) AS failed FROM generate_series(1, 4) call,
    LATERAL kinesis.put_records('rows', (SELECT array_agg(convert_to(format('%s-%s', call, i), 'UTF8') ORDER BY i) FROM generate_series(1, 500) i),
        (SELECT array_agg('k' || i ORDER BY i) FROM generate_series(1, 500) i));

-- All of it, behind a number, a part of it.
SELECT count(*), count(*) = count(DISTINCT sequence_number) AS once FROM kinesis.read_shard('rows', '0');
SELECT sequence_number AS tenth FROM kinesis.read_shard('rows', '0', max_records => 10) ORDER BY sequence_number DESC LIMIT 1 \gset
SELECT (SELECT count(*) FROM kinesis.read_shard('rows', '0')) - (SELECT count(*) FROM kinesis.read_shard('rows', '0', :tenth)) AS skipped;
SELECT count(*) FROM kinesis.read_shard('rows', '0', :tenth, 7);
SELECT count(*) FROM kinesis.read_shard('rows', '0', max_records => 0);
SELECT count(*) FROM kinesis.read_shard('rows', '0', 9223372036854775807);
-- It streams: a scan of its own instead of a function scan, which whole rows and LATERAL still get. All say the same.
EXPLAIN (COSTS OFF) SELECT partition_key, data FROM kinesis.read_shard('rows', '0') WHERE partition_key = 'k7';
EXPLAIN (COSTS OFF) SELECT r FROM kinesis.read_shard('rows', '0') r;
SELECT (SELECT md5(string_agg(r::text, '' ORDER BY sequence_number)) FROM kinesis.read_shard('rows', '0') r) = (SELECT md5(string_agg(format('(%s,%s,%s,%s,%s)', sequence_number,
    quote_ident(approximate_arrival_timestamp::text), partition_key, '"\' || data::text || '"', encryption_type), '' ORDER BY sequence_number)) FROM kinesis.read_shard('rows', '0')) AS same;
SELECT count(*) FROM (SELECT kinesis.read_shard('rows', '0')) r;
SELECT s, count(*) > 0 AS some FROM (VALUES ('0'), ('1')) v(s), LATERAL kinesis.read_shard('rows', s) GROUP BY s ORDER BY s;
-- Joined, rescanned, through a cursor, in a prepared statement.
SELECT count(*) FROM kinesis.read_shard('rows', '0', max_records => 5) a CROSS JOIN kinesis.read_shard('rows', '0', max_records => 4) b;
PREPARE r(text, bigint) AS SELECT count(*) FROM kinesis.read_shard('rows', $1, NULL, $2);
EXECUTE r('0', 3);
EXECUTE r('1', 4);
SET plan_cache_mode = force_generic_plan;
EXECUTE r('1', 5);
BEGIN;
DECLARE c CURSOR FOR SELECT convert_from(data, 'UTF8') AS data FROM kinesis.read_shard('rows', kinesis.shard_for_key('rows', 'k1')) WHERE partition_key = 'k1';
FETCH 2 FROM c;
SELECT shard_id IS NOT NULL AS put FROM kinesis.put_record('rows', 'later', 'k1');
FETCH ALL FROM c;
ROLLBACK;
-- Large records come out whole.
SELECT shard_id IS NOT NULL AS put FROM kinesis.put_record('rows', decode(repeat('0123456789', 10000), 'hex'), 'large', 0);
SELECT length(data), md5(data) = md5(decode(repeat('0123456789', 10000), 'hex')) AS intact FROM kinesis.read_shard('rows', '0') WHERE partition_key = 'large';

-- get_records says the same as read_shard.
SELECT (SELECT md5(string_agg(u::text, '' ORDER BY u.sequence_number)) FROM kinesis.get_records(kinesis.get_shard_iterator('rows', '1', 'TRIM_HORIZON')) g, unnest(g.records) u)
    = (SELECT md5(string_agg(r::text, '' ORDER BY sequence_number)) FROM kinesis.read_shard('rows', '1') r) AS same;
-- At most 10 MiB a call.
SELECT count(kinesis.put_record('rows', decode(repeat('ab', 1000000), 'hex'), 'big', 0)) FROM generate_series(1, 12);
SELECT cardinality(records) AS records, millis_behind_latest > 0 AS behind FROM kinesis.get_records(kinesis.get_shard_iterator('rows', '0', 'AFTER_SEQUENCE_NUMBER',
    (SELECT min(sequence_number) - 1 FROM kinesis.read_shard('rows', '0') WHERE partition_key = 'big')));

-- A closed shard ends with its children, each with all its parents.
SELECT kinesis.merge_shards('rows', 'shardId-000000000000', 'shardId-000000000001');
SELECT cardinality(records) > 0 AS records, next_shard_iterator, millis_behind_latest, child_shards FROM kinesis.get_records(kinesis.get_shard_iterator('rows', '1', 'TRIM_HORIZON'));
SELECT records, next_shard_iterator, child_shards FROM kinesis.get_records(kinesis.get_shard_iterator('rows', '0', 'LATEST'));
SELECT next_shard_iterator IS NULL AS ended, child_shards FROM kinesis.get_records(kinesis.get_shard_iterator('rows', '1', 'TRIM_HORIZON'), 10);
SELECT records, next_shard_iterator IS NULL AS ended, child_shards FROM kinesis.get_records(kinesis.get_shard_iterator('rows', '2', 'TRIM_HORIZON'));

-- The stream's table: a time range prunes slices.
SET kinesis.clock_offset = '3 h';
SELECT kinesis.purge() IS NOT NULL AS purged;
SELECT kinesis.arrival(sequence_number) AS later FROM kinesis.put_record('rows', 'later', 'k1') \gset
RESET kinesis.clock_offset;
CREATE FUNCTION scanned(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line text;
    scans int := 0;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        scans := scans + (line ~ 'Scan on')::int;
    END LOOP;
    RETURN scans || ' slices';
END
$$;
SELECT scanned('SELECT count(*) FROM kinesis_stream.rows') = (SELECT count(*) || ' slices' FROM pg_class WHERE relnamespace = 'kinesis_stream'::regnamespace AND relkind = 'r') AS all_of_them;
SELECT scanned(format('SELECT * FROM kinesis_stream.rows WHERE shard = 2 AND sequence_number >= kinesis.sequence_at(%L) AND sequence_number < kinesis.sequence_at(%L)', :'later'::timestamptz, :'later'::timestamptz + interval '1 ms'));
SELECT convert_from(data, 'UTF8') AS data FROM kinesis_stream.rows WHERE sequence_number >= kinesis.sequence_at(:'later');
EXPLAIN (COSTS OFF) SELECT count(*) FROM kinesis_stream.rows WHERE shard = 2 AND sequence_number < kinesis.sequence_at('2001-01-01');
SELECT kinesis.arrival(kinesis.sequence_at('2026-11-24 10:00:00.123+00')) = '2026-11-24 10:00:00.123+00' AS round, kinesis.sequence_at('2026-11-24 10:00:00.1231+00') > kinesis.sequence_at('2026-11-24 10:00:00.123+00') AS up,
    kinesis.sequence_at('-infinity') AS low, kinesis.sequence_at('infinity') AS high, kinesis.sequence_at('2020-01-01 00:00:00.001+00') AS first_ms;
SELECT kinesis.arrival(-1);

-- Wrong arguments.
SELECT * FROM kinesis.read_shard('rows', '9');
SELECT * FROM kinesis.read_shard('rows', NULL);
SELECT * FROM kinesis.read_shard(NULL, '0');
SELECT * FROM kinesis.read_shard('nowhere', '0');
SELECT * FROM kinesis.read_shard('rows', '0', max_records => -1);
