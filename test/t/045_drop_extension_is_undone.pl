# Workers stay out of a database from DROP EXTENSION until its transaction ends, and go on where they were when that undoes it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main', extension => 0);

# The others are there to see that the launcher starts schedulers where it may.
foreach my $db ('postgres', 'second', 'third', 'fourth')
{
	$node->safe_psql('postgres', "CREATE DATABASE $db") if $db ne 'postgres';
	$node->safe_psql($db, <<'SQL');
CREATE EXTENSION kinesis;
CREATE TABLE worked (data text);
CREATE FUNCTION work(records kinesis.record[], context kinesis.batch_context) RETURNS void LANGUAGE sql AS $$
    INSERT INTO worked SELECT convert_from(data, 'UTF8') FROM unnest(records)
$$;
SELECT kinesis.create_stream('s', 1);
SQL
}

sub works_on
{
	my ($db, $data, $what) = @_;
	$node->safe_psql($db, "SELECT kinesis.put_record('s', '$data', 'key')");
	becomes_in($node, $db, 'SELECT max(data) FROM worked', $data, $what);
}

# When it has started a scheduler elsewhere, the launcher has had its chance to start one here.
sub nobody_comes
{
	my ($other, $what) = @_;
	my $processes = "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'kinesis (scheduler|worker)' AND datname = 'postgres'";

	is($node->safe_psql($other, $processes), '0', "$what: nobody is left");
	$node->safe_psql($other, "SELECT kinesis.create_event_source_mapping('s', 'work')");
	works_on($other, 1, "$what: the $other database is served");
	is($node->safe_psql($other, $processes), '0', "$what: nobody has come back to this one");
}

$node->safe_psql('postgres', "SELECT kinesis.create_event_source_mapping('s', 'work')");
works_on('postgres', 1, 'a mapping works');

my $session = $node->background_psql('postgres');
$session->query_safe("SET client_min_messages = warning; BEGIN; SAVEPOINT before; DROP EXTENSION kinesis CASCADE");
nobody_comes('second', 'dropped');
$session->query_safe('ROLLBACK TO before');
$node->safe_psql('postgres', "SELECT kinesis.put_record('s', '2', 'key'); SELECT kinesis.create_event_source_mapping('s', 'work', 'LATEST')");
nobody_comes('third', 'undone, but the transaction is open');
$session->query_safe('ROLLBACK');
becomes_in($node, 'postgres', "SELECT string_agg(data, ' ' ORDER BY data) FROM worked", '1 2', 'after that they come, and do what was not done, once');
works_on('postgres', 3, 'and go on');

$session->query_safe('DROP EXTENSION kinesis CASCADE');
nobody_comes('fourth', 'dropped for good');
$session->quit;

done_testing();
