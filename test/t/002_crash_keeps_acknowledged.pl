# kill -9 of the whole server, and of one backend, in the middle of puts: what was acknowledged is read once and in order.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main', conf => "restart_after_crash = on\n");
$node->safe_psql('postgres',
	"SELECT kinesis.create_stream('s', 3); SELECT kinesis.set_shard_limits('s', NULL, NULL, NULL, NULL)");

# A producer that will never commit must leave no trace.
my $open = $node->background_psql('postgres', on_error_stop => 0);
$open->query_safe("BEGIN");
$open->query_safe("SELECT kinesis.put_record('s', 'never committed', 'key ' || i) FROM generate_series(1, 20) AS i");

# ---- The whole server, whose clock is an hour ahead until it dies: only what is stored can tell it where to go on. ----
my @writers;
{
	local $ENV{PGOPTIONS} = '-c kinesis.clock_offset=1h';
	@writers = start_writers($node, 'postgres', 's', 'a', 'b', 'c');
}
wait_for_acknowledged(300, @writers);
kill_all_with_9($node);
stop_writers(@writers);
eval { $open->quit };
$node->start;

my $acknowledged = acknowledged_of(@writers);
my $read = is_each_read_once($node, 'postgres', 's', $acknowledged, 'after kill -9 of the server');
ok(!exists $read->{'never committed'}, 'an open transaction left nothing');
# A writer may have one statement committed whose answer it did not see: twenty records at most.
my $unseen = grep { !exists $acknowledged->{$_} } keys %$read;
cmp_ok($unseen, '<=', 3 * 20, "no more than the statements under way are beyond what was acknowledged ($unseen)");
is(faults_of($node, 'postgres', 's'), '', 'check_stream finds no fault');

my $greatest = greatest_number($node, 'postgres', 's');
my @numbers = split /\n/, $node->safe_psql('postgres',
	"SELECT (kinesis.put_record('s', convert_to('after ' || i, 'UTF8'), 'key ' || i)).sequence_number FROM generate_series(1, 50) AS i");
is(scalar(@numbers), 50, 'puts go on');
my @before = sort { $a <=> $b } map { (split /\|/)[1] } values %$read;
my %last;
foreach (values %$read)
{
	my ($shard, $number) = split /\|/;
	$last{$shard} = $number if !exists $last{$shard} || $number > $last{$shard};
}
my @low = split /\n/, $node->safe_psql('postgres', join ' UNION ALL ', map {
	"SELECT sequence_number FROM kinesis.read_shard('s', '$_') WHERE convert_from(data, 'UTF8') LIKE 'after %' AND sequence_number <= $last{$_}"
} sort keys %last);
is(scalar(@low), 0, 'and are numbered above all that was there');

# ---- One backend: the server restarts itself, and all shared memory is new. ----
@writers = start_writers($node, 'postgres', 's', 'd', 'e', 'f');
wait_for_acknowledged(300, @writers);
my $log = -s $node->logfile;
my $victim = $node->safe_psql('postgres',
	"SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND query LIKE '%kinesis.put\\_record%' AND pid <> pg_backend_pid() LIMIT 1");
like($victim, qr/^\d+$/, 'a writer to kill is found');
kill 'KILL', $victim;
stop_writers(@writers);
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log);
$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';

$acknowledged = { %{ acknowledged_of(@writers) }, %$acknowledged };
$read = is_each_read_once($node, 'postgres', 's', $acknowledged, 'after kill -9 of a backend');
is(faults_of($node, 'postgres', 's'), '', 'check_stream finds no fault');

# The same again at once, with VACUUM over the dead rows of the crash: the tail pages are filled anew.
$node->safe_psql('postgres', 'VACUUM');
@writers = start_writers($node, 'postgres', 's', 'g');
wait_for_acknowledged(200, @writers);
kill_all_with_9($node);
stop_writers(@writers);
$node->start;
$acknowledged = { %{ acknowledged_of(@writers) }, %$acknowledged };
is_each_read_once($node, 'postgres', 's', $acknowledged, 'after vacuum and another kill -9');
is(faults_of($node, 'postgres', 's'), '', 'check_stream finds no fault');

done_testing();
