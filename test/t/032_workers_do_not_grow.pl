# 100,000 turns, in both shapes of functions and with failures among them, leave worker and scheduler no larger than the first 20,000.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main', conf => "kinesis.max_workers = 2\nkinesis.max_retry_backoff = '100ms'\nsynchronous_commit = off\nfsync = off\n");
$node->safe_psql('postgres', <<'SQL');
CREATE SEQUENCE turn;
CREATE FUNCTION records_work(records kinesis.record[], context kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('turn') % 2000 = 0 THEN
        RAISE EXCEPTION 'now and then';
    END IF;
END $$;
CREATE FUNCTION event_work(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('turn') % 2000 = 0 THEN
        RAISE EXCEPTION 'now and then';
    END IF;
    RETURN NULL;
END $$;
SELECT kinesis.create_stream('s', 1);
SELECT kinesis.set_shard_limits('s', NULL, NULL, NULL, NULL);
SELECT kinesis.create_event_source_mapping('s', 'records_work', batch_size => 1);
SELECT kinesis.create_event_source_mapping('s', 'event_work', batch_size => 1);
SQL

# So many more turns of each mapping.
my $put = 0;

sub turns
{
	my ($n) = @_;

	$put += $n;
	$node->safe_psql('postgres', "SELECT count(*) FROM (SELECT kinesis.put_records('s', array_fill('some data'::bytea, '{500}'), array_fill('key'::text, '{500}')) FROM generate_series(1, $n / 500)) x");
	ok($node->poll_query_until('postgres', "SELECT min(records) = $put FROM kinesis.event_source_mapping_lanes"), "$put turns of each mapping");
}

# Private memory of our processes that live, in kB: pid => kB.
sub memory
{
	my %memory;

	foreach my $pid (split /\n/, $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type IN ('kinesis worker', 'kinesis scheduler')"))
	{
		$memory{$pid} = $1 if slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
	}
	return %memory;
}

turns(10_000);
my %before = memory();
is(scalar(keys %before), 3, 'a scheduler and two workers');
turns(40_000);
my %after = memory();
is("@{[ sort keys %after ]}", "@{[ sort keys %before ]}", 'they are the same processes');
foreach my $pid (sort keys %before)
{
	cmp_ok($after{$pid} - $before{$pid}, '<', 1024, "process $pid: $before{$pid} kB after 20,000 turns, $after{$pid} kB after 100,000");
}
cmp_ok($node->safe_psql('postgres', 'SELECT sum(failures) FROM kinesis.event_source_mapping_lanes'), '>=', 40, 'failures were among them');
unlike(slurp_file($node->logfile), qr/leak/, 'nothing leaks');

done_testing();
