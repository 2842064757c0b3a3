-- Event source mappings: the event that a function gets, what its answer means, and where a batch goes that was given up.
CREATE EXTENSION kinesis;
SET timezone = 'Asia/Tokyo';            -- times in JSON are UTC whatever the session's zone
SET datestyle = 'German';

CREATE FUNCTION rec(number bigint, key text, data bytea) RETURNS kinesis.record LANGUAGE sql
RETURN (number, kinesis.arrival(number), key, data, 'NONE')::kinesis.record;
CREATE VIEW batch AS SELECT ARRAY[rec(913006028390400000, 'run-1', 'Hello, this is a test.'),
    rec(913006028394594305, 'ключ "2"', '\x00ff10feff')] AS records;

-- The event, as it is documented for Lambda.
SELECT jsonb_pretty(kinesis._event(records, 6, 'arn:aws:kinesis:us-east-1:000000000000:stream/lambda', 'lambda')) FROM batch;
SELECT kinesis._event(records, 6, 'arn:aws:kinesis:us-east-1:000000000000:stream/lambda', 'lambda') = '{
    "Records": [
        {"kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": "run-1", "sequenceNumber": "913006028390400000", "data": "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==", "approximateArrivalTimestamp": 1795514400.000},
         "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": "shardId-000000000006:913006028390400000", "eventName": "aws:kinesis:record",
         "invokeIdentityArn": "arn:aws:iam::000000000000:role/lambda", "awsRegion": "us-east-1", "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/lambda"},
        {"kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": "ключ \"2\"", "sequenceNumber": "913006028394594305", "data": "AP8Q/v8=", "approximateArrivalTimestamp": 1795514400.001},
         "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": "shardId-000000000006:913006028394594305", "eventName": "aws:kinesis:record",
         "invokeIdentityArn": "arn:aws:iam::000000000000:role/lambda", "awsRegion": "us-east-1", "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/lambda"}
    ]}'::jsonb AS same FROM batch;
SELECT extract(epoch FROM kinesis.arrival(913006028390400000)) AS seconds;
SELECT kinesis._event('{}', 0, 'a', 'o'), kinesis._event(NULL, 0, 'a', 'o');

-- Bit for bit what jsonb makes of the text, whatever the sizes, so that members are found and compared.
CREATE FUNCTION is_sound(event jsonb) RETURNS boolean LANGUAGE sql RETURN record_image_eq(ROW(event), ROW(event::text::jsonb));
CREATE TABLE batches(name text, records kinesis.record[]);
INSERT INTO batches SELECT format('%s records', n), (SELECT array_agg(rec(913006028390400000 + i * 7919::bigint, repeat('é', 1 + i % 256), substring(decode(repeat(md5(i::text), 200), 'hex') FOR i % 3000)) ORDER BY i) FROM generate_series(1, n) i)
FROM unnest(ARRAY[1, 31, 32, 33, 3000]) n;
INSERT INTO batches VALUES ('smallest', ARRAY[rec(0, 'k', '')]), ('greatest', ARRAY[rec(9223372036854775807, 'k', '')]),
    ('10 MiB', ARRAY[rec(1, 'k', decode(repeat('00ff', 5 * 1024 * 1024), 'hex'))]);
-- Fields that are compressed inside the row.
CREATE TABLE parts(k text, d bytea);
INSERT INTO parts VALUES (repeat('key', 2000), convert_to(repeat('z', 5000), 'UTF8'));
INSERT INTO batches SELECT 'compressed fields', ARRAY[rec(2, k, d)] FROM parts;
SELECT name, jsonb_array_length(e->'Records') AS n, is_sound(e) AS sound,
    (SELECT bool_and(r->'kinesis'->>'data' = translate(encode(x.data, 'base64'), E'\n', '') AND r->'kinesis'->>'partitionKey' = x.partition_key
        AND (r->'kinesis'->>'approximateArrivalTimestamp')::numeric = trunc(extract(epoch FROM x.approximate_arrival_timestamp), 3) AND r->>'eventID' = 'shardId-000000000000:' || x.sequence_number)
     FROM jsonb_array_elements(e->'Records') WITH ORDINALITY j(r, i) JOIN unnest(b.records) WITH ORDINALITY x(sequence_number, approximate_arrival_timestamp, partition_key, data, encryption_type, i) USING (i)) AS right_values
FROM batches b, LATERAL (SELECT kinesis._event(records, 0, 'arn', 'o') AS e OFFSET 0) e;
-- What the event's text takes is not underestimated, and ten thousand small records fit into 6 MB.
SELECT name, octet_length(e::text) <= (SELECT sum(kinesis._event_record_bytes(octet_length(x.partition_key), octet_length(x.data))) FROM unnest(records) x) + 14 AS covered
FROM batches, LATERAL (SELECT kinesis._event(records, 999, kinesis._stream_arn(repeat('n', 50)) || '/consumer/x:1795515164', repeat('o', 12)) AS e) e;
SELECT 10000 * kinesis._event_record_bytes(36, 20) <= 6 * 1024 * 1024 AS fits, kinesis._event_record_bytes(1, 0), kinesis._event_record_bytes(1, 1), kinesis._event_record_bytes(1, 3), kinesis._event_record_bytes(1, 4);

-- What can't come from a stream is refused.
SELECT kinesis._event(ARRAY[NULL]::kinesis.record[], 0, 'a', 'o');
SELECT kinesis._event(ARRAY[(1, now(), 'k', NULL, 'NONE')]::kinesis.record[], 0, 'a', 'o');
SELECT kinesis._event(ARRAY[(1, 'infinity', 'k', 'd', 'NONE')]::kinesis.record[], 0, 'a', 'o');

-- A tumbling window: its times, the state so far, where it stands.
SELECT jsonb_pretty(kinesis._event(records[1:0], 6, 'arn:aws:kinesis:us-east-1:000000000000:stream/lambda', 'lambda', '2020-12-09 07:04Z', '2020-12-09 07:06Z',
    '{"1": 282, "2": [715, {"x": null}]}', false, false)) FROM batch;
SELECT state, e->'state' AS in_event, e->'window' = '{"start": "2020-12-09T07:04:00Z", "end": "2020-12-09T07:06:00Z"}' AS times, e->>'shardId' AS shard_id, e->'isFinalInvokeForWindow' AS final, e->'isWindowTerminatedEarly' AS early,
    e - 'Records' - 'state' = '{"window": {"start": "2020-12-09T07:04:00Z", "end": "2020-12-09T07:06:00Z"}, "shardId": "shardId-000000000006", "eventSourceARN": "arn", "isFinalInvokeForWindow": true, "isWindowTerminatedEarly": false}' AS whole,
    e->'Records' = kinesis._event(records, 6, 'arn', 'o')->'Records' AS records, is_sound(e) AS sound
FROM batch, (VALUES (NULL::jsonb), ('{}'), ('[]'), ('"text"'), ('7.50'), ('true'), ('null'), ('[1, [2, {"a": {}}]]'), ('{"b": [], "a": "x", "aa": -1e100}')) v(state),
    LATERAL (SELECT kinesis._event(records, 6, 'arn', 'o', '2020-12-09 07:04Z', '2020-12-09 07:06Z', state, true, false) AS e) e;
SELECT e->'isFinalInvokeForWindow' AS final, e->'isWindowTerminatedEarly' AS early
FROM batch, LATERAL (SELECT kinesis._event(records, 6, 'arn', 'o', '2020-12-09 07:04Z', '2020-12-09 07:06Z', NULL, false, true) AS e) e;

-- What an answer means. The batch has the numbers 10, 20, 30, and the largest there is.
CREATE TABLE answers(id int GENERATED ALWAYS AS IDENTITY, response jsonb, expected text, from_number bigint);
INSERT INTO answers(response, expected, from_number) VALUES
    (NULL, 'ok', NULL),
    ('null', 'ok', NULL),
    ('{}', 'ok', NULL),
    ('{"state": {"a": 1}}', 'ok', NULL),
    ('{"batchItemFailures": []}', 'ok', NULL),
    ('{"batchItemFailures": null}', 'ok', NULL),
    ('{"BatchItemFailures": [{"itemIdentifier": "20"}]}', 'ok', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "20"}]}', 'partial', 20),
    ('{"batchItemFailures": [{"itemIdentifier": "10"}]}', 'partial', 10),
    ('{"batchItemFailures": [{"itemIdentifier": "9223372036854775807"}]}', 'partial', 9223372036854775807),
    ('{"batchItemFailures": [{"itemIdentifier": "30"}, {"itemIdentifier": "20"}, {"itemIdentifier": "30"}]}', 'partial', 20),
    ('{"batchItemFailures": [{"itemIdentifier": "30", "reason": "bad"}], "state": {}, "more": 1}', 'partial', 30),
    ('"text"', 'failed', NULL),
    ('""', 'failed', NULL),
    ('7', 'failed', NULL),
    ('true', 'failed', NULL),
    ('[]', 'failed', NULL),
    ('[{"itemIdentifier": "20"}]', 'failed', NULL),
    ('{"batchItemFailures": {}}', 'failed', NULL),
    ('{"batchItemFailures": {"itemIdentifier": "20"}}', 'failed', NULL),
    ('{"batchItemFailures": "20"}', 'failed', NULL),
    ('{"batchItemFailures": 20}', 'failed', NULL),
    ('{"batchItemFailures": false}', 'failed', NULL),
    ('{"batchItemFailures": ["20"]}', 'failed', NULL),
    ('{"batchItemFailures": [20]}', 'failed', NULL),
    ('{"batchItemFailures": [null]}', 'failed', NULL),
    ('{"batchItemFailures": [[{"itemIdentifier": "20"}]]}', 'failed', NULL),
    ('{"batchItemFailures": [{}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemidentifier": "20"}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": ""}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": null}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": 20}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": ["20"]}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": {"itemIdentifier": "20"}}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "25"}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "9"}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "0"}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "020"}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "+20"}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "-20"}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": " 20"}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "20 "}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "2e1"}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "9223372036854775808"}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "18446744073709551636"}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "9999999999999999999"}]}', 'failed', NULL),
    (jsonb_build_object('batchItemFailures', jsonb_build_array(jsonb_build_object('itemIdentifier', repeat('ы', 1000)))), 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "20"}, {"itemIdentifier": "21"}]}', 'failed', NULL),
    ('{"batchItemFailures": [{"itemIdentifier": "20"}, {"itemIdentifier": "30"}, {"id": "10"}]}', 'failed', NULL);
SELECT id, left(response::text, 70) AS response, r.outcome, r.from_number, r.why, r.outcome = expected AND r.from_number IS NOT DISTINCT FROM a.from_number AS as_expected
FROM answers a, kinesis._response(response, true, '{10,20,30,9223372036854775807}') r ORDER BY id;
-- Where the mapping does not ask for reports, an answer says nothing.
SELECT DISTINCT r.* FROM answers, kinesis._response(response, false, '{10,20,30}') r;
-- In the last call of a window there may be no records.
SELECT r.* FROM kinesis._response('{"batchItemFailures": [{"itemIdentifier": "20"}]}', true, '{}') r;
SELECT r.* FROM kinesis._response('{"batchItemFailures": []}', true, NULL) r;
-- Long reports.
SELECT r.* FROM kinesis._response((SELECT jsonb_build_object('batchItemFailures', jsonb_agg(jsonb_build_object('itemIdentifier', i::text) ORDER BY md5(i::text)))
    FROM generate_series(5000, 10000) i), true, (SELECT array_agg(i ORDER BY i) FROM generate_series(1, 10000) i)) r;

-- The state in the answer.
SELECT response, kinesis._response_state(response) AS state, is_sound(kinesis._response_state(response)) AS sound
FROM (VALUES (NULL::jsonb), ('null'), ('{}'), ('[{"state": 1}]'), ('"state"'), ('{"state": null}'), ('{"state": {}}'), ('{"state": {"a": [1, 2]}, "batchItemFailures": []}'), ('{"state": []}'), ('{"state": "x"}'),
    ('{"state": 0}'), ('{"state": false}'), ('{"State": {}}')) v(response);

-- What is told of a batch that was given up.
CREATE FUNCTION given_up(condition text, attempts int, state text, message text) RETURNS jsonb LANGUAGE sql
RETURN (SELECT kinesis._invocation_record('00000000-0000-4000-8000-000000000001', 'public.handle', kinesis._stream_arn('orders'), 6, records, condition, attempts, CASE WHEN message IS NULL THEN '{}' ELSE jsonb_build_object('sqlstate', state, 'message', message) END) FROM batch);
SELECT jsonb_pretty(jsonb_set(given_up('RetryAttemptsExhausted', 3, '22012', 'division by zero') - 'payload' - 'timestamp', '{requestContext,requestId}', '"..."'));
SELECT r->'payload' = kinesis._event(records, 6, kinesis._stream_arn('orders'), current_user) AS payload, r->>'timestamp' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$' AS timestamp,
    (r->>'timestamp')::timestamptz BETWEEN now() - interval '1 minute' AND now() + interval '1 minute' AS now, (r->'requestContext'->>'requestId')::uuid IS NOT NULL AS uuid,
    r->'requestContext'->>'requestId' <> given_up('RetryAttemptsExhausted', 3, '22012', 'x')->'requestContext'->>'requestId' AS another
FROM batch, given_up('RetryAttemptsExhausted', 3, '22012', 'division by zero') r;
SELECT (r->'requestContext') - 'requestId' AS request, r->'responseContext' AS response, r ? 'error' AS has_error
FROM (VALUES (given_up('RecordAgeExceeded', 0, NULL, NULL)), (given_up('RecordAgeExceeded', 2, NULL, NULL))) v(r);
SELECT r->'error' AS error FROM (VALUES (given_up('RetryAttemptsExhausted', 1, NULL, 'the response is a number, not an object'))) v(r);
-- The last call of a window had no records.
SELECT r->'KinesisBatchInfo' AS batch, r->'payload' AS payload FROM kinesis._invocation_record(gen_random_uuid(), 'f', 'arn', 0, '{}', 'RetryAttemptsExhausted', 1, '{}') r;
-- The mapping's owner and its consumer's ARN are in the payload, the stream's in the rest.
BEGIN;
CREATE ROLE "Kin Owner";
INSERT INTO kinesis.event_source_mapping (uuid, owner, event_source_arn, function_schema, function_name, takes_records, starting_position, batch_size, maximum_batching_window, parallelization_factor, maximum_retry_attempts,
    bisect_batch_on_function_error, report_batch_item_failures, tumbling_window, enabled, state_transition_reason, last_modified)
VALUES ('00000000-0000-4000-8000-000000000001', '"Kin Owner"', kinesis._stream_arn('orders') || '/consumer/c:1795515164', 'public', 'handle', false, 'LATEST', 100, '0', 1, -1, false, false, '0', true, 'User action', now());
SELECT r->'payload'->'Records'->0->>'invokeIdentityArn' AS identity, r->'payload'->'Records'->0->>'eventSourceARN' AS source, r->'KinesisBatchInfo'->>'streamArn' AS stream
FROM given_up('RetryAttemptsExhausted', 1, NULL, NULL) r;
ROLLBACK;

-- Where it goes. All of this as the owner of the mapping, who has no special rights.
CREATE ROLE kin_test_owner;
CREATE SCHEMA "Mixed.Case" AUTHORIZATION kin_test_owner;
CREATE SCHEMA closed;
CREATE TABLE closed.dead(invocation_record jsonb);
GRANT CREATE ON SCHEMA public TO kin_test_owner;
GRANT EXECUTE ON FUNCTION kinesis._failure_send(text, jsonb) TO kin_test_owner;
SELECT kinesis.create_stream('dead', 2), kinesis.create_stream('foreign', 1);
SELECT kinesis.grant_stream('dead', 'kin_test_owner', 'producer');
CREATE TABLE given AS SELECT given_up('RetryAttemptsExhausted', 3, '22012', 'division by zero') AS r;
GRANT SELECT ON given TO kin_test_owner;
SET ROLE kin_test_owner;
CREATE TABLE public.dead(invocation_record jsonb, sent_by text DEFAULT current_user);
CREATE TABLE "Mixed.Case"."dead ""letters"""(id serial, invocation_record text);
CREATE TABLE other_column(r jsonb);
CREATE FUNCTION public.bury(jsonb) RETURNS text LANGUAGE sql RETURN NULL;
CREATE FUNCTION "Mixed.Case"."bury!"(r jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '% for %', r->'requestContext'->>'condition', current_user; END $$;
CREATE FUNCTION public.text_only(text) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION public.refuses(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today' USING ERRCODE = 'P0123'; END $$;
-- A table.
SELECT kinesis._failure_send('table:public.dead', r) FROM given;
SELECT kinesis._failure_send('table:"Mixed.Case"."dead ""letters"""', r) FROM given;
SELECT d.invocation_record = r AS same, sent_by FROM dead d, given;
SELECT d.invocation_record::jsonb = r AS same FROM "Mixed.Case"."dead ""letters""" d, given;
-- A function.
SELECT kinesis._failure_send('function:public.bury', r) FROM given;
SELECT kinesis._failure_send('function:"Mixed.Case"."bury!"', r) FROM given;
-- A stream; the shard's id is the partition key.
SELECT kinesis._failure_send('stream:dead', r) FROM given;
RESET ROLE;
SELECT partition_key, convert_from(data, 'UTF8')::jsonb = r AS same, shard = right(kinesis.shard_for_key('dead', 'shardId-000000000006'), 12)::int AS routed FROM kinesis_stream.dead, given;
SET ROLE kin_test_owner;

-- What is not there.
CREATE FUNCTION sending(on_failure text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM kinesis._failure_send(on_failure, '{}');
    RETURN 'sent';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END
$$;
SELECT d AS on_failure, sending(d) FROM unnest(ARRAY['table:public.gone', 'table:gone.gone', 'function:public.gone', 'function:gone.gone', 'function:public.text_only', 'stream:gone', 'table:public.other_column']) d;
-- What the owner may not.
SELECT kinesis._failure_send('table:closed.dead', '{}');
SELECT kinesis._failure_send('stream:foreign', '{}');
RESET ROLE;
GRANT USAGE ON SCHEMA closed TO kin_test_owner;
REVOKE EXECUTE ON FUNCTION public.bury FROM PUBLIC;
ALTER FUNCTION public.bury OWNER TO CURRENT_USER;
SET ROLE kin_test_owner;
SELECT kinesis._failure_send('table:closed.dead', '{}');
SELECT kinesis._failure_send('function:public.bury', '{}');
-- What it refuses itself.
SELECT kinesis._failure_send('function:public.refuses', '{}');
-- What no mapping has.
SELECT kinesis._failure_send('table:dead', '{}');
SELECT kinesis._failure_send('table:postgres.public.dead', '{}');
SELECT kinesis._failure_send('table:public.dead (invocation_record) SELECT $1; --', '{}');
SELECT kinesis._failure_send('queue:dead', '{}');
SELECT kinesis._failure_send('stream', '{}');
SELECT kinesis._failure_send('stream:dead', '{}');
RESET ROLE;

-- A record too large for the stream goes without its payload; what is still too large does not go at all.
SELECT kinesis.set_shard_limits('dead', NULL, NULL, NULL, NULL);
CREATE FUNCTION large(bytes int) RETURNS jsonb LANGUAGE sql RETURN (SELECT jsonb_set(r, '{payload}', to_jsonb(repeat('x', bytes))) FROM given);
CREATE FUNCTION sent() RETURNS TABLE(octets int, payload int, batch boolean) LANGUAGE sql
AS 'SELECT octet_length(data), octet_length(j->>''payload''), j ? ''KinesisBatchInfo'' FROM kinesis_stream.dead, LATERAL (SELECT convert_from(data, ''UTF8'')::jsonb AS j) j ORDER BY sequence_number OFFSET 1';
SELECT 1048576 - octet_length('shardId-000000000006') - octet_length(large(0)::text) AS room \gset
SELECT kinesis._failure_send('stream:dead', large(:room));
SELECT kinesis._failure_send('stream:dead', large(:room + 1));
SELECT octets, payload = :room AS whole, batch FROM sent();
SELECT kinesis._failure_send('stream:dead', large(10) || jsonb_build_object('error', repeat('x', 1048576)));
SELECT count(*) FROM sent();

-- A throttled stream raises, and nothing is stored.
SELECT kinesis.set_shard_limits('dead', 1000, NULL, NULL, NULL);
SELECT kinesis._failure_send('stream:dead', large(500000));
\set VERBOSITY sqlstate
SELECT kinesis._failure_send('stream:dead', large(0));
\set VERBOSITY default
SELECT count(*) FROM sent();

SELECT kinesis.delete_stream('dead'), kinesis.delete_stream('foreign');
DROP SCHEMA closed CASCADE;
DROP OWNED BY kin_test_owner;
DROP ROLE kin_test_owner;
