# pg_upgrade carries streams over: records, numbers, rights; and puts go on.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $old = kinesis_node('old');
my $bindir = $old->config_data('--bindir');
$old->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('s', 3);
SELECT kinesis.set_shard_limits('s', NULL, NULL, NULL, NULL);
SELECT kinesis.add_tags_to_stream('s', '{"team": "clicks"}');
SELECT kinesis.put_record('s', decode(repeat(md5(i::text), 1 + i % 300), 'hex'), 'key ' || i) FROM generate_series(1, 1000) AS i;
SELECT kinesis.split_shard('s', 'shardId-000000000000', 1000);
SET kinesis.clock_offset = '10min';
SELECT kinesis.put_record('s', 'after the split', 'key ' || i) FROM generate_series(1, 100) AS i;
SQL
my $records = records_of($old, 'postgres', 's');
my $least = $old->safe_psql('postgres', <<'SQL');
SELECT min(last) FROM (SELECT max(sequence_number) AS last FROM kinesis_stream.s WHERE shard > 0 GROUP BY shard) AS s
SQL
my $catalog = "SELECT * FROM kinesis.shard ORDER BY 1, 2; SELECT * FROM kinesis.slice ORDER BY 1, 2, 3; SELECT * FROM kinesis.tag";
my $rows = $old->safe_psql('postgres', $catalog);
$old->stop;

my $new = PostgreSQL::Test::Cluster->new('new');
$new->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$new->append_conf('postgresql.conf', kinesis_conf());

# pg_upgrade writes where it stands.
chdir PostgreSQL::Test::Utils::tempdir or die "cannot change folder: $!";
my @command = ('pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bindir, '-B', $bindir,
	'-s', $new->host, '-p', $old->port, '-P', $new->port);
$new->command_ok([ @command, '--check' ], 'pg_upgrade --check');
$new->command_ok([@command], 'pg_upgrade');
$new->start;

is(records_of($new, 'postgres', 's'), $records, 'all records are there, in order');
is($new->safe_psql('postgres', $catalog), $rows, 'shards, slices and tags are the same');
is(faults_of($new, 'postgres', 's'), '', 'check_stream finds no fault');
is( $new->safe_psql('postgres', "SELECT count(*) FILTER (WHERE (kinesis.put_record('s', 'new', 'key ' || i)).sequence_number > $least) FROM generate_series(1, 100) AS i"),
	'100', 'new records are numbered above, though the old ones are of a clock ahead of ours');
$new->safe_psql('postgres', "SELECT kinesis.merge_shards('s', 'shardId-000000000001', 'shardId-000000000002')");
is(faults_of($new, 'postgres', 's'), '', 'and resharding goes on');
is($new->safe_psql('postgres', "SELECT typsend FROM pg_type WHERE oid = 'kinesis.record[]'::regtype"),
	'kinesis._records_send', 'arrays of records are sent by our function again');
my ($status, $out, $err) = $new->psql('postgres', 'DROP EXTENSION kinesis');
isnt($status, 0, 'the extension still depends on its streams');

done_testing();
