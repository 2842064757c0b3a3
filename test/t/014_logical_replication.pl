# A subscription cannot change a stream: what its workers try, at the stream's table or at a slice, is refused like a session's.
# A publication may carry records out.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main', allows_streaming => 'logical', conf => <<'CONF');
wal_level = logical
max_logical_replication_workers = 8
CONF
my $columns = 'sequence_number bigint NOT NULL, shard int NOT NULL, partition_key text NOT NULL, data bytea NOT NULL';

# A stream with a record, and a database that has plain tables of the same names with the same row.
$node->safe_psql('postgres', "SELECT kinesis.create_stream('s', 1); SELECT kinesis.put_record('s', 'x', 'k')");
my $slice = $node->safe_psql('postgres', 'SELECT tableoid::regclass FROM kinesis_stream.s');
my $number = $node->safe_psql('postgres', 'SELECT sequence_number FROM kinesis_stream.s');
my $before = records_of($node, 'postgres', 's');
$node->safe_psql('postgres', 'CREATE DATABASE plain TEMPLATE template0');
$node->safe_psql('plain', <<SQL);
CREATE SCHEMA kinesis_stream;
CREATE TABLE kinesis_stream.s ($columns);
CREATE TABLE $slice ($columns);
ALTER TABLE kinesis_stream.s REPLICA IDENTITY FULL;
ALTER TABLE $slice REPLICA IDENTITY FULL;
CREATE PUBLICATION of_s FOR TABLE kinesis_stream.s;
CREATE PUBLICATION of_slice FOR TABLE $slice;
SQL

my %tables = (of_s => 'kinesis_stream.s', of_slice => $slice);
my %changes = (
	INSERT => sub { "INSERT INTO $_[0] VALUES ($number + 1, 0, 'k', 'y')" },
	UPDATE => sub { "UPDATE $_[0] SET data = 'y'" },
	DELETE => sub { "DELETE FROM $_[0]" },
	TRUNCATE => sub { "TRUNCATE $_[0]" });

# The worker tries again and again, unless it is told to stop.
sub subscribe
{
	my ($publication, $copy) = @_;
	$node->safe_psql('plain', "SELECT pg_create_logical_replication_slot('sub', 'pgoutput')");
	$node->safe_psql('postgres', sprintf(
		"CREATE SUBSCRIPTION sub CONNECTION '%s' PUBLICATION %s WITH (create_slot = false, copy_data = %s, disable_on_error = true)",
		$node->connstr('plain') =~ s/'/''/gr, $publication, $copy ? 'true' : 'false'));
}

sub unsubscribe
{
	$node->safe_psql('postgres', 'ALTER SUBSCRIPTION sub DISABLE; ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub');
	$node->poll_query_until('plain', "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'sub'") or die 'the slot stays active';
	$node->safe_psql('plain', "SELECT pg_drop_replication_slot('sub')");
}

foreach my $publication (sort keys %tables)
{
	my $table = $tables{$publication};
	foreach my $change (sort keys %changes)
	{
		$node->safe_psql('plain', "TRUNCATE $table; INSERT INTO $table VALUES ($number, 0, 'k', 'x')");
		subscribe($publication, 0);
		my $log = -s $node->logfile;
		$node->safe_psql('plain', $changes{$change}->($table));
		ok($node->poll_query_until('postgres', 'SELECT NOT subenabled FROM pg_subscription'), "the worker gives up: $change into $table");
		my $said = slurp_file($node->logfile, $log);
		like($said, qr/ERROR:  records are immutable\n.*DETAIL:  $change was tried on table/, "and says why");
		unsubscribe();
	}
	# The worker that copies what is there at the beginning.
	subscribe($publication, 1);
	ok($node->poll_query_until('postgres', 'SELECT NOT subenabled FROM pg_subscription'), "the copy of $table is given up, too");
	unsubscribe();
}
is(records_of($node, 'postgres', 's'), $before, 'the stream has its record');
is(faults_of($node, 'postgres', 's'), '', 'and no fault');

# The other way.
$node->safe_psql('postgres', "CREATE PUBLICATION records FOR TABLE kinesis_stream.s WITH (publish_via_partition_root); SELECT pg_create_logical_replication_slot('out', 'pgoutput')");
$node->safe_psql('plain', 'TRUNCATE kinesis_stream.s');
$node->safe_psql('plain', sprintf("CREATE SUBSCRIPTION out CONNECTION '%s' PUBLICATION records WITH (create_slot = false)", $node->connstr('postgres') =~ s/'/''/gr));
$node->safe_psql('postgres', "SELECT kinesis.put_records('s', ARRAY['a', 'b', 'c']::bytea[], ARRAY['k', 'k', 'k'])");
ok($node->poll_query_until('plain', 'SELECT count(*) = 4 FROM kinesis_stream.s'), 'a publication carries records out');
is($node->safe_psql('plain', 'SELECT string_agg(convert_from(data, \'UTF8\'), \',\' ORDER BY sequence_number) FROM kinesis_stream.s'), 'x,a,b,c', 'all of them');
$node->safe_psql('plain', 'DROP SUBSCRIPTION out');

done_testing();
