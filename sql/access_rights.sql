-- Who may do what: four roles, rights for one stream, refusals with the missing right in the hint.
CREATE EXTENSION kinesis;
CREATE ROLE kin_test_nobody;
CREATE ROLE kin_test_one;
CREATE ROLE "Kin Test-Two";
CREATE ROLE kin_test_admin;
GRANT kinesis_admin TO kin_test_admin;
SET ROLE kin_test_admin;
SELECT kinesis.create_stream('mine', 1), kinesis.create_stream('other', 1);
SELECT shard_id FROM kinesis.put_record('mine', 'x', 'k');
SELECT count(*) FROM kinesis.read_shard('mine', '0');
RESET ROLE;

-- PUBLIC has nothing that touches a stream.
SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace = 'kinesis'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE') ORDER BY 1;
SELECT c.oid::regclass FROM pg_class c WHERE relnamespace IN ('kinesis'::regnamespace, 'kinesis_stream'::regnamespace) AND relkind IN ('r', 'v', 'p', 'S')
    AND has_table_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') ORDER BY 1;
-- Definer-like functions pin search_path: every PL/pgSQL function does.
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = prolang WHERE pronamespace = 'kinesis'::regnamespace
    AND (prosecdef OR lanname = 'plpgsql') AND NOT EXISTS (SELECT FROM unnest(proconfig) c WHERE c = 'search_path=pg_catalog, pg_temp') ORDER BY 1;
SET ROLE kin_test_nobody;
SELECT kinesis.put_record('mine', 'x', 'k');
SELECT kinesis.list_streams();
SELECT * FROM kinesis.streams;
SELECT * FROM kinesis_stream.mine;
SELECT * FROM kinesis.secret;
RESET ROLE;

-- A right on one stream.
SET ROLE kin_test_admin;
SELECT kinesis.grant_stream('mine', 'kin_test_one', 'producer');
SELECT kinesis.grant_stream('mine', 'Kin Test-Two', 'consumer');
RESET ROLE;
SET ROLE kin_test_one;
SELECT shard_id FROM kinesis.put_record('mine', 'by one', 'k');
SELECT kinesis.put_record('other', 'x', 'k');
SELECT kinesis.put_records('other', ARRAY['x']::bytea[], ARRAY['k']);
SELECT kinesis.read_shard('mine', '0');
SELECT stream_name FROM kinesis.list_streams();
SELECT stream_name FROM kinesis.streams;
SELECT count(*) FROM kinesis.shards;
SELECT stream_name FROM kinesis.describe_stream_summary('mine');
SELECT kinesis.describe_stream_summary('other');
SELECT kinesis.split_shard('mine', '0', 5);
SELECT * FROM kinesis_stream.mine;
RESET ROLE;
SET ROLE "Kin Test-Two";
SELECT convert_from(data, 'UTF8') AS data FROM kinesis.read_shard('mine', '0');
SELECT kinesis.get_shard_iterator('mine', '0', 'TRIM_HORIZON') IS NOT NULL AS iterator;
SELECT kinesis.get_shard_iterator('other', '0', 'TRIM_HORIZON');
SELECT * FROM kinesis.read_shard('other', '0');
SELECT convert_from(data, 'UTF8') AS data FROM kinesis_stream.mine;
SELECT kinesis.put_record('mine', 'x', 'k');
INSERT INTO kinesis_stream.mine VALUES (1, 0, 'k', 'x');
RESET ROLE;
-- An iterator is no pass: it is checked again when it is used.
SELECT kinesis.get_shard_iterator('other', '0', 'TRIM_HORIZON') AS it \gset
SET ROLE "Kin Test-Two";
SELECT kinesis.get_records(:'it');
RESET ROLE;

-- An admin of one stream.
SELECT kinesis.grant_stream('mine', 'kin_test_one', 'admin');
SET ROLE kin_test_one;
SELECT kinesis.split_shard('mine', '0', 2::numeric ^ 127);
SELECT kinesis.add_tags_to_stream('mine', '{"a": "b"}');
SELECT kinesis.update_shard_count('other', 2);
SELECT kinesis.delete_stream('other');
SELECT kinesis.add_tags_to_stream('other', '{"a": "b"}');
SELECT kinesis.grant_stream('other', 'kin_test_one', 'admin');
SELECT kinesis.create_stream('new', 1);
SELECT kinesis.purge();
RESET ROLE;
-- Taken back.
SELECT kinesis.revoke_stream('mine', 'kin_test_one', 'admin'), kinesis.revoke_stream('mine', 'Kin Test-Two', 'consumer');
SET ROLE kin_test_one;
SELECT kinesis.put_record('mine', 'x', 'k');
SELECT kinesis.split_shard('mine', '1', 5);
SELECT stream_name FROM kinesis.list_streams();
RESET ROLE;
SET ROLE "Kin Test-Two";
SELECT * FROM kinesis.read_shard('mine', '0');
RESET ROLE;
SELECT kinesis.grant_stream('mine', 'kin_test_one', 'owner');
SELECT kinesis.grant_stream('mine', 'kin_test_unknown', 'producer');
SELECT kinesis.grant_stream('nowhere', 'kin_test_one', 'producer');

-- A monitor sees all and reads nothing.
GRANT kinesis_monitor TO kin_test_nobody;
SET ROLE kin_test_nobody;
SELECT stream_name FROM kinesis.list_streams();
SELECT count(*) FROM kinesis.list_shards('other');
SELECT * FROM kinesis.check_stream('other');
SELECT * FROM kinesis.read_shard('other', '0');
RESET ROLE;
-- Whose rights count inside somebody's SECURITY DEFINER function: that function's owner's, not the caller's.
CREATE SCHEMA kin_test;
GRANT USAGE, CREATE ON SCHEMA kin_test TO PUBLIC;
SET ROLE kin_test_nobody;
CREATE FUNCTION kin_test.trap() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ SELECT kinesis.delete_stream('other') $$;
RESET ROLE;
SELECT kin_test.trap();
SET ROLE kin_test_admin;
CREATE FUNCTION kin_test.allowed() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT count(*) FROM kinesis.put_record('other', 'x', 'k') $$;
RESET ROLE;
SET ROLE kin_test_one;
SELECT kin_test.allowed();
RESET ROLE;
-- A search_path full of traps leads nowhere.
SET ROLE kin_test_admin;
CREATE FUNCTION kin_test.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION kin_test.length(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
SET search_path = kin_test, pg_catalog, public;
SELECT kinesis.create_stream('trapless', 1);
SELECT kinesis.delete_stream('trapless');
RESET search_path;
RESET ROLE;
-- Views know who asks, whatever the role is called.
CREATE ROLE "Kin Test One"; CREATE ROLE "kin test one"; CREATE ROLE "10";
SELECT kinesis.grant_stream('mine', 'Kin Test One', 'consumer'), kinesis.grant_stream('other', 'kin test one', 'consumer'), kinesis.grant_stream('other', '10', 'producer');
SET ROLE "Kin Test One"; SELECT stream_name, (SELECT count(*) FROM kinesis.shards) FROM kinesis.streams;
SET ROLE "kin test one"; SELECT stream_name FROM kinesis.streams;
SET ROLE "10"; SELECT stream_name FROM kinesis.streams;
-- Routing of somebody else's stream is not told.
SELECT kinesis.shard_for_key('mine', 'k');
SELECT kinesis.shard_for_key('other', '');
RESET ROLE;
DROP OWNED BY "Kin Test One", "kin test one", "10";
DROP ROLE "Kin Test One", "kin test one", "10";
-- Default privileges do not reach the records.
CREATE ROLE kin_test_default;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC, kin_test_default;
SELECT kinesis.create_stream('default', 1);
SELECT count(*) AS tables, count(DISTINCT c.relkind) AS kinds, count(*) FILTER (WHERE has_table_privilege('kin_test_default', c.oid, 'SELECT')) AS readable
FROM pg_class c WHERE c.oid = 'kinesis_stream."default"'::regclass OR c.oid IN (SELECT relid FROM pg_partition_tree('kinesis_stream."default"'));
SELECT kinesis.delete_stream('default');
ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM PUBLIC, kin_test_default;
DROP ROLE kin_test_default;
DROP SCHEMA kin_test CASCADE;
SELECT kinesis.delete_stream('mine'), kinesis.delete_stream('other');
DROP OWNED BY kin_test_one, "Kin Test-Two", kin_test_nobody, kin_test_admin;
DROP ROLE kin_test_one, "Kin Test-Two", kin_test_nobody, kin_test_admin;
