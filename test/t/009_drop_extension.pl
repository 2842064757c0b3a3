# DROP EXTENSION refuses while streams exist; CASCADE removes all of them; the roles stay for other databases.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main');
my $leftovers = <<'SQL';
SELECT (SELECT count(*) FROM pg_namespace WHERE nspname IN ('kinesis', 'kinesis_stream')),
       (SELECT count(*) FROM pg_class AS c LEFT JOIN pg_namespace AS n ON n.oid = relnamespace WHERE nspname LIKE 'kinesis%' OR n.oid IS NULL),
       (SELECT count(*) FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = pronamespace WHERE nspname LIKE 'kinesis%')
SQL

# Without streams it goes, and comes again.
$node->safe_psql('postgres', 'DROP EXTENSION kinesis');
is($node->safe_psql('postgres', $leftovers), '0|0|0', 'an extension without streams is dropped wholly');
$node->safe_psql('postgres', 'CREATE EXTENSION kinesis');

# Sessions that have the stream at hand when it goes.
$node->safe_psql('postgres', "SELECT kinesis.create_stream('s', 2); SELECT kinesis.create_stream('t', 1)");
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe("SELECT kinesis.put_record('s', 'x', 'k')");

my ($status, $out, $err) = $node->psql('postgres', 'DROP EXTENSION kinesis');
isnt($status, 0, 'DROP EXTENSION refuses while streams exist');
like($err, qr/kinesis_stream\.s\b/, 'and names a stream');
like($err, qr/HINT: .*CASCADE/, 'and CASCADE');
is($node->safe_psql('postgres', "SELECT count(*) FROM kinesis_stream.s"), '1', 'nothing was lost by the attempt');

# The second database has its own, with the same roles.
$node->safe_psql('postgres', 'CREATE DATABASE second TEMPLATE template0');
$node->safe_psql('second', "CREATE EXTENSION kinesis; SELECT kinesis.create_stream('s', 1); SELECT kinesis.put_record('s', 'second', 'k')");

$node->safe_psql('postgres', 'DROP EXTENSION kinesis CASCADE');
is($node->safe_psql('postgres', $leftovers), '0|0|0', 'CASCADE removes every stream');
is($node->safe_psql('postgres', "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname LIKE 'kinesis%'"),
	'kinesis_admin,kinesis_consumer,kinesis_monitor,kinesis_producer', 'the roles stay');
is($node->safe_psql('second', "SELECT count(*) FROM kinesis.read_shard('s', 'shardId-000000000000')"), '1', 'the other database has kept its stream');

my $answer = $session->query("SELECT kinesis.put_record('s', 'y', 'k')");
like($session->{stderr}, qr/ERROR/, 'a session that knew the stream gets an error');
$session->{stderr} = '';

# It comes again and knows nothing of the old streams.
$node->safe_psql('postgres', "CREATE EXTENSION kinesis; SELECT kinesis.create_stream('s', 1)");
is($node->safe_psql('postgres', "SELECT count(*) FROM kinesis.read_shard('s', 'shardId-000000000000')"), '0', 'a new stream of the old name is empty');
is($session->query_safe("SELECT shard_id FROM kinesis.put_record('s', 'z', 'k')"), 'shardId-000000000000', 'and the old session puts into it');
is($node->safe_psql('postgres', "SELECT convert_from(data, 'UTF8') FROM kinesis.read_shard('s', 'shardId-000000000000')"), 'z', 'where it is read');
is(faults_of($node, 'postgres', 's'), '', 'check_stream finds no fault');
$session->quit;

done_testing();
