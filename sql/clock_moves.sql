-- A clock that goes back, or a day ahead, and a server that was down past its made slices: numbers go on increasing.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('clock', 1);
CREATE FUNCTION put(what text) RETURNS bigint LANGUAGE sql AS $$ SELECT sequence_number FROM kinesis.put_record('clock', what::bytea, 'k') $$;
CREATE VIEW slices AS SELECT count(*) AS slices FROM kinesis.slice WHERE stream_id = (SELECT stream_id FROM kinesis.stream WHERE stream_name = 'clock');

SELECT put('now') AS now \gset
-- An hour back: the number goes on from the last one, one by one.
SET kinesis.clock_offset = '-1 h';
SELECT put('hour back') - :now AS step;
SELECT put('hour back 2') - :now AS step;
RESET kinesis.clock_offset;
SELECT put('back to now') - :now > 2 AS by_the_clock;

-- Down for ten hours: no slice is there, the producer has one made, by a worker, without seeing it in its own transaction's locks.
SELECT slices AS before FROM slices \gset
SET kinesis.clock_offset = '10 h';
BEGIN;
SELECT kinesis.arrival(put('ten hours later')) - now() BETWEEN interval '599 min' AND interval '601 min' AS ten_hours;
SELECT slices > :before AS made FROM slices;
SELECT count(*) AS relations_locked_for_ddl FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND c.relnamespace = 'kinesis_stream'::regnamespace AND l.mode NOT IN ('AccessShareLock', 'RowExclusiveLock');
ROLLBACK;
SELECT slices > :before AS still_there FROM slices;

-- A day ahead: a slice for that time; afterwards, with the right clock, numbers go on from there.
SET kinesis.clock_offset = '24 h';
SELECT put('tomorrow') AS tomorrow \gset
RESET kinesis.clock_offset;
SELECT put('today, after tomorrow') - :tomorrow AS step;
SELECT convert_from(data, 'UTF8') AS data FROM kinesis.read_shard('clock', '0');
-- Behind the latest, but not by a negative time.
SELECT millis_behind_latest FROM kinesis.get_records(kinesis.get_shard_iterator('clock', '0', 'AT_SEQUENCE_NUMBER', :tomorrow), 1);
-- Numbers that were given out are valid starting points, though they lie ahead of the clock.
SELECT convert_from(records[1].data, 'UTF8') FROM kinesis.get_records(kinesis.get_shard_iterator('clock', '0', 'AFTER_SEQUENCE_NUMBER', :tomorrow));
SELECT put('with ordering') > :tomorrow + 1 AS larger FROM (SELECT sequence_number FROM kinesis.put_record('clock', 'x', 'k', sequence_number_for_ordering => :tomorrow)) o;

-- Children begin behind their parent, also now that the clock is behind it.
SELECT kinesis.split_shard('clock', '0', 2::numeric ^ 127);
SELECT bool_and(starting_sequence_number > (SELECT ending_sequence_number FROM kinesis.shards WHERE shard_id = 'shardId-000000000000')) AS behind_parent
FROM kinesis.shards WHERE parent_shard_id = 'shardId-000000000000';
SELECT bool_and(sequence_number > (SELECT ending_sequence_number FROM kinesis.shards WHERE shard_id = 'shardId-000000000000')) AS behind_parent
FROM kinesis.put_records('clock', ARRAY['a', 'b']::bytea[], ARRAY['k', 'k'], ARRAY[0, 2::numeric ^ 127]);
-- The closed shard does not expire ahead of its last record, which arrived by the other clock.
SELECT closed_at >= kinesis.arrival(ending_sequence_number) AS not_before_its_records FROM kinesis.shards WHERE stream_name = 'clock' AND shard_id = 'shardId-000000000000';
SELECT * FROM kinesis.check_stream('clock');

-- A batch never straddles two slices, and a slice's bounds hold, wherever the clock stands.
SELECT kinesis.create_stream('edge', 1);
SELECT kinesis.set_shard_limits('edge', NULL, NULL, NULL, NULL);
DO $$
DECLARE
    edge timestamptz := date_trunc('hour', now()) + interval '1 hour';
BEGIN
    FOR i IN -3 .. 3 LOOP
        PERFORM set_config('kinesis.clock_offset', (extract(epoch FROM edge - clock_timestamp()) * 1000 + i)::text, false);
        PERFORM kinesis.put_records('edge', array_fill('x'::bytea, ARRAY[500]), array_fill('k'::text, ARRAY[500]));
    END LOOP;
END
$$;
RESET kinesis.clock_offset;
SELECT count(*), count(DISTINCT sequence_number) FROM kinesis.read_shard('edge', '0');
SELECT * FROM kinesis.check_stream('edge');

-- A stream made in the same transaction has no slices that a worker could see: the producer makes the one it misses itself.
BEGIN;
SELECT kinesis.create_stream('fresh', 1);
SET LOCAL kinesis.clock_offset = '5 h';
SELECT shard_id FROM kinesis.put_record('fresh', 'x', 'k');
COMMIT;
SELECT * FROM kinesis.check_stream('fresh');
SELECT count(*) FROM kinesis.read_shard('fresh', '0');
