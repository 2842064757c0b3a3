# CREATE EXTENSION in pg_cron's database makes the job; it runs, says so in cron.job_run_details, and drops what has expired.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use KinesisNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = kinesis_node('main', extension => 0, conf => <<'CONF');
shared_preload_libraries = 'kinesis, pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = on
CONF
$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron');
$node->safe_psql('postgres', 'CREATE EXTENSION kinesis');
is($node->safe_psql('postgres', "SELECT schedule, command, database, active FROM cron.job WHERE jobname = 'kinesis_purge'"),
	'* * * * *|SELECT kinesis.purge()|postgres|t', 'the job is there, every minute');

# A stream whose first slices are long past retention by the clock that the job's session has.
$node->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('old', 1);
SELECT kinesis.put_record('old', 'x', 'k');
ALTER DATABASE postgres SET kinesis.clock_offset = '100 h';
SQL
my $slice = $node->safe_psql('postgres', "SELECT min(lower_bound) FROM kinesis.slice");
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'succeeded' AND command = 'SELECT kinesis.purge()'"),
	'a run is in cron.job_run_details');
ok($node->poll_query_until('postgres', "SELECT min(lower_bound) > $slice FROM kinesis.slice"), 'the expired slice is gone');
is($node->safe_psql('postgres', "SELECT to_regclass('kinesis_stream.\"1/0/$slice\"') IS NULL"), 't', 'and its table');
is($node->safe_psql('postgres', "SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'"), '0', 'no run failed');
is(faults_of($node, 'postgres', 'old'), '', 'check_stream finds nothing');

is($node->safe_psql('postgres', "SELECT kinesis.enable_purge_job('*/5 * * * *') > 0"), 't', 'another schedule');
is($node->safe_psql('postgres', "SELECT string_agg(schedule, ', ') FROM cron.job WHERE jobname = 'kinesis_purge'"), '*/5 * * * *', 'it is the same job');
is($node->safe_psql('postgres', 'SELECT kinesis.disable_purge_job()'), 't', 'the job is removed');
is($node->safe_psql('postgres', "SELECT count(*) FROM cron.job WHERE jobname = 'kinesis_purge'"), '0', 'and gone');
is($node->safe_psql('postgres', 'SELECT kinesis.disable_purge_job()'), 'f', 'a second time there is nothing to remove');
$node->stop;
done_testing();
