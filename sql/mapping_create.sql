-- Event source mappings: settings, rights, states and lanes, without a scheduler that works on them.
CREATE EXTENSION kinesis;
SET client_min_messages = warning;
CREATE ROLE map_owner; CREATE ROLE map_member; CREATE ROLE map_admin; CREATE ROLE map_reader; CREATE ROLE map_stranger;
GRANT map_owner TO map_member;
GRANT kinesis_admin TO map_admin;
CREATE SCHEMA app; CREATE SCHEMA other; CREATE SCHEMA hidden;
GRANT USAGE ON SCHEMA app, other TO PUBLIC;
SELECT kinesis.create_stream('source', 2), kinesis.create_stream('target', 1), kinesis.create_stream('private', 1);
SELECT kinesis.grant_stream('source', 'map_owner', 'consumer'), kinesis.grant_stream('source', 'map_reader', 'consumer'), kinesis.grant_stream('target', 'map_owner', 'producer');
CREATE FUNCTION app.on_event(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION app.on_records(kinesis.record[], kinesis.batch_context) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION app.answers(r kinesis.record[], c kinesis.batch_context) RETURNS jsonb LANGUAGE sql AS 'SELECT ''{}''::jsonb';
CREATE FUNCTION app."On Event"(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
-- What can't be called with batches, or not by this name.
CREATE FUNCTION app.both(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION app.both(kinesis.record[], kinesis.batch_context) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION app.twice(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION other.twice(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION app.makes_text(jsonb) RETURNS text LANGUAGE sql AS 'SELECT ''''';
CREATE FUNCTION app.makes_set(jsonb) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION app.takes_one(kinesis.record, kinesis.batch_context) RETURNS void LANGUAGE sql AS '';
CREATE PROCEDURE app.procedure(INOUT jsonb) LANGUAGE sql AS 'SELECT $1';
CREATE AGGREGATE app.aggregate(jsonb) (SFUNC = jsonb_concat, STYPE = jsonb);
CREATE FUNCTION app.guarded(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
REVOKE EXECUTE ON FUNCTION app.guarded(jsonb) FROM PUBLIC;
CREATE FUNCTION hidden.secret(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION pg_temp.fleeting(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
-- Destinations.
CREATE TABLE app.failed(id int GENERATED ALWAYS AS IDENTITY, invocation_record jsonb);
CREATE TABLE app.plain(a int);
CREATE TABLE app.wrong(invocation_record json);
CREATE TABLE app.twins(invocation_record jsonb); CREATE TABLE other.twins(invocation_record jsonb);
CREATE TABLE app.locked(invocation_record jsonb);
GRANT INSERT ON app.failed, app.plain, app.wrong, app.twins, other.twins TO map_owner;
CREATE FUNCTION app.note(jsonb) RETURNS void LANGUAGE sql AS '';
-- A mapping under a name of its own, since its UUID is not the same in each run.
CREATE TABLE mapping(name text PRIMARY KEY, id uuid);
GRANT ALL ON mapping TO PUBLIC;
CREATE FUNCTION id(text) RETURNS uuid LANGUAGE sql AS 'SELECT id FROM mapping WHERE name = $1';
CREATE FUNCTION keep(text, uuid) RETURNS void LANGUAGE sql AS 'INSERT INTO mapping VALUES ($1, $2)';
CREATE FUNCTION lanes(of text) RETURNS TABLE (shard int, lane int, lanes int, checkpoint bigint, stop_at bigint) LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_catalog AS
    'SELECT shard_index, lane, lanes, checkpoint, stop_at FROM kinesis.mapping_lane WHERE uuid = id($1) ORDER BY 1, 2';
CREATE FUNCTION runnable(of text) RETURNS TABLE (shard int, lane int) LANGUAGE sql AS
    'SELECT r.shard_index, l.lane FROM kinesis._runnable_lanes() r JOIN kinesis.mapping_lane l USING (lane_id) WHERE r.uuid = id($1) ORDER BY 1, 2';
-- Rows that a call writes (by new row versions).
CREATE FUNCTION versions() RETURNS text LANGUAGE sql AS
    'SELECT md5(string_agg(x, '' '' ORDER BY x)) FROM (SELECT format(''%s %s %s'', ctid, xmin, xmax) AS x FROM kinesis.mapping_lane UNION ALL SELECT format(''m %s %s %s'', ctid, xmin, xmax) FROM kinesis.event_source_mapping) r';

-- Made with all defaults, then with none.
SET ROLE map_owner;
SELECT keep('plain', kinesis.create_event_source_mapping('source', 'app.on_event'));
SELECT event_source_mapping_arn = 'arn:aws:lambda:us-east-1:000000000000:event-source-mapping:' || uuid AS arn, event_source_arn, function_name, owner, starting_position, starting_position_timestamp,
    batch_size, maximum_batching_window, parallelization_factor, maximum_record_age, maximum_retry_attempts, bisect_batch_on_function_error, on_failure,
    report_batch_item_failures, tumbling_window, filter_criteria, state, state_transition_reason, last_modified BETWEEN now() - interval '1 min' AND clock_timestamp() AS just_now,
    last_processing_result, next_marker FROM kinesis.get_event_source_mapping(id('plain')) \gx
SELECT keep('rich', kinesis.create_event_source_mapping('arn:aws:kinesis:us-east-1:000000000000:stream/source', 'on_records', 'AT_TIMESTAMP', '2020-02-02 02:02+00', 10000, '300 s', 10, '7 days', 10000, true,
    'target', true, '15 min', '{"Filters": [{"Pattern": "{\"partitionKey\": [\"a\"]}"}]}', false));
SELECT event_source_arn, function_name, starting_position, starting_position_timestamp AT TIME ZONE 'UTC' AS since, batch_size, maximum_batching_window, parallelization_factor, maximum_record_age, maximum_retry_attempts,
    bisect_batch_on_function_error, on_failure, report_batch_item_failures, tumbling_window, filter_criteria, state, state_transition_reason
    FROM kinesis.get_event_source_mapping(id('rich')) \gx
RESET ROLE;
SELECT name, takes_records, transition, enabled, home = kinesis._home() AS here FROM kinesis.event_source_mapping JOIN mapping ON id = uuid ORDER BY 1;
SELECT * FROM lanes('plain');
SELECT shard, count(*), min(lane), max(lane), min(lanes), bool_and(checkpoint > 0) AS since FROM lanes('rich') GROUP BY 1 ORDER BY 1;

-- Each range, at its ends and beyond.
CREATE FUNCTION try(settings text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    id uuid;
    h text;
BEGIN
    EXECUTE 'SELECT kinesis.create_event_source_mapping(''source'', ''app.on_event'', ' || settings || ')' INTO id;
    PERFORM kinesis.delete_event_source_mapping(id);
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
    RETURN sqlstate || ' ' || sqlerrm || CASE WHEN h <> '' THEN ' / ' || h ELSE '' END;
END $$;
SET ROLE map_owner;
\pset format unaligned
\pset tuples_only on
SELECT v, try(v) FROM unnest(ARRAY[
    'batch_size => 0', 'batch_size => 1', 'batch_size => 10000', 'batch_size => 10001', 'batch_size => NULL',
    'maximum_batching_window => ''-1 ms''', 'maximum_batching_window => ''1 ms''', 'maximum_batching_window => ''300 s''', 'maximum_batching_window => ''300.001 s''', 'maximum_batching_window => ''1.5 ms''', 'maximum_batching_window => ''1 month''', 'maximum_batching_window => NULL',
    'parallelization_factor => 0', 'parallelization_factor => 1', 'parallelization_factor => 10', 'parallelization_factor => 11', 'parallelization_factor => NULL',
    'maximum_record_age => ''0''', 'maximum_record_age => ''59 s''', 'maximum_record_age => ''60 s''', 'maximum_record_age => ''7 days''', 'maximum_record_age => ''604801 s''', 'maximum_record_age => ''-1''', 'maximum_record_age => ''-2''', 'maximum_record_age => NULL',
    'maximum_retry_attempts => -2', 'maximum_retry_attempts => -1', 'maximum_retry_attempts => 0', 'maximum_retry_attempts => 10000', 'maximum_retry_attempts => 10001', 'maximum_retry_attempts => NULL',
    'tumbling_window => ''-1 s''', 'tumbling_window => ''1 s''', 'tumbling_window => ''900 s''', 'tumbling_window => ''901 s''', 'tumbling_window => ''1.5 s''', 'tumbling_window => NULL',
    'bisect_batch_on_function_error => NULL', 'report_batch_item_failures => NULL', 'enabled => NULL',
    'filter_criteria => ''[]''', 'filter_criteria => ''{}''',
    'starting_position => ''LATEST''', 'starting_position => ''SOMEWHERE''', 'starting_position => NULL', 'starting_position => ''AT_TIMESTAMP''', 'starting_position_timestamp => now()',
    'starting_position => ''LATEST'', starting_position_timestamp => now()', 'starting_position => ''AT_TIMESTAMP'', starting_position_timestamp => now() + interval ''1 min''',
    'starting_position => ''AT_TIMESTAMP'', starting_position_timestamp => ''infinity''', 'starting_position => ''AT_TIMESTAMP'', starting_position_timestamp => ''-infinity''',
    'on_failure => ''''', 'on_failure => ''stream:target''', 'on_failure => ''arn:aws:kinesis:us-east-1:000000000000:stream/target''', 'on_failure => ''source''', 'on_failure => ''private''', 'on_failure => ''stream:nowhere''', 'on_failure => ''no such: thing''',
    'on_failure => ''table:failed''', 'on_failure => ''table:app.failed''', 'on_failure => ''table:app.nothing''', 'on_failure => ''table:plain''', 'on_failure => ''table:app.wrong''', 'on_failure => ''table:twins''', 'on_failure => ''table:other.twins''', 'on_failure => ''table:app.locked''', 'on_failure => ''table:''', 'on_failure => ''table:a.b.c''',
    'on_failure => ''function:note''', 'on_failure => ''function:app.makes_text''', 'on_failure => ''function:makes_set''', 'on_failure => ''function:on_records''', 'on_failure => ''function:app.nothing''', 'on_failure => ''function:guarded'''
    ]) WITH ORDINALITY AS t(v, n) ORDER BY n;
\pset tuples_only off
\pset format aligned
RESET ROLE;

-- Sources and functions.
SET ROLE map_owner;
SELECT kinesis.create_event_source_mapping(NULL, 'on_event');
SELECT kinesis.create_event_source_mapping('source', NULL);
SELECT kinesis.create_event_source_mapping('nowhere', 'on_event');
SELECT kinesis.create_event_source_mapping('arn:aws:kinesis:mars:000000000000:stream/source', 'on_event');
SELECT kinesis.create_event_source_mapping('private', 'on_event');
SELECT kinesis.create_event_source_mapping('arn:aws:kinesis:us-east-1:000000000000:stream/source/consumer/nobody:1', 'on_event');
SELECT kinesis.create_event_source_mapping('source', 'nothing');
SELECT kinesis.create_event_source_mapping('source', 'app.nothing');
SELECT kinesis.create_event_source_mapping('source', 'nowhere.on_event');
SELECT kinesis.create_event_source_mapping('source', 'a.b.c');
SELECT kinesis.create_event_source_mapping('source', 'on event');
SELECT kinesis.create_event_source_mapping('source', '');
SELECT kinesis.create_event_source_mapping('source', 'twice');
SELECT kinesis.create_event_source_mapping('source', 'app.both');
SELECT kinesis.create_event_source_mapping('source', 'makes_text');
SELECT kinesis.create_event_source_mapping('source', 'app.makes_set');
SELECT kinesis.create_event_source_mapping('source', 'takes_one');
SELECT kinesis.create_event_source_mapping('source', 'app.procedure');
SELECT kinesis.create_event_source_mapping('source', 'app.aggregate');
SELECT kinesis.create_event_source_mapping('source', 'note');
SELECT kinesis.create_event_source_mapping('source', 'app.guarded');
SELECT kinesis.create_event_source_mapping('source', 'hidden.secret');
SELECT kinesis.create_event_source_mapping('source', 'fleeting');
SELECT keep('quoted', kinesis.create_event_source_mapping('source', 'app."On Event"')), keep('answers', kinesis.create_event_source_mapping('source', 'ANSWERS', 'LATEST', enabled => false)),
    keep('other', kinesis.create_event_source_mapping('source', 'other.twice', on_failure => 'table:failed'));
SELECT name, function_name, on_failure, state FROM mapping, kinesis.get_event_source_mapping(id) ORDER BY name;
RESET ROLE;
SET ROLE map_stranger;
SELECT kinesis.create_event_source_mapping('source', 'on_event');
RESET ROLE;

-- What the scheduler sees: a change is under way until then.
SELECT kinesis._sync_mappings();
SELECT versions() AS before \gset
SELECT kinesis._sync_mappings();
SELECT versions() = :'before' AS nothing_written;
SELECT name, state FROM mapping, kinesis.get_event_source_mapping(id) ORDER BY name;

-- Updates: each setting, null for as it is, and what clears.
SET ROLE map_owner;
SELECT batch_size, state FROM kinesis.update_event_source_mapping(id('plain'), batch_size => 7);
SELECT function_name, batch_size, maximum_batching_window, parallelization_factor, maximum_record_age, maximum_retry_attempts, bisect_batch_on_function_error, on_failure, report_batch_item_failures,
    tumbling_window, filter_criteria, state FROM kinesis.update_event_source_mapping(id('plain'), 'on_records', NULL, NULL, '1.5 s', 2, '1 h', 3, true, 'function:app.note', true, '30 s', '{"Filters": [{"Pattern": "{\"data\": {\"a\": [1]}}"}]}') \gx
SELECT maximum_record_age, on_failure, filter_criteria, batch_size, tumbling_window FROM kinesis.update_event_source_mapping(id('plain'), maximum_record_age => '-1', on_failure => '', filter_criteria => '{}', tumbling_window => '0');
SELECT state, state_transition_reason FROM kinesis.update_event_source_mapping(id('plain'), enabled => false);
SELECT state FROM kinesis.update_event_source_mapping(id('plain'), enabled => false);
SELECT state FROM kinesis.update_event_source_mapping(id('plain'), enabled => true, function_name => 'app.on_event');
SELECT kinesis.update_event_source_mapping(id('plain'), batch_size => 0);
SELECT kinesis.update_event_source_mapping(id('plain'), maximum_record_age => '59 s');
SELECT kinesis.update_event_source_mapping(id('plain'), parallelization_factor => 11);
SELECT kinesis.update_event_source_mapping(id('plain'), filter_criteria => '7');
SELECT kinesis.update_event_source_mapping(id('plain'), on_failure => 'source');
SELECT kinesis.update_event_source_mapping(id('plain'), 'makes_text');
SELECT kinesis.update_event_source_mapping('00000000-0000-0000-0000-000000000000');
SELECT kinesis.update_event_source_mapping(NULL);
SELECT kinesis.get_event_source_mapping('00000000-0000-0000-0000-000000000000');
SELECT kinesis.delete_event_source_mapping(NULL);
RESET ROLE;
SELECT takes_records, enabled, transition FROM kinesis.event_source_mapping WHERE uuid = id('plain');

-- Rights: a reader of the stream sees, members of the owner and admins change, but no admin chooses what runs as the owner.
CREATE FUNCTION refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    h text;
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
    RETURN regexp_replace(sqlstate || ' ' || sqlerrm || ' / ' || h, '[0-9a-f]{8}-[-0-9a-f]*', 'UUID');
END $$;
SET ROLE map_reader;
SELECT function_name, owner FROM kinesis.get_event_source_mapping(id('plain'));
SELECT count(*) FROM kinesis.list_event_source_mappings();
SELECT count(*) FROM kinesis.event_source_mappings;
SELECT count(*) > 0 FROM kinesis.event_source_mapping_lanes;
SELECT refused($$ SELECT kinesis.update_event_source_mapping(id('plain'), batch_size => 1) $$);
SELECT refused($$ SELECT kinesis.delete_event_source_mapping(id('plain')) $$);
SET ROLE map_member;
SELECT batch_size, owner FROM kinesis.update_event_source_mapping(id('plain'), batch_size => 11, function_name => 'on_event', on_failure => 'target');
SET ROLE map_admin;
SELECT batch_size, owner, on_failure FROM kinesis.update_event_source_mapping(id('plain'), batch_size => 12, on_failure => '');
SELECT refused($$ SELECT kinesis.update_event_source_mapping(id('plain'), function_name => 'app.on_event') $$);
SELECT refused($$ SELECT kinesis.update_event_source_mapping(id('plain'), on_failure => 'table:app.failed') $$);
SELECT keep('of admin', kinesis.create_event_source_mapping('private', 'app.on_event', 'LATEST'));
SELECT owner FROM kinesis.get_event_source_mapping(id('of admin'));
SET ROLE map_owner;
SELECT refused($$ SELECT kinesis.get_event_source_mapping(id('of admin')) $$);
SELECT count(*) FROM kinesis.list_event_source_mappings('private');
RESET ROLE;
SET ROLE map_stranger;
SELECT kinesis.list_event_source_mappings();
SELECT * FROM kinesis.event_source_mappings;
RESET ROLE;
GRANT kinesis_monitor TO map_stranger;
SET ROLE map_stranger;
SELECT count(*) FROM kinesis.list_event_source_mappings();
SELECT refused($$ SELECT kinesis.update_event_source_mapping(id('plain'), enabled => false) $$);
RESET ROLE;
-- An owner that is no longer to use the function, or the destination.
SELECT refused($$ SELECT kinesis.update_event_source_mapping(id('plain'), 'app.guarded') $$);
SELECT refused($$ SELECT kinesis.update_event_source_mapping(id('plain'), on_failure => 'private') $$);

-- Lists: by source, by function, page by page.
SELECT function_name FROM kinesis.list_event_source_mappings('source') ORDER BY 1;
SELECT function_name FROM kinesis.list_event_source_mappings('arn:aws:kinesis:us-east-1:000000000000:stream/private');
SELECT function_name FROM kinesis.list_event_source_mappings(function_name => 'twice');
SELECT function_name, event_source_arn FROM kinesis.list_event_source_mappings('source', 'app.on_event');
SELECT count(*) FROM kinesis.list_event_source_mappings('nowhere');
SELECT count(*) AS all, count(next_marker) AS markers FROM kinesis.list_event_source_mappings();
CREATE TABLE page AS SELECT * FROM kinesis.list_event_source_mappings(max_items => 4);
SELECT count(*) AS rows, count(next_marker) AS markers FROM page;
SELECT next_marker AS marker FROM page WHERE next_marker IS NOT NULL \gset
SELECT count(*) AS rows, count(next_marker) AS markers, count(*) FILTER (WHERE uuid IN (SELECT uuid FROM page)) AS again FROM kinesis.list_event_source_mappings(max_items => 4, marker => :'marker');
SELECT kinesis.list_event_source_mappings(marker => 'nonsense');
SELECT kinesis.list_streams(next_token => :'marker');
SELECT kinesis.list_event_source_mappings(max_items => 0);
SELECT kinesis.list_event_source_mappings(max_items => 10001);

-- Deleted: told once more, then gone.
SELECT function_name, state, state_transition_reason FROM kinesis.delete_event_source_mapping(id('quoted'));
SELECT refused($$ SELECT kinesis.get_event_source_mapping(id('quoted')) $$);
SELECT count(*) FROM lanes('quoted');
SELECT count(d.uuid) FROM mapping, kinesis.delete_event_source_mapping(id) d WHERE name IN ('other', 'answers', 'of admin', 'plain', 'rich');
SELECT count(*) FROM kinesis.mapping_lane;

-- LATEST means now, not when somebody begins to work; also for one that is disabled.
SELECT count(*) FROM kinesis.put_records('source', ARRAY['a', 'b', 'c', 'd']::bytea[], ARRAY['a', 'b', 'c', 'd']);
SELECT keep('latest', kinesis.create_event_source_mapping('source', 'app.on_event', 'LATEST', enabled => false));
SELECT shard, checkpoint = (SELECT max(sequence_number) FROM kinesis.read_shard('source', shard::text)) AS at_the_last FROM lanes('latest');
SELECT keep('two', kinesis.create_event_source_mapping('source', 'app.on_event', parallelization_factor => 2));
SELECT kinesis._sync_mappings();
-- Children follow their parents, at their beginning, with as many lanes; a mapping that is paused has them, too.
SELECT kinesis.split_shard('source', '0', 42);
SELECT kinesis.merge_shards('source', '3', '1');
SELECT kinesis._sync_mappings();
SELECT shard, lane, checkpoint = -1 AS at_its_beginning FROM lanes('latest');
SELECT * FROM lanes('two');
SELECT * FROM runnable('latest');
SELECT * FROM runnable('two');
SELECT shard_id, lane, status, checkpoint FROM kinesis.event_source_mapping_lanes WHERE uuid = id('two') ORDER BY 1, 2;
UPDATE kinesis.mapping_lane SET ended = true WHERE uuid = id('two') AND shard_index = 0 AND lane = 0;
SELECT * FROM runnable('two');
UPDATE kinesis.mapping_lane SET ended = true WHERE uuid = id('two') AND shard_index = 0;
SELECT * FROM runnable('two');
UPDATE kinesis.mapping_lane SET ended = true WHERE uuid = id('two') AND shard_index IN (1, 3);
SELECT * FROM runnable('two');
SELECT versions() AS before \gset
SELECT kinesis._sync_mappings();
SELECT versions() = :'before' AS nothing_written;

-- How a mapping fares: what is wrong comes first.
UPDATE kinesis.mapping_lane SET last_result = 'OK', processed_at = '2024-01-01', invocations = 3, records = 30 WHERE uuid = id('two') AND shard_index = 2;
SELECT last_processing_result FROM kinesis.get_event_source_mapping(id('two'));
UPDATE kinesis.mapping_lane SET last_result = 'PROBLEM: Function call failed', processed_at = '2023-01-01', failing_since = '2023-01-01', retry_at = '2023-01-02', attempts = 2, failures = 2,
    last_error = '{"sqlstate": "22012", "message": "division by zero", "detail": "the detail", "context": "the context"}' WHERE uuid = id('two') AND shard_index = 2 AND lane = 1;
SELECT last_processing_result FROM kinesis.get_event_source_mapping(id('two'));
SELECT shard_id, lane, status, since, attempts, retry_at, last_result, processed_at, error_sqlstate, error_message, error_detail, error_context, pid, invocations, failures, records, discarded
    FROM kinesis.event_source_mapping_lanes WHERE uuid = id('two') AND shard_id LIKE '%2' ORDER BY 1, 2;
SET ROLE map_reader;
SELECT status, error_sqlstate, error_message, error_detail, error_context FROM kinesis.event_source_mapping_lanes WHERE uuid = id('two') AND status = 'retrying';
RESET ROLE;
UPDATE kinesis.mapping_lane SET last_result = 'OK', failing_since = NULL, retry_at = NULL, attempts = 0 WHERE uuid = id('two');

-- Another factor. Lanes at one place are cut at once (shard 2); those that are not, wait at the foremost for the others (4).
UPDATE kinesis.mapping_lane SET checkpoint = 100 WHERE uuid = id('two') AND shard_index = 2;
UPDATE kinesis.mapping_lane SET checkpoint = 100 * lane + 50 WHERE uuid = id('two') AND shard_index = 4;
SELECT parallelization_factor, state FROM kinesis.update_event_source_mapping(id('two'), parallelization_factor => 3);
SELECT * FROM runnable('two');
SELECT kinesis._sync_mappings();
SELECT * FROM lanes('two') WHERE shard IN (2, 4);
SELECT lane, invocations, records, failures, last_result FROM kinesis.mapping_lane WHERE uuid = id('two') AND shard_index = 2 ORDER BY 1;
SELECT * FROM runnable('two');
SELECT versions() AS before \gset
SELECT kinesis._sync_mappings();
SELECT versions() = :'before' AS nothing_written;
UPDATE kinesis.mapping_lane SET checkpoint = 150 WHERE uuid = id('two') AND shard_index = 4 AND lane = 0;
SELECT * FROM runnable('two');
SELECT kinesis._sync_mappings();
SELECT * FROM lanes('two') WHERE shard = 4;
SELECT * FROM runnable('two');
-- A closed shard that some lane has done with keeps its lanes.
SELECT * FROM lanes('two') WHERE shard = 3;
-- A batch that has failed is finished first, and so is an open window, unless windows are off.
UPDATE kinesis.mapping_lane SET batch_ends = '{180,165}', attempts = 1 WHERE uuid = id('two') AND shard_index = 4 AND lane = 2;
UPDATE kinesis.mapping_lane SET window_start = now(), window_state = '{"n": 1}' WHERE uuid = id('two') AND shard_index = 2 AND lane = 1;
SELECT parallelization_factor FROM kinesis.update_event_source_mapping(id('two'), parallelization_factor => 1, tumbling_window => '1 min');
SELECT kinesis._sync_mappings();
SELECT * FROM lanes('two') WHERE shard IN (2, 4);
SELECT * FROM runnable('two');
UPDATE kinesis.mapping_lane SET checkpoint = 180, batch_ends = NULL, attempts = 0 WHERE uuid = id('two') AND shard_index = 4;
SELECT kinesis._sync_mappings();
SELECT * FROM lanes('two') WHERE shard IN (2, 4);
SELECT parallelization_factor FROM kinesis.update_event_source_mapping(id('two'), tumbling_window => '0');
SELECT * FROM runnable('two');
SELECT kinesis._sync_mappings();
SELECT * FROM lanes('two') WHERE shard IN (2, 4);
SELECT count(*) AS windows FROM kinesis.mapping_lane WHERE window_start IS NOT NULL;
-- Back before the lanes were cut: they go on.
SELECT state FROM kinesis.update_event_source_mapping(id('two'), parallelization_factor => 2);
SELECT kinesis._sync_mappings();
UPDATE kinesis.mapping_lane SET checkpoint = 200 + lane WHERE uuid = id('two') AND shard_index IN (2, 4);
SELECT state FROM kinesis.update_event_source_mapping(id('two'), parallelization_factor => 5);
SELECT kinesis._sync_mappings();
SELECT * FROM lanes('two') WHERE shard IN (2, 4);
SELECT state FROM kinesis.update_event_source_mapping(id('two'), parallelization_factor => 2);
SELECT kinesis._sync_mappings();
SELECT * FROM lanes('two') WHERE shard IN (2, 4);
SELECT * FROM runnable('two');

-- A whole generation has expired while nobody looked: what is left of its descendants begins at the beginning.
SELECT keep('late', kinesis.create_event_source_mapping('private', 'app.on_event'));
SELECT kinesis.split_shard('private', '0', 42), kinesis.split_shard('private', '2', 1000), kinesis.merge_shards('private', '3', '4');
DELETE FROM kinesis.shard WHERE shard_index IN (0, 2) AND stream_id = (SELECT stream_id FROM kinesis.stream WHERE stream_name = 'private');
SELECT kinesis._sync_mappings();
SELECT * FROM lanes('late');
SELECT * FROM runnable('late');

-- Another copy of the database's: nobody works on it before finish_restore().
UPDATE kinesis.event_source_mapping SET home = 'elsewhere' WHERE uuid = id('two');
UPDATE kinesis.mapping_lane SET checkpoint = 300, lanes = 1 WHERE uuid = id('two') AND shard_index = 2;
SELECT state, state_transition_reason FROM kinesis.get_event_source_mapping(id('two'));
SELECT * FROM runnable('two');
SELECT kinesis._sync_mappings();
SELECT count(*) FROM lanes('two') WHERE shard = 2 AND lanes = 1;
SELECT DISTINCT status FROM kinesis.event_source_mapping_lanes WHERE uuid = id('two');
ALTER TABLE kinesis.event_source_mapping ENABLE TRIGGER ALL;
SELECT kinesis.finish_restore();
SELECT tgrelid::regclass, tgenabled FROM pg_trigger WHERE tgname = 'ring_scheduler' ORDER BY 1;
SELECT state, state_transition_reason FROM kinesis.get_event_source_mapping(id('two'));
SELECT kinesis._sync_mappings();
SELECT * FROM runnable('two');

-- A consumer that is deregistered disables its mappings; a stream that is deleted leaves them without a source.
SELECT consumer_arn AS arn FROM kinesis.register_stream_consumer('source', 'fan') \gset
SELECT keep('fan', kinesis.create_event_source_mapping(:'arn', 'app.on_event'));
SELECT event_source_arn = :'arn' AS of_the_consumer, state FROM kinesis.get_event_source_mapping(id('fan'));
SELECT function_name FROM kinesis.list_event_source_mappings(:'arn');
SELECT kinesis.deregister_stream_consumer(consumer_arn => :'arn');
SELECT state, state_transition_reason FROM kinesis.get_event_source_mapping(id('fan'));
SELECT state_transition_reason FROM kinesis.update_event_source_mapping(id('fan'), batch_size => 5);
DO $$ BEGIN PERFORM kinesis.update_event_source_mapping(id('fan'), enabled => true); EXCEPTION WHEN SQLSTATE 'KN001' THEN RAISE WARNING '%', regexp_replace(sqlerrm, '\d{10} not', 'N not'); END $$;

-- Notifications.
SET ROLE map_owner;
SELECT kinesis.create_notification('source');
SELECT kinesis.create_notification('source');
SELECT kinesis.create_notification('source', 'news of "it"');
SELECT kinesis.create_notification('source', '');
SELECT kinesis.create_notification('source', repeat('é', 32));
SELECT kinesis.create_notification('source', repeat('é', 31) || 'e') IS NOT NULL AS just_fits;
SELECT kinesis.create_notification('private');
SELECT kinesis.create_notification('nowhere');
SELECT stream_name, channel, owner, active FROM kinesis.notifications ORDER BY 2;
RESET ROLE;
SET ROLE map_reader;
SELECT kinesis.delete_notification('source');
RESET ROLE;
SET ROLE map_member;
SELECT kinesis.delete_notification('source', 'news of "it"');
SELECT kinesis.delete_notification('source', 'news of "it"');
RESET ROLE;
SELECT kinesis.create_stream(repeat('s', 64), 1);
SELECT kinesis.create_notification(repeat('s', 64));
SELECT kinesis.delete_stream(repeat('s', 64));

-- A window's state has to be returned.
CREATE FUNCTION app.on_void(records kinesis.record[], context kinesis.batch_context) RETURNS void LANGUAGE sql AS '';
SELECT kinesis.create_event_source_mapping('source', 'app.on_void', tumbling_window => '1 s');
SELECT keep('void', kinesis.create_event_source_mapping('source', 'app.on_void', enabled => false));
SELECT kinesis.update_event_source_mapping(id('void'), tumbling_window => '1 s');
SELECT state FROM kinesis.delete_event_source_mapping(id('void'));

-- What lies before each lane: its own keys only.
SELECT kinesis.create_stream('lagging', 1);
SELECT keep('lagging', kinesis.create_event_source_mapping('lagging', 'app.on_records', parallelization_factor => 2));
SELECT count(*) FROM kinesis.put_records('lagging', array_fill('12345'::bytea, ARRAY[6]), ARRAY['a', 'b', 'c', 'd', 'e', 'f']);
SELECT shard_id, lane, checkpoint, millis_behind_latest BETWEEN 0 AND 60000 AS age, records_behind = (SELECT count(*) FROM kinesis_stream.lagging WHERE kinesis.hash_key(partition_key) % 2 = lane) AS own, bytes_behind = 6 * records_behind AS bytes
    FROM kinesis.event_source_mapping_lag(id('lagging'));
SELECT sum(records_behind) FROM kinesis.event_source_mapping_lag(id('lagging'));
UPDATE kinesis.mapping_lane SET checkpoint = (SELECT max(sequence_number) FROM kinesis_stream.lagging) WHERE uuid = id('lagging');
SELECT lane, millis_behind_latest, records_behind, bytes_behind FROM kinesis.event_source_mapping_lag(id('lagging'));
SET ROLE map_reader;
SELECT refused($$ SELECT kinesis.event_source_mapping_lag(id('lagging')) $$);
RESET ROLE;
SELECT kinesis.delete_stream('lagging');

SELECT kinesis.delete_stream('source');
SELECT name, v.state, v.state_transition_reason, m.stream_id IS NULL AS no_stream, v.last_processing_result FROM mapping JOIN kinesis.event_source_mappings v ON v.uuid = id JOIN kinesis.event_source_mapping m USING (uuid) ORDER BY 1;
SELECT count(*) FROM kinesis.notification;
SELECT count(*) FROM lanes('two');
SELECT kinesis.update_event_source_mapping(id('two'), enabled => true);
SELECT kinesis._sync_mappings();
SELECT function_name FROM kinesis.list_event_source_mappings('source');
SELECT state FROM kinesis.delete_event_source_mapping(id('two'));

DROP TABLE page;
DROP OWNED BY map_owner, map_member, map_admin, map_reader, map_stranger;
DROP ROLE map_owner, map_member, map_admin, map_reader, map_stranger;
