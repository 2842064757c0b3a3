/* kinesis--1.0.sql - the SQL side of the extension. Names with a leading underscore are private. */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION kinesis" to load this file. \quit

---------------------------------------------------------------------------------------------------------------------
-- Preload check: nothing else is made when the library can't work.
---------------------------------------------------------------------------------------------------------------------

CREATE SCHEMA kinesis;

CREATE FUNCTION kinesis._check_preload() RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_check_preload';

SELECT kinesis._check_preload();

-- Holds one partitioned table a stream, and the tables of its shards and slices.
CREATE SCHEMA kinesis_stream;

---------------------------------------------------------------------------------------------------------------------
-- Roles: made if absent, kept when the extension goes (other databases of the cluster may use them).
---------------------------------------------------------------------------------------------------------------------

DO $$
DECLARE
    r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['kinesis_admin', 'kinesis_producer', 'kinesis_consumer', 'kinesis_monitor'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', r);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;               -- another database has made it
        END;
    END LOOP;
END
$$;

---------------------------------------------------------------------------------------------------------------------
-- Types
---------------------------------------------------------------------------------------------------------------------

CREATE TYPE kinesis.record AS (
    sequence_number bigint,
    approximate_arrival_timestamp timestamptz,
    partition_key text,
    data bytea,
    encryption_type text
);
COMMENT ON TYPE kinesis.record IS 'A record as it is read. The sequence number holds the arrival time, to the millisecond.';

CREATE FUNCTION kinesis._records_send(kinesis.record[]) RETURNS bytea
LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'kin_records_send';
COMMENT ON FUNCTION kinesis._records_send(kinesis.record[]) IS 'Binary form of the array, the same as array_send makes, in a fraction of the time.';

/*
 * No command sets the send function of an array type that PostgreSQL made for a row type, so it is written to the catalog.
 * pg_upgrade does not carry it over: then array_send is back, which is slower and says the same, until the first use of a
 * stream calls this again (_finish_restore).
 */
CREATE FUNCTION kinesis._use_records_send() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS 'UPDATE pg_type SET typsend = ''kinesis._records_send(kinesis.record[])''::regprocedure
    WHERE oid = ''kinesis.record[]''::regtype AND typsend <> ''kinesis._records_send(kinesis.record[])''::regprocedure';
SELECT kinesis._use_records_send();

-- Every stream's table is OF this type: dropping the extension refuses while there are streams, and CASCADE drops them.
CREATE TYPE kinesis.stored_record AS (
    sequence_number bigint,
    shard integer,
    partition_key text,
    data bytea
);
COMMENT ON TYPE kinesis.stored_record IS 'Row of a stream''s table: shard is the number at the end of the shard id.';

CREATE TYPE kinesis.put_records_request_entry AS (data bytea, partition_key text, explicit_hash_key numeric);
COMMENT ON TYPE kinesis.put_records_request_entry IS 'A record to put. explicit_hash_key, if not null, routes instead of the partition key.';

CREATE TYPE kinesis.put_records_result_entry AS (sequence_number bigint, shard_id text, error_code text, error_message text);
COMMENT ON TYPE kinesis.put_records_result_entry IS 'What became of a record: sequence number and shard id, or error code and message.';

CREATE TYPE kinesis.child_shard AS (shard_id text, parent_shards text[], starting_hash_key numeric, ending_hash_key numeric);
COMMENT ON TYPE kinesis.child_shard IS 'A shard that a closed shard was split or merged into, with all its parents.';

CREATE TYPE kinesis.batch_context AS (
    mapping uuid,
    stream_name text,
    shard_id text,
    attempt int,
    window_start timestamptz,
    window_end timestamptz,
    window_state jsonb,
    is_final_invoke_for_window boolean,
    is_window_terminated_early boolean
);
COMMENT ON TYPE kinesis.batch_context IS 'What the function of an event source mapping is told beside the records. attempt counts from 1; the last five are null without a tumbling window.';

CREATE TYPE kinesis.shard_description AS (
    shard_id text,
    parent_shard_id text,
    adjacent_parent_shard_id text,
    starting_hash_key numeric,
    ending_hash_key numeric,
    starting_sequence_number bigint,
    ending_sequence_number bigint
);
COMMENT ON TYPE kinesis.shard_description IS 'A shard. Hash keys are inclusive; ending_sequence_number is null while the shard is open.';

---------------------------------------------------------------------------------------------------------------------
-- Catalog. stream_lookup.c reads stream, shard and slice by column number: keep the order. No foreign keys: pg_restore -j
-- fills the tables of an extension in any order, and only the functions below write to them.
---------------------------------------------------------------------------------------------------------------------

CREATE TABLE kinesis.stream (
    stream_id bigint GENERATED BY DEFAULT AS IDENTITY CONSTRAINT stream_pkey PRIMARY KEY,
    stream_name text COLLATE "C" NOT NULL CONSTRAINT stream_stream_name_key UNIQUE,
    stream_status text NOT NULL DEFAULT 'ACTIVE',
    stream_mode text NOT NULL CHECK (stream_mode IN ('PROVISIONED', 'ON_DEMAND')),
    stream_creation_timestamp timestamptz NOT NULL,
    retention_period_hours int NOT NULL DEFAULT 24 CHECK (retention_period_hours BETWEEN 24 AND 8760),
    max_record_size_in_kib int NOT NULL DEFAULT 1024 CHECK (max_record_size_in_kib BETWEEN 1024 AND 10240),
    write_bytes_per_second bigint DEFAULT 1048576,
    write_records_per_second bigint DEFAULT 1000,
    read_bytes_per_second bigint DEFAULT 2097152,
    read_calls_per_second bigint DEFAULT 5,
    next_shard_index int NOT NULL,
    table_name name NOT NULL,
    home text,
    trimmed_before bigint NOT NULL DEFAULT 0    -- numbers below were past retention once, and stay so when it is lengthened
);

CREATE TABLE kinesis.shard (
    stream_id bigint NOT NULL,
    shard_index int NOT NULL,
    parent_shard int,
    adjacent_parent_shard int,
    starting_hash_key numeric NOT NULL,
    ending_hash_key numeric NOT NULL,
    starting_sequence_number bigint NOT NULL,
    ending_sequence_number bigint,
    created_at timestamptz NOT NULL,
    closed_at timestamptz,
    CONSTRAINT shard_pkey PRIMARY KEY (stream_id, shard_index)
);

CREATE TABLE kinesis.slice (
    stream_id bigint NOT NULL,
    shard_index int NOT NULL,
    lower_bound bigint NOT NULL,
    upper_bound bigint NOT NULL CHECK (upper_bound > lower_bound),
    CONSTRAINT slice_pkey PRIMARY KEY (stream_id, shard_index, lower_bound)
);

-- Registered consumers (enhanced fan-out). consumer_lookup.c reads it by column number, too.
CREATE TABLE kinesis.consumer (
    consumer_id bigint GENERATED BY DEFAULT AS IDENTITY CONSTRAINT consumer_pkey PRIMARY KEY,
    stream_id bigint NOT NULL,
    consumer_name text COLLATE "C" NOT NULL,
    consumer_creation_timestamp timestamptz NOT NULL,
    CONSTRAINT consumer_stream_id_key UNIQUE (stream_id, consumer_name)
);

CREATE TABLE kinesis.tag (
    stream_id bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    value text NOT NULL,
    consumer_id bigint NOT NULL DEFAULT 0,      -- 0: of the stream itself
    CONSTRAINT tag_pkey PRIMARY KEY (stream_id, consumer_id, key)
);

-- Consumer groups: what KCL keeps in a table for each application.
CREATE TABLE kinesis.consumer_group (
    group_id bigint GENERATED BY DEFAULT AS IDENTITY CONSTRAINT consumer_group_pkey PRIMARY KEY,
    group_name text COLLATE "C" NOT NULL CONSTRAINT consumer_group_group_name_key UNIQUE,
    initial_position text NOT NULL,
    initial_timestamp timestamptz,
    lease_duration interval NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE kinesis.group_stream (
    group_id bigint NOT NULL,
    stream_id bigint NOT NULL,
    CONSTRAINT group_stream_pkey PRIMARY KEY (group_id, stream_id)
);

-- Not dumped: sessions do not survive that.
CREATE TABLE kinesis.group_member (
    group_id bigint NOT NULL,
    member_name text COLLATE "C" NOT NULL,
    session bigint,             -- lives as long as this session ...
    deadline timestamptz,       -- ... or until then
    max_leases int,
    joined_at timestamptz NOT NULL,
    CONSTRAINT group_member_pkey PRIMARY KEY (group_id, member_name)
);

CREATE TABLE kinesis.lease (
    group_id bigint NOT NULL,
    stream_id bigint NOT NULL,
    shard_index int NOT NULL,
    owner text COLLATE "C",
    token bigint NOT NULL DEFAULT 0,            -- grows with every owner: who has an old one can't move the checkpoint
    checkpoint bigint NOT NULL,                 -- records with greater numbers come next
    sub_sequence_number bigint NOT NULL DEFAULT 0,
    ended boolean NOT NULL DEFAULT false,       -- SHARD_END
    owner_switches int NOT NULL DEFAULT 0,      -- since the last checkpoint
    checkpointed_at timestamptz,
    CONSTRAINT lease_pkey PRIMARY KEY (group_id, stream_id, shard_index)
) WITH (fillfactor = 50);                       -- a checkpoint is an update in place

-- Event source mappings: a function that is called with batches of a stream's records. The function is kept by name: regproc would
-- bar pg_upgrade.
CREATE TABLE kinesis.event_source_mapping (
    uuid uuid CONSTRAINT event_source_mapping_pkey PRIMARY KEY,
    owner regrole NOT NULL,
    stream_id bigint,                           -- null when the stream is no more
    event_source_arn text NOT NULL,             -- of the stream, or of a registered consumer
    function_schema name NOT NULL,
    function_name name NOT NULL,
    takes_records boolean NOT NULL,             -- f(kinesis.record[], kinesis.batch_context), else f(jsonb)
    function_owner regrole,                     -- when it was chosen: another role's function of that name is not what was meant
    starting_position text NOT NULL,
    starting_position_timestamp timestamptz,
    batch_size int NOT NULL,
    maximum_batching_window interval NOT NULL,
    parallelization_factor int NOT NULL,
    maximum_record_age interval,
    maximum_retry_attempts int NOT NULL,        -- -1: for ever
    bisect_batch_on_function_error boolean NOT NULL,
    on_failure text,
    on_failure_owner regrole,                   -- of a table or function there, when it was chosen
    report_batch_item_failures boolean NOT NULL,
    tumbling_window interval NOT NULL,
    filter_criteria jsonb,
    enabled boolean NOT NULL,
    transition text,                            -- Creating, Enabling, Updating, Disabling: until the scheduler has seen it
    state_transition_reason text NOT NULL,
    last_modified timestamptz NOT NULL,
    home text                                   -- the copy of the database that it runs in
);

/*
 * Where a mapping is in a shard. With a parallelization factor above 1 a shard has several lanes, each with the records whose
 * keys' hash is "lane" modulo "lanes". A lane is worked on by one worker at a time, and its row changes in the transaction of the work.
 */
CREATE TABLE kinesis.mapping_lane (
    lane_id bigint GENERATED BY DEFAULT AS IDENTITY CONSTRAINT mapping_lane_pkey PRIMARY KEY,
    uuid uuid NOT NULL,
    stream_id bigint NOT NULL,
    shard_index int NOT NULL,
    lane int NOT NULL,
    lanes int NOT NULL,
    checkpoint bigint NOT NULL,                 -- records with greater numbers come next
    stop_at bigint,                             -- not behind this number: the lanes are about to be cut anew there
    ended boolean NOT NULL DEFAULT false,       -- all of a closed shard is done
    batch_ends bigint[],                        -- ends of a batch that failed and its halves, the smallest last
    attempts int NOT NULL DEFAULT 0,            -- failed ones of this batch
    crashes int NOT NULL DEFAULT 0,             -- of the server while the function ran, since the last success
    failing_since timestamptz,
    retry_at timestamptz,
    window_start timestamptz,                   -- of the tumbling window that is open
    window_state jsonb,
    window_full boolean NOT NULL DEFAULT false, -- its state has grown too large: it ends early
    last_result text NOT NULL DEFAULT 'No records processed',
    processed_at timestamptz,
    last_error jsonb,
    invocations bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    records bigint NOT NULL DEFAULT 0,          -- that the function has worked on
    discarded bigint NOT NULL DEFAULT 0,
    CONSTRAINT mapping_lane_uuid_key UNIQUE (uuid, shard_index, lane)
) WITH (fillfactor = 50);

-- Notifications: the scheduler NOTIFYs when a shard has news.
CREATE TABLE kinesis.notification (
    stream_id bigint NOT NULL,
    channel text COLLATE "C" NOT NULL,
    owner regrole NOT NULL,
    created_at timestamptz NOT NULL,
    home text,
    CONSTRAINT notification_pkey PRIMARY KEY (stream_id, channel)
);

-- Deleted streams whose tables are still there, for kinesis.purge() to drop.
CREATE TABLE kinesis.deleted_stream (
    stream_id bigint NOT NULL CONSTRAINT deleted_stream_pkey PRIMARY KEY,
    stream_name text COLLATE "C" NOT NULL,
    deleted_at timestamptz NOT NULL,
    home text
);

-- Calls that AWS's quotas count, kept for a day and only while kinesis.aws_limits is on.
CREATE TABLE kinesis.call (
    operation text NOT NULL,
    stream_id bigint,
    called_at timestamptz NOT NULL
);
CREATE INDEX call_operation_idx ON kinesis.call (operation, called_at);

-- Seals shard iterators and pagination tokens. Not dumped: a restored copy must not accept the original's.
CREATE TABLE kinesis.secret (secret bytea NOT NULL);
INSERT INTO kinesis.secret VALUES (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

SELECT pg_catalog.pg_extension_config_dump('kinesis.stream', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.stream_stream_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.shard', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.slice', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.tag', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.deleted_stream', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.consumer_group', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.consumer_group_group_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.group_stream', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.lease', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.consumer', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.consumer_consumer_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.event_source_mapping', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.mapping_lane', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.mapping_lane_lane_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('kinesis.notification', '');

---------------------------------------------------------------------------------------------------------------------
-- Helpers in C
---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION kinesis._raise(error text, message text, detail text DEFAULT NULL, hint text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_raise';

CREATE FUNCTION kinesis.error_codes(OUT error text, OUT sqlstate text, OUT message text) RETURNS SETOF record
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'kin_error_codes';
COMMENT ON FUNCTION kinesis.error_codes() IS 'The AWS errors that functions of this extension raise, with their SQLSTATEs.';

CREATE FUNCTION kinesis._now() RETURNS timestamptz
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'kin_now';

CREATE FUNCTION kinesis.sequence_at("timestamp" timestamptz) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'kin_sequence_at';
COMMENT ON FUNCTION kinesis.sequence_at(timestamptz) IS 'The smallest sequence number of a record that arrived at or after this time. Compare sequence_number with it to let a time range prune slices.';

CREATE FUNCTION kinesis.arrival(sequence_number bigint) RETURNS timestamptz
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'kin_arrival';
COMMENT ON FUNCTION kinesis.arrival(bigint) IS 'Arrival time of the record with this sequence number, to the millisecond.';

CREATE FUNCTION kinesis.hash_key(partition_key text) RETURNS numeric
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'kin_hash_key';
COMMENT ON FUNCTION kinesis.hash_key(text) IS 'md5 of the partition key as a number in [0, 2^128 - 1]: what records are routed by.';

CREATE FUNCTION kinesis._require(stream_id bigint, "right" text, operation text) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_require';

CREATE FUNCTION kinesis._last_sequence_number(stream_id bigint, shard_index int) RETURNS bigint
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_last_sequence_number';

CREATE FUNCTION kinesis._hold_slices(stream_id bigint, shard_indexes int[], timeout_ms int) RETURNS boolean
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_hold_slices';

CREATE FUNCTION kinesis._touch_stream(stream_id bigint) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_touch_stream';

CREATE FUNCTION kinesis._check_slice(slice regclass, shard int, lower_bound bigint, upper_bound bigint) RETURNS SETOF text
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_check_slice';

CREATE FUNCTION kinesis._sort_slice(slice regclass) RETURNS bigint
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_sort_slice';

CREATE FUNCTION kinesis._bind_remains(uppermost regclass) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_bind_remains';

CREATE FUNCTION kinesis._home() RETURNS text
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'kin_home';

CREATE FUNCTION kinesis._account_id() RETURNS text
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'kin_account_id';

CREATE FUNCTION kinesis._region() RETURNS text
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'kin_region';

CREATE FUNCTION kinesis._refuse_change() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_refuse_change';

---------------------------------------------------------------------------------------------------------------------
-- Data plane
---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION kinesis.put_record(stream_name text, data bytea, partition_key text, explicit_hash_key numeric DEFAULT NULL,
    sequence_number_for_ordering bigint DEFAULT NULL, OUT shard_id text, OUT sequence_number bigint, OUT encryption_type text)
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_put_record';
COMMENT ON FUNCTION kinesis.put_record(text, bytea, text, numeric, bigint) IS
'Stores one record. It can be read when the transaction commits. Raises ProvisionedThroughputExceededException (KN006) when the shard''s write limits are used up, ValidationException (KN004) for a bad key or size.';

CREATE FUNCTION kinesis.put_records(stream_name text, data bytea[], partition_keys text[], explicit_hash_keys numeric[] DEFAULT NULL,
    atomic boolean DEFAULT false) RETURNS SETOF kinesis.put_records_result_entry
LANGUAGE c ROWS 500 AS 'MODULE_PATHNAME', 'kin_put_records_arrays';
COMMENT ON FUNCTION kinesis.put_records(text, bytea[], text[], numeric[], boolean) IS
'Stores 1 to 500 records, at most 10 MiB. Returns a row a record in the order of the arrays; throttled ones have an error code and are not stored, unless atomic, which raises. A malformed entry fails the whole call.';

CREATE FUNCTION kinesis.put_records(stream_name text, records kinesis.put_records_request_entry[], atomic boolean DEFAULT false)
RETURNS SETOF kinesis.put_records_result_entry
LANGUAGE c ROWS 500 AS 'MODULE_PATHNAME', 'kin_put_records_entries';
COMMENT ON FUNCTION kinesis.put_records(text, kinesis.put_records_request_entry[], boolean) IS
'The same as put_records with arrays, for records as rows.';

CREATE FUNCTION kinesis.get_shard_iterator(stream_name text, shard_id text, shard_iterator_type text,
    starting_sequence_number bigint DEFAULT NULL, "timestamp" timestamptz DEFAULT NULL) RETURNS text
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_get_shard_iterator';
COMMENT ON FUNCTION kinesis.get_shard_iterator(text, text, text, bigint, timestamptz) IS
'An opaque position in a shard, valid for kinesis.shard_iterator_lifetime. Types: TRIM_HORIZON, LATEST, AT_SEQUENCE_NUMBER, AFTER_SEQUENCE_NUMBER, AT_TIMESTAMP.';

CREATE FUNCTION kinesis.get_records(shard_iterator text, max_records int DEFAULT 10000, wait interval DEFAULT NULL,
    OUT records kinesis.record[], OUT next_shard_iterator text, OUT millis_behind_latest bigint, OUT child_shards kinesis.child_shard[])
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_get_records';
COMMENT ON FUNCTION kinesis.get_records(text, int, interval) IS
'Records behind the iterator, at most max_records (1 to 10000) and 10 MiB. With wait (at most 60 s) it returns as soon as there is something. next_shard_iterator is null when a closed shard is read to its end; child_shards then lists its children. millis_behind_latest is 0 when caught up.';

CREATE FUNCTION kinesis.read_shard(stream_name text, shard_id text, after_sequence_number bigint DEFAULT NULL, max_records bigint DEFAULT NULL)
RETURNS SETOF kinesis.record
LANGUAGE c STABLE ROWS 10000 AS 'MODULE_PATHNAME', 'kin_read_shard';
COMMENT ON FUNCTION kinesis.read_shard(text, text, bigint, bigint) IS
'The records of a shard as rows in order, from behind a sequence number (default: the oldest retained). Not throttled.';

CREATE FUNCTION kinesis.shard_for_key(stream_name text, partition_key text) RETURNS text
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_shard_for_key';
COMMENT ON FUNCTION kinesis.shard_for_key(text, text) IS 'Id of the open shard that a record with this partition key goes to.';

---------------------------------------------------------------------------------------------------------------------
-- Names, ids, arguments
---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION kinesis._shard_id(shard_index int) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN 'shardId-' || pg_catalog.lpad(shard_index::text, 12, '0');

CREATE FUNCTION kinesis._stream_arn(stream_name text) RETURNS text
LANGUAGE sql STABLE STRICT
RETURN pg_catalog.concat('arn:aws:kinesis:', kinesis._region(), ':', kinesis._account_id(), ':stream/', stream_name);

CREATE FUNCTION kinesis._validation(field text, value text, "constraint" text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM kinesis._raise('ValidationException',
        format('1 validation error detected: Value %s at ''%s'' failed to satisfy constraint: %s',
               coalesce('''' || value || '''', 'null'), field, "constraint"));
END
$$;

-- The checked name in a name or ARN.
CREATE FUNCTION kinesis._stream_name(stream text) RETURNS text
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'kin_stream_name';

CREATE FUNCTION kinesis._check_name(name text, field text) RETURNS void
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'kin_check_name';

-- The index in a shard id; field is the argument's name in the API, for the error.
CREATE FUNCTION kinesis._shard_index(shard_id text, field text, stream_name text) RETURNS int
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'kin_shard_index';

CREATE FUNCTION kinesis._not_found(stream_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM kinesis._raise('ResourceNotFoundException', format('Stream %s under account %s not found.', stream_name, kinesis._account_id()));
END
$$;

-- Row of a stream that the caller may use in this way.
CREATE FUNCTION kinesis._stream(stream text, "right" text, operation text) RETURNS kinesis.stream
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text := kinesis._stream_name(stream);
    s kinesis.stream;
BEGIN
    SELECT * INTO s FROM kinesis.stream WHERE stream_name = name;
    IF NOT FOUND THEN
        PERFORM kinesis._not_found(name);
    END IF;
    PERFORM kinesis._require(s.stream_id, "right", operation);
    RETURN s;
END
$$;

-- A row that was read again under a lock: it may be gone, or not in a state for changes.
CREATE FUNCTION kinesis._require_active(s kinesis.stream, stream text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF s.stream_id IS NULL THEN
        PERFORM kinesis._not_found(kinesis._stream_name(stream));
    ELSIF s.stream_status <> 'ACTIVE' THEN
        PERFORM kinesis._raise('ResourceInUseException', format('Stream %s under account %s not ACTIVE, instead in state %s',
            s.stream_name, kinesis._account_id(), s.stream_status));
    END IF;
END
$$;

-- The same, with the row locked: the lock under which a stream's shards and slices change.
CREATE FUNCTION kinesis._lock_stream(stream text, "right" text, operation text) RETURNS kinesis.stream
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._stream(stream, "right", operation);
    id bigint := s.stream_id;
BEGIN
    PERFORM kinesis._count_call(operation, id);
    SELECT * INTO s FROM kinesis.stream WHERE stream_id = id FOR UPDATE;
    PERFORM kinesis._require_active(s, stream);
    RETURN s;
END
$$;

/*
 * The same for whoever changes the set of shards, who may wait long for producers. It must not hold the row meanwhile: a
 * producer that has written to the shard and needs its next slice waits for the row, and each would wait for the other. So
 * changes of the set are kept apart by a lock on the stream's table alone (not on its partitions), and _fence() takes the row only while it tries.
 */
CREATE FUNCTION kinesis._lock_shards(stream text, operation text) RETURNS kinesis.stream
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._stream(stream, 'admin', operation);
    id bigint := s.stream_id;
BEGIN
    PERFORM kinesis._count_call(operation, id);
    EXECUTE format('LOCK TABLE ONLY kinesis_stream.%I IN SHARE UPDATE EXCLUSIVE MODE', s.table_name);
    SELECT * INTO s FROM kinesis.stream WHERE stream_id = id;
    PERFORM kinesis._require_active(s, stream);
    RETURN s;
END
$$;

CREATE FUNCTION kinesis._shard(s kinesis.stream, shard_id text, field text) RETURNS kinesis.shard
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ix int := kinesis._shard_index(shard_id, field, s.stream_name);
    h kinesis.shard;
BEGIN
    SELECT * INTO h FROM kinesis.shard WHERE stream_id = s.stream_id AND shard_index = ix
        AND (closed_at IS NULL OR closed_at > kinesis._now() - make_interval(hours => s.retention_period_hours));
    IF NOT FOUND THEN
        PERFORM kinesis._raise('ResourceNotFoundException', format('Shard %s in stream %s under account %s does not exist',
            kinesis._shard_id(ix), s.stream_name, kinesis._account_id()));
    END IF;
    RETURN h;
END
$$;

-- AWS's call rates (a second) and daily quotas; counted only while kinesis.aws_limits is on.
CREATE FUNCTION kinesis._count_call(operation text, stream_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    op text := operation;
    id bigint := stream_id;
    per_second int;
    per_day int;
    since timestamptz := kinesis._now();
    n int;
BEGIN
    -- A standby or a read-only transaction can't write the count down, and must not fail for that.
    IF NOT current_setting('kinesis.aws_limits')::boolean OR current_setting('transaction_read_only')::boolean THEN
        RETURN;
    END IF;
    per_second := CASE
        WHEN op = 'DescribeLimits' THEN 1
        WHEN op IN ('DescribeStream', 'UpdateShardCount') THEN 10
        WHEN op IN ('DescribeStreamSummary', 'DescribeStreamConsumer') THEN 20
        WHEN op IN ('ListShards') THEN 1000
        ELSE 5 END;
    per_day := CASE op WHEN 'UpdateShardCount' THEN 10 WHEN 'UpdateStreamMode' THEN 2 END;
    DELETE FROM kinesis.call c WHERE c.called_at < since - interval '1 day';
    SELECT count(*) INTO n FROM kinesis.call c WHERE c.operation = op AND c.called_at > since - interval '1 second'
        AND (op NOT IN ('ListShards', 'DescribeStreamConsumer', 'DeregisterStreamConsumer', 'ListStreamConsumers') OR c.stream_id = id);     -- these are a stream's, not the account's
    IF n >= per_second THEN
        PERFORM kinesis._raise('LimitExceededException', format('Rate exceeded for %s: at most %s calls a second', op, per_second), NULL,
            'These are AWS''s quotas; they apply because kinesis.aws_limits is on.');
    END IF;
    IF per_day IS NOT NULL THEN
        SELECT count(*) INTO n FROM kinesis.call c WHERE c.operation = op AND c.stream_id = id;
        IF n >= per_day THEN
            PERFORM kinesis._raise('LimitExceededException', format('%s can be called %s times in 24 hours for a stream', op, per_day), NULL,
                'These are AWS''s quotas; they apply because kinesis.aws_limits is on.');
        END IF;
    END IF;
    INSERT INTO kinesis.call VALUES (op, id, since);
END
$$;

CREATE FUNCTION kinesis._caller() RETURNS oid
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_caller_role';

---------------------------------------------------------------------------------------------------------------------
-- Tables of a stream
---------------------------------------------------------------------------------------------------------------------

/*
 * Puts the guard on a table of a stream: records come in through the engine only. ALWAYS: replica mode is no way round it.
 * Where rows are, a second trigger looks at each of them, since a subscription's worker writes rows without a statement.
 */
CREATE FUNCTION kinesis._guard_table(table_name text, has_rows boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER refuse_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON kinesis_stream.%I '
        'FOR EACH STATEMENT EXECUTE FUNCTION kinesis._refuse_change()', table_name);
    EXECUTE format('ALTER TABLE kinesis_stream.%I ENABLE ALWAYS TRIGGER refuse_change', table_name);
    IF has_rows THEN
        EXECUTE format('CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE OR DELETE ON kinesis_stream.%I '
            'FOR EACH ROW EXECUTE FUNCTION kinesis._refuse_change()', table_name);
        EXECUTE format('ALTER TABLE kinesis_stream.%I ENABLE ALWAYS TRIGGER refuse_row', table_name);
    END IF;
END
$$;

-- Takes away what ALTER DEFAULT PRIVILEGES has given to a new table: rights on records come from grant_stream and GRANT alone.
CREATE FUNCTION kinesis._without_default_rights(table_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    grantee oid;
BEGIN
    FOR grantee IN SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = to_regclass(format('kinesis_stream.%I', table_name)) AND a.grantee <> c.relowner LOOP
        EXECUTE format('REVOKE ALL ON kinesis_stream.%I FROM %s', table_name, CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END);
    END LOOP;
END
$$;

-- Milliseconds of a slice: a 24th of the retention period, so that purging is late by at most that.
CREATE FUNCTION kinesis._slice_width(retention_period_hours int) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT RETURN retention_period_hours::bigint * 3600000 / 24;

/*
 * Makes the slices that cover from_number and one width behind it, where none are. Bounds are multiples of the width;
 * next to slices of another width (the retention period was changed) a slice is shorter. Called by producers that miss a
 * slice (slice_make.c) and by whoever makes them ahead. The stream's row lock keeps two of them from making the same one.
 */
CREATE FUNCTION kinesis._make_slices(stream_id bigint, shard_index int, from_number bigint) RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id bigint := stream_id;
    ix int := shard_index;
    s kinesis.stream;
    w bigint;                   -- in milliseconds
    point bigint := from_number;
    lower_bound bigint;
    upper_bound bigint;
    next_upper bigint;
    slice_name text;
    made int := 0;
BEGIN
    SELECT * INTO s FROM kinesis.stream st WHERE st.stream_id = id FOR UPDATE;
    IF NOT FOUND OR NOT EXISTS (SELECT FROM kinesis.shard h WHERE h.stream_id = id AND h.shard_index = ix AND h.ending_sequence_number IS NULL) THEN
        RETURN 0;
    END IF;
    w := kinesis._slice_width(s.retention_period_hours);
    WHILE point <= from_number + (w << 22) LOOP
        SELECT l.upper_bound INTO next_upper FROM kinesis.slice l
            WHERE l.stream_id = id AND l.shard_index = ix AND l.lower_bound <= point AND l.upper_bound > point;
        IF FOUND THEN
            point := next_upper;
            CONTINUE;
        END IF;
        lower_bound := greatest(((point >> 22) / w * w) << 22,
            coalesce((SELECT max(l.upper_bound) FROM kinesis.slice l WHERE l.stream_id = id AND l.shard_index = ix AND l.upper_bound <= point), 0));
        upper_bound := least((((lower_bound >> 22) / w + 1) * w) << 22,
            (SELECT min(l.lower_bound) FROM kinesis.slice l WHERE l.stream_id = id AND l.shard_index = ix AND l.lower_bound > point));
        slice_name := format('%s/%s/%s', id, ix, lower_bound);
        -- Built aside and attached: CREATE TABLE ... PARTITION OF would lock the shard's table exclusively.
        EXECUTE format('CREATE TABLE kinesis_stream.%I (sequence_number bigint NOT NULL, shard integer NOT NULL, partition_key text NOT NULL, data bytea NOT NULL) '
            'WITH (vacuum_truncate = off, toast.vacuum_truncate = off, toast_tuple_target = 8160, autovacuum_freeze_min_age = 0, toast.autovacuum_freeze_min_age = 0)', slice_name);
        EXECUTE format('ALTER TABLE kinesis_stream.%I ALTER data SET STORAGE EXTERNAL, ALTER partition_key SET STORAGE EXTERNAL', slice_name);
        PERFORM kinesis._guard_table(slice_name, true), kinesis._without_default_rights(slice_name);
        EXECUTE format('ALTER TABLE kinesis_stream.%I ATTACH PARTITION kinesis_stream.%I FOR VALUES FROM (%s) TO (%s)',
            format('%s/%s', id, ix), slice_name, lower_bound, upper_bound);
        INSERT INTO kinesis.slice VALUES (id, ix, lower_bound, upper_bound);
        made := made + 1;
        point := upper_bound;
    END LOOP;
    IF made > 0 THEN
        PERFORM kinesis._touch_stream(id);
    END IF;
    RETURN made;
END
$$;

-- Makes the tables of a shard whose row is there.
CREATE FUNCTION kinesis._make_shard_tables(s kinesis.stream, h kinesis.shard) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shard_name text := format('%s/%s', s.stream_id, h.shard_index);
BEGIN
    EXECUTE format('CREATE TABLE kinesis_stream.%I (sequence_number bigint NOT NULL, shard integer NOT NULL, partition_key text NOT NULL, data bytea NOT NULL) '
        'PARTITION BY RANGE (sequence_number)', shard_name);
    PERFORM kinesis._guard_table(shard_name, false), kinesis._without_default_rights(shard_name);
    EXECUTE format('ALTER TABLE kinesis_stream.%I ATTACH PARTITION kinesis_stream.%I FOR VALUES IN (%s)', s.table_name, shard_name, h.shard_index);
    PERFORM kinesis._make_slices(s.stream_id, h.shard_index, h.starting_sequence_number);
END
$$;

-- CASCADE: what somebody has built on a table must not keep purge from its work.
CREATE FUNCTION kinesis._drop_table(table_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF to_regclass(format('kinesis_stream.%I', table_name)) IS NOT NULL THEN
        EXECUTE format('DROP TABLE kinesis_stream.%I CASCADE', table_name);
    END IF;
END
$$;

/*
 * How many tables one of our transactions makes or drops. A slice costs seven locks (itself, its toast table and index, two
 * types, two triggers) and a shard's table four, until the transaction ends: together less than half of what the server has
 * room for.
 */
CREATE FUNCTION kinesis._tables_at_once() RETURNS int
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT greatest(current_setting('max_locks_per_transaction')::bigint
        * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int) / 16, 16)::int
$$;

-- Tables of a stream's shards and slices, slices first. By name: some may have been detached by hand.
CREATE FUNCTION kinesis._tables_below(stream_id bigint) RETURNS SETOF name
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'kinesis_stream'::regnamespace AND c.relkind IN ('r', 'p')
        AND c.relname ~ format('^%s/[0-9]+(/[0-9]+)?$', stream_id) ORDER BY c.relkind DESC
$$;

---------------------------------------------------------------------------------------------------------------------
-- Streams: create, delete, describe
---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION kinesis._create_stream(stream_name text, shard_count int, stream_mode text, tags jsonb, max_record_size_in_kib int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text := kinesis._stream_name(stream_name);
    mode text := coalesce(stream_mode, 'PROVISIONED');
    n int := shard_count;
    s kinesis.stream;
    h kinesis.shard;
    step numeric;
    now timestamptz := kinesis._now();
BEGIN
    PERFORM kinesis._require(NULL, 'create', 'CreateStream');
    PERFORM kinesis._count_call('CreateStream', NULL);
    IF mode NOT IN ('PROVISIONED', 'ON_DEMAND') THEN
        PERFORM kinesis._validation('streamModeDetails.streamMode', mode, 'Member must satisfy enum value set: [PROVISIONED, ON_DEMAND]');
    END IF;
    IF mode = 'ON_DEMAND' THEN
        IF n IS NOT NULL THEN
            PERFORM kinesis._raise('ValidationException', 'ShardCount must not be given for a stream in ON_DEMAND mode', NULL, 'An on-demand stream begins with 4 shards.');
        END IF;
        n := 4;
    ELSIF n IS NULL THEN
        PERFORM kinesis._validation('shardCount', NULL, 'Member must not be null');
    ELSIF n < 1 THEN
        PERFORM kinesis._validation('shardCount', n::text, 'Member must have value greater than or equal to 1');
    ELSIF n > 10000 THEN
        PERFORM kinesis._validation('shardCount', n::text, 'Member must have value less than or equal to 10000');
    END IF;
    PERFORM kinesis._check_max_record_size(max_record_size_in_kib);
    BEGIN
        INSERT INTO kinesis.stream AS st (stream_name, stream_mode, stream_creation_timestamp, max_record_size_in_kib, next_shard_index, table_name, home)
            VALUES (name, mode, now, coalesce(max_record_size_in_kib, 1024), n, '', kinesis._home())
            RETURNING * INTO s;
    EXCEPTION WHEN unique_violation THEN
        PERFORM kinesis._raise('ResourceInUseException', format('Stream %s under account %s already exists.', name, kinesis._account_id()));
    END;
    s.table_name := CASE WHEN length(name) <= 63 THEN name ELSE format('%s/%s', left(name, 40), s.stream_id) END;
    UPDATE kinesis.stream st SET table_name = s.table_name WHERE st.stream_id = s.stream_id;
    EXECUTE format('CREATE TABLE kinesis_stream.%I OF kinesis.stored_record (sequence_number NOT NULL, shard NOT NULL, partition_key NOT NULL, data NOT NULL) '
        'PARTITION BY LIST (shard)', s.table_name);
    PERFORM kinesis._guard_table(s.table_name, false), kinesis._without_default_rights(s.table_name);
    EXECUTE format('GRANT INSERT ON kinesis_stream.%I TO kinesis_producer', s.table_name);
    EXECUTE format('GRANT SELECT ON kinesis_stream.%I TO kinesis_consumer', s.table_name);
    EXECUTE format('GRANT INSERT, SELECT, TRUNCATE ON kinesis_stream.%I TO kinesis_admin', s.table_name);
    EXECUTE format('COMMENT ON TABLE kinesis_stream.%I IS %L', s.table_name, 'Records of stream ' || name || '. Privileges: INSERT = may put, SELECT = may get, TRUNCATE = may manage.');

    step := div(340282366920938463463374607431768211456, n);
    FOR i IN 0 .. n - 1 LOOP
        INSERT INTO kinesis.shard VALUES (s.stream_id, i, NULL, NULL, i * step,
            CASE WHEN i = n - 1 THEN 340282366920938463463374607431768211456 ELSE (i + 1) * step END - 1, kinesis.sequence_at(now), NULL, now, NULL)
            RETURNING * INTO h;
        PERFORM kinesis._make_shard_tables(s, h);
    END LOOP;
    PERFORM kinesis._set_tags(s, tags);
END
$$;

CREATE FUNCTION kinesis.create_stream(stream_name text, shard_count int DEFAULT NULL, stream_mode text DEFAULT 'PROVISIONED',
    tags jsonb DEFAULT NULL, max_record_size_in_kib int DEFAULT 1024) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.create_stream(text, int, text, jsonb, int) IS
'Makes a stream, ACTIVE when the transaction commits. ResourceInUseException when the name is taken. An ON_DEMAND stream begins with 4 shards.';

CREATE FUNCTION kinesis._check_max_record_size(kib int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF kib NOT BETWEEN 1024 AND 10240 THEN
        PERFORM kinesis._validation('maxRecordSizeInKiB', kib::text, CASE WHEN kib < 1024 THEN 'Member must have value greater than or equal to 1024'
            ELSE 'Member must have value less than or equal to 10240' END);
    END IF;
END
$$;

-- Name of the uppermost table of a deleted stream. No stream's table has a slash and a letter behind it.
CREATE FUNCTION kinesis._remains_name(stream_id bigint) RETURNS text
LANGUAGE sql IMMUTABLE STRICT RETURN stream_id || '/deleted';

/*
 * Takes the tables of a stream out of everybody's sight without touching each of them: the uppermost gets another name, and
 * nobody keeps a right. kinesis.purge() drops them.
 */
CREATE FUNCTION kinesis._set_aside(s kinesis.stream) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    aside text := kinesis._remains_name(s.stream_id);
    tables name[] := ARRAY(SELECT kinesis._tables_below(s.stream_id)) || s.table_name;
    r record;
BEGIN
    -- What would go with the tables may belong to somebody who can read them without a right: views, rules, routines.
    FOR r IN SELECT DISTINCT v.oid, v.oid::regclass AS relation, v.relkind, w.rulename FROM pg_class c
        JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
        WHERE c.relnamespace = 'kinesis_stream'::regnamespace AND c.relname = ANY (tables) AND v.oid <> c.oid LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = r.oid AND w.rulename = r.rulename);      -- gone with another one
        IF r.relkind IN ('v', 'm') THEN
            EXECUTE format('DROP %s %s CASCADE', CASE r.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END, r.relation);
        ELSE
            EXECUTE format('DROP RULE %I ON %s CASCADE', r.rulename, r.relation);
        END IF;
    END LOOP;
    FOR r IN SELECT DISTINCT p.oid FROM pg_class c
        JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND ((d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid) OR (d.refclassid = 'pg_type'::regclass AND d.refobjid = c.reltype))
        JOIN pg_proc p ON p.oid = d.objid
        WHERE c.relnamespace = 'kinesis_stream'::regnamespace AND c.relname = ANY (tables) LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_proc p WHERE p.oid = r.oid);
        EXECUTE format('DROP ROUTINE %s CASCADE', r.oid::regprocedure);
    END LOOP;
    FOR r IN SELECT DISTINCT c.relname, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role FROM pg_class c,
        LATERAL (SELECT grantee FROM aclexplode(c.relacl) UNION SELECT x.grantee FROM pg_attribute t, aclexplode(t.attacl) x WHERE t.attrelid = c.oid) a
        WHERE c.relnamespace = 'kinesis_stream'::regnamespace AND c.relname = ANY (tables) AND a.grantee <> c.relowner LOOP
        EXECUTE format('REVOKE ALL ON kinesis_stream.%I FROM %s CASCADE', r.relname, r.role);
    END LOOP;
    IF to_regclass(format('kinesis_stream.%I', s.table_name)) IS NOT NULL THEN
        EXECUTE format('ALTER TABLE kinesis_stream.%I RENAME TO %I', s.table_name, aside);
        EXECUTE format('COMMENT ON TABLE kinesis_stream.%I IS %L', aside, 'Deleted stream ' || s.stream_name || '. kinesis.purge() drops this table and those below it.');
        PERFORM kinesis._bind_remains(format('kinesis_stream.%I', aside)::regclass);
    END IF;
    INSERT INTO kinesis.deleted_stream VALUES (s.stream_id, s.stream_name, kinesis._now(), kinesis._home());
END
$$;

CREATE FUNCTION kinesis._delete_stream(stream_name text, enforce_consumer_deletion boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text := kinesis._stream_name(stream_name);
    s kinesis.stream;
    slice_name text;
BEGIN
    SELECT * INTO s FROM kinesis.stream st WHERE st.stream_name = name;
    IF NOT FOUND THEN
        PERFORM kinesis._not_found(name);
    END IF;
    IF to_regclass(format('kinesis_stream.%I', s.table_name)) IS NULL THEN
        -- Somebody has dropped the table by hand: remove what is left, for those who may create streams.
        PERFORM kinesis._require(NULL, 'create', 'DeleteStream');
    ELSE
        -- In the order in which a reshard takes them: the table, then the row.
        s := kinesis._lock_shards(name, 'DeleteStream');
        PERFORM FROM kinesis.stream st WHERE st.stream_id = s.stream_id FOR UPDATE;
        PERFORM kinesis._touch_stream(s.stream_id);
    END IF;
    PERFORM kinesis._delete_consumers(s, enforce_consumer_deletion);
    IF (SELECT count(*) FROM kinesis._tables_below(s.stream_id)) > kinesis._tables_at_once() THEN
        PERFORM kinesis._set_aside(s);
    ELSE
        IF to_regclass(format('kinesis_stream.%I', s.table_name)) IS NOT NULL THEN
            EXECUTE format('DROP TABLE kinesis_stream.%I CASCADE', s.table_name);
        END IF;
        -- Tables that somebody has detached by hand.
        FOR slice_name IN SELECT kinesis._tables_below(s.stream_id) LOOP
            PERFORM kinesis._drop_table(slice_name);
        END LOOP;
    END IF;
    DELETE FROM kinesis.slice l WHERE l.stream_id = s.stream_id;
    DELETE FROM kinesis.shard h WHERE h.stream_id = s.stream_id;
    DELETE FROM kinesis.tag t WHERE t.stream_id = s.stream_id;
    DELETE FROM kinesis.stream st WHERE st.stream_id = s.stream_id;
END
$$;

CREATE FUNCTION kinesis.delete_stream(stream_name text, enforce_consumer_deletion boolean DEFAULT false) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.delete_stream(text, boolean) IS
'Removes a stream with its records and tags; its name is free when the transaction commits. A small stream''s tables go with it, after waiting for transactions that have written to it; a large one''s are dropped by kinesis.purge(), bit by bit.';

CREATE FUNCTION kinesis._expired_before(s kinesis.stream) RETURNS timestamptz
LANGUAGE sql VOLATILE RETURN kinesis._now() - pg_catalog.make_interval(hours => (s).retention_period_hours);

CREATE FUNCTION kinesis._shard_description(h kinesis.shard) RETURNS kinesis.shard_description
LANGUAGE sql STABLE
RETURN ROW(kinesis._shard_id((h).shard_index), kinesis._shard_id((h).parent_shard), kinesis._shard_id((h).adjacent_parent_shard),
    (h).starting_hash_key, (h).ending_hash_key, (h).starting_sequence_number, (h).ending_sequence_number)::kinesis.shard_description;

CREATE TYPE kinesis.stream_description AS (
    stream_name text, stream_arn text, stream_status text, stream_mode text, shards kinesis.shard_description[], has_more_shards boolean,
    retention_period_hours int, stream_creation_timestamp timestamptz, enhanced_monitoring text[], encryption_type text, key_id text
);
CREATE TYPE kinesis.stream_description_summary AS (
    stream_name text, stream_arn text, stream_status text, stream_mode text, retention_period_hours int, stream_creation_timestamp timestamptz,
    enhanced_monitoring text[], encryption_type text, key_id text, open_shard_count int, consumer_count int, max_record_size_in_kib int
);

CREATE FUNCTION kinesis._check_limit(field text, value int, most int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF value < 1 THEN
        PERFORM kinesis._validation(field, value::text, 'Member must have value greater than or equal to 1');
    ELSIF value > most THEN
        PERFORM kinesis._validation(field, value::text, format('Member must have value less than or equal to %s', most));
    END IF;
END
$$;

-- How many rows a call of a listing gives. Asked with a limit, or to go on from a token, it pages as AWS does; asked without, it tells all: null.
CREATE FUNCTION kinesis._page_size(field text, "limit" int, most int, token text) RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM kinesis._check_limit(field, "limit", 10000);
    RETURN CASE WHEN "limit" IS NOT NULL OR token IS NOT NULL THEN least("limit", most) END;
END
$$;

-- Is it this stream, or a later one of the same name? Null: whichever.
CREATE FUNCTION kinesis._check_creation(s kinesis.stream, stream_creation_timestamp timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF date_trunc('second', stream_creation_timestamp) <> date_trunc('second', s.stream_creation_timestamp) THEN
        PERFORM kinesis._raise('ResourceNotFoundException', format('Stream %s under account %s was not created at %s.',
            s.stream_name, kinesis._account_id(), stream_creation_timestamp));
    END IF;
END
$$;

-- Shards of a stream that have not expired, in order of their ids.
CREATE FUNCTION kinesis._listed_shards(s kinesis.stream, after_index int) RETURNS SETOF kinesis.shard
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.* FROM kinesis.shard h
    WHERE h.stream_id = (s).stream_id AND h.shard_index > after_index AND (h.closed_at IS NULL OR h.closed_at > kinesis._expired_before(s))
    ORDER BY h.shard_index
$$;

-- Index behind which a listing begins: null = from the first shard on.
CREATE FUNCTION kinesis._after_shard(exclusive_start_shard_id text, stream_name text) RETURNS int
LANGUAGE sql STABLE
RETURN CASE WHEN exclusive_start_shard_id IS NULL THEN -1 ELSE kinesis._shard_index(exclusive_start_shard_id, 'exclusiveStartShardId', stream_name) END;

CREATE FUNCTION kinesis._describe_stream(stream_name text, "limit" int, exclusive_start_shard_id text) RETURNS kinesis.stream_description
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._stream(stream_name, 'describe', 'DescribeStream');
    after_index int := kinesis._after_shard(exclusive_start_shard_id, s.stream_name);
    cap int;
    listed kinesis.shard_description[];
    has_more boolean;
BEGIN
    PERFORM kinesis._count_call('DescribeStream', s.stream_id);
    cap := kinesis._page_size('limit', "limit", 100, NULL);
    SELECT array_agg(kinesis._shard_description(h) ORDER BY h.shard_index) INTO listed
        FROM (SELECT * FROM kinesis._listed_shards(s, after_index) LIMIT cap) h;
    has_more := cap IS NOT NULL AND (SELECT count(*) FROM kinesis._listed_shards(s, after_index)) > cap;
    RETURN ROW(s.stream_name, kinesis._stream_arn(s.stream_name), s.stream_status, s.stream_mode,
        coalesce(listed, '{}'), has_more, s.retention_period_hours, s.stream_creation_timestamp, '{}'::text[], 'NONE', NULL)::kinesis.stream_description;
END
$$;

CREATE FUNCTION kinesis.describe_stream(stream_name text, "limit" int DEFAULT NULL, exclusive_start_shard_id text DEFAULT NULL)
RETURNS kinesis.stream_description
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.describe_stream(text, int, text) IS 'A stream with its shards: all of them, or with a limit (1 to 10000) at most 100 a call as on AWS.';

CREATE FUNCTION kinesis._describe_stream_summary(stream_name text) RETURNS kinesis.stream_description_summary
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._stream(stream_name, 'describe', 'DescribeStreamSummary');
BEGIN
    PERFORM kinesis._count_call('DescribeStreamSummary', s.stream_id);
    RETURN ROW(s.stream_name, kinesis._stream_arn(s.stream_name), s.stream_status, s.stream_mode, s.retention_period_hours,
        s.stream_creation_timestamp, '{}'::text[], 'NONE', NULL,
        (SELECT count(*) FROM kinesis.shard h WHERE h.stream_id = s.stream_id AND h.ending_sequence_number IS NULL)::int,
        (SELECT count(*) FROM kinesis.consumer c WHERE c.stream_id = s.stream_id)::int,
        s.max_record_size_in_kib)::kinesis.stream_description_summary;
END
$$;

CREATE FUNCTION kinesis.describe_stream_summary(stream_name text) RETURNS kinesis.stream_description_summary
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.describe_stream_summary(text) IS 'A stream without its shards, with their number.';

-- May the caller know of this stream?
CREATE FUNCTION kinesis._may_describe(role oid, table_name name) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    -- By name through pg_class: to_regclass() would ask for USAGE of the schema, which producers have not.
    SELECT pg_has_role(role, 'kinesis_monitor', 'USAGE') OR EXISTS (
        SELECT FROM pg_class c WHERE c.relnamespace = 'kinesis_stream'::regnamespace AND c.relname = table_name
            AND has_table_privilege(role, c.oid, 'INSERT, SELECT, TRUNCATE'))
$$;

-- Pagination tokens: what they stand for, when they were made, and a seal.
CREATE FUNCTION kinesis._make_token(operation text, place text) RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT translate(encode(convert_to(b.body, 'UTF8') || substr(sha256((SELECT secret FROM kinesis.secret) || convert_to(b.body, 'UTF8')), 1, 16), 'base64'), E'\n', '')
    FROM (SELECT format('%s|%s|%s', operation, extract(epoch FROM kinesis._now()), place) AS body) b
$$;

CREATE FUNCTION kinesis._read_token(operation text, token text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    raw bytea;
    body bytea;
    parts text[];
BEGIN
    BEGIN
        raw := decode(token, 'base64');
        body := substr(raw, 1, length(raw) - 16);
        IF substr(raw, length(raw) - 15) = substr(sha256((SELECT secret FROM kinesis.secret) || body), 1, 16) THEN
            parts := regexp_match(convert_from(body, 'UTF8'), '^([^|]*)\|([^|]*)\|(.*)$');
        END IF;
    EXCEPTION WHEN data_exception OR array_subscript_error THEN
        NULL;
    END;
    IF parts IS NULL OR parts[1] <> operation THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'Invalid NextToken.');
    ELSIF to_timestamp(parts[2]::float8) < kinesis._now() - interval '300 s' THEN
        PERFORM kinesis._raise('ExpiredNextTokenException', 'The NextToken has expired: it is valid for 300 seconds.');
    END IF;
    RETURN parts[3];
END
$$;

CREATE TYPE kinesis.stream_summary AS (
    stream_name text, stream_arn text, stream_status text, stream_mode text, stream_creation_timestamp timestamptz, has_more_streams boolean, next_token text
);

CREATE FUNCTION kinesis._list_streams("limit" int, exclusive_start_stream_name text, next_token text) RETURNS SETOF kinesis.stream_summary
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    after_name text := coalesce(exclusive_start_stream_name, '');
    cap int;
    r kinesis.stream;
    n int := 0;
    total int;
BEGIN
    PERFORM kinesis._count_call('ListStreams', NULL);
    cap := kinesis._page_size('limit', "limit", 100, next_token);
    IF next_token IS NOT NULL THEN
        after_name := kinesis._read_token('ListStreams', next_token);
    END IF;
    SELECT count(*) INTO total FROM kinesis.stream s WHERE s.stream_name > after_name AND kinesis._may_describe(kinesis._caller(), s.table_name);
    FOR r IN SELECT s.* FROM kinesis.stream s WHERE s.stream_name > after_name AND kinesis._may_describe(kinesis._caller(), s.table_name)
        ORDER BY s.stream_name LIMIT cap LOOP
        n := n + 1;
        RETURN NEXT ROW(r.stream_name, kinesis._stream_arn(r.stream_name), r.stream_status, r.stream_mode, r.stream_creation_timestamp,
            total > coalesce(cap, total), CASE WHEN n = cap AND total > cap THEN kinesis._make_token('ListStreams', r.stream_name) END)::kinesis.stream_summary;
    END LOOP;
END
$$;

CREATE FUNCTION kinesis.list_streams("limit" int DEFAULT NULL, exclusive_start_stream_name text DEFAULT NULL, next_token text DEFAULT NULL)
RETURNS SETOF kinesis.stream_summary
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.list_streams(int, text, text) IS
'The streams that the caller may know of, by name. With a limit (1 to 10000) at most 100 a call, and a next_token on the last row when there are more.';

CREATE TYPE kinesis.listed_shard AS (
    shard_id text, parent_shard_id text, adjacent_parent_shard_id text, starting_hash_key numeric, ending_hash_key numeric,
    starting_sequence_number bigint, ending_sequence_number bigint, next_token text
);

CREATE FUNCTION kinesis._list_shards(stream_name text, next_token text, exclusive_start_shard_id text, max_results int,
    stream_creation_timestamp timestamptz, shard_filter_type text, shard_filter_shard_id text, shard_filter_timestamp timestamptz)
RETURNS SETOF kinesis.listed_shard
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream;
    parts text[];
    filter text := coalesce(shard_filter_type, 'FROM_TRIM_HORIZON');
    at timestamptz := shard_filter_timestamp;
    after_index int;
    cap int := kinesis._page_size('maxResults', max_results, 1000, next_token);
    horizon timestamptz;
    h kinesis.shard;
    n int := 0;
    previous kinesis.shard;
BEGIN
    IF stream_name IS NULL AND next_token IS NULL THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'Either NextToken or StreamName should be provided.');
    ELSIF next_token IS NOT NULL AND stream_name IS NOT NULL THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'NextToken and StreamName cannot be provided together.');
    ELSIF next_token IS NOT NULL AND (stream_creation_timestamp IS NOT NULL OR exclusive_start_shard_id IS NOT NULL) THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'NextToken cannot be provided together with StreamCreationTimestamp or ExclusiveStartShardId.');
    END IF;
    IF next_token IS NOT NULL THEN
        parts := string_to_array(kinesis._read_token('ListShards', next_token), '|');
        SELECT * INTO s FROM kinesis.stream st WHERE st.stream_id = parts[1]::bigint;
        IF NOT FOUND THEN
            PERFORM kinesis._raise('ResourceNotFoundException', 'The stream of the NextToken was not found.');
        END IF;
        PERFORM kinesis._require(s.stream_id, 'describe', 'ListShards');
        after_index := parts[2]::int;
        filter := parts[3];
        at := nullif(parts[4], '')::timestamptz;
    ELSE
        s := kinesis._stream(stream_name, 'describe', 'ListShards');
        after_index := kinesis._after_shard(exclusive_start_shard_id, s.stream_name);
        IF filter NOT IN ('AFTER_SHARD_ID', 'AT_TRIM_HORIZON', 'FROM_TRIM_HORIZON', 'AT_LATEST', 'AT_TIMESTAMP', 'FROM_TIMESTAMP') THEN
            PERFORM kinesis._validation('shardFilter.type', filter, 'Member must satisfy enum value set: [AFTER_SHARD_ID, AT_TRIM_HORIZON, FROM_TRIM_HORIZON, AT_LATEST, AT_TIMESTAMP, FROM_TIMESTAMP]');
        ELSIF (filter = 'AFTER_SHARD_ID') <> (shard_filter_shard_id IS NOT NULL) THEN
            PERFORM kinesis._raise('InvalidArgumentException', 'ShardId must be given with the filter type AFTER_SHARD_ID, and only with it.');
        ELSIF (filter IN ('AT_TIMESTAMP', 'FROM_TIMESTAMP')) <> (at IS NOT NULL) THEN
            PERFORM kinesis._raise('InvalidArgumentException', 'Timestamp must be given with the filter types AT_TIMESTAMP and FROM_TIMESTAMP, and only with them.');
        END IF;
        IF filter = 'AFTER_SHARD_ID' THEN
            after_index := greatest(after_index, kinesis._shard_index(shard_filter_shard_id, 'shardFilter.shardId', s.stream_name));
        END IF;
        PERFORM kinesis._check_creation(s, stream_creation_timestamp);
    END IF;
    PERFORM kinesis._count_call('ListShards', s.stream_id);
    horizon := kinesis._expired_before(s);
    IF filter = 'FROM_TIMESTAMP' THEN
        at := greatest(at, horizon);
    END IF;
    FOR h IN
        SELECT l.* FROM kinesis._listed_shards(s, after_index) l
        WHERE CASE filter
            WHEN 'AT_LATEST' THEN l.ending_sequence_number IS NULL
            WHEN 'AT_TRIM_HORIZON' THEN l.created_at <= greatest(horizon, s.stream_creation_timestamp) AND (l.closed_at IS NULL OR l.closed_at >= horizon)
            WHEN 'AT_TIMESTAMP' THEN l.created_at <= at AND (l.closed_at IS NULL OR l.closed_at >= at)
            WHEN 'FROM_TIMESTAMP' THEN l.closed_at IS NULL OR l.closed_at >= at
            ELSE true END
        ORDER BY l.shard_index LOOP
        -- A row behind, so that the last one asked for carries a token when there are more.
        IF previous.shard_index IS NOT NULL THEN
            RETURN NEXT ROW((kinesis._shard_description(previous)).*, CASE WHEN n = cap THEN
                kinesis._make_token('ListShards', concat_ws('|', s.stream_id, previous.shard_index, filter, coalesce(at::text, ''))) END)::kinesis.listed_shard;
        END IF;
        IF n = cap THEN
            RETURN;
        END IF;
        n := n + 1;
        previous := h;
    END LOOP;
    IF previous.shard_index IS NOT NULL THEN
        RETURN NEXT ROW((kinesis._shard_description(previous)).*, NULL)::kinesis.listed_shard;
    END IF;
END
$$;

CREATE FUNCTION kinesis.list_shards(stream_name text DEFAULT NULL, next_token text DEFAULT NULL, exclusive_start_shard_id text DEFAULT NULL,
    max_results int DEFAULT NULL, stream_creation_timestamp timestamptz DEFAULT NULL, shard_filter_type text DEFAULT NULL,
    shard_filter_shard_id text DEFAULT NULL, shard_filter_timestamp timestamptz DEFAULT NULL)
RETURNS SETOF kinesis.listed_shard
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.list_shards(text, text, text, int, timestamptz, text, text, timestamptz) IS
'Shards within the retention period, by id, filtered as by AWS''s ShardFilter. With max_results (1 to 10000) at most 1000 a call, and a next_token when there are more.';

CREATE FUNCTION kinesis._describe_limits(OUT shard_limit int, OUT open_shard_count int, OUT on_demand_stream_count int, OUT on_demand_stream_count_limit int)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM kinesis._count_call('DescribeLimits', NULL);
    shard_limit := current_setting('kinesis.max_shards')::int;
    SELECT count(*) INTO open_shard_count FROM kinesis.shard h WHERE h.ending_sequence_number IS NULL;
    SELECT count(*) INTO on_demand_stream_count FROM kinesis.stream s WHERE s.stream_mode = 'ON_DEMAND';
    on_demand_stream_count_limit := 1000000;
END
$$;

CREATE FUNCTION kinesis.describe_limits(OUT shard_limit int, OUT open_shard_count int, OUT on_demand_stream_count int, OUT on_demand_stream_count_limit int)
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.describe_limits() IS 'Shards that can be in use at once (kinesis.max_shards), and what this database has.';

CREATE FUNCTION kinesis._stream_table(stream_name text) RETURNS regclass
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._stream(stream_name, 'describe', 'DescribeStream');
BEGIN
    RETURN to_regclass(format('kinesis_stream.%I', s.table_name));
END
$$;

CREATE FUNCTION kinesis.stream_table(stream_name text) RETURNS regclass
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.stream_table(text) IS 'The partitioned table with the stream''s records, for SQL over the whole stream.';

CREATE VIEW kinesis.streams WITH (security_barrier) AS
    SELECT s.stream_name, kinesis._stream_arn(s.stream_name) AS stream_arn, s.stream_status, s.stream_mode, s.stream_creation_timestamp,
        s.retention_period_hours, s.max_record_size_in_kib, s.write_bytes_per_second, s.write_records_per_second, s.read_bytes_per_second,
        s.read_calls_per_second, pg_catalog.format('kinesis_stream.%I', s.table_name) AS stream_table
    FROM kinesis.stream s
    WHERE kinesis._may_describe(pg_catalog.quote_ident(current_user)::pg_catalog.regrole, s.table_name);
COMMENT ON VIEW kinesis.streams IS 'The streams that you may describe, with their limits (null = unlimited).';

CREATE VIEW kinesis.shards WITH (security_barrier) AS
    SELECT s.stream_name, (d.d).*, h.created_at, h.closed_at
    FROM kinesis.stream s
    JOIN kinesis.shard h USING (stream_id)
    CROSS JOIN LATERAL (SELECT kinesis._shard_description(h) AS d) d
    WHERE kinesis._may_describe(pg_catalog.quote_ident(current_user)::pg_catalog.regrole, s.table_name)
        AND (h.closed_at IS NULL OR h.closed_at > kinesis._expired_before(s));
COMMENT ON VIEW kinesis.shards IS 'The shards of these streams within the retention period.';

---------------------------------------------------------------------------------------------------------------------
-- Changes of a stream
---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION kinesis._update_stream_mode(stream_name text, stream_mode text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._lock_stream(stream_name, 'admin', 'UpdateStreamMode');
    mode text := stream_mode;
BEGIN
    IF mode IS NULL OR mode NOT IN ('PROVISIONED', 'ON_DEMAND') THEN
        PERFORM kinesis._validation('streamModeDetails.streamMode', mode, 'Member must satisfy enum value set: [PROVISIONED, ON_DEMAND]');
    END IF;
    UPDATE kinesis.stream st SET stream_mode = mode WHERE st.stream_id = s.stream_id;
    PERFORM kinesis._touch_stream(s.stream_id);
END
$$;

CREATE FUNCTION kinesis.update_stream_mode(stream_name text, stream_mode text) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.update_stream_mode(text, text) IS 'PROVISIONED or ON_DEMAND. The number of shards stays as it is.';

CREATE FUNCTION kinesis._set_retention(s kinesis.stream, hours int, increase boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF hours IS NULL THEN
        PERFORM kinesis._validation('retentionPeriodHours', NULL, 'Member must not be null');
    ELSIF hours < 24 THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Minimum allowed retention period is 24 hours. Requested retention period (%s hours) is too short.', hours));
    ELSIF hours > 8760 THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Maximum allowed retention period is 8760 hours. Requested retention period (%s hours) is too long.', hours));
    ELSIF increase AND hours < s.retention_period_hours THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Requested retention period (%s hours) for stream %s can not be shorter than existing retention period (%s hours). Use DecreaseRetentionPeriod API.',
            hours, s.stream_name, s.retention_period_hours));
    ELSIF NOT increase AND hours > s.retention_period_hours THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Requested retention period (%s hours) for stream %s can not be longer than existing retention period (%s hours). Use IncreaseRetentionPeriod API.',
            hours, s.stream_name, s.retention_period_hours));
    END IF;
    -- What has expired never returns, also where its slice still stands.
    UPDATE kinesis.stream st SET retention_period_hours = hours,
        trimmed_before = greatest(st.trimmed_before, CASE WHEN increase THEN kinesis.sequence_at(kinesis._expired_before(s)) END)
        WHERE st.stream_id = s.stream_id;
    PERFORM kinesis._touch_stream(s.stream_id);
END
$$;

CREATE FUNCTION kinesis._increase_stream_retention_period(stream_name text, retention_period_hours int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM kinesis._set_retention(kinesis._lock_stream(stream_name, 'admin', 'IncreaseStreamRetentionPeriod'), retention_period_hours, true);
END
$$;

CREATE FUNCTION kinesis.increase_stream_retention_period(stream_name text, retention_period_hours int) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.increase_stream_retention_period(text, int) IS 'Lengthens retention, up to 8760 hours (365 days). What has expired does not come back.';

CREATE FUNCTION kinesis._decrease_stream_retention_period(stream_name text, retention_period_hours int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM kinesis._set_retention(kinesis._lock_stream(stream_name, 'admin', 'DecreaseStreamRetentionPeriod'), retention_period_hours, false);
END
$$;

CREATE FUNCTION kinesis.decrease_stream_retention_period(stream_name text, retention_period_hours int) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.decrease_stream_retention_period(text, int) IS 'Shortens retention, down to 24 hours. Older records can no longer be read from the commit on.';

CREATE FUNCTION kinesis._update_max_record_size(stream_name text, max_record_size_in_kib int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._lock_stream(stream_name, 'admin', 'UpdateMaxRecordSize');
    kib int := max_record_size_in_kib;
BEGIN
    IF kib IS NULL THEN
        PERFORM kinesis._validation('maxRecordSizeInKiB', NULL, 'Member must not be null');
    END IF;
    PERFORM kinesis._check_max_record_size(kib);
    UPDATE kinesis.stream st SET max_record_size_in_kib = kib WHERE st.stream_id = s.stream_id;
    PERFORM kinesis._touch_stream(s.stream_id);
END
$$;

CREATE FUNCTION kinesis.update_max_record_size(stream_name text, max_record_size_in_kib int) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.update_max_record_size(text, int) IS 'Largest record (data and partition key), 1024 to 10240 KiB.';

CREATE FUNCTION kinesis._set_shard_limits(stream_name text, write_bytes_per_second bigint, write_records_per_second bigint,
    read_bytes_per_second bigint, read_calls_per_second bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    s kinesis.stream := kinesis._lock_stream(stream_name, 'admin', 'SetShardLimits');
BEGIN
    IF least(write_bytes_per_second, write_records_per_second, read_bytes_per_second, read_calls_per_second) < 1 THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'limits of a shard must be at least 1, or null for unlimited');
    END IF;
    UPDATE kinesis.stream st SET write_bytes_per_second = write_bytes_per_second, write_records_per_second = write_records_per_second,
        read_bytes_per_second = read_bytes_per_second, read_calls_per_second = read_calls_per_second WHERE st.stream_id = s.stream_id;
    PERFORM kinesis._touch_stream(s.stream_id);
END
$$;

CREATE FUNCTION kinesis.set_shard_limits(stream_name text, write_bytes_per_second bigint, write_records_per_second bigint,
    read_bytes_per_second bigint, read_calls_per_second bigint) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.set_shard_limits(text, bigint, bigint, bigint, bigint) IS
'Limits of each shard of the stream; null = unlimited. New streams have AWS''s: 1 MiB/s and 1,000 records/s in, 2 MiB/s and 5 calls/s of get_records out.';

---------------------------------------------------------------------------------------------------------------------
-- Resharding
---------------------------------------------------------------------------------------------------------------------

/*
 * Keeps writers out of shards that are to be closed, after waiting for those that are in. While we wait for a long
 * transaction new writers queue behind us: so give up after a moment, let them through, and try again.
 */
CREATE FUNCTION kinesis._fence(s kinesis.stream, shard_indexes int[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pause float8 := 0.05;
    ordered int[] := (SELECT array_agg(i ORDER BY i) FROM unnest(shard_indexes) i);
BEGIN
    LOOP
        BEGIN
            PERFORM FROM kinesis.stream st WHERE st.stream_id = s.stream_id FOR UPDATE;
            PERFORM kinesis._hold_slices(s.stream_id, ordered, 400);
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected OR object_in_use THEN
            NULL;               -- the locks are gone with the subtransaction, the row's too
        END;
        PERFORM pg_sleep(pause);
        pause := least(pause * 2, 0.25);
    END LOOP;
END
$$;

-- Closes a shard whose writers are kept out. Returns its ending number: its last record's, or its starting number.
CREATE FUNCTION kinesis._close_shard(s kinesis.stream, h kinesis.shard) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ending bigint := h.starting_sequence_number;
BEGIN
    IF to_regclass(format('kinesis_stream."%s/%s"', s.stream_id, h.shard_index)) IS NOT NULL THEN
        ending := greatest(ending, kinesis._last_sequence_number(s.stream_id, h.shard_index));
    END IF;
    -- Not before its last record arrived: when the clock went back, the shard must not expire ahead of its records.
    UPDATE kinesis.shard x SET ending_sequence_number = ending, closed_at = greatest(kinesis._now(), kinesis.arrival(ending))
        WHERE x.stream_id = s.stream_id AND x.shard_index = h.shard_index;
    RETURN ending;
END
$$;

/*
 * Adds the row of a shard made of parents that end at parents_end. It begins behind them, also when the clock went back.
 * Its tables are made later: a shard that only lives for a moment inside update_shard_count needs none.
 */
CREATE FUNCTION kinesis._add_shard(s kinesis.stream, parent int, adjacent int, lo numeric, hi numeric, parents_end bigint) RETURNS kinesis.shard
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h kinesis.shard;
    ix int;
BEGIN
    UPDATE kinesis.stream st SET next_shard_index = st.next_shard_index + 1 WHERE st.stream_id = s.stream_id
        RETURNING st.next_shard_index - 1 INTO ix;
    INSERT INTO kinesis.shard VALUES (s.stream_id, ix, parent, adjacent, lo, hi,
        greatest(parents_end + 1, kinesis.sequence_at(kinesis._now())), NULL, kinesis._now(), NULL)
        RETURNING * INTO h;
    RETURN h;
END
$$;

CREATE FUNCTION kinesis._split(s kinesis.stream, h kinesis.shard, at numeric) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ending bigint := kinesis._close_shard(s, h);
BEGIN
    PERFORM kinesis._add_shard(s, h.shard_index, NULL, h.starting_hash_key, at - 1, ending);
    PERFORM kinesis._add_shard(s, h.shard_index, NULL, at, h.ending_hash_key, ending);
END
$$;

CREATE FUNCTION kinesis._merge(s kinesis.stream, h kinesis.shard, adjacent kinesis.shard) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM kinesis._add_shard(s, h.shard_index, adjacent.shard_index, h.starting_hash_key, adjacent.ending_hash_key,
        greatest(kinesis._close_shard(s, h), kinesis._close_shard(s, adjacent)));
END
$$;

-- Makes the tables that open shards miss, and tells everybody.
CREATE FUNCTION kinesis._finish_reshard(s kinesis.stream) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h kinesis.shard;
BEGIN
    FOR h IN SELECT * FROM kinesis.shard x WHERE x.stream_id = s.stream_id AND x.ending_sequence_number IS NULL ORDER BY x.shard_index LOOP
        IF to_regclass(format('kinesis_stream."%s/%s"', s.stream_id, h.shard_index)) IS NULL THEN
            PERFORM kinesis._make_shard_tables(s, h);
        END IF;
    END LOOP;
    PERFORM kinesis._touch_stream(s.stream_id);
END
$$;

CREATE FUNCTION kinesis._require_provisioned(s kinesis.stream, operation text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF s.stream_mode <> 'PROVISIONED' THEN
        PERFORM kinesis._raise('ValidationException', format('Request is invalid. %s is only supported for streams in PROVISIONED mode; stream %s under account %s is in %s mode.',
            operation, s.stream_name, kinesis._account_id(), s.stream_mode));
    END IF;
END
$$;

CREATE FUNCTION kinesis._require_open(s kinesis.stream, h kinesis.shard) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF h.ending_sequence_number IS NOT NULL THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Shard %s in stream %s under account %s has already been merged or split, and thus is not eligible for merging or splitting.',
            kinesis._shard_id(h.shard_index), s.stream_name, kinesis._account_id()));
    END IF;
END
$$;

CREATE FUNCTION kinesis._split_shard(stream_name text, shard_to_split text, new_starting_hash_key numeric) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._lock_shards(stream_name, 'SplitShard');
    h kinesis.shard := kinesis._shard(s, shard_to_split, 'shardToSplit');
    at numeric := trunc(new_starting_hash_key);
BEGIN
    PERFORM kinesis._require_provisioned(s, 'SplitShard');
    PERFORM kinesis._require_open(s, h);
    IF at IS NULL THEN
        PERFORM kinesis._validation('newStartingHashKey', NULL, 'Member must not be null');
    ELSIF at <> new_starting_hash_key OR at = 'NaN' OR at <= h.starting_hash_key + 1 OR at >= h.ending_hash_key THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('NewStartingHashKey %s used in SplitShard() on shard %s in stream %s under account %s is not both greater than one plus the shard''s StartingHashKey %s and less than the shard''s EndingHashKey %s.',
            new_starting_hash_key, kinesis._shard_id(h.shard_index), s.stream_name, kinesis._account_id(), h.starting_hash_key, h.ending_hash_key));
    END IF;
    PERFORM kinesis._fence(s, ARRAY[h.shard_index]);
    PERFORM kinesis._split(s, h, at);
    PERFORM kinesis._finish_reshard(s);
END
$$;

CREATE FUNCTION kinesis.split_shard(stream_name text, shard_to_split text, new_starting_hash_key numeric) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.split_shard(text, text, numeric) IS
'Closes a shard and opens two for its hash range: up to new_starting_hash_key - 1, and from there. Waits for transactions that have written to the shard.';

CREATE FUNCTION kinesis._merge_shards(stream_name text, shard_to_merge text, adjacent_shard_to_merge text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._lock_shards(stream_name, 'MergeShards');
    h kinesis.shard := kinesis._shard(s, shard_to_merge, 'shardToMerge');
    a kinesis.shard := kinesis._shard(s, adjacent_shard_to_merge, 'adjacentShardToMerge');
BEGIN
    PERFORM kinesis._require_provisioned(s, 'MergeShards');
    PERFORM kinesis._require_open(s, h);
    PERFORM kinesis._require_open(s, a);
    IF h.ending_hash_key + 1 <> a.starting_hash_key THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Shards %s and %s in stream %s under account %s are not an adjacent pair of shards eligible for merging',
            kinesis._shard_id(h.shard_index), kinesis._shard_id(a.shard_index), s.stream_name, kinesis._account_id()));
    END IF;
    PERFORM kinesis._fence(s, ARRAY[h.shard_index, a.shard_index]);
    PERFORM kinesis._merge(s, h, a);
    PERFORM kinesis._finish_reshard(s);
END
$$;

CREATE FUNCTION kinesis.merge_shards(stream_name text, shard_to_merge text, adjacent_shard_to_merge text) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.merge_shards(text, text, text) IS
'Closes two shards whose hash ranges touch (the lower one first) and opens one for both. Waits for transactions that have written to them.';

CREATE TYPE kinesis.update_shard_count_result AS (stream_name text, current_shard_count int, target_shard_count int, stream_arn text);

/*
 * One generation on the way to n uniform ranges of step keys: each open shard in which new ranges begin is split where the
 * middle one of them does. So a shard of k pieces is in pieces after log2(k) generations. Returns how many were split.
 */
CREATE FUNCTION kinesis._split_toward(s kinesis.stream, n int, step numeric) RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h kinesis.shard;
    first numeric;              -- new ranges, counted from 0, that begin inside the shard
    last numeric;
    done int := 0;
BEGIN
    FOR h IN SELECT * FROM kinesis.shard x WHERE x.stream_id = s.stream_id AND x.ending_sequence_number IS NULL ORDER BY x.starting_hash_key LOOP
        first := div(h.starting_hash_key, step) + 1;
        last := least(div(h.ending_hash_key, step), n - 1);
        IF first <= last THEN
            PERFORM kinesis._split(s, h, div(first + last + 1, 2) * step);
            done := done + 1;
        END IF;
    END LOOP;
    RETURN done;
END
$$;

-- The same for what is to grow together: neighbours inside one new range are merged by twos.
CREATE FUNCTION kinesis._merge_toward(s kinesis.stream, n int, step numeric) RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h kinesis.shard;
    single kinesis.shard;       -- the neighbour below, while it has not been merged
    done int := 0;
BEGIN
    FOR h IN SELECT * FROM kinesis.shard x WHERE x.stream_id = s.stream_id AND x.ending_sequence_number IS NULL ORDER BY x.starting_hash_key LOOP
        IF single.shard_index IS NOT NULL AND least(div(single.starting_hash_key, step), n - 1) = least(div(h.starting_hash_key, step), n - 1) THEN
            PERFORM kinesis._merge(s, single, h);
            single := NULL;
            done := done + 1;
        ELSE
            single := h;
        END IF;
    END LOOP;
    RETURN done;
END
$$;

/*
 * To n uniform ranges: cut the open shards where a new range begins, then merge the pieces inside each new range. That is
 * one split for each border that is new and one merge for each that goes, the fewest that can be, in at most log2(n) +
 * log2(shards before) generations, rounded up. What is split or merged again at once never has records nor tables; its row
 * keeps the lineage whole.
 */
CREATE FUNCTION kinesis._update_shard_count(stream_name text, target_shard_count int, scaling_type text) RETURNS kinesis.update_shard_count_result
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._lock_shards(stream_name, 'UpdateShardCount');
    n int := target_shard_count;
    step numeric;
    current_count int;
    changing int[];
    top numeric;
BEGIN
    PERFORM kinesis._require_provisioned(s, 'UpdateShardCount');
    IF scaling_type IS DISTINCT FROM 'UNIFORM_SCALING' THEN
        PERFORM kinesis._validation('scalingType', scaling_type, 'Member must satisfy enum value set: [UNIFORM_SCALING]');
    ELSIF n IS NULL THEN
        PERFORM kinesis._validation('targetShardCount', NULL, 'Member must not be null');
    ELSIF n < 1 THEN
        PERFORM kinesis._validation('targetShardCount', n::text, 'Member must have value greater than or equal to 1');
    ELSIF n > 10000 THEN
        PERFORM kinesis._raise('LimitExceededException', format('A stream can have at most 10000 shards, not %s.', n));
    END IF;
    SELECT count(*) INTO current_count FROM kinesis.shard x WHERE x.stream_id = s.stream_id AND x.ending_sequence_number IS NULL;
    IF current_setting('kinesis.aws_limits')::boolean AND (n > current_count * 2 OR n * 2 < current_count) THEN
        PERFORM kinesis._raise('LimitExceededException', format('UpdateShardCount can go from %s shards to between %s and %s in one call, not to %s.',
            current_count, (current_count + 1) / 2, current_count * 2, n), NULL, 'These are AWS''s quotas; they apply because kinesis.aws_limits is on.');
    END IF;

    step := div(340282366920938463463374607431768211456, n);
    top := 340282366920938463463374607431768211456 - 1;
    -- A shard that is one of the new ranges already stays as it is.
    SELECT array_agg(x.shard_index) INTO changing FROM kinesis.shard x
        WHERE x.stream_id = s.stream_id AND x.ending_sequence_number IS NULL
        AND NOT (x.starting_hash_key % step = 0 AND div(x.starting_hash_key, step) < n
            AND x.ending_hash_key = CASE WHEN div(x.starting_hash_key, step) = n - 1 THEN top ELSE x.starting_hash_key + step - 1 END);
    IF changing IS NOT NULL THEN
        PERFORM kinesis._fence(s, changing);
        WHILE kinesis._split_toward(s, n, step) > 0 LOOP END LOOP;
        WHILE kinesis._merge_toward(s, n, step) > 0 LOOP END LOOP;
        PERFORM kinesis._finish_reshard(s);
    END IF;
    RETURN ROW(s.stream_name, current_count, n, kinesis._stream_arn(s.stream_name))::kinesis.update_shard_count_result;
END
$$;

CREATE FUNCTION kinesis.update_shard_count(stream_name text, target_shard_count int, scaling_type text DEFAULT 'UNIFORM_SCALING')
RETURNS kinesis.update_shard_count_result
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.update_shard_count(text, int, text) IS
'Splits and merges until the stream has this many open shards (1 to 10000) with equal hash ranges. Waits for transactions that have written to shards that change.';

---------------------------------------------------------------------------------------------------------------------
-- Enhanced fan-out: registered consumers
---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION kinesis._consumer_arn(stream_name text, consumer kinesis.consumer) RETURNS text
LANGUAGE sql STABLE
RETURN pg_catalog.format('%s/consumer/%s:%s', kinesis._stream_arn(stream_name), (consumer).consumer_name,
    pg_catalog.floor(extract(epoch FROM (consumer).consumer_creation_timestamp)));

/*
 * The consumer with this ARN, or with this name of this stream; when all are given they must mean the same one.
 */
CREATE FUNCTION kinesis._consumer(stream_arn text, consumer_name text, consumer_arn text, operation text) RETURNS kinesis.consumer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts text[] := regexp_match(consumer_arn, '^(arn:[^/]*:stream/[^/]+)/consumer/([^/]+):([0-9]{1,12})$');
    s kinesis.stream;
    c kinesis.consumer;
    name text := coalesce(parts[2], consumer_name);
BEGIN
    IF consumer_arn IS NULL AND (stream_arn IS NULL OR consumer_name IS NULL) THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'Either ConsumerARN, or StreamARN and ConsumerName must be provided.');
    ELSIF consumer_arn IS NOT NULL AND parts IS NULL THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('"%s" is not the ARN of a consumer of a stream of this database', consumer_arn));
    END IF;
    s := kinesis._stream(coalesce(parts[1], stream_arn), CASE operation WHEN 'DescribeStreamConsumer' THEN 'describe' ELSE 'consumer' END, operation);
    IF consumer_arn IS NOT NULL AND (kinesis._stream_name(coalesce(stream_arn, parts[1])) <> s.stream_name OR coalesce(consumer_name, name) <> name) THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'ConsumerARN does not belong to the StreamARN and ConsumerName provided.');
    END IF;
    PERFORM kinesis._count_call(operation, s.stream_id);
    SELECT * INTO c FROM kinesis.consumer x WHERE x.stream_id = s.stream_id AND x.consumer_name = name
        AND (parts IS NULL OR floor(extract(epoch FROM x.consumer_creation_timestamp)) = parts[3]::numeric);
    IF NOT FOUND THEN
        PERFORM kinesis._raise('ResourceNotFoundException', format('Consumer %s under stream %s not found for account %s.', name, s.stream_name, kinesis._account_id()));
    END IF;
    RETURN c;
END
$$;

-- The same, with the stream's row locked, so that it is there until we are done.
CREATE FUNCTION kinesis._lock_consumer(stream_arn text, consumer_name text, consumer_arn text, operation text) RETURNS kinesis.consumer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c kinesis.consumer := kinesis._consumer(stream_arn, consumer_name, consumer_arn, operation);
BEGIN
    PERFORM FROM kinesis.stream s WHERE s.stream_id = c.stream_id FOR UPDATE;
    SELECT * INTO c FROM kinesis.consumer x WHERE x.consumer_id = c.consumer_id;
    IF NOT FOUND THEN
        PERFORM kinesis._raise('ResourceNotFoundException', format('Consumer %s not found for account %s.', coalesce(consumer_arn, consumer_name), kinesis._account_id()));
    END IF;
    RETURN c;
END
$$;

CREATE TYPE kinesis.consumer_description AS (consumer_name text, consumer_arn text, consumer_status text, consumer_creation_timestamp timestamptz, stream_arn text);

CREATE FUNCTION kinesis._consumer_description(c kinesis.consumer) RETURNS kinesis.consumer_description
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ROW(c.consumer_name, kinesis._consumer_arn(s.stream_name, c), 'ACTIVE', c.consumer_creation_timestamp, kinesis._stream_arn(s.stream_name))::kinesis.consumer_description
    FROM kinesis.stream s WHERE s.stream_id = c.stream_id
$$;

CREATE FUNCTION kinesis._register_stream_consumer(stream_arn text, consumer_name text, tags jsonb) RETURNS kinesis.consumer_description
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream;
    c kinesis.consumer;
    most int := current_setting('kinesis.max_consumers_per_stream')::int;
BEGIN
    PERFORM kinesis._check_name(consumer_name, 'consumerName');
    s := kinesis._lock_stream(stream_arn, 'consumer', 'RegisterStreamConsumer');
    IF (SELECT count(*) FROM kinesis.consumer x WHERE x.stream_id = s.stream_id) >= most THEN
        PERFORM kinesis._raise('LimitExceededException', format('Stream %s under account %s already has %s registered consumers', s.stream_name, kinesis._account_id(), most), NULL,
            'kinesis.max_consumers_per_stream is AWS''s limit; it can be raised.');
    END IF;
    BEGIN
        INSERT INTO kinesis.consumer AS x (stream_id, consumer_name, consumer_creation_timestamp)
            VALUES (s.stream_id, consumer_name, kinesis._now()) RETURNING * INTO c;
    EXCEPTION WHEN unique_violation THEN
        PERFORM kinesis._raise('ResourceInUseException', format('Consumer %s under stream %s already exists for account %s.', consumer_name, s.stream_name, kinesis._account_id()));
    END;
    PERFORM kinesis._set_tags(s, tags, c.consumer_id);
    RETURN kinesis._consumer_description(c);
END
$$;

CREATE FUNCTION kinesis.register_stream_consumer(stream_arn text, consumer_name text, tags jsonb DEFAULT NULL) RETURNS kinesis.consumer_description
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.register_stream_consumer(text, text, jsonb) IS
'Registers a consumer with a read throughput of its own, for subscribe_to_shard; ACTIVE when the transaction commits. stream_arn may be the stream''s name.';

CREATE FUNCTION kinesis._deregister_stream_consumer(stream_arn text, consumer_name text, consumer_arn text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c kinesis.consumer := kinesis._lock_consumer(stream_arn, consumer_name, consumer_arn, 'DeregisterStreamConsumer');
BEGIN
    DELETE FROM kinesis.tag t WHERE t.stream_id = c.stream_id AND t.consumer_id = c.consumer_id;
    DELETE FROM kinesis.consumer x WHERE x.consumer_id = c.consumer_id;
    PERFORM kinesis._disable_mappings(ARRAY(SELECT m.uuid FROM kinesis.event_source_mapping m WHERE m.stream_id = c.stream_id AND kinesis._is_source_of(c, m.event_source_arn)),
        'The consumer was deregistered');
    PERFORM kinesis._touch_stream(c.stream_id);     -- whoever waits in subscribe_to_shard looks up
END
$$;

CREATE FUNCTION kinesis.deregister_stream_consumer(stream_arn text DEFAULT NULL, consumer_name text DEFAULT NULL, consumer_arn text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.deregister_stream_consumer(text, text, text) IS 'Removes a consumer, given by its ARN or by stream and name. Its subscriptions end when the transaction commits, and event source mappings that use it are disabled.';

CREATE FUNCTION kinesis._describe_stream_consumer(stream_arn text, consumer_name text, consumer_arn text) RETURNS kinesis.consumer_description
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN kinesis._consumer_description(kinesis._consumer(stream_arn, consumer_name, consumer_arn, 'DescribeStreamConsumer'));
END
$$;

CREATE FUNCTION kinesis.describe_stream_consumer(stream_arn text DEFAULT NULL, consumer_name text DEFAULT NULL, consumer_arn text DEFAULT NULL) RETURNS kinesis.consumer_description
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.describe_stream_consumer(text, text, text) IS 'A registered consumer, given by its ARN or by stream and name.';

CREATE TYPE kinesis.listed_consumer AS (consumer_name text, consumer_arn text, consumer_status text, consumer_creation_timestamp timestamptz, next_token text);

CREATE FUNCTION kinesis._list_stream_consumers(stream_arn text, max_results int, next_token text, stream_creation_timestamp timestamptz) RETURNS SETOF kinesis.listed_consumer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._stream(stream_arn, 'describe', 'ListStreamConsumers');
    cap int := kinesis._page_size('maxResults', max_results, 100, next_token);
    after_name text := '';
    c kinesis.consumer;
    d kinesis.consumer_description;
    n int := 0;
    total int;
BEGIN
    PERFORM kinesis._count_call('ListStreamConsumers', s.stream_id);
    IF next_token IS NOT NULL THEN
        after_name := kinesis._read_token('ListStreamConsumers', next_token);
        IF split_part(after_name, '|', 1) <> s.stream_id::text THEN
            PERFORM kinesis._raise('InvalidArgumentException', 'Invalid NextToken.');
        END IF;
        after_name := split_part(after_name, '|', 2);
    END IF;
    PERFORM kinesis._check_creation(s, stream_creation_timestamp);
    SELECT count(*) INTO total FROM kinesis.consumer x WHERE x.stream_id = s.stream_id AND x.consumer_name > after_name;
    FOR c IN SELECT * FROM kinesis.consumer x WHERE x.stream_id = s.stream_id AND x.consumer_name > after_name ORDER BY x.consumer_name LIMIT cap LOOP
        n := n + 1;
        d := kinesis._consumer_description(c);
        RETURN NEXT ROW(d.consumer_name, d.consumer_arn, d.consumer_status, d.consumer_creation_timestamp,
            CASE WHEN n = cap AND total > cap THEN kinesis._make_token('ListStreamConsumers', concat_ws('|', s.stream_id, c.consumer_name)) END)::kinesis.listed_consumer;
    END LOOP;
END
$$;

CREATE FUNCTION kinesis.list_stream_consumers(stream_arn text, max_results int DEFAULT NULL, next_token text DEFAULT NULL, stream_creation_timestamp timestamptz DEFAULT NULL)
RETURNS SETOF kinesis.listed_consumer
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.list_stream_consumers(text, int, text, timestamptz) IS
'The registered consumers of a stream, by name. With max_results at most 100 a call, and a next_token on the last row when there are more.';

CREATE FUNCTION kinesis.subscribe_to_shard(consumer_arn text, shard_id text, starting_position text, sequence_number bigint DEFAULT NULL,
    "timestamp" timestamptz DEFAULT NULL, max_wait interval DEFAULT '5 s',
    OUT records kinesis.record[], OUT continuation_sequence_number bigint, OUT millis_behind_latest bigint, OUT child_shards kinesis.child_shard[])
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_subscribe_to_shard';
COMMENT ON FUNCTION kinesis.subscribe_to_shard(text, text, text, bigint, timestamptz, interval) IS
'One event of a registered consumer as soon as there is one, an empty one after max_wait (at most 5 minutes). Go on with AFTER_SEQUENCE_NUMBER and continuation_sequence_number, which is null at the end of a closed shard. The session keeps the subscription by asking again; another one may take it over after five seconds.';

-- A stream that has registered consumers is deleted only by who says so; consumer groups and event source mappings lose it.
CREATE FUNCTION kinesis._delete_consumers(s kinesis.stream, enforce_consumer_deletion boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT coalesce(enforce_consumer_deletion, false) AND EXISTS (SELECT FROM kinesis.consumer c WHERE c.stream_id = s.stream_id) THEN
        PERFORM kinesis._raise('ResourceInUseException', format('Stream %s under account %s cannot be deleted: it has registered consumers.', s.stream_name, kinesis._account_id()), NULL,
            'Deregister them, or call delete_stream with enforce_consumer_deletion => true.');
    END IF;
    DELETE FROM kinesis.consumer c WHERE c.stream_id = s.stream_id;
    PERFORM kinesis._ring_group(x.group_id) FROM kinesis.group_stream x WHERE x.stream_id = s.stream_id;
    DELETE FROM kinesis.group_stream x WHERE x.stream_id = s.stream_id;
    DELETE FROM kinesis.lease l WHERE l.stream_id = s.stream_id;
    PERFORM kinesis._delete_lanes(s);
END
$$;

---------------------------------------------------------------------------------------------------------------------
-- Consumer groups
---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION kinesis._lease_read(stream_id bigint, shard_index int, after bigint, max_records int,
    OUT records kinesis.record[], OUT last bigint, OUT millis_behind_latest bigint, OUT at_end boolean)
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_lease_read';
CREATE FUNCTION kinesis._start_position(stream_id bigint, shard_index int, type text, "timestamp" timestamptz) RETURNS bigint
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_start_position';
CREATE FUNCTION kinesis._greatest_number(stream_id bigint, shard_index int) RETURNS bigint
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_greatest_number';
CREATE FUNCTION kinesis._watch_group(group_id bigint) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_watch_group';
CREATE FUNCTION kinesis._watch_shards(stream_ids bigint[], shard_indexes int[]) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_watch_shards';
CREATE FUNCTION kinesis._watch_news(timeout_ms int) RETURNS boolean
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_watch_news';
CREATE FUNCTION kinesis._ring_group(group_id bigint) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_ring_group';
CREATE FUNCTION kinesis._ring_group_at_exit(group_id bigint) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_ring_group_at_exit';
CREATE FUNCTION kinesis._session() RETURNS bigint
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_session';
CREATE FUNCTION kinesis._session_is_alive(session bigint) RETURNS boolean
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_session_is_alive';

-- Row of a group whose streams the caller may all read.
CREATE FUNCTION kinesis._group(group_name text, operation text) RETURNS kinesis.consumer_group
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text := group_name;
    g kinesis.consumer_group;
BEGIN
    PERFORM kinesis._check_name(name, 'groupName');
    SELECT * INTO g FROM kinesis.consumer_group x WHERE x.group_name = name;
    IF NOT FOUND THEN
        PERFORM kinesis._raise('ResourceNotFoundException', format('Group %s under account %s not found.', name, kinesis._account_id()));
    END IF;
    PERFORM kinesis._require(x.stream_id, 'consumer', operation) FROM kinesis.group_stream x WHERE x.group_id = g.group_id;
    RETURN g;
END
$$;

-- This and the next are parsed here and for good, not under a search_path of their own: so they become part of the queries that call them.
CREATE FUNCTION kinesis._is_alive(m kinesis.group_member) RETURNS boolean
LANGUAGE sql VOLATILE
RETURN CASE WHEN m.session IS NOT NULL THEN kinesis._session_is_alive(m.session) ELSE m.deadline > kinesis._now() END;

-- Parents of the shard that the group still has to read to their end.
CREATE FUNCTION kinesis._waits_for(l kinesis.lease) RETURNS SETOF int
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT p.shard_index FROM kinesis.shard h JOIN kinesis.lease p ON p.group_id = l.group_id AND p.stream_id = l.stream_id
        AND p.shard_index IN (h.parent_shard, h.adjacent_parent_shard) AND NOT p.ended
    WHERE h.stream_id = l.stream_id AND h.shard_index = l.shard_index AND h.parent_shard IS NOT NULL;
END;

/*
 * The shards that a reader is to begin with, and behind which number. The first ones are those of its initial position. Later
 * it gets those that are numbered above all it has: numbers grow, and since it has had all open shards once, whatever is new
 * descends from one of them (also where a generation between has expired). So it begins at its beginning, and nothing is skipped.
 */
CREATE FUNCTION kinesis._shards_due(s kinesis.stream, greatest_known int, initial_position text, initial_timestamp timestamptz) RETURNS TABLE (shard_index int, checkpoint bigint)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.shard_index, CASE WHEN greatest_known IS NULL THEN kinesis._start_position(s.stream_id, h.shard_index, initial_position, initial_timestamp) ELSE -1 END
    FROM kinesis._listed_shards(s, coalesce(greatest_known, -1)) h
    WHERE greatest_known IS NOT NULL OR initial_position = 'TRIM_HORIZON' OR h.closed_at IS NULL OR (initial_position = 'AT_TIMESTAMP' AND h.closed_at >= initial_timestamp)
$$;

-- Makes the leases that are missing.
CREATE FUNCTION kinesis._sync_leases(g kinesis.consumer_group) RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream;
    n int;
    made int := 0;
BEGIN
    DELETE FROM kinesis.group_stream x WHERE x.group_id = g.group_id AND NOT EXISTS (SELECT FROM kinesis.stream st WHERE st.stream_id = x.stream_id);
    FOR s IN SELECT st.* FROM kinesis.stream st JOIN kinesis.group_stream x USING (stream_id) WHERE x.group_id = g.group_id LOOP
        INSERT INTO kinesis.lease (group_id, stream_id, shard_index, checkpoint)
            SELECT g.group_id, s.stream_id, d.shard_index, d.checkpoint
            FROM kinesis._shards_due(s, (SELECT max(l.shard_index) FROM kinesis.lease l WHERE l.group_id = g.group_id AND l.stream_id = s.stream_id), g.initial_position, g.initial_timestamp) d;
        GET DIAGNOSTICS n = ROW_COUNT;
        made := made + n;
    END LOOP;
    -- Shards that have expired, read to their end or not. Only now: they tell what is new.
    DELETE FROM kinesis.lease l WHERE l.group_id = g.group_id AND NOT EXISTS (SELECT FROM kinesis.shard h JOIN kinesis.stream st USING (stream_id)
        WHERE h.stream_id = l.stream_id AND h.shard_index = l.shard_index AND (h.closed_at IS NULL OR h.closed_at > kinesis._expired_before(st)));
    RETURN made;
END
$$;

/*
 * Has _sync_leases() nothing to do?  Asked at every poll.  A new group has no statistics yet, and the planner takes its thousand leases
 * for five: here and in _share_leases() it must not answer with nested loops. One that can't be avoided then looks so dear that
 * it would be compiled.
 */
CREATE FUNCTION kinesis._is_synced(g kinesis.consumer_group) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off AS $$
BEGIN
    RETURN NOT EXISTS (SELECT FROM kinesis.group_stream x JOIN kinesis.stream s USING (stream_id) WHERE x.group_id = g.group_id
            AND coalesce((SELECT max(y.shard_index) FROM kinesis.lease y WHERE y.group_id = g.group_id AND y.stream_id = x.stream_id), -1) < s.next_shard_index - 1)
        -- A shard that has expired before it was read to its end can't be read any more, and its children need not wait for it.
        AND NOT EXISTS (SELECT FROM kinesis.lease x LEFT JOIN kinesis.shard h USING (stream_id, shard_index) LEFT JOIN kinesis.stream s USING (stream_id)
            WHERE x.group_id = g.group_id AND NOT x.ended AND (h.stream_id IS NULL OR h.closed_at <= kinesis._expired_before(s)));
END
$$;

-- Is there nothing for _balance() to do?  Asked at every poll, so it locks nothing.
CREATE FUNCTION kinesis._is_balanced(g kinesis.consumer_group) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN NOT EXISTS (SELECT FROM kinesis.group_member m WHERE m.group_id = g.group_id AND NOT kinesis._is_alive(m))
        AND kinesis._is_synced(g)
        AND (WITH share AS MATERIALIZED (
                SELECT x.owner, count(*) AS n FROM kinesis.lease x WHERE x.group_id = g.group_id AND NOT x.ended GROUP BY x.owner
            ), member AS MATERIALIZED (
                SELECT m.member_name, coalesce(c.n, 0) AS n, coalesce(c.n, 0) >= m.max_leases IS TRUE AS is_full
                FROM kinesis.group_member m LEFT JOIN share c ON c.owner = m.member_name WHERE m.group_id = g.group_id
            )
            SELECT coalesce(max(n) - min(n) FILTER (WHERE NOT is_full) < 2, true)
                AND NOT (bool_or(NOT is_full) AND EXISTS (SELECT FROM share c WHERE NOT EXISTS (SELECT FROM member y WHERE y.member_name = c.owner)))
            FROM member) IS NOT FALSE;
END
$$;

/*
 * Gives leases to the members that live until nobody has two more than another one that could have more. What each is to have is worked
 * out for all of them first, so that as few as possible change hands: free ones go out first, and those who have too many give
 * of theirs. A lease whose checkpoint somebody is moving just now stays where it is. Returns how many have a new holder.
 */
CREATE FUNCTION kinesis._share_leases(g kinesis.consumer_group) RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off AS $$
    WITH share AS MATERIALIZED (
        SELECT x.owner, count(*) AS n FROM kinesis.lease x WHERE x.group_id = g.group_id AND NOT x.ended GROUP BY x.owner
    ), member AS MATERIALIZED (
        SELECT m.member_name, m.max_leases, coalesce(c.n, 0) AS n FROM kinesis.group_member m LEFT JOIN share c ON c.owner = m.member_name
        WHERE m.group_id = g.group_id AND kinesis._is_alive(m)
    ), total AS MATERIALIZED (
        SELECT coalesce((SELECT sum(n) FROM member), 0)::bigint + coalesce((SELECT n FROM share WHERE owner IS NULL), 0) AS leases
    ), filled AS (
        -- A member has as much as it wants if there is enough for everybody to have that, or as much as they want.
        SELECT m.member_name, m.n, cap, sum(cap) OVER up_to_this + cap * (count(*) OVER () - count(*) OVER up_to_this) <= t.leases AS is_full, t.leases
        FROM member m CROSS JOIN total t CROSS JOIN LATERAL (SELECT coalesce(m.max_leases, t.leases) AS cap) c
        WINDOW up_to_this AS (ORDER BY cap)
    ), level AS (
        -- The others have equally many, or one more: "extra" of them.
        SELECT (left_over / others)::bigint AS n, left_over % others AS extra
        FROM (SELECT max(leases) - coalesce(sum(cap) FILTER (WHERE is_full), 0)::bigint AS left_over, nullif(count(*) FILTER (WHERE NOT is_full), 0) AS others FROM filled) f
    ), aim AS MATERIALIZED (
        SELECT f.member_name, f.n, CASE WHEN f.is_full THEN f.cap
            ELSE l.n + (row_number() OVER (PARTITION BY f.is_full ORDER BY f.n > l.n DESC, f.member_name) <= l.extra)::int END AS aim
        FROM filled f CROSS JOIN level l
    ), wanted AS MATERIALIZED (
        SELECT a.member_name, row_number() OVER (ORDER BY a.n + i, a.member_name) AS place FROM aim a CROSS JOIN LATERAL generate_series(1, a.aim - a.n) i
    ), waiting AS MATERIALIZED (
        -- What has to wait for its parents is given out last, and given away first.
        SELECT h.stream_id, h.shard_index FROM kinesis.lease p JOIN kinesis.shard h ON h.stream_id = p.stream_id AND h.parent_shard = p.shard_index WHERE p.group_id = g.group_id AND NOT p.ended
        UNION SELECT h.stream_id, h.shard_index FROM kinesis.lease p JOIN kinesis.shard h ON h.stream_id = p.stream_id AND h.adjacent_parent_shard = p.shard_index WHERE p.group_id = g.group_id AND NOT p.ended
    ), free AS MATERIALIZED (
        SELECT x.stream_id, x.shard_index, (x.stream_id, x.shard_index) IN (SELECT * FROM waiting) AS waits FROM kinesis.lease x
        WHERE x.group_id = g.group_id AND x.owner IS NULL AND NOT x.ended
        ORDER BY waits, x.stream_id, x.shard_index LIMIT (SELECT count(*) FROM wanted) FOR UPDATE SKIP LOCKED
    ), given AS MATERIALIZED (
        SELECT x.* FROM aim a CROSS JOIN LATERAL (
            SELECT y.stream_id, y.shard_index FROM kinesis.lease y WHERE y.group_id = g.group_id AND y.owner = a.member_name AND NOT y.ended
            ORDER BY (y.stream_id, y.shard_index) IN (SELECT * FROM waiting) DESC, y.stream_id DESC, y.shard_index DESC LIMIT a.n - a.aim FOR UPDATE SKIP LOCKED) x
        WHERE a.n > a.aim
    ), pool AS (
        SELECT stream_id, shard_index, row_number() OVER (ORDER BY waits, stream_id, shard_index) AS place FROM free
        UNION ALL
        SELECT stream_id, shard_index, row_number() OVER (ORDER BY stream_id DESC, shard_index DESC) + (SELECT count(*) FROM free) FROM given
    ), moved AS (
        UPDATE kinesis.lease x SET owner = w.member_name, token = x.token + 1, owner_switches = x.owner_switches + 1
        FROM pool p JOIN wanted w USING (place) WHERE x.group_id = g.group_id AND x.stream_id = p.stream_id AND x.shard_index = p.shard_index
        RETURNING 1
    )
    SELECT count(*) FROM moved
$$;

/*
 * Shares the leases among the members that live, for all of them at once: nobody has two more than another one, and as few as
 * possible change hands. True when something has changed. Waits for nobody: who else is at it will tell us, and a lease
 * whose checkpoint somebody is moving just now is left for the next time.
 */
CREATE FUNCTION kinesis._balance(g kinesis.consumer_group) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed boolean := false;
BEGIN
    IF kinesis._is_balanced(g) THEN
        RETURN false;
    END IF;
    PERFORM FROM kinesis.consumer_group x WHERE x.group_id = g.group_id FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF NOT kinesis._is_synced(g) THEN
        PERFORM kinesis._sync_leases(g);
        changed := kinesis._is_synced(g);
    END IF;
    -- A member may be dead and still hold its row in a transaction that hangs.
    DELETE FROM kinesis.group_member m WHERE (m.group_id, m.member_name) IN (
        SELECT d.group_id, d.member_name FROM kinesis.group_member d WHERE d.group_id = g.group_id AND NOT kinesis._is_alive(d) FOR UPDATE SKIP LOCKED);
    changed := changed OR FOUND;
    WITH lost AS MATERIALIZED (
        SELECT y.stream_id, y.shard_index FROM kinesis.lease y WHERE y.group_id = g.group_id AND y.owner IS NOT NULL
            AND (y.ended OR y.owner NOT IN (SELECT m.member_name FROM kinesis.group_member m WHERE m.group_id = g.group_id AND kinesis._is_alive(m)))
            FOR UPDATE SKIP LOCKED)
    UPDATE kinesis.lease x SET owner = NULL, token = x.token + 1, owner_switches = x.owner_switches + 1
        FROM lost WHERE x.group_id = g.group_id AND x.stream_id = lost.stream_id AND x.shard_index = lost.shard_index;
    changed := changed OR FOUND;
    changed := kinesis._share_leases(g) > 0 OR changed;
    IF changed THEN
        PERFORM kinesis._ring_group(g.group_id);
    END IF;
    RETURN changed;
END
$$;

CREATE FUNCTION kinesis._create_group(group_name text, stream_names text[], initial_position text, initial_timestamp timestamptz, lease_duration interval) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g kinesis.consumer_group;
    name text;
    s kinesis.stream;
BEGIN
    PERFORM kinesis._check_name(group_name, 'groupName');
    IF initial_position NOT IN ('TRIM_HORIZON', 'LATEST', 'AT_TIMESTAMP') OR initial_position IS NULL THEN
        PERFORM kinesis._validation('initialPosition', initial_position, 'Member must satisfy enum value set: [TRIM_HORIZON, LATEST, AT_TIMESTAMP]');
    ELSIF (initial_position = 'AT_TIMESTAMP') <> (initial_timestamp IS NOT NULL) THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'initial_timestamp must be given with AT_TIMESTAMP, and only with it.');
    ELSIF lease_duration IS NULL OR lease_duration < interval '1 s' OR lease_duration > interval '1 day' THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'lease_duration must be between 1 second and 1 day');
    ELSIF coalesce(cardinality(stream_names), 0) = 0 THEN
        PERFORM kinesis._validation('streamNames', stream_names::text, 'Member must have length greater than or equal to 1');
    END IF;
    BEGIN
        INSERT INTO kinesis.consumer_group AS x (group_name, initial_position, initial_timestamp, lease_duration, created_at)
            VALUES (group_name, initial_position, initial_timestamp, lease_duration, kinesis._now()) RETURNING * INTO g;
    EXCEPTION WHEN unique_violation THEN
        PERFORM kinesis._raise('ResourceInUseException', format('Group %s under account %s already exists.', group_name, kinesis._account_id()));
    END;
    FOREACH name IN ARRAY stream_names LOOP
        s := kinesis._stream(name, 'consumer', 'CreateGroup');
        INSERT INTO kinesis.group_stream VALUES (g.group_id, s.stream_id) ON CONFLICT DO NOTHING;
    END LOOP;
    PERFORM kinesis._sync_leases(g);        -- LATEST means now
END
$$;

CREATE FUNCTION kinesis.create_group(group_name text, stream_names text[], initial_position text DEFAULT 'TRIM_HORIZON', initial_timestamp timestamptz DEFAULT NULL,
    lease_duration interval DEFAULT '10 s') RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.create_group(text, text[], text, timestamptz, interval) IS
'Makes a consumer group over one or more streams: one checkpoint a shard, which does not expire, and members that share the shards. lease_duration is how long a member with a deadline lives without a call.';

CREATE FUNCTION kinesis._delete_group(group_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g kinesis.consumer_group := kinesis._group(group_name, 'DeleteGroup');
BEGIN
    PERFORM kinesis._ring_group(g.group_id);
    DELETE FROM kinesis.group_member x WHERE x.group_id = g.group_id;
    DELETE FROM kinesis.lease x WHERE x.group_id = g.group_id;
    DELETE FROM kinesis.group_stream x WHERE x.group_id = g.group_id;
    DELETE FROM kinesis.consumer_group x WHERE x.group_id = g.group_id;
END
$$;

CREATE FUNCTION kinesis.delete_group(group_name text) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.delete_group(text) IS 'Removes a consumer group with its checkpoints.';

-- The member, alive and ours; its deadline is put off.
CREATE FUNCTION kinesis._member(g kinesis.consumer_group, member_name text) RETURNS kinesis.group_member
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text := member_name;
    m kinesis.group_member;
BEGIN
    SELECT * INTO m FROM kinesis.group_member x WHERE x.group_id = g.group_id AND x.member_name = name;
    IF NOT FOUND OR NOT kinesis._is_alive(m) THEN
        PERFORM kinesis._raise('ResourceNotFoundException', format('Member %s of group %s not found.', name, g.group_name), NULL,
            'It has left, or was silent for longer than lease_duration. Join again.');
    ELSIF m.session <> kinesis._session() THEN
        PERFORM kinesis._raise('ResourceInUseException', format('Member %s of group %s belongs to another session.', name, g.group_name));
    END IF;
    IF m.deadline < kinesis._now() + g.lease_duration * 0.75 THEN
        UPDATE kinesis.group_member x SET deadline = kinesis._now() + g.lease_duration WHERE x.group_id = g.group_id AND x.member_name = name RETURNING * INTO m;
    END IF;
    RETURN m;
END
$$;

CREATE FUNCTION kinesis._join_group(group_name text, member_name text, liveness text, max_leases int) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g kinesis.consumer_group := kinesis._group(group_name, 'JoinGroup');
    name text := coalesce(member_name, gen_random_uuid()::text);
    m kinesis.group_member;
BEGIN
    IF name = '' OR length(name) > 256 THEN
        PERFORM kinesis._validation('memberName', name, 'Member must have length between 1 and 256');
    ELSIF liveness NOT IN ('session', 'deadline') OR liveness IS NULL THEN
        PERFORM kinesis._validation('liveness', liveness, 'Member must satisfy enum value set: [session, deadline]');
    ELSIF max_leases < 1 THEN
        PERFORM kinesis._validation('maxLeases', max_leases::text, 'Member must have value greater than or equal to 1');
    END IF;
    SELECT * INTO m FROM kinesis.group_member x WHERE x.group_id = g.group_id AND x.member_name = name FOR UPDATE;
    IF FOUND AND kinesis._is_alive(m) AND m.session IS DISTINCT FROM (CASE liveness WHEN 'session' THEN kinesis._session() END) THEN
        PERFORM kinesis._raise('ResourceInUseException', format('Group %s already has a member %s.', group_name, name));
    END IF;
    IF FOUND THEN
        -- Somebody of this name was here before: what it still holds is no longer its own.
        DELETE FROM kinesis.group_member x WHERE x.group_id = g.group_id AND x.member_name = name;
        UPDATE kinesis.lease x SET owner = NULL, token = x.token + 1, owner_switches = x.owner_switches + 1 WHERE x.group_id = g.group_id AND x.owner = name;
    END IF;
    INSERT INTO kinesis.group_member VALUES (g.group_id, name, CASE liveness WHEN 'session' THEN kinesis._session() END,
        CASE liveness WHEN 'deadline' THEN kinesis._now() + g.lease_duration END, max_leases, kinesis._now());
    IF liveness = 'session' THEN
        PERFORM kinesis._ring_group_at_exit(g.group_id);
    END IF;
    PERFORM kinesis._ring_group(g.group_id), kinesis._balance(g);
    RETURN name;
END
$$;

CREATE FUNCTION kinesis.join_group(group_name text, member_name text DEFAULT NULL, liveness text DEFAULT 'session', max_leases int DEFAULT NULL) RETURNS text
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.join_group(text, text, text, int) IS
'Makes a member of a consumer group and gives it its share of the shards; returns its name, made up if none is given. Liveness: session = until this session ends, deadline = until lease_duration has passed without a call, from any session.';

CREATE FUNCTION kinesis._leave_group(group_name text, member_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g kinesis.consumer_group := kinesis._group(group_name, 'LeaveGroup');
    m kinesis.group_member := kinesis._member(g, member_name);
BEGIN
    DELETE FROM kinesis.group_member x WHERE x.group_id = g.group_id AND x.member_name = m.member_name;
    PERFORM kinesis._ring_group(g.group_id), kinesis._balance(g);
END
$$;

CREATE FUNCTION kinesis.leave_group(group_name text, member_name text) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.leave_group(text, text) IS 'Ends a membership; the others get its shards at once.';

CREATE FUNCTION kinesis._heartbeat(group_name text, member_name text) RETURNS timestamptz
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g kinesis.consumer_group := kinesis._group(group_name, 'Heartbeat');
    m kinesis.group_member := kinesis._member(g, member_name);
BEGIN
    PERFORM kinesis._balance(g);
    RETURN m.deadline;
END
$$;

CREATE FUNCTION kinesis.heartbeat(group_name text, member_name text) RETURNS timestamptz
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.heartbeat(text, text) IS
'Puts a member''s deadline off by lease_duration, and returns it (null for a member that lives as long as its session). Every other call for the member does the same.';

CREATE TYPE kinesis.group_lease AS (stream_name text, shard_id text, lease_token bigint, checkpoint bigint, sub_sequence_number bigint, waits_for text[]);

CREATE FUNCTION kinesis._acquire_leases(group_name text, member_name text) RETURNS SETOF kinesis.group_lease
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g kinesis.consumer_group := kinesis._group(group_name, 'AcquireLeases');
    m kinesis.group_member := kinesis._member(g, member_name);
BEGIN
    PERFORM kinesis._balance(g);
    RETURN QUERY SELECT s.stream_name::text, kinesis._shard_id(l.shard_index), l.token, nullif(l.checkpoint, -1), l.sub_sequence_number,
        (SELECT array_agg(kinesis._shard_id(w)) FROM kinesis._waits_for(l) w)
        FROM kinesis.lease l JOIN kinesis.stream s USING (stream_id) WHERE l.group_id = g.group_id AND l.owner = m.member_name AND NOT l.ended ORDER BY 1, 2;
END
$$;

CREATE FUNCTION kinesis.acquire_leases(group_name text, member_name text) RETURNS SETOF kinesis.group_lease
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.acquire_leases(text, text) IS
'The shards that are a member''s share now, with the lease tokens that checkpoint asks for. waits_for: parents that the group must read to their end before.';

CREATE TYPE kinesis.group_records AS (stream_name text, shard_id text, lease_token bigint, records kinesis.record[], millis_behind_latest bigint, at_end boolean);

CREATE FUNCTION kinesis._poll_group(group_name text, member_name text, max_records int, wait interval) RETURNS SETOF kinesis.group_records
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g kinesis.consumer_group := kinesis._group(group_name, 'PollGroup');
    m kinesis.group_member;
    until timestamptz := clock_timestamp() + coalesce(wait, '0');
    room int := coalesce(max_records, 10000);
    l record;
    r record;
    found_any boolean := false;
    pause interval;
BEGIN
    IF room NOT BETWEEN 1 AND 10000 THEN
        PERFORM kinesis._validation('maxRecords', max_records::text, 'Member must have value between 1 and 10000');
    ELSIF wait < interval '0' OR wait > interval '1 min' THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'wait must be between 0 and 60 seconds');
    END IF;
    LOOP
        m := kinesis._member(g, member_name);
        IF m.deadline IS NOT NULL THEN
            -- What is put off here is seen by the others when this transaction ends: wait so that it ends in time.
            until := least(until, clock_timestamp() + g.lease_duration / 2);
        END IF;
        -- Watch before looking: what comes between must not be missed. Shares first, since records depend on them.
        PERFORM kinesis._watch_group(g.group_id);
        -- New shares are the others' to see when this transaction ends: no work and no waiting before that.
        EXIT WHEN kinesis._balance(g);
        IF wait IS NOT NULL THEN
            PERFORM kinesis._watch_shards(array_agg(x.stream_id), array_agg(x.shard_index)) FROM kinesis.lease x
                WHERE x.group_id = g.group_id AND x.owner = m.member_name AND NOT x.ended;
        END IF;
        FOR l IN SELECT x.*, s.stream_name FROM kinesis.lease x JOIN kinesis.stream s USING (stream_id)
            WHERE x.group_id = g.group_id AND x.owner = m.member_name AND NOT x.ended AND NOT EXISTS (SELECT FROM kinesis._waits_for(x))
            ORDER BY x.checkpointed_at NULLS FIRST, x.stream_id, x.shard_index LOOP
            EXIT WHEN room = 0;
            SELECT * INTO r FROM kinesis._lease_read(l.stream_id, l.shard_index, l.checkpoint, room);
            CONTINUE WHEN cardinality(r.records) = 0 AND NOT r.at_end;
            RETURN NEXT ROW(l.stream_name, kinesis._shard_id(l.shard_index), l.token, r.records, r.millis_behind_latest, r.at_end)::kinesis.group_records;
            room := room - cardinality(r.records);
            found_any := true;
        END LOOP;
        pause := until - clock_timestamp();
        EXIT WHEN found_any OR pause <= interval '0';
        -- Nobody tells us of a deadline that passes, nor when a lease that could not be moved can be.
        pause := least(pause, (SELECT min(x.deadline) - kinesis._now() FROM kinesis.group_member x WHERE x.group_id = g.group_id AND x.member_name <> m.member_name) + interval '1 ms',
            CASE WHEN NOT kinesis._is_balanced(g) THEN interval '100 ms' END);
        PERFORM kinesis._watch_news(greatest(ceil(extract(epoch FROM pause) * 1000)::int, 0));
    END LOOP;
    PERFORM kinesis._watch_group(NULL);
END
$$;

CREATE FUNCTION kinesis.poll_group(group_name text, member_name text, max_records int DEFAULT 10000, wait interval DEFAULT NULL) RETURNS SETOF kinesis.group_records
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.poll_group(text, text, int, interval) IS
'The records behind the checkpoints of a member''s shards, a row a shard, at most max_records (1 to 10000) together. With wait (at most 60 s) it returns as soon as there are some, and without any when it has shared the shards anew: commit, and call again. at_end: these are the last of a closed shard; its children are read when that is checkpointed with shard_end.';

CREATE FUNCTION kinesis._checkpoint(group_name text, stream_name text, shard_id text, lease_token bigint, sequence_number bigint, sub_sequence_number bigint, shard_end boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g kinesis.consumer_group := kinesis._group(group_name, 'Checkpoint');
    s kinesis.stream := kinesis._stream(stream_name, 'consumer', 'Checkpoint');
    ix int := kinesis._shard_index(shard_id, 'shardId', s.stream_name);
    l kinesis.lease;
    m kinesis.group_member;
BEGIN
    -- The row stays locked until we end: nobody can take the lease between the work of this transaction and its checkpoint.
    SELECT * INTO l FROM kinesis.lease x WHERE x.group_id = g.group_id AND x.stream_id = s.stream_id AND x.shard_index = ix FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM kinesis._raise('ResourceNotFoundException', format('Group %s has no lease on shard %s in stream %s.', group_name, kinesis._shard_id(ix), s.stream_name));
    ELSIF l.token IS DISTINCT FROM lease_token OR l.owner IS NULL THEN
        PERFORM kinesis._raise('ResourceInUseException', format('The lease on shard %s in stream %s is no longer held by whoever has token %s.', kinesis._shard_id(ix), s.stream_name, coalesce(lease_token::text, 'null')),
            NULL, 'Roll back: another member of the group works on these records.');
    END IF;
    m := kinesis._member(g, l.owner);
    IF sequence_number IS NULL AND NOT coalesce(shard_end, false) THEN
        PERFORM kinesis._validation('sequenceNumber', NULL, 'Member must not be null');
    ELSIF sequence_number < l.checkpoint OR (sequence_number = l.checkpoint AND coalesce(sub_sequence_number, 0) < l.sub_sequence_number) THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Sequence number %s is before the checkpoint %s.', sequence_number, l.checkpoint));
    ELSIF sequence_number > kinesis._greatest_number(s.stream_id, ix) THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Sequence number %s is behind the last one of shard %s.', sequence_number, kinesis._shard_id(ix)));
    END IF;
    IF shard_end AND NOT (SELECT r.at_end AND cardinality(r.records) = 0 FROM kinesis._lease_read(s.stream_id, ix, coalesce(sequence_number, l.checkpoint), 1) r) THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Shard %s is not closed, or has records behind %s.', kinesis._shard_id(ix), coalesce(sequence_number, l.checkpoint)));
    END IF;
    UPDATE kinesis.lease x SET checkpoint = coalesce(_checkpoint.sequence_number, x.checkpoint), sub_sequence_number = coalesce(_checkpoint.sub_sequence_number, 0),
        ended = coalesce(shard_end, false), owner_switches = 0, checkpointed_at = kinesis._now()
        WHERE x.group_id = l.group_id AND x.stream_id = l.stream_id AND x.shard_index = l.shard_index;
    IF shard_end THEN
        PERFORM kinesis._ring_group(g.group_id);        -- the children can be read now
    END IF;
END
$$;

CREATE FUNCTION kinesis.checkpoint(group_name text, stream_name text, shard_id text, lease_token bigint, sequence_number bigint DEFAULT NULL, sub_sequence_number bigint DEFAULT 0,
    shard_end boolean DEFAULT false) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.checkpoint(text, text, text, bigint, bigint, bigint, boolean) IS
'Moves a group''s checkpoint of a shard: all up to this number is done. In the transaction of the work it makes that exactly once, since ResourceInUseException is raised when the lease has another holder. With shard_end, when poll_group said at_end, the shard is done with.';

-- How much lies behind a checkpoint, of keys whose hash is lane modulo lanes.
CREATE FUNCTION kinesis._behind(stream_name text, shard_index int, checkpoint bigint, lane int, lanes int, OUT millis bigint, OUT records bigint, OUT bytes bigint)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(greatest(extract(epoch FROM kinesis._now() - min(r.approximate_arrival_timestamp)) * 1000, 0), 0)::bigint, count(*),
        coalesce(sum(octet_length(r.data) + octet_length(r.partition_key)), 0)::bigint
    FROM kinesis.read_shard(stream_name, kinesis._shard_id(shard_index), checkpoint) r
    WHERE lanes = 1 OR kinesis.hash_key(r.partition_key) % lanes = lane
$$;

-- What is behind the checkpoints: rows of closed and done shards are left out.
CREATE TYPE kinesis.group_lag_row AS (stream_name text, shard_id text, state text, owner text, checkpoint bigint, waits_for text[], owner_switches int,
    millis_behind_latest bigint, records_behind bigint, bytes_behind bigint);

CREATE FUNCTION kinesis._group_lag(group_name text) RETURNS SETOF kinesis.group_lag_row
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g kinesis.consumer_group := kinesis._group(group_name, 'GroupLag');
BEGIN
    RETURN QUERY SELECT s.stream_name::text, kinesis._shard_id(l.shard_index),
        CASE WHEN w.waits_for IS NOT NULL THEN 'WAITING_ON_PARENT_SHARDS'
            WHEN l.owner IS NULL OR NOT EXISTS (SELECT FROM kinesis.group_member m WHERE m.group_id = g.group_id AND m.member_name = l.owner AND kinesis._is_alive(m)) THEN 'UNOWNED'
            ELSE 'PROCESSING' END,
        l.owner::text, nullif(l.checkpoint, -1), w.waits_for, l.owner_switches,
        b.millis, b.records, b.bytes
    FROM kinesis.lease l JOIN kinesis.stream s USING (stream_id)
        CROSS JOIN LATERAL (SELECT array_agg(kinesis._shard_id(x)) AS waits_for FROM kinesis._waits_for(l) x) w
        CROSS JOIN LATERAL kinesis._behind(s.stream_name, l.shard_index, l.checkpoint, 0, 1) b
    WHERE l.group_id = g.group_id AND NOT l.ended ORDER BY 1, 2;
END
$$;

CREATE FUNCTION kinesis.group_lag(group_name text) RETURNS SETOF kinesis.group_lag_row
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.group_lag(text) IS
'Each shard that a group has not done with: who has it, or why nobody reads it, and how much is behind its checkpoint. Reads all of that to count it.';

CREATE VIEW kinesis.groups WITH (security_barrier) AS
    SELECT g.group_name, (SELECT pg_catalog.array_agg(s.stream_name::text ORDER BY s.stream_name) FROM kinesis.group_stream x JOIN kinesis.stream s USING (stream_id) WHERE x.group_id = g.group_id) AS stream_names,
        g.initial_position, g.initial_timestamp, g.lease_duration, g.created_at
    FROM kinesis.consumer_group g
    WHERE NOT EXISTS (SELECT FROM kinesis.group_stream x JOIN kinesis.stream s USING (stream_id) WHERE x.group_id = g.group_id
        AND NOT kinesis._may_describe(pg_catalog.quote_ident(current_user)::pg_catalog.regrole, s.table_name));
COMMENT ON VIEW kinesis.groups IS 'The consumer groups over streams that you may describe.';

CREATE VIEW kinesis.group_members WITH (security_barrier) AS
    SELECT g.group_name, m.member_name::text, CASE WHEN m.session IS NULL THEN 'deadline' ELSE 'session' END AS liveness, m.deadline, m.max_leases, m.joined_at,
        (SELECT pg_catalog.count(*) FROM kinesis.lease l WHERE l.group_id = m.group_id AND l.owner = m.member_name AND NOT l.ended) AS leases
    FROM kinesis.groups g JOIN kinesis.consumer_group c USING (group_name) JOIN kinesis.group_member m USING (group_id);
COMMENT ON VIEW kinesis.group_members IS 'The members of these groups.';

CREATE VIEW kinesis.group_leases WITH (security_barrier) AS
    SELECT g.group_name, s.stream_name::text, kinesis._shard_id(l.shard_index) AS shard_id,
        CASE WHEN l.ended THEN 'SHARD_END' WHEN w.waits_for IS NOT NULL THEN 'WAITING_ON_PARENT_SHARDS' WHEN m.member_name IS NULL THEN 'UNOWNED' ELSE 'PROCESSING' END AS state,
        m.member_name::text, l.token AS lease_token, nullif(l.checkpoint, -1) AS checkpoint, l.sub_sequence_number, l.checkpointed_at, l.owner_switches, w.waits_for
    FROM kinesis.groups g JOIN kinesis.consumer_group c USING (group_name) JOIN kinesis.lease l USING (group_id) JOIN kinesis.stream s USING (stream_id)
        LEFT JOIN kinesis.group_member m ON m.group_id = l.group_id AND m.member_name = l.owner AND NOT l.ended AND kinesis._is_alive(m)
        CROSS JOIN LATERAL (SELECT pg_catalog.array_agg(kinesis._shard_id(p.shard_index) ORDER BY p.shard_index) AS waits_for FROM kinesis.shard h
            JOIN kinesis.lease p ON p.group_id = l.group_id AND p.stream_id = l.stream_id AND p.shard_index IN (h.parent_shard, h.adjacent_parent_shard) AND NOT p.ended
            WHERE h.stream_id = l.stream_id AND h.shard_index = l.shard_index) w;
COMMENT ON VIEW kinesis.group_leases IS
'The shards of these groups, a row each: state (PROCESSING, UNOWNED, WAITING_ON_PARENT_SHARDS: waits_for has them, SHARD_END), the member that has it, its lease token and checkpoint, and how often it has changed hands since. group_lag() tells how far behind they are, too.';

---------------------------------------------------------------------------------------------------------------------
-- Event source mappings: filters
---------------------------------------------------------------------------------------------------------------------

-- Raises unless these are filter criteria: {"Filters": [{"Pattern": "<JSON>"}]}.
CREATE FUNCTION kinesis._check_filters(filter_criteria jsonb) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_check_filters';

-- Does a record pass them?  Without any, all do.
CREATE FUNCTION kinesis._filters_match(filter_criteria jsonb, sequence_number bigint, partition_key text, data bytea) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_match_filters';

---------------------------------------------------------------------------------------------------------------------
-- Event source mappings: failures
---------------------------------------------------------------------------------------------------------------------

-- The event that a function is called with; the second one in a tumbling window.
CREATE FUNCTION kinesis._event(records kinesis.record[], shard_index int, event_source_arn text, owner text) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'kin_event';

CREATE FUNCTION kinesis._event(records kinesis.record[], shard_index int, event_source_arn text, owner text, window_start timestamptz, window_end timestamptz,
    window_state jsonb, final_invoke boolean, terminated_early boolean) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'kin_event';

CREATE FUNCTION kinesis._event_record_bytes(key_len bigint, data_len bigint) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'kin_event_bytes';

CREATE FUNCTION kinesis._response(response jsonb, report boolean, numbers bigint[], OUT outcome text, OUT from_number bigint, OUT why text)
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'kin_response';

CREATE FUNCTION kinesis._response_state(response jsonb) RETURNS jsonb
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'kin_response_state_of';

CREATE FUNCTION kinesis._failure_send(on_failure text, record jsonb) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'kin_send_failure';

-- A time as AWS writes it.
CREATE FUNCTION kinesis._iso_time(t timestamptz) RETURNS text
LANGUAGE sql STABLE STRICT
RETURN pg_catalog.to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

-- What is told of a batch that was given up; error as mapping_lane.last_error, {} when there was none.
CREATE FUNCTION kinesis._invocation_record(mapping uuid, function_name text, stream_arn text, shard_index int, records kinesis.record[], condition text,
    invoke_count int, error jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    n int := cardinality(records);
    invoked boolean := invoke_count > 0;
    source_arn text;
    owner text;
BEGIN
    SELECT m.event_source_arn, pg_get_userbyid(m.owner) INTO source_arn, owner FROM kinesis.event_source_mapping m WHERE m.uuid = mapping;
    RETURN jsonb_build_object(
        'requestContext', jsonb_build_object(
            'requestId', gen_random_uuid(),
            'functionArn', format('arn:aws:lambda:%s:%s:function:%s', kinesis._region(), kinesis._account_id(), function_name),
            'condition', condition,
            'approximateInvokeCount', invoke_count),
        'responseContext', jsonb_build_object(
            'statusCode', CASE WHEN invoked THEN 200 END,
            'executedVersion', CASE WHEN invoked THEN '$LATEST' END,
            'functionError', CASE WHEN invoked THEN 'Unhandled' END),
        'version', '1.0',
        'timestamp', kinesis._iso_time(kinesis._now()),
        'KinesisBatchInfo', jsonb_build_object(
            'shardId', kinesis._shard_id(shard_index),
            'startSequenceNumber', (records[1]).sequence_number::text,
            'endSequenceNumber', (records[n]).sequence_number::text,
            'approximateArrivalOfFirstRecord', kinesis._iso_time((records[1]).approximate_arrival_timestamp),
            'approximateArrivalOfLastRecord', kinesis._iso_time((records[n]).approximate_arrival_timestamp),
            'batchSize', n,
            'streamArn', stream_arn),
        'payload', kinesis._event(records, shard_index, coalesce(source_arn, stream_arn), coalesce(owner, current_user)))
        || CASE WHEN error = '{}' THEN error ELSE jsonb_build_object('error', jsonb_build_object('sqlstate', error->'sqlstate', 'message', error->'message')) END;
END
$$;

---------------------------------------------------------------------------------------------------------------------
-- Event source mappings
---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION kinesis._ring_scheduler() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_ring_scheduler';
CREATE FUNCTION kinesis._running_lanes(OUT lane_id bigint, OUT pid int, OUT since timestamptz) RETURNS SETOF record
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_running_lanes';

-- The scheduler looks at both tables; ALWAYS: changes that a restore or a subscription makes count as well.
CREATE TRIGGER ring_scheduler AFTER INSERT OR UPDATE OR DELETE ON kinesis.event_source_mapping FOR EACH STATEMENT EXECUTE FUNCTION kinesis._ring_scheduler();
ALTER TABLE kinesis.event_source_mapping ENABLE ALWAYS TRIGGER ring_scheduler;
CREATE TRIGGER ring_scheduler AFTER INSERT OR UPDATE OR DELETE ON kinesis.notification FOR EACH STATEMENT EXECUTE FUNCTION kinesis._ring_scheduler();
ALTER TABLE kinesis.notification ENABLE ALWAYS TRIGGER ring_scheduler;

-- Writes what a turn changes of a lane, for a table that has got triggers or indexes which C code does not see to: lane_store.c.
CREATE FUNCTION kinesis._save_lane(l kinesis.mapping_lane) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE kinesis.mapping_lane x SET checkpoint = l.checkpoint, ended = l.ended, batch_ends = l.batch_ends, attempts = l.attempts, crashes = l.crashes,
        failing_since = l.failing_since, retry_at = l.retry_at, window_start = l.window_start, window_state = l.window_state, window_full = l.window_full,
        last_result = l.last_result, processed_at = l.processed_at, last_error = l.last_error, invocations = l.invocations, failures = l.failures,
        records = l.records, discarded = l.discarded
        WHERE x.lane_id = l.lane_id
$$;

CREATE TYPE kinesis.event_source_mapping_configuration AS (
    uuid uuid, event_source_mapping_arn text, event_source_arn text, function_name text, owner text,
    starting_position text, starting_position_timestamp timestamptz, batch_size int, maximum_batching_window interval, parallelization_factor int,
    maximum_record_age interval, maximum_retry_attempts int, bisect_batch_on_function_error boolean, on_failure text, report_batch_item_failures boolean,
    tumbling_window interval, filter_criteria jsonb, state text, state_transition_reason text, last_modified timestamptz, last_processing_result text,
    next_marker text
);
COMMENT ON TYPE kinesis.event_source_mapping_configuration IS 'An event source mapping. maximum_record_age is null when records may be of any age; next_marker is for list_event_source_mappings alone.';

CREATE FUNCTION kinesis._mapping_arn(uuid uuid) RETURNS text
LANGUAGE sql STABLE STRICT
RETURN pg_catalog.concat('arn:aws:lambda:', kinesis._region(), ':', kinesis._account_id(), ':event-source-mapping:', uuid);

-- All mappings as they are described; callers choose those that may be seen.
CREATE VIEW kinesis._mapping_configuration AS
    SELECT m.uuid, kinesis._mapping_arn(m.uuid) AS event_source_mapping_arn, m.event_source_arn, pg_catalog.format('%I.%I', m.function_schema, m.function_name) AS function_name,
        pg_catalog.pg_get_userbyid(m.owner)::text AS owner, m.starting_position, m.starting_position_timestamp, m.batch_size, m.maximum_batching_window,
        m.parallelization_factor, m.maximum_record_age, m.maximum_retry_attempts, m.bisect_batch_on_function_error, m.on_failure,
        m.report_batch_item_failures, m.tumbling_window, m.filter_criteria,
        CASE WHEN m.home IS DISTINCT FROM kinesis._home() THEN 'Disabled' ELSE coalesce(m.transition, CASE WHEN m.enabled THEN 'Enabled' ELSE 'Disabled' END) END AS state,
        CASE WHEN m.home IS DISTINCT FROM kinesis._home() THEN 'Restored from a dump or a copy of the database: call kinesis.finish_restore()'
            ELSE m.state_transition_reason END AS state_transition_reason,
        m.last_modified,
        -- What is wrong comes first, whichever lane has it.
        coalesce((SELECT l.last_result FROM kinesis.mapping_lane l WHERE l.uuid = m.uuid
            ORDER BY l.failing_since IS NOT NULL OR l.retry_at IS NOT NULL DESC, l.processed_at DESC NULLS LAST LIMIT 1), 'No records processed') AS last_processing_result
    FROM kinesis.event_source_mapping m;

CREATE FUNCTION kinesis._mapping_description(uuid uuid) RETURNS kinesis.event_source_mapping_configuration
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT ROW(c.*, NULL)::kinesis.event_source_mapping_configuration FROM kinesis._mapping_configuration c WHERE c.uuid = $1
$$;

-- May this role change what belongs to the owner?
CREATE FUNCTION kinesis._may_change(role oid, owner oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_has_role(role, owner, 'USAGE') OR pg_has_role(role, 'kinesis_admin', 'USAGE')
$$;

CREATE FUNCTION kinesis._refuse_access(operation text, resource text, hint text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM kinesis._raise('AccessDeniedException', format('User: %s is not authorized to perform: %s on resource: %s', pg_get_userbyid(kinesis._caller()), operation, resource), NULL, hint);
END
$$;

-- Row of a mapping that the caller may change, locked, or may see.
CREATE FUNCTION kinesis._mapping(uuid uuid, operation text, change boolean) RETURNS kinesis.event_source_mapping
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id uuid := uuid;
    m kinesis.event_source_mapping;
    table_name name;
BEGIN
    IF id IS NULL THEN
        PERFORM kinesis._validation('UUID', NULL, 'Member must not be null');
    END IF;
    IF change THEN
        SELECT * INTO m FROM kinesis.event_source_mapping x WHERE x.uuid = id FOR UPDATE;
    ELSE
        SELECT * INTO m FROM kinesis.event_source_mapping x WHERE x.uuid = id;
    END IF;
    IF NOT FOUND THEN
        PERFORM kinesis._raise('ResourceNotFoundException', format('Event source mapping %s under account %s not found.', id, kinesis._account_id()));
    END IF;
    SELECT s.table_name INTO table_name FROM kinesis.stream s WHERE s.stream_id = m.stream_id;
    IF NOT kinesis._may_change(kinesis._caller(), m.owner) AND (change OR NOT kinesis._may_describe(kinesis._caller(), table_name)) THEN
        PERFORM kinesis._refuse_access('lambda:' || operation, kinesis._mapping_arn(id), format('The mapping belongs to %s. Who has its rights, or those of kinesis_admin, may do this.', pg_get_userbyid(m.owner)));
    END IF;
    RETURN m;
END
$$;

-- "name" or "schema.name", as an array of schema (null if not given) and name.
CREATE FUNCTION kinesis._parse_name(name text) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts text[];
BEGIN
    BEGIN
        parts := parse_ident(name);
    EXCEPTION WHEN invalid_parameter_value THEN
        NULL;
    END;
    IF cardinality(parts) NOT BETWEEN 1 AND 2 OR parts IS NULL THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('"%s" is not a name as name or schema.name', name), NULL, 'Write names with capitals or special characters in double quotes.');
    END IF;
    RETURN CASE cardinality(parts) WHEN 1 THEN ARRAY[NULL, parts[1]] ELSE parts END;
END
$$;

-- The arguments of a function that can be called: true for records, false for jsonb (an event, or an invocation record), null for others.
CREATE FUNCTION kinesis._takes_records(p pg_proc) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN p.pronargs = 2 AND p.proargtypes[0] = 'kinesis.record[]'::regtype AND p.proargtypes[1] = 'kinesis.batch_context'::regtype THEN true
        WHEN p.pronargs = 1 AND p.proargtypes[0] = 'jsonb'::regtype THEN false END
$$;

/*
 * The function of this name that can be called with batches (or, if it is for what has failed, with an invocation record) and
 * that the role may call. The search_path of who called can't be known here, and would not be that of the workers; so a name
 * without a schema must be unique among the functions that it could mean. Temporary functions are nobody else's to call.
 */
CREATE FUNCTION kinesis._find_function(function_name text, role oid, for_batches boolean, OUT schema_name name, OUT name name, OUT takes_records boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts text[] := kinesis._parse_name(function_name);
    f record;
BEGIN
    SELECT count(*) AS n, count(*) FILTER (WHERE c.fits) AS fitting, count(*) FILTER (WHERE c.fits AND c.usable) AS usable,
            array_agg(DISTINCT format('%I.%I', c.nspname, c.proname)) FILTER (WHERE c.fits AND c.usable) AS names,
            min(c.oid::regprocedure::text) FILTER (WHERE c.fits) AS refused, min(c.nspname::text) FILTER (WHERE c.fits) AS refused_in,
            min(c.nspname::text) FILTER (WHERE c.fits AND c.usable) AS nspname, bool_or(c.records) FILTER (WHERE c.fits AND c.usable) AS records
        INTO f
        FROM (SELECT p.oid, p.proname, n.nspname, t.records,
                p.prokind = 'f' AND NOT p.proretset AND CASE t.records WHEN true THEN for_batches AND p.prorettype IN ('void'::regtype, 'jsonb'::regtype)
                    WHEN false THEN p.prorettype = 'jsonb'::regtype OR NOT for_batches END AS fits,
                has_schema_privilege(role, n.oid, 'USAGE') AND has_function_privilege(role, p.oid, 'EXECUTE') AS usable
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace CROSS JOIN kinesis._takes_records(p) AS t(records)
            WHERE p.proname = parts[2] AND (parts[1] IS NULL OR n.nspname = parts[1]) AND n.nspname !~ '^pg_temp_') c;
    IF f.n = 0 THEN
        PERFORM kinesis._raise('ResourceNotFoundException', format('Function not found: %s', function_name));
    ELSIF f.fitting = 0 THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Function %s does not have the arguments and the result that are needed', function_name), NULL,
            CASE WHEN for_batches THEN 'It must be f(jsonb) RETURNS jsonb, or f(kinesis.record[], kinesis.batch_context) RETURNS void or jsonb.'
                ELSE 'It must be f(jsonb), and return no set.' END);
    ELSIF f.usable = 0 THEN
        PERFORM kinesis._refuse_access('lambda:InvokeFunction', f.refused, format('Role %s needs EXECUTE on the function, and USAGE on schema %I.', quote_ident(pg_get_userbyid(role)), f.refused_in));
    ELSIF cardinality(f.names) > 1 THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Function name %s is not unique', function_name), format('It could be %s.', array_to_string(f.names, ', ')),
            'Write the schema before the name.');
    ELSIF f.usable > 1 THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Function %s is there for events as jsonb and for records', function_name), NULL,
            'One name stands for one of them: f(jsonb) or f(kinesis.record[], kinesis.batch_context). Give the other one another name.');
    END IF;
    schema_name := f.nspname;
    name := parts[2];
    takes_records := f.records;
END
$$;

-- The same for a table that invocation records are put into. Returns its quoted name.
CREATE FUNCTION kinesis._find_table(table_name text, role oid) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts text[] := kinesis._parse_name(table_name);
    t record;
BEGIN
    SELECT count(*) AS n, count(*) FILTER (WHERE c.fits) AS fitting, array_agg(c.name) FILTER (WHERE c.fits AND c.usable) AS names, min(c.name) FILTER (WHERE c.fits) AS refused
        INTO t
        FROM (SELECT format('%I.%I', n.nspname, r.relname) AS name,
                EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = r.oid AND a.attname = 'invocation_record' AND a.atttypid = 'jsonb'::regtype AND NOT a.attisdropped) AS fits,
                has_schema_privilege(role, n.oid, 'USAGE') AND has_column_privilege(role, r.oid, 'invocation_record', 'INSERT') IS TRUE AS usable
            FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
            WHERE r.relname = parts[2] AND (parts[1] IS NULL OR n.nspname = parts[1]) AND r.relkind IN ('r', 'p', 'v', 'f') AND r.relpersistence <> 't') c;
    IF t.n = 0 THEN
        PERFORM kinesis._raise('ResourceNotFoundException', format('Table not found: %s', table_name));
    ELSIF t.fitting = 0 THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Table %s has no column invocation_record of type jsonb', table_name));
    ELSIF t.names IS NULL THEN
        PERFORM kinesis._refuse_access('INSERT', t.refused, format('Role %s needs INSERT on the table, and USAGE on its schema.', quote_ident(pg_get_userbyid(role))));
    ELSIF cardinality(t.names) > 1 THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Table name %s is not unique', table_name), format('It could be %s.', array_to_string(t.names, ', ')),
            'Write the schema before the name.');
    END IF;
    RETURN t.names[1];
END
$$;

-- The destination of what has failed as stream:name, table:schema.name or function:schema.name. The owner must be able to use it.
CREATE FUNCTION kinesis._find_destination(on_failure text, owner oid, source bigint, operation text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts text[] := coalesce(regexp_match(on_failure, '^(table|function|stream):(.*)$'), ARRAY['stream', on_failure]);
    s kinesis.stream;
    f record;
BEGIN
    IF on_failure = '' THEN
        RETURN NULL;
    ELSIF parts[1] = 'table' THEN
        RETURN 'table:' || kinesis._find_table(parts[2], owner);
    ELSIF parts[1] = 'function' THEN
        f := kinesis._find_function(parts[2], owner, false);
        RETURN format('function:%I.%I', f.schema_name, f.name);
    ELSIF on_failure IS NULL THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM kinesis.stream x WHERE x.stream_id = source AND x.stream_name = kinesis._stream_name(parts[2])) THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'A stream can''t be the event source of a mapping and the destination of what fails there');
    END IF;
    s := kinesis._stream(parts[2], 'producer', operation);
    -- Who changes somebody else's mapping may put; so must the owner.
    IF NOT has_table_privilege(owner, to_regclass(format('kinesis_stream.%I', s.table_name)), 'INSERT') THEN
        PERFORM kinesis._refuse_access('kinesis:PutRecord', kinesis._stream_arn(s.stream_name), format('The mapping''s owner needs the producer right: SELECT kinesis.grant_stream(%L, %L, ''producer'').',
            s.stream_name, pg_get_userbyid(owner)));
    END IF;
    RETURN 'stream:' || s.stream_name;
END
$$;

-- Whose the table or function of a destination is.
CREATE FUNCTION kinesis._destination_owner(on_failure text) RETURNS regrole
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE d.parts[1] WHEN 'table' THEN (SELECT r.relowner FROM pg_class r WHERE r.oid = to_regclass(d.parts[2]))
        WHEN 'function' THEN (SELECT p.proowner FROM pg_proc p WHERE p.oid = to_regprocedure(d.parts[2] || '(jsonb)')) END::regrole
    FROM regexp_match(on_failure, '^(table|function):(.*)$') d(parts)
$$;

CREATE FUNCTION kinesis._check_between(field text, value numeric, low numeric, high numeric) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF value IS NULL THEN
        PERFORM kinesis._validation(field, NULL, 'Member must not be null');
    ELSIF value < low THEN
        PERFORM kinesis._validation(field, trim_scale(value)::text, format('Member must have value greater than or equal to %s', low));
    ELSIF value > high THEN
        PERFORM kinesis._validation(field, trim_scale(value)::text, format('Member must have value less than or equal to %s', high));
    END IF;
END
$$;

-- The ranges of the settings, for a new mapping and a changed one.
CREATE FUNCTION kinesis._check_mapping(m kinesis.event_source_mapping) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    batching numeric := extract(epoch FROM m.maximum_batching_window);
    age numeric := extract(epoch FROM m.maximum_record_age);
    tumbling numeric := extract(epoch FROM m.tumbling_window);
    nothing text := CASE WHEN m.enabled IS NULL THEN 'enabled' WHEN m.bisect_batch_on_function_error IS NULL THEN 'bisectBatchOnFunctionError'
        WHEN m.report_batch_item_failures IS NULL THEN 'reportBatchItemFailures' END;
BEGIN
    PERFORM kinesis._check_between('batchSize', m.batch_size, 1, 10000);
    PERFORM kinesis._check_between('maximumBatchingWindowInSeconds', batching, 0, 300);
    PERFORM kinesis._check_between('parallelizationFactor', m.parallelization_factor, 1, 10);
    IF age IS NOT NULL THEN
        PERFORM kinesis._check_between('maximumRecordAgeInSeconds', age, 60, 604800);
    END IF;
    PERFORM kinesis._check_between('maximumRetryAttempts', m.maximum_retry_attempts, -1, 10000);
    PERFORM kinesis._check_between('tumblingWindowInSeconds', tumbling, 0, 900);
    IF batching * 1000 <> trunc(batching * 1000) THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'maximum_batching_window must be a whole number of milliseconds');
    ELSIF tumbling <> trunc(tumbling) THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'tumbling_window must be a whole number of seconds');
    ELSIF nothing IS NOT NULL THEN
        PERFORM kinesis._validation(nothing, NULL, 'Member must not be null');
    END IF;
    IF m.filter_criteria IS NOT NULL THEN
        PERFORM kinesis._check_filters(m.filter_criteria);
    END IF;
END
$$;

-- The function that a mapping names.
CREATE FUNCTION kinesis._function_of(m kinesis.event_source_mapping) RETURNS pg_proc
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.* FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = m.function_schema AND p.proname = m.function_name AND kinesis._takes_records(p) = m.takes_records
$$;

-- With tumbling windows the function has to return their state.
CREATE FUNCTION kinesis._check_windows(m kinesis.event_source_mapping) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF m.tumbling_window > interval '0' AND (kinesis._function_of(m)).prorettype = 'void'::regtype THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Function %I.%I returns void, but must return the state of a tumbling window', m.function_schema, m.function_name), NULL,
            'With tumbling_window the function returns jsonb, an object with the key "state".');
    END IF;
END
$$;

-- Rows of lanes for shards that the mapping has none for; with a new mapping these are its first ones.
CREATE FUNCTION kinesis._make_lanes(m kinesis.event_source_mapping, s kinesis.stream) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO kinesis.mapping_lane (uuid, stream_id, shard_index, lane, lanes, checkpoint)
        SELECT m.uuid, s.stream_id, d.shard_index, n, m.parallelization_factor, d.checkpoint
        FROM kinesis._shards_due(s, (SELECT max(l.shard_index) FROM kinesis.mapping_lane l WHERE l.uuid = m.uuid), m.starting_position, m.starting_position_timestamp) d,
            generate_series(0, m.parallelization_factor - 1) n
$$;

CREATE FUNCTION kinesis._create_event_source_mapping(event_source text, function_name text, starting_position text, starting_position_timestamp timestamptz,
    batch_size int, maximum_batching_window interval, parallelization_factor int, maximum_record_age interval, maximum_retry_attempts int,
    bisect_batch_on_function_error boolean, on_failure text, report_batch_item_failures boolean, tumbling_window interval, filter_criteria jsonb, enabled boolean)
RETURNS uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m kinesis.event_source_mapping;
    s kinesis.stream;
    c kinesis.consumer;
    f record;
BEGIN
    IF event_source IS NULL THEN
        PERFORM kinesis._validation('eventSourceArn', NULL, 'Member must not be null');
    ELSIF function_name IS NULL THEN
        PERFORM kinesis._validation('functionName', NULL, 'Member must not be null');
    ELSIF starting_position IS NULL OR starting_position NOT IN ('TRIM_HORIZON', 'LATEST', 'AT_TIMESTAMP') THEN
        PERFORM kinesis._validation('startingPosition', starting_position, 'Member must satisfy enum value set: [TRIM_HORIZON, LATEST, AT_TIMESTAMP]');
    ELSIF (starting_position = 'AT_TIMESTAMP') <> (starting_position_timestamp IS NOT NULL) THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'starting_position_timestamp must be given with AT_TIMESTAMP, and only with it.');
    ELSIF starting_position_timestamp > kinesis._now() THEN
        PERFORM kinesis._raise('InvalidArgumentException', 'starting_position_timestamp must not be in the future.');
    END IF;
    IF event_source LIKE 'arn:%/consumer/%' THEN
        c := kinesis._consumer(NULL, NULL, event_source, 'CreateEventSourceMapping');
        SELECT * INTO s FROM kinesis.stream x WHERE x.stream_id = c.stream_id;
        m.event_source_arn := kinesis._consumer_arn(s.stream_name, c);
    ELSE
        s := kinesis._stream(event_source, 'consumer', 'CreateEventSourceMapping');
        m.event_source_arn := kinesis._stream_arn(s.stream_name);
    END IF;
    m.uuid := gen_random_uuid();
    m.owner := kinesis._caller();
    m.stream_id := s.stream_id;
    m.starting_position := starting_position;
    m.starting_position_timestamp := starting_position_timestamp;
    m.batch_size := batch_size;
    m.maximum_batching_window := maximum_batching_window;
    m.parallelization_factor := parallelization_factor;
    m.maximum_record_age := CASE WHEN maximum_record_age <> interval '-1 s' THEN maximum_record_age END;
    m.maximum_retry_attempts := maximum_retry_attempts;
    m.bisect_batch_on_function_error := bisect_batch_on_function_error;
    m.report_batch_item_failures := report_batch_item_failures;
    m.tumbling_window := tumbling_window;
    m.filter_criteria := nullif(filter_criteria, '{}');
    m.enabled := enabled;
    m.transition := CASE WHEN enabled THEN 'Creating' END;
    m.state_transition_reason := 'User action';
    m.last_modified := kinesis._now();
    m.home := kinesis._home();
    PERFORM kinesis._check_mapping(m);
    f := kinesis._find_function(function_name, m.owner, true);
    m.function_schema := f.schema_name;
    m.function_name := f.name;
    m.takes_records := f.takes_records;
    m.on_failure := kinesis._find_destination(on_failure, m.owner, s.stream_id, 'CreateEventSourceMapping');
    m.on_failure_owner := kinesis._destination_owner(m.on_failure);
    -- The stream stays until we are done, and so do its shards.
    SELECT * INTO s FROM kinesis.stream x WHERE x.stream_id = m.stream_id FOR KEY SHARE;
    PERFORM kinesis._require_active(s, split_part(m.event_source_arn, '/consumer/', 1));
    m.function_owner := (kinesis._function_of(m)).proowner;
    PERFORM kinesis._check_windows(m);
    INSERT INTO kinesis.event_source_mapping VALUES (m.*);
    PERFORM kinesis._make_lanes(m, s);      -- LATEST means now
    RETURN m.uuid;
END
$$;

CREATE FUNCTION kinesis.create_event_source_mapping(event_source text, function_name text, starting_position text DEFAULT 'TRIM_HORIZON', starting_position_timestamp timestamptz DEFAULT NULL,
    batch_size int DEFAULT 100, maximum_batching_window interval DEFAULT '0', parallelization_factor int DEFAULT 1, maximum_record_age interval DEFAULT NULL,
    maximum_retry_attempts int DEFAULT -1, bisect_batch_on_function_error boolean DEFAULT false, on_failure text DEFAULT NULL,
    report_batch_item_failures boolean DEFAULT false, tumbling_window interval DEFAULT '0', filter_criteria jsonb DEFAULT NULL, enabled boolean DEFAULT true)
RETURNS uuid
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.create_event_source_mapping(text, text, text, timestamptz, int, interval, int, interval, int, boolean, text, boolean, interval, jsonb, boolean) IS
'Has a function called with batches of a stream''s records, as the role that calls this; returns the mapping''s UUID. event_source: a stream''s name or ARN, or a registered consumer''s ARN. function_name: name or schema.name of f(jsonb) RETURNS jsonb (Lambda''s event) or f(kinesis.record[], kinesis.batch_context) RETURNS void or jsonb; without a schema it must be unique. '
'starting_position: TRIM_HORIZON, LATEST (from now on) or AT_TIMESTAMP. batch_size: 1 to 10000 records. maximum_batching_window: 0 to 300 s, in milliseconds. parallelization_factor: 1 to 10 batches of a shard at once. maximum_record_age: 60 s to 7 days, null = any. maximum_retry_attempts: -1 (for ever) to 10000. '
'on_failure, where the invocation records of discarded batches go: a stream''s name or ARN, stream:name, table:name (with a column invocation_record jsonb) or function:name (of f(jsonb)). tumbling_window: 0 (none) to 900 s, in whole seconds. '
'ResourceNotFoundException: no such stream, consumer, function or table. InvalidArgumentException: of the wrong kind, or a name that is not unique. ValidationException: out of range. AccessDeniedException: the consumer right on the stream, EXECUTE on the function or the right to use the destination is missing.';

CREATE FUNCTION kinesis._update_event_source_mapping(uuid uuid, function_name text, enabled boolean, batch_size int, maximum_batching_window interval, parallelization_factor int,
    maximum_record_age interval, maximum_retry_attempts int, bisect_batch_on_function_error boolean, on_failure text, report_batch_item_failures boolean,
    tumbling_window interval, filter_criteria jsonb) RETURNS kinesis.event_source_mapping_configuration
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m kinesis.event_source_mapping := kinesis._mapping(uuid, 'UpdateEventSourceMapping', true);
    was_enabled boolean := m.enabled;
    f record;
BEGIN
    -- What runs in the owner's name, be it a trigger of a table, is for those alone to choose who could do all that in its name anyway.
    IF (function_name IS NOT NULL OR on_failure <> '') AND NOT pg_has_role(kinesis._caller(), m.owner, 'USAGE') THEN
        PERFORM kinesis._refuse_access('lambda:UpdateEventSourceMapping', kinesis._mapping_arn(m.uuid),
            format('The function and the destination of what fails are used as %s: only who has that role''s rights may set them.', pg_get_userbyid(m.owner)));
    END IF;
    m.enabled := coalesce(enabled, m.enabled);
    m.batch_size := coalesce(batch_size, m.batch_size);
    m.maximum_batching_window := coalesce(maximum_batching_window, m.maximum_batching_window);
    m.parallelization_factor := coalesce(parallelization_factor, m.parallelization_factor);
    m.maximum_record_age := nullif(coalesce(maximum_record_age, m.maximum_record_age), interval '-1 s');
    m.maximum_retry_attempts := coalesce(maximum_retry_attempts, m.maximum_retry_attempts);
    m.bisect_batch_on_function_error := coalesce(bisect_batch_on_function_error, m.bisect_batch_on_function_error);
    m.report_batch_item_failures := coalesce(report_batch_item_failures, m.report_batch_item_failures);
    m.tumbling_window := coalesce(tumbling_window, m.tumbling_window);
    m.filter_criteria := nullif(coalesce(filter_criteria, m.filter_criteria), '{}');
    PERFORM kinesis._check_mapping(m);
    IF function_name IS NOT NULL THEN
        f := kinesis._find_function(function_name, m.owner, true);
        m.function_schema := f.schema_name;
        m.function_name := f.name;
        m.takes_records := f.takes_records;
        m.function_owner := (kinesis._function_of(m)).proowner;
    END IF;
    IF on_failure IS NOT NULL THEN
        m.on_failure := kinesis._find_destination(on_failure, m.owner, m.stream_id, 'UpdateEventSourceMapping');
        m.on_failure_owner := kinesis._destination_owner(m.on_failure);
    END IF;
    PERFORM kinesis._check_windows(m);
    IF m.enabled AND NOT was_enabled AND (m.stream_id IS NULL OR (m.event_source_arn LIKE '%/consumer/%' AND NOT EXISTS (
        SELECT FROM kinesis.consumer c WHERE c.stream_id = m.stream_id AND kinesis._is_source_of(c, m.event_source_arn)))) THEN
        PERFORM kinesis._raise('ResourceNotFoundException', format('Event source %s not found.', m.event_source_arn), NULL, 'It was deleted: delete this mapping, too.');
    END IF;
    -- A mapping that was disabled for a reason, and stays so, keeps the reason.
    IF was_enabled OR m.enabled THEN
        m.state_transition_reason := 'User action';
    END IF;
    UPDATE kinesis.event_source_mapping x SET function_schema = m.function_schema, function_name = m.function_name, takes_records = m.takes_records, function_owner = m.function_owner, enabled = m.enabled,
        batch_size = m.batch_size, maximum_batching_window = m.maximum_batching_window, parallelization_factor = m.parallelization_factor,
        maximum_record_age = m.maximum_record_age, maximum_retry_attempts = m.maximum_retry_attempts, bisect_batch_on_function_error = m.bisect_batch_on_function_error,
        on_failure = m.on_failure, on_failure_owner = m.on_failure_owner, report_batch_item_failures = m.report_batch_item_failures, tumbling_window = m.tumbling_window, filter_criteria = m.filter_criteria,
        transition = CASE WHEN m.enabled = was_enabled THEN 'Updating' WHEN m.enabled THEN 'Enabling' ELSE 'Disabling' END,
        state_transition_reason = m.state_transition_reason, last_modified = kinesis._now()
        WHERE x.uuid = m.uuid;
    -- What it failed for may be mended now: lanes that wait for their next attempt try at once.
    UPDATE kinesis.mapping_lane l SET retry_at = NULL, crashes = 0 WHERE l.uuid = m.uuid AND (l.retry_at IS NOT NULL OR l.crashes > 0);
    RETURN kinesis._mapping_description(m.uuid);
END
$$;

CREATE FUNCTION kinesis.update_event_source_mapping(uuid uuid, function_name text DEFAULT NULL, enabled boolean DEFAULT NULL, batch_size int DEFAULT NULL,
    maximum_batching_window interval DEFAULT NULL, parallelization_factor int DEFAULT NULL, maximum_record_age interval DEFAULT NULL,
    maximum_retry_attempts int DEFAULT NULL, bisect_batch_on_function_error boolean DEFAULT NULL, on_failure text DEFAULT NULL,
    report_batch_item_failures boolean DEFAULT NULL, tumbling_window interval DEFAULT NULL, filter_criteria jsonb DEFAULT NULL) RETURNS kinesis.event_source_mapping_configuration
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.update_event_source_mapping(uuid, text, boolean, int, interval, int, interval, int, boolean, text, boolean, interval, jsonb) IS
'Changes settings of a mapping, with the ranges of create_event_source_mapping; null leaves a setting as it is. Cleared are on_failure by an empty string, filter_criteria by {}, maximum_record_age by interval ''-1''. enabled => false pauses it: what is running is finished, and the position is kept. '
'For the owner, those who have its rights, and kinesis_admin, who can''t set the function or a destination, though, since these run as the owner. AccessDeniedException, ResourceNotFoundException, InvalidArgumentException and ValidationException as there.';

CREATE FUNCTION kinesis._delete_event_source_mapping(uuid uuid) RETURNS kinesis.event_source_mapping_configuration
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m kinesis.event_source_mapping := kinesis._mapping(uuid, 'DeleteEventSourceMapping', true);
    d kinesis.event_source_mapping_configuration := kinesis._mapping_description(m.uuid);
BEGIN
    DELETE FROM kinesis.mapping_lane l WHERE l.uuid = m.uuid;
    DELETE FROM kinesis.event_source_mapping x WHERE x.uuid = m.uuid;
    d.state := 'Deleting';
    d.state_transition_reason := 'User action';
    RETURN d;
END
$$;

CREATE FUNCTION kinesis.delete_event_source_mapping(uuid uuid) RETURNS kinesis.event_source_mapping_configuration
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.delete_event_source_mapping(uuid) IS
'Removes a mapping with its positions; it is gone when the transaction commits. Returns what it was, in state Deleting. For the owner, those who have its rights, and kinesis_admin.';

CREATE FUNCTION kinesis._get_event_source_mapping(uuid uuid) RETURNS kinesis.event_source_mapping_configuration
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m kinesis.event_source_mapping := kinesis._mapping(uuid, 'GetEventSourceMapping', false);
BEGIN
    RETURN kinesis._mapping_description(m.uuid);
END
$$;

CREATE FUNCTION kinesis.get_event_source_mapping(uuid uuid) RETURNS kinesis.event_source_mapping_configuration
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.get_event_source_mapping(uuid) IS
'A mapping with its settings and state. States: Creating, Enabling, Updating, Disabling (until the scheduler has seen the change), Enabled, Disabled. For those who may change it or describe its stream.';

CREATE FUNCTION kinesis._list_event_source_mappings(event_source text, function_name text, max_items int, marker text) RETURNS SETOF kinesis.event_source_mapping_configuration
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    arn text := CASE WHEN event_source LIKE 'arn:%/consumer/%' THEN event_source WHEN event_source IS NOT NULL THEN kinesis._stream_arn(kinesis._stream_name(event_source)) END;
    parts text[] := CASE WHEN function_name IS NOT NULL THEN kinesis._parse_name(function_name) END;
    cap int := kinesis._page_size('maxItems', max_items, 100, marker);
    after uuid;
    c record;
    d kinesis.event_source_mapping_configuration;
    n int := 0;
BEGIN
    IF marker IS NOT NULL THEN
        after := kinesis._read_token('ListEventSourceMappings', marker)::uuid;
    END IF;
    FOR c IN SELECT count(*) OVER () AS total, m.uuid FROM kinesis.event_source_mapping m LEFT JOIN kinesis.stream s USING (stream_id)
        WHERE (after IS NULL OR m.uuid > after) AND (arn IS NULL OR m.event_source_arn = arn)
            AND (parts IS NULL OR (m.function_name = parts[2] AND (parts[1] IS NULL OR m.function_schema = parts[1])))
            AND (kinesis._may_change(kinesis._caller(), m.owner) OR kinesis._may_describe(kinesis._caller(), s.table_name))
        ORDER BY m.uuid LIMIT cap LOOP
        n := n + 1;
        d := kinesis._mapping_description(c.uuid);
        d.next_marker := CASE WHEN n = cap AND c.total > cap THEN kinesis._make_token('ListEventSourceMappings', c.uuid::text) END;
        RETURN NEXT d;
    END LOOP;
END
$$;

CREATE FUNCTION kinesis.list_event_source_mappings(event_source text DEFAULT NULL, function_name text DEFAULT NULL, max_items int DEFAULT NULL, marker text DEFAULT NULL)
RETURNS SETOF kinesis.event_source_mapping_configuration
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.list_event_source_mappings(text, text, int, text) IS
'The mappings that the caller may see, by UUID: of this event source (a stream''s name or ARN, or a consumer''s ARN) and of this function, if given. With max_items (1 to 10000) at most 100 a call, and a next_marker on the last row when there are more, to be given as marker with the same filters.';

-- Is the consumer what this ARN means? The account and the region in it may have been others.
CREATE FUNCTION kinesis._is_source_of(c kinesis.consumer, event_source_arn text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT split_part(event_source_arn, '/consumer/', 2) = split_part(kinesis._consumer_arn('', c), '/consumer/', 2)
$$;

CREATE FUNCTION kinesis._disable_mappings(uuids uuid[], reason text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE kinesis.event_source_mapping m SET enabled = false, transition = NULL, state_transition_reason = reason, last_modified = kinesis._now() WHERE m.uuid = ANY (uuids)
$$;

-- What a stream that is deleted leaves behind: mappings without a source.
CREATE FUNCTION kinesis._delete_lanes(s kinesis.stream) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM kinesis._disable_mappings(ARRAY(SELECT m.uuid FROM kinesis.event_source_mapping m WHERE m.stream_id = s.stream_id), 'The stream was deleted');
    UPDATE kinesis.event_source_mapping m SET stream_id = NULL WHERE m.stream_id = s.stream_id;
    DELETE FROM kinesis.mapping_lane l WHERE l.stream_id = s.stream_id;
    DELETE FROM kinesis.notification x WHERE x.stream_id = s.stream_id;
END
$$;

/*
 * Lanes of enabled mappings of this database that are not done, with what keeps them from being worked on. A lane whose
 * number is about to change is given out up to stop_at only, and not before that has been set; with a tumbling window open it
 * is given out there as well, so that the window is finished.
 */
CREATE VIEW kinesis._open_lane AS
    SELECT l.*,
        EXISTS (SELECT FROM kinesis.mapping_lane p WHERE p.uuid = l.uuid AND p.shard_index = h.parent_shard AND NOT p.ended)
            OR EXISTS (SELECT FROM kinesis.mapping_lane p WHERE p.uuid = l.uuid AND p.shard_index = h.adjacent_parent_shard AND NOT p.ended) AS waits_for_parents,
        CASE WHEN l.stop_at IS NOT NULL THEN l.checkpoint >= l.stop_at AND (l.window_start IS NULL OR m.tumbling_window = '0')
            ELSE l.lanes <> m.parallelization_factor
                AND NOT EXISTS (SELECT FROM kinesis.mapping_lane x WHERE x.uuid = l.uuid AND x.shard_index = l.shard_index AND x.ended) END AS waits_for_cut
    FROM kinesis.mapping_lane l
    JOIN kinesis.event_source_mapping m USING (uuid)
    JOIN kinesis.stream s ON s.stream_id = l.stream_id
    JOIN kinesis.shard h ON h.stream_id = l.stream_id AND h.shard_index = l.shard_index
    WHERE m.enabled AND m.home = kinesis._home() AND NOT l.ended;

CREATE FUNCTION kinesis._runnable_lanes() RETURNS TABLE (lane_id bigint, uuid uuid, stream_id bigint, shard_index int, checkpoint bigint, retry_at timestamptz, suspected boolean, owner oid)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.lane_id, l.uuid, l.stream_id, l.shard_index, l.checkpoint, l.retry_at, l.crashes > 0, m.owner::oid FROM kinesis._open_lane l JOIN kinesis.event_source_mapping m USING (uuid) WHERE NOT l.waits_for_parents AND NOT l.waits_for_cut
$$;

/*
 * Brings a shard to another number of lanes. Each record must be worked on once and in order for its key, so all old lanes must
 * be at the same place. The first new lane goes on with their counts.
 *
 * State of a tumbling window can't be cut: it belongs to the keys of one lane. So a lane with an open window is waited for;
 * nothing is lost, and the window ends at stop_at or when its time is over. When windows were turned off, what is left of one
 * is dropped.
 */
CREATE FUNCTION kinesis._cut_lanes(mapping uuid, shard int, factor int, windows boolean, old_lanes bigint, place bigint) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    locked bigint[] := ARRAY(SELECT l.lane_id FROM kinesis.mapping_lane l WHERE l.uuid = mapping AND l.shard_index = shard AND l.checkpoint = place AND NOT l.ended
        AND l.batch_ends IS NULL AND (l.window_start IS NULL OR NOT windows) FOR UPDATE SKIP LOCKED);
BEGIN
    IF cardinality(locked) <> old_lanes THEN
        RETURN false;           -- somebody is at work on one of them
    END IF;
    WITH old AS (DELETE FROM kinesis.mapping_lane l WHERE l.lane_id = ANY (locked) RETURNING l.*)
    INSERT INTO kinesis.mapping_lane (uuid, stream_id, shard_index, lane, lanes, checkpoint, last_result, processed_at, invocations, failures, records, discarded)
        SELECT mapping, o.stream_id, shard, n, factor, place, o.last_result, o.processed_at,
            CASE n WHEN 0 THEN o.invocations ELSE 0 END, CASE n WHEN 0 THEN o.failures ELSE 0 END, CASE n WHEN 0 THEN o.records ELSE 0 END, CASE n WHEN 0 THEN o.discarded ELSE 0 END
        FROM (SELECT min(stream_id) AS stream_id, (array_agg(last_result ORDER BY processed_at DESC NULLS LAST))[1] AS last_result, max(processed_at) AS processed_at,
                sum(invocations) AS invocations, sum(failures) AS failures, sum(records) AS records, sum(discarded) AS discarded FROM old) o,
            generate_series(0, factor - 1) n;
    RETURN true;
END
$$;

/*
 * Called by the scheduler, as the extension's owner: makes what mappings of this database have fit what they are to have. Waits
 * for nobody: what is being written is left for the next time, which should be soon when true is returned. Writes nothing when there is nothing to do.
 */
CREATE FUNCTION kinesis._sync_mappings() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r record;
    uuids uuid[];
    left_over boolean := false;
BEGIN
    -- Lanes for new shards, for disabled mappings, too: the parents may have expired before they are enabled again. A mapping
    -- has its first lanes from its creation on: one without any is half restored, and its own will come. The lock keeps
    -- whoever deletes the mapping or its stream from missing what we make.
    FOR r IN SELECT m, s FROM kinesis.event_source_mapping m JOIN kinesis.stream s USING (stream_id)
        WHERE m.home = kinesis._home() AND (SELECT max(l.shard_index) FROM kinesis.mapping_lane l WHERE l.uuid = m.uuid) < s.next_shard_index - 1
        FOR SHARE OF m SKIP LOCKED LOOP
        PERFORM kinesis._make_lanes(r.m, r.s);
    END LOOP;
    left_over := EXISTS (SELECT FROM kinesis.event_source_mapping m JOIN kinesis.stream s USING (stream_id)
        WHERE m.home = kinesis._home() AND (SELECT max(l.shard_index) FROM kinesis.mapping_lane l WHERE l.uuid = m.uuid) < s.next_shard_index - 1);

    -- Those of expired shards go; a stream without any shard is half restored.
    DELETE FROM kinesis.mapping_lane d WHERE d.lane_id IN (
        SELECT l.lane_id FROM kinesis.mapping_lane l JOIN kinesis.event_source_mapping m USING (uuid) LEFT JOIN kinesis.shard h ON h.stream_id = l.stream_id AND h.shard_index = l.shard_index
        WHERE m.home = kinesis._home() AND h.stream_id IS NULL AND EXISTS (SELECT FROM kinesis.shard x WHERE x.stream_id = m.stream_id)
        FOR UPDATE OF l SKIP LOCKED);

    -- Another number of lanes. A closed shard of which one lane has come to the end keeps the number that it has.
    FOR r IN SELECT * FROM (
            SELECT l.uuid, l.shard_index, m.parallelization_factor, m.tumbling_window <> '0' AS windows, count(*) AS n, count(l.stop_at) AS stopping,
                min(l.checkpoint) AS place, bool_or(l.lanes <> m.parallelization_factor) AND NOT bool_or(l.ended) AS wanted,
                min(l.checkpoint) = max(l.checkpoint) AND bool_and(l.batch_ends IS NULL AND (l.window_start IS NULL OR m.tumbling_window = '0')) AS ready,
                -- A batch that has failed is finished as it was formed.
                max(greatest(l.checkpoint, l.batch_ends[1])) AS stop_at, min(l.stop_at) AS first_stop, max(l.stop_at) AS last_stop
            FROM kinesis.mapping_lane l JOIN kinesis.event_source_mapping m USING (uuid)
            WHERE m.home = kinesis._home() AND (l.lanes <> m.parallelization_factor OR l.stop_at IS NOT NULL)
            GROUP BY l.uuid, l.shard_index, m.parallelization_factor, m.tumbling_window) c
        WHERE CASE WHEN wanted THEN ready OR stopping < n OR first_stop <> stop_at OR last_stop <> stop_at ELSE stopping > 0 END LOOP
        CONTINUE WHEN r.wanted AND r.ready AND kinesis._cut_lanes(r.uuid, r.shard_index, r.parallelization_factor, r.windows, r.n, r.place);
        left_over := left_over OR r.ready;
        UPDATE kinesis.mapping_lane x SET stop_at = CASE WHEN r.wanted THEN r.stop_at END WHERE x.lane_id IN (
            SELECT l.lane_id FROM kinesis.mapping_lane l WHERE l.uuid = r.uuid AND l.shard_index = r.shard_index
            AND l.stop_at IS DISTINCT FROM CASE WHEN r.wanted THEN r.stop_at END FOR UPDATE SKIP LOCKED);
    END LOOP;
    left_over := left_over OR EXISTS (SELECT FROM kinesis.mapping_lane l JOIN kinesis.event_source_mapping m USING (uuid)
        WHERE m.home = kinesis._home() AND m.enabled AND (l.lanes <> m.parallelization_factor) <> (l.stop_at IS NOT NULL)
            AND NOT EXISTS (SELECT FROM kinesis.mapping_lane x WHERE x.uuid = l.uuid AND x.shard_index = l.shard_index AND x.ended));

    -- Not an update without rows: the trigger would call us again.
    uuids := ARRAY(SELECT m.uuid FROM kinesis.event_source_mapping m WHERE m.home = kinesis._home() AND m.transition IS NOT NULL FOR NO KEY UPDATE SKIP LOCKED);
    IF uuids <> '{}' THEN
        UPDATE kinesis.event_source_mapping m SET transition = NULL WHERE m.uuid = ANY (uuids);
    END IF;
    RETURN left_over OR EXISTS (SELECT FROM kinesis.event_source_mapping m WHERE m.home = kinesis._home() AND m.transition IS NOT NULL);
END
$$;

-- Gives mappings and notifications that a restore has brought along to this database's scheduler.
CREATE FUNCTION kinesis._adopt_mappings() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t regclass;
BEGIN
    -- pg_restore --disable-triggers enables them afterwards, but not ALWAYS.
    FOR t IN SELECT x.tgrelid FROM pg_trigger x WHERE x.tgfoid = 'kinesis._ring_scheduler()'::regprocedure AND x.tgenabled <> 'A' LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER ring_scheduler', t);
    END LOOP;
    UPDATE kinesis.event_source_mapping m SET home = kinesis._home(), transition = CASE WHEN m.enabled THEN 'Enabling' END WHERE m.home IS DISTINCT FROM kinesis._home();
    UPDATE kinesis.notification x SET home = kinesis._home() WHERE x.home IS DISTINCT FROM kinesis._home();
END
$$;

CREATE VIEW kinesis.event_source_mappings WITH (security_barrier) AS
    SELECT c.* FROM kinesis._mapping_configuration c JOIN kinesis.event_source_mapping m USING (uuid) LEFT JOIN kinesis.stream s USING (stream_id)
    WHERE kinesis._may_change(pg_catalog.quote_ident(current_user)::pg_catalog.regrole, m.owner)
        OR kinesis._may_describe(pg_catalog.quote_ident(current_user)::pg_catalog.regrole, s.table_name);
COMMENT ON VIEW kinesis.event_source_mappings IS 'The event source mappings that are yours, or whose streams you may describe.';

CREATE VIEW kinesis.event_source_mapping_lanes WITH (security_barrier) AS
    SELECT l.uuid, pg_catalog.format('%I.%I', m.function_schema, m.function_name) AS function_name, s.stream_name::text, kinesis._shard_id(l.shard_index) AS shard_id, l.lane,
        CASE WHEN l.ended THEN 'done' WHEN r.lane_id IS NOT NULL THEN 'running' WHEN o.waits_for_parents THEN 'waiting for parents'
            WHEN l.failing_since IS NOT NULL OR l.retry_at IS NOT NULL THEN 'retrying' ELSE 'waiting' END AS status,
        CASE WHEN l.ended THEN NULL WHEN r.lane_id IS NOT NULL THEN r.since ELSE l.failing_since END AS since,
        r.pid, nullif(l.checkpoint, -1) AS checkpoint, l.attempts, l.retry_at, l.last_result, l.processed_at,
        -- An error may quote data; who only knows of the stream is not told.
        l.last_error ->> 'sqlstate' AS error_sqlstate, CASE WHEN v.sees_errors THEN l.last_error ->> 'message' END AS error_message,
        CASE WHEN v.sees_errors THEN l.last_error ->> 'detail' END AS error_detail,
        CASE WHEN v.sees_errors THEN l.last_error ->> 'hint' END AS error_hint, CASE WHEN v.sees_errors THEN l.last_error ->> 'context' END AS error_context,
        l.invocations, l.failures, l.records, l.discarded
    FROM kinesis.mapping_lane l
    JOIN kinesis.event_source_mapping m USING (uuid)
    JOIN kinesis.stream s ON s.stream_id = l.stream_id
    LEFT JOIN kinesis._open_lane o USING (lane_id)
    LEFT JOIN kinesis._running_lanes() r USING (lane_id)
    CROSS JOIN LATERAL (SELECT kinesis._may_change(pg_catalog.quote_ident(current_user)::pg_catalog.regrole, m.owner) AS sees_errors) v
    WHERE v.sees_errors OR kinesis._may_describe(pg_catalog.quote_ident(current_user)::pg_catalog.regrole, s.table_name);
COMMENT ON VIEW kinesis.event_source_mapping_lanes IS
'Where these mappings are in each shard, a row for each of the parallelization_factor batches that can be worked on at once. status: running, retrying, waiting for parents, waiting, done; since: of running and retrying. checkpoint: the last record that is done. The error''s texts are for those who may change the mapping.';

CREATE TYPE kinesis.event_source_mapping_lag_row AS (shard_id text, lane int, checkpoint bigint, millis_behind_latest bigint, records_behind bigint, bytes_behind bigint);

CREATE FUNCTION kinesis._event_source_mapping_lag(uuid uuid) RETURNS SETOF kinesis.event_source_mapping_lag_row
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m kinesis.event_source_mapping := kinesis._mapping(uuid, 'GetEventSourceMapping', false);
BEGIN
    RETURN QUERY SELECT kinesis._shard_id(l.shard_index), l.lane, nullif(l.checkpoint, -1), b.millis, b.records, b.bytes
        FROM kinesis.mapping_lane l JOIN kinesis.stream s USING (stream_id)
            CROSS JOIN LATERAL kinesis._behind(s.stream_name, l.shard_index, l.checkpoint, l.lane, l.lanes) b
        WHERE l.uuid = m.uuid AND NOT l.ended ORDER BY 1, 2;
END
$$;

CREATE FUNCTION kinesis.event_source_mapping_lag(uuid uuid) RETURNS SETOF kinesis.event_source_mapping_lag_row
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.event_source_mapping_lag(uuid) IS
'How much each lane of a mapping has before it: a row a shard and lane, shards that are done left out. Reads all of that to count it; records that a filter will leave out count.';

---------------------------------------------------------------------------------------------------------------------
-- Notifications
---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION kinesis._check_channel(channel text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF octet_length(channel) NOT BETWEEN 1 AND 63 THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('"%s" can''t be a channel: it must have 1 to 63 bytes', channel), NULL, 'The default is the stream''s name. Give the channel another one.');
    END IF;
END
$$;

CREATE FUNCTION kinesis._create_notification(stream_name text, channel text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._stream(stream_name, 'consumer', 'CreateNotification');
    id bigint := s.stream_id;
    name text := coalesce(channel, s.stream_name);
BEGIN
    PERFORM kinesis._check_channel(name);
    SELECT * INTO s FROM kinesis.stream x WHERE x.stream_id = id FOR KEY SHARE;
    PERFORM kinesis._require_active(s, stream_name);
    BEGIN
        INSERT INTO kinesis.notification VALUES (s.stream_id, name, kinesis._caller(), kinesis._now(), kinesis._home());
    EXCEPTION WHEN unique_violation THEN
        PERFORM kinesis._raise('ResourceInUseException', format('Stream %s under account %s already notifies channel %s.', s.stream_name, kinesis._account_id(), name));
    END;
    RETURN name;
END
$$;

CREATE FUNCTION kinesis.create_notification(stream_name text, channel text DEFAULT NULL) RETURNS text
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.create_notification(text, text) IS
'Has a channel notified when shards of a stream have new records, for those who LISTEN to it; returns the channel, which is the stream''s name if none is given. It has 1 to 63 bytes, else InvalidArgumentException. ResourceInUseException when the stream notifies it already.';

CREATE FUNCTION kinesis._delete_notification(stream_name text, channel text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text := kinesis._stream_name(stream_name);
    to_channel text := coalesce(channel, name);
    n kinesis.notification;
BEGIN
    SELECT x.* INTO n FROM kinesis.notification x JOIN kinesis.stream s USING (stream_id) WHERE s.stream_name = name AND x.channel = to_channel FOR UPDATE OF x;
    IF NOT FOUND THEN
        PERFORM kinesis._raise('ResourceNotFoundException', format('Stream %s under account %s does not notify channel %s.', name, kinesis._account_id(), to_channel));
    ELSIF NOT kinesis._may_change(kinesis._caller(), n.owner) THEN
        PERFORM kinesis._refuse_access('kinesis:DeleteNotification', kinesis._stream_arn(name), format('The notification belongs to %s. Who has its rights, or those of kinesis_admin, may do this.', pg_get_userbyid(n.owner)));
    END IF;
    DELETE FROM kinesis.notification x WHERE x.stream_id = n.stream_id AND x.channel = n.channel;
END
$$;

CREATE FUNCTION kinesis.delete_notification(stream_name text, channel text DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.delete_notification(text, text) IS
'Ends what create_notification has begun with the same arguments. For the owner, those who have its rights, and kinesis_admin; ResourceNotFoundException when there is none.';

CREATE VIEW kinesis.notifications WITH (security_barrier) AS
    SELECT s.stream_name::text, n.channel::text, pg_catalog.pg_get_userbyid(n.owner)::text AS owner, n.created_at, n.home IS NOT DISTINCT FROM kinesis._home() AS active
    FROM kinesis.notification n JOIN kinesis.stream s USING (stream_id)
    WHERE kinesis._may_change(pg_catalog.quote_ident(current_user)::pg_catalog.regrole, n.owner)
        OR kinesis._may_describe(pg_catalog.quote_ident(current_user)::pg_catalog.regrole, s.table_name);
COMMENT ON VIEW kinesis.notifications IS 'The channels that are notified of news in streams, as far as they are yours or you may describe the stream. Not active: restored, until kinesis.finish_restore() is called.';

---------------------------------------------------------------------------------------------------------------------
-- Tags
---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION kinesis._set_tags(s kinesis.stream, tags jsonb, consumer bigint DEFAULT 0) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    k text;
    v text;
BEGIN
    IF tags IS NULL THEN
        RETURN;
    ELSIF jsonb_typeof(tags) <> 'object' THEN
        PERFORM kinesis._validation('tags', tags::text, 'Member must be a map of strings');
    END IF;
    FOR k, v IN SELECT * FROM jsonb_each_text(tags) LOOP
        IF length(k) NOT BETWEEN 1 AND 128 THEN
            PERFORM kinesis._validation('tags.key', k, 'Member must have length between 1 and 128');
        ELSIF v IS NULL OR length(v) > 256 THEN
            PERFORM kinesis._validation('tags.value', v, 'Member must have length between 0 and 256');
        ELSIF k || v ~ '[\x01-\x1f\x7f!"#$%&''()*,;<>?\[\]\\^`{|}~]' THEN
            PERFORM kinesis._raise('InvalidArgumentException', format('Some of the provided tags contain invalid characters: "%s" = "%s"', k, v), NULL,
                'Tags have letters, digits, spaces and _ . : / = + - @.');
        ELSIF lower(k) LIKE 'aws:%' THEN
            PERFORM kinesis._raise('InvalidArgumentException', format('Tag key "%s" is reserved: keys that begin with aws: are AWS''s own.', k));
        END IF;
        INSERT INTO kinesis.tag VALUES (s.stream_id, k, v, consumer) ON CONFLICT ON CONSTRAINT tag_pkey DO UPDATE SET value = excluded.value;
    END LOOP;
    IF (SELECT count(*) FROM kinesis.tag t WHERE t.stream_id = s.stream_id AND t.consumer_id = consumer) > 50 THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('Failed to add tags to stream %s under account %s because a given %s cannot have more than 50 tags associated with it.',
            s.stream_name, kinesis._account_id(), CASE consumer WHEN 0 THEN 'stream' ELSE 'consumer' END));
    END IF;
END
$$;

CREATE FUNCTION kinesis._remove_tags(s kinesis.stream, tag_keys text[], consumer bigint DEFAULT 0) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(cardinality(tag_keys), 0) NOT BETWEEN 1 AND 50 THEN
        PERFORM kinesis._validation('tagKeys', tag_keys::text, 'Member must have length between 1 and 50');
    ELSIF EXISTS (SELECT FROM unnest(tag_keys) k WHERE k IS NULL OR length(k) NOT BETWEEN 1 AND 128) THEN
        PERFORM kinesis._validation('tagKeys', tag_keys::text, 'Members must have length between 1 and 128');
    END IF;
    DELETE FROM kinesis.tag t WHERE t.stream_id = s.stream_id AND t.consumer_id = consumer AND t.key = ANY (tag_keys);
END
$$;

CREATE FUNCTION kinesis._add_tags_to_stream(stream_name text, tags jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._lock_stream(stream_name, 'admin', 'AddTagsToStream');
BEGIN
    IF tags IS NULL OR tags = '{}' THEN
        PERFORM kinesis._validation('tags', tags::text, 'Member must have length greater than or equal to 1');
    END IF;
    PERFORM kinesis._set_tags(s, tags);
END
$$;

CREATE FUNCTION kinesis.add_tags_to_stream(stream_name text, tags jsonb) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.add_tags_to_stream(text, jsonb) IS 'Adds or overwrites tags, {"key": "value", ...}; at most 50 a stream.';

CREATE FUNCTION kinesis._remove_tags_from_stream(stream_name text, tag_keys text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM kinesis._remove_tags(kinesis._lock_stream(stream_name, 'admin', 'RemoveTagsFromStream'), tag_keys);
END
$$;

CREATE FUNCTION kinesis.remove_tags_from_stream(stream_name text, tag_keys text[]) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.remove_tags_from_stream(text, text[]) IS 'Removes tags; keys that are not there are ignored.';

CREATE TYPE kinesis.listed_tag AS (key text, value text, has_more_tags boolean);

CREATE FUNCTION kinesis._list_tags_for_stream(stream_name text, exclusive_start_tag_key text, "limit" int) RETURNS SETOF kinesis.listed_tag
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._stream(stream_name, 'describe', 'ListTagsForStream');
BEGIN
    PERFORM kinesis._count_call('ListTagsForStream', s.stream_id);
    PERFORM kinesis._check_limit('limit', "limit", 50);
    RETURN QUERY SELECT t.key::text, t.value, count(*) OVER () > coalesce("limit", 50) FROM kinesis.tag t
        WHERE t.stream_id = s.stream_id AND t.consumer_id = 0 AND t.key > coalesce(exclusive_start_tag_key, '') ORDER BY t.key LIMIT "limit";
END
$$;

CREATE FUNCTION kinesis.list_tags_for_stream(stream_name text, exclusive_start_tag_key text DEFAULT NULL, "limit" int DEFAULT NULL)
RETURNS SETOF kinesis.listed_tag
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.list_tags_for_stream(text, text, int) IS 'Tags of a stream by key, from behind exclusive_start_tag_key.';

CREATE FUNCTION kinesis._tag_resource(resource_arn text, tags jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c kinesis.consumer;
BEGIN
    PERFORM kinesis._require_arn(resource_arn);
    IF resource_arn NOT LIKE '%/consumer/%' THEN
        PERFORM kinesis._add_tags_to_stream(resource_arn, tags);
        RETURN;
    END IF;
    c := kinesis._lock_consumer(NULL, NULL, resource_arn, 'TagResource');
    PERFORM kinesis._set_tags(s, tags, c.consumer_id) FROM kinesis.stream s WHERE s.stream_id = c.stream_id;
END
$$;

CREATE FUNCTION kinesis._require_arn(resource_arn text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF resource_arn IS NULL THEN
        PERFORM kinesis._validation('resourceARN', NULL, 'Member must not be null');
    ELSIF resource_arn NOT LIKE 'arn:%' THEN
        PERFORM kinesis._validation('resourceARN', resource_arn, 'Member must satisfy regular expression pattern: arn:aws.*:kinesis:.*:\d{12}:.*stream/\S+');
    END IF;
END
$$;

CREATE FUNCTION kinesis.tag_resource(resource_arn text, tags jsonb) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.tag_resource(text, jsonb) IS 'add_tags_to_stream by ARN.';

CREATE FUNCTION kinesis._untag_resource(resource_arn text, tag_keys text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c kinesis.consumer;
BEGIN
    PERFORM kinesis._require_arn(resource_arn);
    IF resource_arn NOT LIKE '%/consumer/%' THEN
        PERFORM kinesis._remove_tags_from_stream(resource_arn, tag_keys);
        RETURN;
    END IF;
    c := kinesis._lock_consumer(NULL, NULL, resource_arn, 'UntagResource');
    PERFORM kinesis._remove_tags(s, tag_keys, c.consumer_id) FROM kinesis.stream s WHERE s.stream_id = c.stream_id;
END
$$;

CREATE FUNCTION kinesis.untag_resource(resource_arn text, tag_keys text[]) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.untag_resource(text, text[]) IS 'remove_tags_from_stream by ARN.';

CREATE FUNCTION kinesis._list_tags_for_resource(resource_arn text) RETURNS SETOF kinesis.listed_tag
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c kinesis.consumer;
BEGIN
    PERFORM kinesis._require_arn(resource_arn);
    IF resource_arn NOT LIKE '%/consumer/%' THEN
        RETURN QUERY SELECT * FROM kinesis._list_tags_for_stream(resource_arn, NULL, NULL);
        RETURN;
    END IF;
    c := kinesis._consumer(NULL, NULL, resource_arn, 'ListTagsForResource');
    RETURN QUERY SELECT t.key::text, t.value, false FROM kinesis.tag t WHERE t.stream_id = c.stream_id AND t.consumer_id = c.consumer_id ORDER BY t.key;
END
$$;

CREATE FUNCTION kinesis.list_tags_for_resource(resource_arn text) RETURNS SETOF kinesis.listed_tag
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.list_tags_for_resource(text) IS 'list_tags_for_stream by ARN.';

---------------------------------------------------------------------------------------------------------------------
-- Rights
---------------------------------------------------------------------------------------------------------------------

-- The functions that a right needs; 'describe' comes with every right.
CREATE FUNCTION kinesis._kit(kind text) RETURNS SETOF regprocedure
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.oid::regprocedure FROM pg_proc p
    WHERE p.pronamespace = 'kinesis'::regnamespace AND p.proname = ANY (
        ARRAY['describe_stream', 'describe_stream_summary', 'list_streams', 'list_shards', 'list_tags_for_stream', 'list_tags_for_resource',
              'describe_limits', 'describe_stream_consumer', 'list_stream_consumers', 'shard_for_key', 'stream_table', '_may_describe', '_shard_description', '_shard_id', '_expired_before', '_stream_arn',
              '_now', '_region', '_account_id', '_home', '_may_change', '_mapping_arn', '_running_lanes', '_is_alive', '_session_is_alive'] ||
        CASE WHEN kind IN ('producer', 'admin') THEN ARRAY['put_record', 'put_records'] END ||
        CASE WHEN kind IN ('consumer', 'admin') THEN ARRAY['get_shard_iterator', 'get_records', 'read_shard', 'subscribe_to_shard',
            'register_stream_consumer', 'deregister_stream_consumer', 'create_group', 'delete_group', 'join_group', 'leave_group', 'heartbeat',
            'acquire_leases', 'poll_group', 'checkpoint', 'group_lag', 'create_event_source_mapping', 'update_event_source_mapping',
            'delete_event_source_mapping', 'create_notification', 'delete_notification'] END ||
        CASE WHEN kind IN ('consumer', 'monitor', 'admin') THEN ARRAY['get_event_source_mapping', 'list_event_source_mappings', 'event_source_mapping_lag'] END ||
        CASE WHEN kind IN ('monitor', 'admin') THEN ARRAY['check_stream'] END ||
        CASE WHEN kind = 'admin' THEN ARRAY['create_stream', 'delete_stream', 'update_stream_mode', 'increase_stream_retention_period',
            'decrease_stream_retention_period', 'split_shard', 'merge_shards', 'update_shard_count', 'update_max_record_size', 'set_shard_limits',
            'add_tags_to_stream', 'remove_tags_from_stream', 'tag_resource', 'untag_resource', 'grant_stream', 'revoke_stream'] END)
$$;

CREATE FUNCTION kinesis._grant_kit(role text, kind text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f regprocedure;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA kinesis TO %I', role);
    EXECUTE format('GRANT SELECT ON kinesis.streams, kinesis.shards, kinesis.groups, kinesis.group_members, kinesis.group_leases, kinesis.event_source_mappings, '
        'kinesis.event_source_mapping_lanes, kinesis.notifications TO %I', role);
    IF kind IN ('consumer', 'admin') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA kinesis_stream TO %I', role);
    END IF;
    FOR f IN SELECT kinesis._kit(kind) LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f, role);
    END LOOP;
END
$$;

-- Privileges of the stream's table that make up a right.
CREATE FUNCTION kinesis._privileges(kind text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    CASE kind
        WHEN 'producer' THEN RETURN 'INSERT';
        WHEN 'consumer' THEN RETURN 'SELECT';
        WHEN 'admin' THEN RETURN 'INSERT, SELECT, TRUNCATE';
        ELSE
            PERFORM kinesis._raise('InvalidArgumentException', format('kind of a right must be producer, consumer or admin, not %s', coalesce(quote_literal(kind), 'null')));
    END CASE;
END
$$;

CREATE FUNCTION kinesis._require_role(role text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF role IS NULL OR NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role) THEN
        PERFORM kinesis._raise('InvalidArgumentException', format('role %s does not exist', coalesce(quote_literal(role), 'null')));
    END IF;
END
$$;

CREATE FUNCTION kinesis._grant_stream(stream_name text, role text, kind text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._stream(stream_name, 'admin', 'PutResourcePolicy');
BEGIN
    PERFORM kinesis._require_role(role);
    EXECUTE format('GRANT %s ON kinesis_stream.%I TO %I', kinesis._privileges(kind), s.table_name, role);
    PERFORM kinesis._grant_kit(role, kind);
END
$$;

CREATE FUNCTION kinesis.grant_stream(stream_name text, role text, kind text) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.grant_stream(text, text, text) IS
'Lets a role use one stream: producer = put, consumer = get and SELECT, admin = both and manage. These are INSERT, SELECT and TRUNCATE on the stream''s table.';

CREATE FUNCTION kinesis._revoke_stream(stream_name text, role text, kind text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._stream(stream_name, 'admin', 'DeleteResourcePolicy');
BEGIN
    PERFORM kinesis._require_role(role);
    EXECUTE format('REVOKE %s ON kinesis_stream.%I FROM %I', kinesis._privileges(kind), s.table_name, role);
END
$$;

CREATE FUNCTION kinesis.revoke_stream(stream_name text, role text, kind text) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.revoke_stream(text, text, text) IS 'Takes back what grant_stream gave. Rights through membership of the kinesis roles remain.';

---------------------------------------------------------------------------------------------------------------------
-- Check
---------------------------------------------------------------------------------------------------------------------

CREATE TYPE kinesis.stream_fault AS (fault text, shard_id text, detail text);

CREATE FUNCTION kinesis._check_stream(stream_name text) RETURNS SETOF kinesis.stream_fault
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream := kinesis._stream(stream_name, 'describe', 'DescribeStream');
    h kinesis.shard;
    l kinesis.slice;
    previous kinesis.slice;
    expected numeric := 0;
    slice regclass;
    fault text;
    bound text;
BEGIN
    IF NOT s.home IS NOT DISTINCT FROM kinesis._home() THEN
        RETURN NEXT ROW('restore not finished', NULL, 'call kinesis.finish_restore()')::kinesis.stream_fault;
    END IF;
    -- The open shards tile the hash space.
    FOR h IN SELECT * FROM kinesis.shard x WHERE x.stream_id = s.stream_id AND x.ending_sequence_number IS NULL ORDER BY x.starting_hash_key LOOP
        IF h.starting_hash_key <> expected THEN
            RETURN NEXT ROW('hash ranges', kinesis._shard_id(h.shard_index), format('open shard begins at %s, not at %s', h.starting_hash_key, expected))::kinesis.stream_fault;
        END IF;
        expected := h.ending_hash_key + 1;
    END LOOP;
    IF expected <> 340282366920938463463374607431768211456 THEN
        RETURN NEXT ROW('hash ranges', NULL, format('open shards end at %s, not at 2^128 - 1', expected - 1))::kinesis.stream_fault;
    END IF;
    -- Lineage: parents are closed and end before their children begin, and their ranges hold the children's.
    RETURN QUERY SELECT 'lineage'::text, kinesis._shard_id(c.shard_index), format('parent %s is open, or ends behind the start of its child', kinesis._shard_id(p.shard_index))
        FROM kinesis.shard c JOIN kinesis.shard p ON p.stream_id = c.stream_id AND p.shard_index IN (c.parent_shard, c.adjacent_parent_shard)
        WHERE c.stream_id = s.stream_id AND (p.ending_sequence_number IS NULL OR p.ending_sequence_number >= c.starting_sequence_number);
    RETURN QUERY SELECT 'lineage'::text, kinesis._shard_id(c.shard_index), 'hash range does not fit the parents'''
        FROM kinesis.shard c JOIN kinesis.shard p ON p.stream_id = c.stream_id AND p.shard_index = c.parent_shard
        LEFT JOIN kinesis.shard a ON a.stream_id = c.stream_id AND a.shard_index = c.adjacent_parent_shard
        WHERE c.stream_id = s.stream_id AND CASE WHEN c.adjacent_parent_shard IS NULL
            THEN c.starting_hash_key < p.starting_hash_key OR c.ending_hash_key > p.ending_hash_key
            ELSE c.starting_hash_key <> p.starting_hash_key OR c.ending_hash_key <> a.ending_hash_key END;
    RETURN QUERY SELECT 'lineage'::text, kinesis._shard_id(p.shard_index), 'closed shard has no children'
        FROM kinesis.shard p WHERE p.stream_id = s.stream_id AND p.ending_sequence_number IS NOT NULL
        AND NOT EXISTS (SELECT FROM kinesis.shard c WHERE c.stream_id = p.stream_id AND p.shard_index IN (c.parent_shard, c.adjacent_parent_shard));
    RETURN QUERY SELECT 'shards'::text, kinesis._shard_id(x.shard_index), format('index is not below the next one, %s', s.next_shard_index)
        FROM kinesis.shard x WHERE x.stream_id = s.stream_id AND x.shard_index >= s.next_shard_index;
    RETURN QUERY SELECT 'shards'::text, kinesis._shard_id(x.shard_index), 'open shard has no table'::text
        FROM kinesis.shard x WHERE x.stream_id = s.stream_id AND x.ending_sequence_number IS NULL
        AND to_regclass(format('kinesis_stream."%s/%s"', x.stream_id, x.shard_index)) IS NULL;
    RETURN QUERY SELECT 'shards'::text, kinesis._shard_id(x.shard_index), 'table is not attached to the stream''s table'::text
        FROM kinesis.shard x JOIN pg_class c ON c.relnamespace = 'kinesis_stream'::regnamespace AND c.relname = format('%s/%s', x.stream_id, x.shard_index)
        WHERE x.stream_id = s.stream_id AND (pg_get_expr(c.relpartbound, c.oid) IS DISTINCT FROM format('FOR VALUES IN (%s)', x.shard_index)
            OR NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
                WHERE i.inhrelid = c.oid AND p.relnamespace = c.relnamespace AND p.relname = s.table_name));
    RETURN QUERY SELECT 'guard'::text, NULL::text, format('trigger %s of table %s is missing or not enabled always', g.name, c.oid::regclass)
        FROM pg_class c, unnest(ARRAY['refuse_change', 'refuse_row']) AS g(name)
        WHERE c.relnamespace = 'kinesis_stream'::regnamespace AND (c.relname = s.table_name OR c.relname IN (SELECT kinesis._tables_below(s.stream_id)))
        AND (g.name = 'refuse_change' OR c.relkind = 'r')
        AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = g.name AND t.tgenabled = 'A')
        ORDER BY c.relname, g.name;
    -- Slices: known to the catalog and to partitioning alike, disjoint, and in order inside.
    FOR l IN SELECT * FROM kinesis.slice y WHERE y.stream_id = s.stream_id ORDER BY y.shard_index, y.lower_bound LOOP
        slice := to_regclass(format('kinesis_stream."%s/%s/%s"', l.stream_id, l.shard_index, l.lower_bound));
        IF slice IS NULL THEN
            RETURN NEXT ROW('slices', kinesis._shard_id(l.shard_index), format('slice from %s has no table', l.lower_bound))::kinesis.stream_fault;
            CONTINUE;
        END IF;
        IF previous.shard_index = l.shard_index AND previous.upper_bound > l.lower_bound THEN
            RETURN NEXT ROW('slices', kinesis._shard_id(l.shard_index), format('slices from %s and from %s overlap', previous.lower_bound, l.lower_bound))::kinesis.stream_fault;
        END IF;
        previous := l;
        SELECT pg_get_expr(c.relpartbound, c.oid) INTO bound FROM pg_class c WHERE c.oid = slice;
        IF bound IS DISTINCT FROM format('FOR VALUES FROM (''%s'') TO (''%s'')', l.lower_bound, l.upper_bound) THEN
            RETURN NEXT ROW('slices', kinesis._shard_id(l.shard_index), format('slice from %s is attached as %s', l.lower_bound, coalesce(bound, 'nothing')))::kinesis.stream_fault;
        END IF;
        FOR fault IN SELECT kinesis._check_slice(slice, l.shard_index, l.lower_bound, l.upper_bound) LOOP
            RETURN NEXT ROW('records', kinesis._shard_id(l.shard_index), fault)::kinesis.stream_fault;
        END LOOP;
        SELECT max(h2.ending_sequence_number) INTO expected FROM kinesis.shard h2 WHERE h2.stream_id = s.stream_id AND h2.shard_index = l.shard_index;
        IF expected IS NOT NULL AND l.upper_bound > expected THEN
            EXECUTE format('SELECT format(''sequence number %%s is behind the end of the closed shard'', sequence_number) FROM ONLY %s WHERE sequence_number > %s LIMIT 1', slice, expected) INTO fault;
            IF fault IS NOT NULL THEN
                RETURN NEXT ROW('records', kinesis._shard_id(l.shard_index), fault)::kinesis.stream_fault;
            END IF;
        END IF;
    END LOOP;
    RETURN QUERY SELECT 'slices'::text, NULL::text, format('table %s is not in the catalog of slices', c.oid::regclass)
        FROM pg_class c WHERE c.relnamespace = 'kinesis_stream'::regnamespace AND c.relkind = 'r' AND c.relname ~ format('^%s/[0-9]+/[0-9]+$', s.stream_id)
        AND NOT EXISTS (SELECT FROM kinesis.slice y WHERE format('%s/%s/%s', y.stream_id, y.shard_index, y.lower_bound) = c.relname);
END
$$;

CREATE FUNCTION kinesis.check_stream(stream_name text) RETURNS SETOF kinesis.stream_fault
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.check_stream(text) IS
'Verifies a stream: order, uniqueness and bounds of its records, hash ranges, lineage, slices, and the triggers that guard them. A row a fault; none for a healthy stream. Reads all records.';

---------------------------------------------------------------------------------------------------------------------
-- Retention
---------------------------------------------------------------------------------------------------------------------

-- Drops slices that are past retention as a whole, at most so many. A table that a long reader holds is left to the next run: nobody queues behind us.
CREATE FUNCTION kinesis._drop_expired_slices(s kinesis.stream, most int) RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    l kinesis.slice;
    dropped int := 0;
BEGIN
    FOR l IN SELECT * FROM kinesis.slice y WHERE y.stream_id = s.stream_id
        AND y.upper_bound <= greatest(kinesis.sequence_at(kinesis._expired_before(s)), s.trimmed_before) ORDER BY y.shard_index, y.lower_bound LOOP
        EXIT WHEN dropped >= most;
        BEGIN
            PERFORM kinesis._drop_table(format('%s/%s/%s', l.stream_id, l.shard_index, l.lower_bound));
            DELETE FROM kinesis.slice y WHERE y.stream_id = l.stream_id AND y.shard_index = l.shard_index AND y.lower_bound = l.lower_bound;
            dropped := dropped + 1;
        EXCEPTION WHEN lock_not_available OR deadlock_detected OR object_in_use THEN
            NULL;
        END;
    END LOOP;
    RETURN dropped;
END
$$;

-- The same for closed shards. Most have a few slices left, which reach beyond the shard's end.
CREATE FUNCTION kinesis._drop_expired_shards(s kinesis.stream, most int, OUT shards_dropped int, OUT tables_dropped int)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    h kinesis.shard;
    tables int;
BEGIN
    shards_dropped := 0;
    tables_dropped := 0;
    FOR h IN SELECT * FROM kinesis.shard x WHERE x.stream_id = s.stream_id AND x.closed_at < kinesis._expired_before(s) ORDER BY x.shard_index LOOP
        SELECT 1 + count(*) INTO tables FROM kinesis.slice y WHERE y.stream_id = h.stream_id AND y.shard_index = h.shard_index;
        EXIT WHEN tables_dropped + tables > most;
        BEGIN
            PERFORM kinesis._drop_table(format('%s/%s', h.stream_id, h.shard_index));
            DELETE FROM kinesis.slice y WHERE y.stream_id = h.stream_id AND y.shard_index = h.shard_index;
            DELETE FROM kinesis.shard x WHERE x.stream_id = h.stream_id AND x.shard_index = h.shard_index;
            shards_dropped := shards_dropped + 1;
            tables_dropped := tables_dropped + tables;
        EXCEPTION WHEN lock_not_available OR deadlock_detected OR object_in_use THEN
            NULL;
        END;
    END LOOP;
END
$$;

-- The same for what is left of deleted streams. Waiting for long readers ends for this run after some seconds.
CREATE FUNCTION kinesis._drop_remains(most int) RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    d kinesis.deleted_stream;
    table_name text;
    dropped int := 0;
    refused int := 0;
BEGIN
    FOR d IN SELECT * FROM kinesis.deleted_stream x WHERE x.home = kinesis._home() ORDER BY x.stream_id FOR UPDATE SKIP LOCKED LOOP
        FOR table_name IN SELECT kinesis._tables_below(d.stream_id) LOOP
            EXIT WHEN dropped >= most OR refused >= 50;
            BEGIN
                PERFORM kinesis._drop_table(table_name);
                dropped := dropped + 1;
            EXCEPTION WHEN lock_not_available OR deadlock_detected OR object_in_use THEN
                refused := refused + 1;
            END;
        END LOOP;
        CONTINUE WHEN dropped >= most OR EXISTS (SELECT FROM kinesis._tables_below(d.stream_id));
        BEGIN
            PERFORM kinesis._drop_table(kinesis._remains_name(d.stream_id));
            DELETE FROM kinesis.deleted_stream x WHERE x.stream_id = d.stream_id;
            dropped := dropped + 1;
        EXCEPTION WHEN lock_not_available OR deadlock_detected OR object_in_use THEN
            NULL;
        END;
    END LOOP;
    RETURN dropped;
END
$$;

CREATE FUNCTION kinesis._purge(OUT slices_made int, OUT slices_dropped int, OUT shards_expired int)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s kinesis.stream;
    ix int;
    n1 int;
    n2 int;
    n3 record;
    at bigint;
    room int := kinesis._tables_at_once();     -- what does not fit into this run is left to the next
BEGIN
    PERFORM kinesis._require(NULL, 'create', 'Purge');
    -- First, since it may wait for readers, and keeps nobody waiting meanwhile; but it leaves half of the room to the living.
    slices_dropped := kinesis._drop_remains(room / 2);
    room := room - slices_dropped;
    slices_made := 0;
    shards_expired := 0;
    -- A stream that is being resharded is left to the next run. So is one that a restore has brought and nobody has used:
    -- the restore may still be at work, and put in order now, the stream would not be when its other records have come.
    FOR s IN SELECT * FROM kinesis.stream st WHERE st.home = kinesis._home() ORDER BY st.stream_id FOR UPDATE SKIP LOCKED LOOP
        n1 := 0;
        FOR ix IN SELECT x.shard_index FROM kinesis.shard x WHERE x.stream_id = s.stream_id AND x.ending_sequence_number IS NULL ORDER BY 1 LOOP
            EXIT WHEN n1 >= room;
            at := kinesis.sequence_at(kinesis._now());
            n1 := n1 + kinesis._make_slices(s.stream_id, ix, at)
                + kinesis._make_slices(s.stream_id, ix, at + (kinesis._slice_width(s.retention_period_hours) << 22));
        END LOOP;
        n2 := kinesis._drop_expired_slices(s, room - n1);
        n3 := kinesis._drop_expired_shards(s, room - n1 - n2);
        IF n2 + n3.shards_dropped > 0 THEN
            PERFORM kinesis._touch_stream(s.stream_id);
        END IF;
        room := room - n1 - n2 - n3.tables_dropped;
        slices_made := slices_made + n1;
        slices_dropped := slices_dropped + n2;
        shards_expired := shards_expired + n3.shards_dropped;
    END LOOP;
END
$$;

CREATE FUNCTION kinesis.purge(OUT slices_made int, OUT slices_dropped int, OUT shards_expired int)
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.purge() IS
'Maintenance of all streams: makes slices ahead of time, drops those past retention and closed shards whose records are all past it, and what is left of deleted streams (whose tables count as slices). Does a bounded amount of work, and the rest when it is called again. Meant to run every minute.';

CREATE FUNCTION kinesis.enable_purge_job(schedule text DEFAULT '* * * * *') RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    job bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'pg_cron is not installed in this database',
            HINT = 'CREATE EXTENSION pg_cron here, or from the database that has it: SELECT cron.schedule_in_database(''kinesis_purge'', ''* * * * *'', ''SELECT kinesis.purge()'', '
                || quote_literal(current_database()) || '). Without pg_cron call kinesis.purge() every minute by other means.';
    END IF;
    -- DROP EXTENSION can't tell pg_cron: a job that finds the extension gone removes itself.
    EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO job USING 'kinesis_purge', schedule,
        'DO $$BEGIN IF pg_catalog.to_regprocedure(''kinesis.purge()'') IS NULL THEN PERFORM cron.unschedule(''kinesis_purge''); ELSE PERFORM kinesis.purge(); END IF; END$$';
    RETURN job;
END
$body$;
COMMENT ON FUNCTION kinesis.enable_purge_job(text) IS 'Makes pg_cron run kinesis.purge() on this schedule; returns the job''s id. Its runs are in cron.job_run_details. It removes itself when the extension is gone.';

CREATE FUNCTION kinesis.disable_purge_job() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_job boolean := false;
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
        EXECUTE 'SELECT bool_or(cron.unschedule(jobid)) FROM cron.job WHERE jobname = $1 AND database = current_database()' INTO found_job USING 'kinesis_purge';
    END IF;
    RETURN coalesce(found_job, false);
END
$$;
COMMENT ON FUNCTION kinesis.disable_purge_job() IS 'Removes the job of enable_purge_job; false when there is none.';

---------------------------------------------------------------------------------------------------------------------
-- After a logical restore
---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION kinesis._finish_restore(stream_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id bigint := stream_id;
    slice regclass;
    guard record;
BEGIN
    PERFORM FROM kinesis.stream s WHERE s.stream_id = id AND s.home IS DISTINCT FROM kinesis._home() FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;                 -- somebody else has done it
    END IF;
    FOR slice IN SELECT to_regclass(format('kinesis_stream."%s/%s/%s"', l.stream_id, l.shard_index, l.lower_bound))
        FROM kinesis.slice l WHERE l.stream_id = id ORDER BY l.shard_index, l.lower_bound LOOP
        PERFORM kinesis._sort_slice(slice);
    END LOOP;
    -- pg_restore --disable-triggers enables them afterwards, but not ALWAYS.
    FOR guard IN SELECT t.tgrelid::regclass AS table, t.tgname AS trigger FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = 'kinesis_stream'::regnamespace AND t.tgfoid = 'kinesis._refuse_change()'::regprocedure AND t.tgenabled <> 'A'
        AND (c.relname IN (SELECT kinesis._tables_below(id)) OR c.relname = (SELECT s.table_name FROM kinesis.stream s WHERE s.stream_id = id)) LOOP
        EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', guard.table, guard.trigger);
    END LOOP;
    UPDATE kinesis.stream s SET home = kinesis._home() WHERE s.stream_id = id;
    PERFORM kinesis._touch_stream(id), kinesis._use_records_send(), kinesis._adopt_remains();
END
$$;

-- Gives what is left of deleted streams, and a restore has brought along, to kinesis.purge().
CREATE FUNCTION kinesis._adopt_remains() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d kinesis.deleted_stream;
    uppermost regclass;
BEGIN
    FOR d IN SELECT * FROM kinesis.deleted_stream x WHERE x.home IS DISTINCT FROM kinesis._home() ORDER BY x.stream_id FOR UPDATE LOOP
        uppermost := to_regclass(format('kinesis_stream.%I', kinesis._remains_name(d.stream_id)));
        PERFORM kinesis._bind_remains(uppermost);
        UPDATE kinesis.deleted_stream x SET home = kinesis._home() WHERE x.stream_id = d.stream_id;
    END LOOP;
END
$$;

CREATE FUNCTION kinesis._finish_restore() RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id bigint;
    n bigint := 0;
BEGIN
    PERFORM kinesis._require(NULL, 'create', 'FinishRestore');
    FOR id IN SELECT s.stream_id FROM kinesis.stream s WHERE s.home IS DISTINCT FROM kinesis._home() ORDER BY s.stream_id LOOP
        PERFORM kinesis._finish_restore(id);
        n := n + 1;
    END LOOP;
    PERFORM kinesis._adopt_remains(), kinesis._adopt_mappings();
    RETURN n;
END
$$;

CREATE FUNCTION kinesis.finish_restore() RETURNS bigint
LANGUAGE c AS 'MODULE_PATHNAME', 'kin_control';
COMMENT ON FUNCTION kinesis.finish_restore() IS
'Puts streams in order that a logical restore has brought here; returns their number. The first use of such a stream does it, too, unless it is read-only. Event source mappings and notifications, though, begin to work here only when this is called (after pg_upgrade, too).';

---------------------------------------------------------------------------------------------------------------------
-- Privileges: nothing for PUBLIC but pure functions
---------------------------------------------------------------------------------------------------------------------

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA kinesis FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA kinesis FROM PUBLIC;
GRANT USAGE ON SCHEMA kinesis TO PUBLIC;
GRANT EXECUTE ON FUNCTION kinesis.sequence_at(timestamptz), kinesis.arrival(bigint), kinesis.hash_key(text), kinesis.error_codes() TO PUBLIC;

SELECT kinesis._grant_kit('kinesis_admin', 'admin');
SELECT kinesis._grant_kit('kinesis_producer', 'producer');
SELECT kinesis._grant_kit('kinesis_consumer', 'consumer');
SELECT kinesis._grant_kit('kinesis_monitor', 'monitor');
GRANT EXECUTE ON FUNCTION kinesis.purge(), kinesis.finish_restore() TO kinesis_admin;

---------------------------------------------------------------------------------------------------------------------
-- Maintenance, where pg_cron is there
---------------------------------------------------------------------------------------------------------------------

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pg_cron') THEN
        PERFORM kinesis.enable_purge_job();
    END IF;
END
$$;
