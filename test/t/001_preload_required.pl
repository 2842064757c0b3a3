# Without shared_preload_libraries CREATE EXTENSION says what to set, and leaves nothing behind.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

my ($status, $out, $err) = $node->psql('postgres', 'CREATE EXTENSION kinesis');
isnt($status, 0, 'CREATE EXTENSION is refused without preload');
like($err, qr/ERROR: .*shared_preload_libraries/, 'the error names the setting');
like($err, qr/HINT: .*shared_preload_libraries = 'kinesis/, 'the hint says what to set');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'kinesis%'"),
	'0', 'nothing is left of the attempt');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'kinesis%'"), '0', 'nor a role');

# With it, all is well; and a server that has lost the setting later still says so rather than misbehave.
$node->append_conf('postgresql.conf', KinesisNode::kinesis_conf());
$node->restart;
$node->safe_psql('postgres', "CREATE EXTENSION kinesis; SELECT kinesis.create_stream('s', 1)");
$node->safe_psql('postgres', "SELECT kinesis.put_record('s', 'kept', 'k')");
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
($status, $out, $err) = $node->psql('postgres', "SELECT kinesis.put_record('s', 'x', 'k')");
isnt($status, 0, 'a put is refused when the setting was taken away');
like($err, qr/shared_preload_libraries/, 'and the error names it');
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'the server lives');
is($node->safe_psql('postgres', "SELECT data FROM kinesis_stream.s"), '\x6b657074', 'the rows can still be queried');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'kinesis'");
$node->restart;
is($node->safe_psql('postgres', "SELECT count(*) FROM kinesis.read_shard('s', 'shardId-000000000000')"),
	'1', 'with the setting back the stream goes on');

done_testing();
