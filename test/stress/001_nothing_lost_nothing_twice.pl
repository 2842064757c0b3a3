# Writers with rollbacks, savepoints and prepared transactions, two sessions that reshard, and five readers, two of them on
# a standby: kill -9 of a backend and then of the whole server in the middle of it all.  Whatever was acknowledged is read
# once, in order, by every reader.  KINESIS_STRESS_SECONDS sets the time of the load.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run;
use KinesisNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{KINESIS_STRESS_SECONDS} // 25;
my $client = PostgreSQL::Test::Utils::tempdir() . '/stress';
my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
chomp(my $include = `$pg_config --includedir`);
chomp(my $lib = `$pg_config --libdir`);

is( system("cc -std=gnu17 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -I$include $FindBin::RealBin/*.c -o $client -L$lib -lpq -lpthread"),
	0, 'the client is built');

my $primary = kinesis_node('primary', allows_streaming => 1, conf => <<'CONF');
max_connections = 60
restart_after_crash = on
# Test::Cluster turns it off; on, commits take their time, and the crash meets some of them.
fsync = on
max_prepared_transactions = 50
max_locks_per_transaction = 512
wal_keep_size = 1GB
CONF
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('stress', 4);
SELECT kinesis.set_shard_limits('stress', NULL, NULL, NULL, NULL);
SQL
$primary->wait_for_catchup($standby, 'replay');

my ($out, $err) = ('', '');
my $run = IPC::Run::start([ $client, $seconds, $primary->connstr('postgres'), $standby->connstr('postgres') ],
	'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout($seconds + 400));

# Answer of a query; '' while the server is not there, which Test::Cluster's own calls take for a fault.
my $connstr = $primary->connstr('postgres');
sub answer
{
	my ($sql) = @_;
	my $answer = `psql -XAtq -d "$connstr" -c "$sql" 2>/dev/null` // '';
	chomp $answer;
	return $answer;
}

# Polls, through restarts of the server as well.
sub wait_until
{
	my ($sql) = @_;
	my $end = time + 180;
	while (time < $end)
	{
		return 1 if answer($sql) eq 't';
		select undef, undef, undef, 0.1;
	}
	return 0;
}

sub wait_for_records
{
	my ($n) = @_;
	return wait_until("SELECT count(*) >= $n FROM kinesis_stream.stress");
}
my $started = time;
ok(wait_for_records(3000), 'the load is under way');
my $victim = answer("SELECT pid FROM pg_stat_activity WHERE query LIKE '%put_record%' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1");
kill 'KILL', $victim;
ok(wait_until("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $victim)"), "the server is back after kill -9 of backend $victim");
my $before = answer('SELECT count(*) FROM kinesis_stream.stress');
ok(wait_for_records($before + 3000), 'the load goes on');
# In the middle of it: not before half of the time is over.
select undef, undef, undef, 0.1 while time - $started < $seconds / 2;
kill_all_with_9($primary);
$primary->start;
$before = answer('SELECT count(*) FROM kinesis_stream.stress');
ok(wait_for_records($before + 100), 'the load goes on after kill -9 of the whole server');

IPC::Run::finish($run);
note($err) if $err ne '';
unlike($err, qr/FAULT/, 'no reader met a fault');
foreach my $line (split /\n/, $out)
{
	if ($line =~ /^(not )?ok \d+ - (.*)/) { ok(!$1, $2) }
	else { diag($line) unless $line =~ /^1\.\./ }
}
like($out, qr/^1\.\.\d+$/m, 'the client came to its verdict');
is(join(' ', $run->full_results), '0', 'and it is good');

$standby->stop;
$primary->stop;

# Clients that connect anew would hide it: nobody died but whom we have killed, and background workers had no trouble.
my $log = slurp_file($primary->logfile);
my @died = grep { !/terminated by signal 9/ } $log =~ /^.*terminated by signal.*$/mg;
is("@died", '', 'no backend died by itself');
is(scalar(() = $log =~ /terminated by signal 9/g), 1, 'one was killed');
unlike(slurp_file($standby->logfile), qr/terminated by signal/, 'none died on the standby');
foreach my $node ($primary, $standby)
{
	# The prefix of a process without a client has no name of an application.
	my @trouble = slurp_file($node->logfile) =~ /^(.*(?:PANIC:|TRAP:|\[\d+\] (?:ERROR|WARNING):).*)$/mg;
	is(join("\n", @trouble[0 .. ($#trouble < 9 ? $#trouble : 9)]), '', 'no trouble in the log of ' . $node->name);
}
done_testing();
