# What is given up goes to the table or function that was chosen for the mapping, not to another role's that has its name now; and a
# function there finds what it uses in its own schema, as the one that is called with batches does.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main', conf => "kinesis.max_retry_backoff = '100ms'\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(<<'SQL');
CREATE ROLE owner;
CREATE ROLE other;
SELECT kinesis.create_stream('s', 1), kinesis.set_shard_limits('s', NULL, NULL, NULL, NULL), kinesis.grant_stream('s', 'owner', 'consumer');
CREATE SCHEMA app;
GRANT USAGE, CREATE ON SCHEMA app TO owner, other;
CREATE TABLE public.ran_as (who name, what text);
GRANT INSERT ON public.ran_as TO PUBLIC;
CREATE FUNCTION public.note(what text) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran_as VALUES ('public', what) $$;
SET ROLE owner;
CREATE FUNCTION app.fails(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$;
CREATE TABLE app.failed_table (invocation_record jsonb);
CREATE FUNCTION app.note(what text) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran_as VALUES (current_user, what) $$;
CREATE FUNCTION app.failed_function(r jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM note('function of the owner'); END $$;
SQL

# The same for both kinds of destinations.
my %kinds = (
	table => {
		drop => 'DROP TABLE app.failed_table',
		make => 'CREATE TABLE app.failed_table (invocation_record jsonb); GRANT INSERT ON app.failed_table TO owner;'
		  . ' CREATE FUNCTION app.spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran_as VALUES (current_user, \'table of another\'); RETURN NEW; END $$;'
		  . ' CREATE TRIGGER spy BEFORE INSERT ON app.failed_table FOR EACH ROW EXECUTE FUNCTION app.spy()',
		arrived => 'SELECT count(*) FROM app.failed_table',
	},
	function => {
		drop => 'DROP FUNCTION app.failed_function',
		make => 'CREATE FUNCTION app.failed_function(r jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran_as VALUES (current_user, \'function of another\'); END $$',
		arrived => "SELECT count(*) FROM public.ran_as WHERE what LIKE 'function of %' AND who = 'owner'",
	});

foreach my $kind (sort keys %kinds)
{
	my $k = $kinds{$kind};
	my $destination = "$kind:app.failed_$kind";
	my $mapping = sql("SET ROLE owner; SELECT kinesis.create_event_source_mapping('s', 'app.fails', starting_position => 'LATEST', maximum_retry_attempts => 0, on_failure => '$destination')");

	sql("SELECT kinesis.put_record('s', 'x', 'k')");
	ok($node->poll_query_until('postgres', "SELECT discarded = 1 FROM kinesis.event_source_mapping_lanes WHERE uuid = '$mapping'"), "$kind: what fails is given up");
	is(sql($k->{arrived}), '1', "$kind: and arrives");

	sql("SET ROLE owner; $k->{drop}; SET ROLE other; $k->{make}");
	sql("SELECT kinesis.put_record('s', 'x', 'k')");
	ok($node->poll_query_until('postgres', "SELECT error_message LIKE '%belongs to another role%' FROM kinesis.event_source_mapping_lanes WHERE uuid = '$mapping'"),
		"$kind: another role's of the same name is not used");
	is(sql("SELECT count(*) FROM public.ran_as WHERE what LIKE '% of another'"), '0', "$kind: its code does not run");
	is(sql("SELECT last_processing_result FROM kinesis.event_source_mappings WHERE uuid = '$mapping'"), 'PROBLEM: The destination failed', "$kind: the mapping waits");
	like(sql("SELECT error_hint FROM kinesis.event_source_mapping_lanes WHERE uuid = '$mapping'"), qr/update_event_source_mapping/, "$kind: what to do is told");

	sql("SET ROLE owner; SELECT kinesis.update_event_source_mapping('$mapping', on_failure => '$destination')");
	ok($node->poll_query_until('postgres', "SELECT discarded = 2 FROM kinesis.event_source_mapping_lanes WHERE uuid = '$mapping'"), "$kind: who chooses it anew has it used");
	is(sql("SELECT string_agg(who, ' ') FROM public.ran_as WHERE what LIKE '% of another'"), 'owner', "$kind: as the mapping's owner, as always");
	sql("SELECT state FROM kinesis.delete_event_source_mapping('$mapping'); DELETE FROM public.ran_as");
}
# Who owns the schema can't put another table there between the look and the statement.
sql('ALTER SCHEMA app OWNER TO other; DROP TABLE app.failed_table; SET ROLE owner; CREATE TABLE app.failed_table (invocation_record jsonb)');
my $mapping = sql("SET ROLE owner; SELECT kinesis.create_event_source_mapping('s', 'app.fails', starting_position => 'LATEST', maximum_retry_attempts => 0, on_failure => 'table:app.failed_table')");
my $other = $node->background_psql('postgres');
$other->query_safe("SET ROLE other; BEGIN; DROP TABLE app.failed_table; DROP FUNCTION app.spy; $kinds{table}{make}");
sql("SELECT kinesis.put_record('s', 'x', 'k')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'kinesis worker' AND wait_event_type = 'Lock'"), 'the worker waits for who replaces the table');
$other->query_safe('COMMIT');
$other->quit;
ok($node->poll_query_until('postgres', "SELECT error_message LIKE '%belongs to another role%' FROM kinesis.event_source_mapping_lanes WHERE uuid = '$mapping'"), 'and then does not use it');
is(sql("SELECT count(*) FROM public.ran_as WHERE what LIKE '% of another'"), '0', 'nor runs its code');
done_testing();
