-- The data plane has the signatures that clients are written against, and every public function is described.
CREATE EXTENSION kinesis;
SELECT no_plan();

CREATE FUNCTION signature_is(f regprocedure, arguments text, result text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT is(pg_get_function_arguments(f), arguments, f || ' takes these arguments');
    RETURN NEXT is(pg_get_function_result(f), result, f || ' returns this');
END
$$;

SELECT signature_is('kinesis.put_record(text, bytea, text, numeric, bigint)',
    'stream_name text, data bytea, partition_key text, explicit_hash_key numeric DEFAULT NULL::numeric, sequence_number_for_ordering bigint DEFAULT NULL::bigint, OUT shard_id text, OUT sequence_number bigint, OUT encryption_type text', 'record');
SELECT signature_is('kinesis.put_records(text, bytea[], text[], numeric[], boolean)',
    'stream_name text, data bytea[], partition_keys text[], explicit_hash_keys numeric[] DEFAULT NULL::numeric[], atomic boolean DEFAULT false', 'SETOF kinesis.put_records_result_entry');
SELECT signature_is('kinesis.put_records(text, kinesis.put_records_request_entry[], boolean)',
    'stream_name text, records kinesis.put_records_request_entry[], atomic boolean DEFAULT false', 'SETOF kinesis.put_records_result_entry');
SELECT signature_is('kinesis.get_shard_iterator(text, text, text, bigint, timestamptz)',
    'stream_name text, shard_id text, shard_iterator_type text, starting_sequence_number bigint DEFAULT NULL::bigint, "timestamp" timestamp with time zone DEFAULT NULL::timestamp with time zone', 'text');
SELECT signature_is('kinesis.get_records(text, int, interval)',
    'shard_iterator text, max_records integer DEFAULT 10000, wait interval DEFAULT NULL::interval, OUT records kinesis.record[], OUT next_shard_iterator text, OUT millis_behind_latest bigint, OUT child_shards kinesis.child_shard[]', 'record');
SELECT signature_is('kinesis.subscribe_to_shard(text, text, text, bigint, timestamptz, interval)',
    'consumer_arn text, shard_id text, starting_position text, sequence_number bigint DEFAULT NULL::bigint, "timestamp" timestamp with time zone DEFAULT NULL::timestamp with time zone, max_wait interval DEFAULT ''00:00:05''::interval, OUT records kinesis.record[], OUT continuation_sequence_number bigint, OUT millis_behind_latest bigint, OUT child_shards kinesis.child_shard[]', 'record');
SELECT signature_is('kinesis.read_shard(text, text, bigint, bigint)',
    'stream_name text, shard_id text, after_sequence_number bigint DEFAULT NULL::bigint, max_records bigint DEFAULT NULL::bigint', 'SETOF kinesis.record');
SELECT signature_is('kinesis.set_shard_limits(text, bigint, bigint, bigint, bigint)',
    'stream_name text, write_bytes_per_second bigint, write_records_per_second bigint, read_bytes_per_second bigint, read_calls_per_second bigint', 'void');
SELECT signature_is('kinesis.create_event_source_mapping(text, text, text, timestamptz, int, interval, int, interval, int, boolean, text, boolean, interval, jsonb, boolean)',
    'event_source text, function_name text, starting_position text DEFAULT ''TRIM_HORIZON''::text, starting_position_timestamp timestamp with time zone DEFAULT NULL::timestamp with time zone, batch_size integer DEFAULT 100, maximum_batching_window interval DEFAULT ''00:00:00''::interval, parallelization_factor integer DEFAULT 1, maximum_record_age interval DEFAULT NULL::interval, maximum_retry_attempts integer DEFAULT ''-1''::integer, bisect_batch_on_function_error boolean DEFAULT false, on_failure text DEFAULT NULL::text, report_batch_item_failures boolean DEFAULT false, tumbling_window interval DEFAULT ''00:00:00''::interval, filter_criteria jsonb DEFAULT NULL::jsonb, enabled boolean DEFAULT true', 'uuid');
SELECT signature_is('kinesis.update_event_source_mapping(uuid, text, boolean, int, interval, int, interval, int, boolean, text, boolean, interval, jsonb)',
    'uuid uuid, function_name text DEFAULT NULL::text, enabled boolean DEFAULT NULL::boolean, batch_size integer DEFAULT NULL::integer, maximum_batching_window interval DEFAULT NULL::interval, parallelization_factor integer DEFAULT NULL::integer, maximum_record_age interval DEFAULT NULL::interval, maximum_retry_attempts integer DEFAULT NULL::integer, bisect_batch_on_function_error boolean DEFAULT NULL::boolean, on_failure text DEFAULT NULL::text, report_batch_item_failures boolean DEFAULT NULL::boolean, tumbling_window interval DEFAULT NULL::interval, filter_criteria jsonb DEFAULT NULL::jsonb', 'kinesis.event_source_mapping_configuration');
SELECT signature_is('kinesis.delete_event_source_mapping(uuid)', 'uuid uuid', 'kinesis.event_source_mapping_configuration');
SELECT signature_is('kinesis.get_event_source_mapping(uuid)', 'uuid uuid', 'kinesis.event_source_mapping_configuration');
SELECT signature_is('kinesis.event_source_mapping_lag(uuid)', 'uuid uuid', 'SETOF kinesis.event_source_mapping_lag_row');
SELECT signature_is('kinesis.list_event_source_mappings(text, text, int, text)',
    'event_source text DEFAULT NULL::text, function_name text DEFAULT NULL::text, max_items integer DEFAULT NULL::integer, marker text DEFAULT NULL::text', 'SETOF kinesis.event_source_mapping_configuration');
SELECT signature_is('kinesis.create_notification(text, text)', 'stream_name text, channel text DEFAULT NULL::text', 'text');
SELECT signature_is('kinesis.delete_notification(text, text)', 'stream_name text, channel text DEFAULT NULL::text', 'void');
SELECT signature_is('kinesis.sequence_at(timestamptz)', '"timestamp" timestamp with time zone', 'bigint');
SELECT signature_is('kinesis.arrival(bigint)', 'sequence_number bigint', 'timestamp with time zone');
SELECT signature_is('kinesis.hash_key(text)', 'partition_key text', 'numeric');
SELECT signature_is('kinesis.shard_for_key(text, text)', 'stream_name text, partition_key text', 'text');
SELECT volatility_is('kinesis', 'sequence_at', ARRAY['timestamp with time zone'], 'immutable');
SELECT volatility_is('kinesis', 'arrival', ARRAY['bigint'], 'immutable');

CREATE FUNCTION attributes(type regtype) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
    FROM pg_attribute a JOIN pg_type t ON t.typrelid = a.attrelid WHERE t.oid = type AND NOT attisdropped $$;
SELECT is(attributes('kinesis.record'), 'sequence_number bigint, approximate_arrival_timestamp timestamp with time zone, partition_key text, data bytea, encryption_type text', 'kinesis.record');
SELECT is(attributes('kinesis.put_records_result_entry'), 'sequence_number bigint, shard_id text, error_code text, error_message text', 'kinesis.put_records_result_entry');
SELECT is(attributes('kinesis.put_records_request_entry'), 'data bytea, partition_key text, explicit_hash_key numeric', 'kinesis.put_records_request_entry');

SELECT is(attributes('kinesis.batch_context'), 'mapping uuid, stream_name text, shard_id text, attempt integer, window_start timestamp with time zone, window_end timestamp with time zone, window_state jsonb, is_final_invoke_for_window boolean, is_window_terminated_early boolean', 'kinesis.batch_context');
SELECT is(attributes('kinesis.event_source_mapping_configuration'), 'uuid uuid, event_source_mapping_arn text, event_source_arn text, function_name text, owner text, starting_position text, starting_position_timestamp timestamp with time zone, batch_size integer, maximum_batching_window interval, parallelization_factor integer, maximum_record_age interval, maximum_retry_attempts integer, bisect_batch_on_function_error boolean, on_failure text, report_batch_item_failures boolean, tumbling_window interval, filter_criteria jsonb, state text, state_transition_reason text, last_modified timestamp with time zone, last_processing_result text, next_marker text', 'kinesis.event_source_mapping_configuration');

-- Every public function says what it takes and gives; nothing in the catalog hinders pg_upgrade.
SELECT is_empty($$ SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace = 'kinesis'::regnamespace AND proname !~ '^_' AND obj_description(oid, 'pg_proc') IS NULL $$,
    'every public function has a comment');
SELECT is_empty($$ SELECT attrelid::regclass, attname FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
    WHERE relnamespace IN ('kinesis'::regnamespace, 'kinesis_stream'::regnamespace) AND relkind IN ('r', 'p') AND atttypid IN ('regproc'::regtype, 'regprocedure'::regtype, 'regnamespace'::regtype, 'regoper'::regtype) $$,
    'no column of a type that pg_upgrade refuses');
SELECT is_empty($$ SELECT proname FROM pg_proc p WHERE pronamespace = 'kinesis'::regnamespace AND proname ~ '^_' AND has_function_privilege('public', p.oid, 'EXECUTE') $$,
    'nothing private is for PUBLIC');
SELECT finish();
