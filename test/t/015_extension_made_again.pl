# A database whose extension is dropped and made again begins anew: nothing of the old streams' numbers or limits is left in
# the server's memory, though the new streams have their ids.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main');
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump';

# Records of a clock ahead of ours: above them a new record's number does not come by itself.
$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('source', <<'SQL');
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('s', 1);
SET kinesis.clock_offset = '20 h';
SELECT kinesis.put_record('s', 'restored', 'k');
SQL
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('source') ], 'pg_dump');

# The same id, also of a shard whose number and buckets are in memory.
$node->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('s', 1);
SELECT kinesis.put_records('s', array_fill('\x00'::bytea || convert_to(repeat('x', 2000), 'UTF8'), ARRAY[400]), array_fill('k'::text, ARRAY[400]));
SQL
my ($status) = $node->psql('postgres', "SELECT kinesis.put_record('s', decode(repeat('00', 500000), 'hex'), 'k')");
isnt($status, 0, "the old stream's shard is at its limit");
my $id = $node->safe_psql('postgres', 'SELECT stream_id FROM kinesis.stream');
$node->safe_psql('postgres', 'DROP EXTENSION kinesis CASCADE');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('postgres'), $dump ], 'pg_restore');
is($node->safe_psql('postgres', 'SELECT stream_id FROM kinesis.stream'), $id, 'the restored stream has the id of the old one');
is($node->safe_psql('postgres', "SELECT convert_from(data, 'UTF8') FROM kinesis.read_shard('s', '0')"), 'restored', 'the record is there');
is($node->safe_psql('postgres', <<'SQL'), 't', 'a new record is numbered above it, and no old throttle stops it');
SELECT p.sequence_number > max(r.sequence_number)
  FROM (SELECT * FROM kinesis_stream.s) AS r, kinesis.put_record('s', decode(repeat('00', 500000), 'hex'), 'k') AS p
 GROUP BY p.sequence_number
SQL
is(faults_of($node, 'postgres', 's'), '', 'check_stream finds no fault');

done_testing();
