-- Consumer groups: leases, checkpoints that only the holder of a lease can move, parents before children.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('work', 4);
SELECT kinesis.create_stream('more', 2);
CREATE FUNCTION put(n int, stream text DEFAULT 'work') RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM kinesis.put_records(stream, (SELECT array_agg(convert_to('r' || i, 'UTF8')) FROM generate_series(1, n) i), (SELECT array_agg('k' || i) FROM generate_series(1, n) i)) $$;
CREATE FUNCTION shares() RETURNS TABLE (member text, leases bigint) LANGUAGE sql AS $$ SELECT member_name, leases FROM kinesis.group_members ORDER BY 1 $$;
-- Works on all that is there, and checkpoints it.
CREATE TABLE done(shard text, n bigint);
CREATE FUNCTION work(who text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    p record;
    total bigint := 0;
BEGIN
    FOR p IN SELECT * FROM kinesis.poll_group('app', who) LOOP
        INSERT INTO done SELECT p.stream_name || '/' || p.shard_id, r.sequence_number FROM unnest(p.records) r;
        PERFORM kinesis.checkpoint('app', p.stream_name, p.shard_id, p.lease_token, (p.records[cardinality(p.records)]).sequence_number, shard_end => p.at_end);
        total := total + cardinality(p.records);
    END LOOP;
    RETURN total;
END $$;

SELECT put(100);
SELECT kinesis.create_group('app', '{work}');
SELECT kinesis.join_group('app', 'a', 'deadline');
SELECT shard_id, checkpoint, waits_for FROM kinesis.acquire_leases('app', 'a');
SELECT sum(cardinality(records)), count(*), bool_or(at_end) FROM kinesis.poll_group('app', 'a');
-- What is not checkpointed comes again; what is, does not.
SELECT sum(cardinality(records)) FROM kinesis.poll_group('app', 'a');
SELECT work('a'), (SELECT count(*) FROM done) AS done;
SELECT work('a'), put(10), work('a'), (SELECT count(DISTINCT (shard, n)) FROM done) AS done;
SELECT sum(cardinality(records)) AS limited FROM (SELECT put(50)) x, kinesis.poll_group('app', 'a', 7);

-- Members come and go: shares are even at once, and as few leases as possible change hands.
CREATE TABLE held AS SELECT shard_id, lease_token FROM kinesis.acquire_leases('app', 'a');
SELECT kinesis.join_group('app', 'b', 'deadline');
SELECT * FROM shares();
SELECT count(*) AS unmoved FROM kinesis.acquire_leases('app', 'a') JOIN held USING (shard_id, lease_token);
SELECT kinesis.join_group('app', 'c', 'deadline'), kinesis.join_group('app', 'd', 'deadline'), kinesis.join_group('app', 'e', 'deadline');
SELECT * FROM shares();
SELECT kinesis.leave_group('app', 'a'), kinesis.leave_group('app', 'c');
SELECT * FROM shares();
-- What a former holder has in hand is no longer its to finish.
SELECT kinesis.checkpoint('app', 'work', shard_id, lease_token, 0) FROM held ORDER BY shard_id LIMIT 1;
-- A deadline that has passed: the others take over.
SET kinesis.clock_offset = '8 s';
SELECT kinesis.heartbeat('app', 'b') > now() + interval '15 s' AS put_off;
SET kinesis.clock_offset = '12 s';
SELECT kinesis.heartbeat('app', 'd');
SELECT count(*) FROM kinesis.acquire_leases('app', 'b');
SELECT * FROM shares();
SELECT work('b'), (SELECT count(DISTINCT (shard, n)) FROM done) AS done;
RESET kinesis.clock_offset;
-- A member that has as much as it wants.
SELECT kinesis.join_group('app', 'small', 'deadline', max_leases => 1);
SELECT * FROM shares();
SELECT kinesis.leave_group('app', 'b');
SELECT * FROM shares();
SELECT state, count(*) FROM kinesis.group_lag('app') GROUP BY 1 ORDER BY 1;
SELECT state, member_name, count(*), min(cardinality(waits_for)) AS waits_for FROM kinesis.group_leases WHERE group_name = 'app' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT kinesis.leave_group('app', 'small'), kinesis.join_group('app', 'b', 'deadline');

-- Parents before children, through a split and a merge.
SELECT put(40);
SELECT kinesis.split_shard('work', 'shardId-000000000000', 42);
SELECT kinesis.merge_shards('work', 'shardId-000000000002', 'shardId-000000000003');
SELECT put(40);
SELECT shard_id, waits_for FROM kinesis.acquire_leases('app', 'b') ORDER BY 1;
SELECT shard_id, state, waits_for FROM kinesis.group_lag('app') WHERE state <> 'PROCESSING';
SELECT shard_id, state, member_name, checkpoint IS NULL AS at_its_beginning, waits_for FROM kinesis.group_leases WHERE group_name = 'app' ORDER BY 1;
SELECT DISTINCT shard_id, at_end FROM kinesis.poll_group('app', 'b') ORDER BY 1;
SELECT work('b') > 0 AS parents, work('b') > 0 AS children, work('b') AS nothing_left;
SELECT (SELECT count(*) FROM kinesis_stream.work) = count(*) AS all_done, count(*) = count(DISTINCT (shard, n)) AS each_once FROM done;
SELECT shard_id, records_behind, bytes_behind, millis_behind_latest FROM kinesis.group_lag('app');

-- Checkpoints: forward only, not behind what there is, sub-sequence numbers, the end only at the end.
SELECT put(1) \gset
SELECT shard_id AS shard, lease_token AS token, (records[1]).sequence_number AS number FROM kinesis.poll_group('app', 'b') \gset
SELECT kinesis.checkpoint('app', 'work', :'shard', :token, :number, 3);
SELECT sub_sequence_number, checkpoint = :number AS there FROM kinesis.acquire_leases('app', 'b') WHERE shard_id = :'shard';
SELECT kinesis.checkpoint('app', 'work', :'shard', :token, :number, 3);
\set VERBOSITY sqlstate
SELECT kinesis.checkpoint('app', 'work', :'shard', :token, :number, 2);
SELECT kinesis.checkpoint('app', 'work', :'shard', :token, 5);
\set VERBOSITY default
DO $$ BEGIN PERFORM kinesis.checkpoint('app', 'work', shard_id, lease_token, 9223372036854775807) FROM kinesis.acquire_leases('app', 'b') LIMIT 1;
EXCEPTION WHEN SQLSTATE 'KN003' THEN RAISE NOTICE '%', regexp_replace(sqlerrm, 'shardId-\d+', 'S'); END $$;
DO $$ BEGIN PERFORM kinesis.checkpoint('app', 'work', shard_id, lease_token, shard_end => true) FROM kinesis.acquire_leases('app', 'b') LIMIT 1;
EXCEPTION WHEN SQLSTATE 'KN003' THEN RAISE NOTICE '%', regexp_replace(regexp_replace(sqlerrm, 'shardId-\d+', 'S'), '\d{15,}', 'N'); END $$;
SELECT kinesis.checkpoint('app', 'work', :'shard', :token);
SELECT kinesis.checkpoint('app', 'work', :'shard', NULL, :number);
SELECT kinesis.checkpoint('app', 'more', '0', 1, 1);
SELECT kinesis.checkpoint('app', 'work', '77', 1, 1);

-- Wrong calls.
SELECT kinesis.create_group('app', '{work}');
SELECT kinesis.create_group('a b', '{work}');
SELECT kinesis.create_group('x', '{}');
SELECT kinesis.create_group('x', '{nowhere}');
SELECT kinesis.create_group('x', '{work}', 'SOMEWHERE');
SELECT kinesis.create_group('x', '{work}', 'AT_TIMESTAMP');
SELECT kinesis.create_group('x', '{work}', lease_duration => '0');
SELECT kinesis.join_group('nowhere', 'a');
SELECT kinesis.join_group('app', '');
SELECT kinesis.join_group('app', 'z', 'for ever');
SELECT kinesis.poll_group('app', 'nobody');
SELECT kinesis.poll_group('app', 'b', 0);
SELECT kinesis.poll_group('app', 'b', wait => '61 s');
SELECT kinesis.leave_group('app', 'nobody');

-- Several streams, from now on and from a time.
SELECT kinesis.create_group('two', '{work,more}', 'LATEST');
SELECT kinesis.join_group('two', 'm');
SELECT count(*) AS shards, count(DISTINCT stream_name) AS streams FROM kinesis.acquire_leases('two', 'm');
SELECT count(*) FROM kinesis.poll_group('two', 'm');
SELECT put(5, 'more'), put(5);
SELECT stream_name, sum(cardinality(records)) FROM kinesis.poll_group('two', 'm') GROUP BY 1 ORDER BY 1;
SELECT kinesis.create_group('since', '{more}', 'AT_TIMESTAMP', now() - interval '1 h'), kinesis.join_group('since', 'm');
SELECT sum(cardinality(records)) FROM kinesis.poll_group('since', 'm');
SELECT group_name, stream_names, initial_position FROM kinesis.groups ORDER BY 1;

-- Rights: of a consumer of all its streams.
CREATE ROLE group_one;
SELECT kinesis.grant_stream('work', 'group_one', 'consumer');
SET ROLE group_one;
SELECT group_name FROM kinesis.groups ORDER BY 1;
SELECT DISTINCT group_name FROM kinesis.group_leases ORDER BY 1;
SELECT kinesis.join_group('two', 'mine');
SELECT kinesis.join_group('app', 'mine');
SELECT kinesis.create_group('mine', '{more}');
RESET ROLE;
DROP OWNED BY group_one;
DROP ROLE group_one;

-- A stream that is deleted leaves its groups.
SELECT kinesis.delete_stream('more');
SELECT DISTINCT stream_name FROM kinesis.acquire_leases('two', 'm');
SELECT kinesis.delete_group('two'), kinesis.delete_group('app'), kinesis.delete_group('since');
SELECT (SELECT count(*) FROM kinesis.lease) + (SELECT count(*) FROM kinesis.group_member) + (SELECT count(*) FROM kinesis.group_stream) AS left;

-- Many changes: shares stay even, all is held that can be, and only what the one who comes gets, or the one who goes had, changes hands.
SELECT kinesis.create_stream('wide', 23), kinesis.create_group('wide', '{wide}');
CREATE TABLE wide_before (shard_index int, owner text);
CREATE FUNCTION wide_fault(what text, who text) RETURNS SETOF text LANGUAGE sql AS $$
    WITH member AS (SELECT m.member_name, coalesce(m.max_leases, 1000) AS cap, m.leases AS n FROM kinesis.group_members m WHERE group_name = 'wide'),
    lease AS (SELECT l.shard_index, l.owner FROM kinesis.lease l JOIN kinesis.consumer_group g USING (group_id) WHERE g.group_name = 'wide' AND l.owner IS NOT NULL)
    SELECT what || ': uneven' FROM member HAVING max(n) - min(n) FILTER (WHERE n < cap) > 1
    UNION ALL SELECT what || ': too many for ' || member_name FROM member WHERE n > cap
    UNION ALL SELECT what || ': ' || sum(n) || ' are held' FROM member HAVING sum(n) <> least(23, sum(cap))
    UNION ALL SELECT what || ': from ' || o.owner || ' to ' || n.owner FROM lease n JOIN wide_before o USING (shard_index) WHERE n.owner <> o.owner AND who NOT IN (n.owner, o.owner) $$;
CREATE PROCEDURE many_changes(changes int) LANGUAGE plpgsql AS $$
DECLARE
    dice int := 1;
    who text;
    fault text;
BEGIN
    FOR i IN 1..changes LOOP
        dice := dice * 1103 % 99991;
        who := 'm' || dice % 15;
        DELETE FROM wide_before;
        INSERT INTO wide_before SELECT l.shard_index, l.owner FROM kinesis.lease l JOIN kinesis.consumer_group g USING (group_id) WHERE g.group_name = 'wide' AND l.owner IS NOT NULL;
        IF EXISTS (SELECT FROM kinesis.group_members WHERE group_name = 'wide' AND member_name = who) THEN
            PERFORM kinesis.leave_group('wide', who);
        ELSE
            PERFORM kinesis.join_group('wide', who, CASE WHEN dice % 2 = 0 THEN 'session' ELSE 'deadline' END, CASE WHEN dice % 5 < 2 THEN 1 + dice % 4 END);
        END IF;
        FOR fault IN SELECT wide_fault(format('change %s, %s', i, who), who) LOOP
            RAISE NOTICE '%', fault;
        END LOOP;
    END LOOP;
END $$;
CALL many_changes(200);
SELECT kinesis.delete_group('wide'), kinesis.delete_stream('wide');

-- A shard that expires before it was read to its end: its children are read, and whoever held it is not stopped by that.
SELECT kinesis.create_stream('old', 1), kinesis.create_group('old', '{old}');
SELECT kinesis.join_group('old', 'm');
SELECT count(*) FROM kinesis.put_record('old', 'lost', 'k'), kinesis.split_shard('old', '0', 1000);
SELECT shard_id, waits_for FROM kinesis.acquire_leases('old', 'm');
SET kinesis.clock_offset = '25 h';
SELECT count(*) FROM kinesis.poll_group('old', 'm');
SELECT count(*) FROM kinesis.put_record('old', 'kept', 'k'), kinesis.purge();
SELECT shard_id, cardinality(records) FROM kinesis.poll_group('old', 'm');
RESET kinesis.clock_offset;
SELECT kinesis.delete_group('old'), kinesis.delete_stream('old');

-- The same where two generations expire while nobody reads, and another lease keeps the stream known to the group.
SELECT kinesis.create_stream('idle', 2), kinesis.create_group('idle', '{idle}');
SELECT kinesis.split_shard('idle', '0', 1000);
SET kinesis.clock_offset = '25 h';
SELECT kinesis.split_shard('idle', '3', 2::numeric ^ 126), kinesis.purge();
SET kinesis.clock_offset = '50 h';
SELECT kinesis.purge();
SELECT kinesis.join_group('idle', 'm');
SELECT shard_id FROM kinesis.acquire_leases('idle', 'm');
RESET kinesis.clock_offset;
SELECT kinesis.delete_group('idle'), kinesis.delete_stream('idle');
