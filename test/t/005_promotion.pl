# A promoted standby numbers above everything that it has received, whatever the clocks say.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $primary = kinesis_node('primary', allows_streaming => 1);
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

# The primary's clock is a quarter of an hour ahead of the standby's.
$primary->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('s', 2);
SELECT kinesis.set_shard_limits('s', NULL, NULL, NULL, NULL);
SET kinesis.clock_offset = '15min';
SELECT kinesis.put_record('s', convert_to('old ' || i, 'UTF8'), 'key ' || i) FROM generate_series(1, 500) AS i;
SQL
$primary->wait_for_catchup($standby);
# The standby has looked at the tails before, so it has something to remember wrongly.
my $before = records_of($standby, 'postgres', 's');
$primary->safe_psql('postgres', <<'SQL');
SET kinesis.clock_offset = '15min';
SELECT kinesis.put_record('s', convert_to('late ' || i, 'UTF8'), 'key ' || i) FROM generate_series(1, 500) AS i;
SQL
$primary->wait_for_catchup($standby);
my $received = records_of($primary, 'postgres', 's');
$primary->stop('immediate');
$standby->promote;

is(records_of($standby, 'postgres', 's'), $received, 'the promoted server has every record');
my %last = map { $_ => ($received =~ /.*^\Q$_\E\|(\d+)/ms)[0] } 'shardId-000000000000', 'shardId-000000000001';
$standby->safe_psql('postgres', "SELECT kinesis.put_record('s', convert_to('new ' || i, 'UTF8'), 'key ' || i) FROM generate_series(1, 500) AS i");
foreach my $shard (sort keys %last)
{
	my ($new, $above) = split /\|/, $standby->safe_psql('postgres',
		"SELECT count(*), count(*) FILTER (WHERE sequence_number > $last{$shard}) FROM kinesis.read_shard('s', '$shard') WHERE convert_from(data, 'UTF8') LIKE 'new %'");
	cmp_ok($new, '>', 0, "$shard takes new records");
	is($above, $new, 'and all are numbered above the received ones');
}
is($standby->safe_psql('postgres', "SELECT count(*) FROM kinesis.list_shards('s') AS s, kinesis.read_shard('s', s.shard_id)"),
	'1500', 'old and new are there');
is(faults_of($standby, 'postgres', 's'), '', 'check_stream finds no fault');
$standby->safe_psql('postgres', "SELECT kinesis.update_shard_count('s', 4)");
is(faults_of($standby, 'postgres', 's'), '', 'nor after resharding on the new primary');

done_testing();
