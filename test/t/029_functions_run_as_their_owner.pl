# Whatever a mapping's function does, at once, in deferred triggers, in held cursors or as the destination of what fails, is done with the
# rights of the mapping's owner, never with the worker's; and it leaves nothing in the session for the next mapping, which is somebody else's.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

# One worker, so that all share its session.
my $node = kinesis_node('main', conf => <<'CONF');
kinesis.max_workers = 1
kinesis.max_retry_backoff = '200ms'
CONF

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE bad;
CREATE ROLE other;
CREATE ROLE friend;
GRANT friend TO bad;
SELECT kinesis.create_stream('s', 1), kinesis.create_stream('others', 1);
SELECT kinesis.grant_stream('s', r, 'consumer') FROM unnest('{bad, other}'::text[]) AS r;
CREATE SCHEMA evil AUTHORIZATION bad;
CREATE SCHEMA app AUTHORIZATION other;
CREATE TABLE public.attempt (place text, who name, session name, command text, result text);
CREATE TABLE public.finding (what text, value text);
CREATE TABLE public.shadow (what text, who name);
GRANT INSERT, SELECT ON public.attempt, public.finding, public.shadow TO PUBLIC;

SET ROLE bad;
-- Tries all that only a superuser may.
CREATE FUNCTION evil.try(place text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    command text;
BEGIN
    FOREACH command IN ARRAY ARRAY['CREATE ROLE evil SUPERUSER', 'ALTER ROLE bad SUPERUSER', 'SELECT pg_read_file(''postgresql.conf'')', 'UPDATE pg_authid SET rolsuper = true', 'COPY (SELECT 1) TO PROGRAM ''true''',
            'SET ROLE postgres', 'SET ROLE friend', 'SET LOCAL ROLE postgres', 'RESET ROLE', 'SET ROLE NONE', 'SET SESSION AUTHORIZATION postgres', 'RESET SESSION AUTHORIZATION',
            'SELECT set_config(''role'', ''postgres'', false)', 'SELECT set_config(''session_authorization'', ''postgres'', false)',
            'SET session_replication_role = replica', 'SET kinesis.clock_offset = ''1 h''', 'SET kinesis.function_timeout = 0', 'LISTEN evil', 'DISCARD ALL', 'COMMIT',
            'SELECT kinesis.create_stream(''evil'', 1)', 'SELECT kinesis.put_record(''s'', ''x'', ''k'')', 'SELECT kinesis.delete_stream(''others'')', 'UPDATE kinesis.mapping_lane SET checkpoint = 0',
            'SELECT kinesis.delete_event_source_mapping(uuid) FROM kinesis.event_source_mappings WHERE owner = ''other''', 'SELECT pg_terminate_backend(pg_backend_pid())'] LOOP
        BEGIN
            EXECUTE command;
            INSERT INTO public.attempt VALUES (place, current_user, session_user, command, 'done');
        EXCEPTION WHEN OTHERS THEN
            INSERT INTO public.attempt VALUES (place, current_user, session_user, command, SQLERRM);
        END;
    END LOOP;
    RETURN 1;
END $$;
CREATE FUNCTION evil.try_in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.try(TG_ARGV[0]); RETURN NULL; END $$;
CREATE TABLE evil.deferred (i int);
CREATE CONSTRAINT TRIGGER try AFTER INSERT ON evil.deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil.try_in_trigger('deferred trigger');
-- Is run when the function has returned, and defers once more: until the commit.
CREATE TABLE evil.deferring (i int);
CREATE FUNCTION evil.defer_again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL DEFERRED; INSERT INTO evil.last VALUES (1); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER again AFTER INSERT ON evil.deferring DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil.defer_again();
CREATE TABLE evil.last (i int);
CREATE CONSTRAINT TRIGGER try AFTER INSERT ON evil.last DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil.try_in_trigger('trigger deferred twice');
CREATE TABLE evil.failed (invocation_record jsonb);
CREATE TRIGGER try AFTER INSERT ON evil.failed FOR EACH ROW EXECUTE FUNCTION evil.try_in_trigger('destination table');
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON evil.failed DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil.try_in_trigger('destination table, deferred');
CREATE FUNCTION evil.take(r jsonb) RETURNS int LANGUAGE sql AS $$ SELECT evil.try('destination function') $$;

-- What the extension's own code would call if it trusted the session.
CREATE FUNCTION evil.same(a bigint, b bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.shadow VALUES ('=', current_user); RETURN a OPERATOR(pg_catalog.=) b; END $$;
CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.same);
CREATE FUNCTION evil._home() RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.shadow VALUES ('_home', current_user); RETURN ''; END $$;
CREATE FUNCTION evil.jsonb_build_object(VARIADIC a text[]) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.shadow VALUES ('jsonb_build_object', current_user); RETURN '{}'; END $$;
CREATE SEQUENCE evil.numbers;

CREATE FUNCTION evil.work(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM evil.try('function');
    INSERT INTO evil.deferred VALUES (1);
    INSERT INTO evil.deferring VALUES (1);
    EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT evil.try(''held cursor'')';
    -- And leaves what it can.
    EXECUTE 'CREATE TEMP TABLE leak (secret text)';
    EXECUTE 'CREATE TEMP TABLE mapping_lane (lane_id bigint)';
    EXECUTE 'PREPARE leak AS SELECT ''secret''';
    PERFORM set_config('search_path', 'evil, pg_catalog, public', false), set_config('work_mem', '4MB', false), set_config('my.secret', 'secret', false), set_config('datestyle', 'German', false),
        set_config('default_transaction_isolation', 'serializable', false), set_config('default_transaction_read_only', 'on', false), set_config('lock_timeout', '1ms', false),
        set_config('statement_timeout', '1ms', false), set_config('row_security', 'off', false), set_config('standard_conforming_strings', 'off', false);
    PERFORM pg_advisory_lock(42), nextval('evil.numbers');
END $$;
CREATE FUNCTION evil.fail(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.work(r, c); RAISE 'undone'; END $$;
RESET ROLE;

SET ROLE other;
CREATE FUNCTION app.look(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    used text := 'nothing';
BEGIN
    BEGIN
        used := lastval();
    EXCEPTION WHEN object_not_in_prerequisite_state THEN
        NULL;
    END;
    INSERT INTO public.finding VALUES
        ('user', current_user), ('role', current_setting('role')), ('temporary tables', (SELECT count(*) FROM pg_class WHERE relpersistence = 't')), ('statements', (SELECT count(*) FROM pg_prepared_statements)),
        ('cursors', (SELECT count(*) FROM pg_cursors)), ('advisory locks', (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')), ('sequence', used),
        ('secret', coalesce(nullif(current_setting('my.secret', true), ''), 'none')), ('search_path', current_setting('search_path')), ('changed settings', coalesce((SELECT string_agg(name, ' ') FROM pg_settings
            WHERE source = 'session' AND setting IS DISTINCT FROM reset_val AND name NOT IN ('search_path', 'transaction_isolation', 'transaction_read_only', 'transaction_deferrable')), 'none')),
        ('isolation', current_setting('transaction_isolation'));
END $$;
RESET ROLE;
SQL

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub mapping
{
	my ($role, @function) = @_;
	return create_mapping($node, $role, 's', @function);
}

sub put { sql("SELECT kinesis.put_record('s', 'x', 'k')") }

sub becomes { return becomes_in($node, 'postgres', @_) }

my $work = mapping('bad', 'evil.work', 'batch_size => 1');
my $look = mapping('other', 'app.look', 'batch_size => 1');
put();
becomes("SELECT string_agg(records::text, ' ') FROM kinesis.event_source_mapping_lanes", '1 1', 'both functions have run');
my $fail_table = mapping('bad', 'evil.fail', 'maximum_retry_attempts => 0', "on_failure => 'table:evil.failed'");
my $fail_function = mapping('bad', 'evil.fail', 'maximum_retry_attempts => 0', "on_failure => 'function:evil.take'");
put();
becomes("SELECT sum(records), sum(discarded) FROM kinesis.event_source_mapping_lanes", '4|4', 'and again, with two that fail');

is(sql("SELECT string_agg(DISTINCT place, ', ' ORDER BY place) FROM attempt"),
	'deferred trigger, destination function, destination table, destination table, deferred, function, held cursor, trigger deferred twice', 'all places were tried');
is(sql("SELECT string_agg(DISTINCT who, ', ') FROM attempt"), 'bad', 'the owner is the current user in all of them');
is(sql("SELECT DISTINCT place, command FROM attempt WHERE result = 'done'"), '', 'nothing has worked that only others may');
is(sql("SELECT DISTINCT command FROM attempt WHERE command ~ 'ROLE (postgres|friend|NONE)|RESET|AUTHORIZATION|set_config' AND result !~ 'within security-definer function'"), '', 'the role can not be changed');
is(sql("SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolsuper"), 'postgres', 'there is one superuser, as before');
is(sql("SELECT count(*) FROM kinesis.list_streams() WHERE stream_name <> 's'"), '1', 'and the streams that there were');
is(sql("SELECT string_agg(what || ' as ' || who, ', ') FROM shadow WHERE who <> 'bad'"), '', 'no code of the extension has called what the function has put before it');

is(sql("SELECT string_agg(DISTINCT what || ': ' || value, ', ') FROM finding"),
	'advisory locks: 0, changed settings: none, cursors: 0, isolation: read committed, role: none, search_path: app, pg_temp, secret: none, sequence: nothing, statements: 0, temporary tables: 0, user: other',
	'the next mapping finds nothing of what was left');
is(sql("SELECT count(DISTINCT pid) FROM pg_stat_activity WHERE backend_type = 'kinesis worker'"), '1', 'in the same worker');

# The same mapping, turn after turn, may find what it has left, but does not harm itself with it.
sql("ALTER TABLE attempt RENAME TO attempt_before; CREATE TABLE attempt (LIKE attempt_before); GRANT INSERT ON attempt TO PUBLIC; SELECT kinesis.delete_event_source_mapping(uuid) FROM kinesis.event_source_mappings WHERE uuid IN ('$fail_table', '$fail_function')");
sql(<<'SQL');
CREATE OR REPLACE FUNCTION evil.work(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('search_path', 'evil, pg_catalog, public', false), set_config('default_transaction_isolation', 'serializable', false), set_config('default_transaction_read_only', 'on', false),
        set_config('statement_timeout', '1ms', false), set_config('standard_conforming_strings', 'off', false), set_config('datestyle', 'German', false), set_config('default_transaction_deferrable', 'on', false);
    EXECUTE 'CREATE TEMP TABLE IF NOT EXISTS mapping_lane (lane_id bigint)';
    INSERT INTO evil.deferred VALUES (1);
END $$;
SQL
put() foreach 1 .. 5;
becomes("SELECT records, attempts FROM kinesis.event_source_mapping_lanes WHERE uuid = '$work'", '7|0', 'a function that changes its session goes on');
is(sql("SELECT count(*) FILTER (WHERE who <> 'bad' OR result = 'done'), count(*) > 0 FROM attempt"), '0|t', 'and gains nothing');
is(sql("SELECT count(*) FROM shadow WHERE who <> 'bad'"), '0', 'also not by what is put before it');

unlike(slurp_file($node->logfile), qr/WARNING|PANIC|TRAP|FATAL/, 'no warning in the log');
done_testing();
