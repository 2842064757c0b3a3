# A worker has one owner all its life, so a mapping whose owner has no worker waits for one to be ended and another to be started: it
# gets its turn all the same while mappings of another owner would always have something to do for each worker there is.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $workers = 2;
my $mappings = 8;
my $node = kinesis_node('main', conf => <<"CONF");
kinesis.max_workers = $workers
kinesis.max_retry_backoff = '100ms'
CONF

# Busy for ever: each call fails after some time, and is tried again at once.
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE busy;
CREATE ROLE other;
SELECT kinesis.create_stream('s', 1), kinesis.create_stream('t', 1);
SELECT kinesis.grant_stream('s', 'busy', 'consumer'), kinesis.grant_stream('t', 'other', 'consumer');
CREATE SCHEMA app;
GRANT USAGE, CREATE ON SCHEMA app TO busy, other;
CREATE TABLE app.seen (number bigint);
GRANT INSERT ON app.seen TO other;
SET ROLE busy;
CREATE FUNCTION app.busy(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); RAISE 'again'; END $$;
RESET ROLE;
SET ROLE other;
CREATE FUNCTION app.other(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE sql AS $$ INSERT INTO app.seen SELECT x.sequence_number FROM unnest(r) AS x $$;
RESET ROLE;
SELECT kinesis.put_record('s', 'x', 'k');
SQL

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub calls { return sql("SELECT sum(invocations) FROM kinesis.event_source_mapping_lanes WHERE function_name = 'app.busy'") }

sql("SET ROLE busy; SELECT kinesis.create_event_source_mapping('s', 'app.busy')") foreach 1 .. $mappings;
sql("SET ROLE other; SELECT kinesis.create_event_source_mapping('t', 'app.other')");
ok($node->poll_query_until('postgres', 'SELECT bool_and(invocations > 0) FROM kinesis.event_source_mapping_lanes WHERE function_name = \'app.busy\''),
	'all mappings of the busy owner are worked on');

foreach my $i (1 .. 3)
{
	my $before = calls();
	my $number = sql("SELECT sequence_number FROM kinesis.put_record('t', 'x', 'k')");

	$node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM app.seen WHERE number = $number)");
	my $between = calls() - $before;

	# In the order in which they have become ready; some more come while a worker starts, and until we look.
	cmp_ok($between, '<', 4 * $mappings, "put $i: the other owner's mapping gets its turn after $between calls of the busy ones");
}
done_testing();
