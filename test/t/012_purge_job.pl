# CREATE EXTENSION in pg_cron's database makes the job; it runs, says so in cron.job_run_details, and drops what has expired.
# When the extension is gone, the job goes by itself.
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
my $job = $node->safe_psql('postgres', "SELECT jobid FROM cron.job WHERE jobname = 'kinesis_purge'");
is($node->safe_psql('postgres', "SELECT schedule, command LIKE '%kinesis.purge()%', database, active FROM cron.job WHERE jobid = $job"),
	'* * * * *|t|postgres|t', 'the job is there, every minute');

# A stream whose first slices are long past retention by the clock that the job's session has.
$node->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('old', 1);
SELECT kinesis.put_record('old', 'x', 'k');
ALTER DATABASE postgres SET kinesis.clock_offset = '100 h';
SQL
my $slice = $node->safe_psql('postgres', "SELECT min(lower_bound) FROM kinesis.slice");
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'succeeded' AND jobid = $job"),
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

# Dropped without a word to pg_cron, which runs the job once more, or had begun to.
$job = $node->safe_psql('postgres', 'SELECT kinesis.enable_purge_job()');
$node->safe_psql('postgres', "SELECT cron.schedule('somebody''s', '* * * * *', 'SELECT 1')");
$node->safe_psql('postgres', 'DROP EXTENSION kinesis CASCADE');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM cron.job WHERE jobid = $job"), 'without the extension the job goes by itself');
# (pg_cron calls a run cancelled that has removed its own job.)
is($node->safe_psql('postgres', "SELECT count(*) FROM cron.job_run_details WHERE status = 'failed' AND return_message <> 'job canceled'"), '0', 'and no run has failed');
unlike(slurp_file($node->logfile), qr/ERROR/, 'nor is there an error in the log');
is($node->safe_psql('postgres', 'SELECT jobname FROM cron.job'), "somebody's", 'the jobs of others stay');

# It comes again, and goes together with pg_cron's own.
$node->safe_psql('postgres', 'CREATE EXTENSION kinesis');
is($node->safe_psql('postgres', "SELECT count(*) FROM cron.job WHERE jobname = 'kinesis_purge'"), '1', 'a new extension has a new job');
$node->safe_psql('postgres', 'DROP EXTENSION pg_cron');
$node->safe_psql('postgres', 'DROP EXTENSION kinesis');
$node->stop;
done_testing();
