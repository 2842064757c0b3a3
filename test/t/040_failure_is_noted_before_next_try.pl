# A failure is noted under the lane's lock: a worker of a later scheduler does not try again before that, nor is anything noted while it does.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main');

# Each call has a gate of its own, and fails behind it.
$node->safe_psql('postgres', 'CREATE SEQUENCE call');
my $gates = $node->background_psql('postgres');
$gates->query_safe('SELECT pg_advisory_lock(1), pg_advisory_lock(2)');
make_mapping($node, 'failing', q{PERFORM pg_advisory_xact_lock_shared(nextval('call')); RAISE 'failed';});
put_data($node, 'failing', 'a');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"), 'the function runs');
my $first = lane_of($node, 'failing', 'pid');
my $others = "FROM pg_stat_activity WHERE backend_type = 'kinesis worker' AND pid <> $first";
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'kinesis scheduler'");
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT $others)"), 'the next scheduler has another worker for it');

# The failure can't be noted, since somebody holds the row.
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT FROM kinesis.mapping_lane FOR UPDATE');
$gates->query_safe('SELECT pg_advisory_unlock(1)');
ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $first AND wait_event IS DISTINCT FROM 'transactionid')"), 'the first worker waits to note its failure');
my $now = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT $others AND (state_change > '$now' OR wait_event_type = 'Lock'))"), 'the other one has tried meanwhile');
$holder->query_safe('ROLLBACK');
$holder->quit;

ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid <> $first"), 'the function runs again');
ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $first)"), 'in the other worker, the first one is gone');
my ($attempt) = (calls_of($node, 'failing'))[-1] =~ /^(\d+): a$/;
is($attempt, lane_of($node, 'failing', 'failures') + 1, 'this call knows of every failure that is noted');
$gates->quit;

done_testing();
