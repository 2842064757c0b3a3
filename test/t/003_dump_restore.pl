# pg_dump and restore bring back streams, records, order, numbers, tags and settings; new puts are numbered above.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

# What lanes are dumped is compared with what is restored, so nobody is to work on them.
my $no_workers = "kinesis.max_workers = 0\n";
my $node = kinesis_node('main', conf => $no_workers);
my $other = kinesis_node('other', extension => 0, conf => $no_workers);
my $folder = PostgreSQL::Test::Utils::tempdir;
my $long = 'a' . 'b' x 99;

# Sizes from 10 bytes to 20 kB: a COPY fills the free space that a large row left behind with the small ones after it, so a
# restored slice is out of order on disk.
$node->safe_psql('postgres', <<SQL);
SELECT kinesis.create_stream('mixed', 3);
SELECT kinesis.create_stream('$long', 1);
SELECT kinesis.create_stream('empty', 2);
SELECT kinesis.set_shard_limits('mixed', NULL, NULL, NULL, 17);
SELECT kinesis.create_group('group', ARRAY['mixed', '$long']), kinesis.join_group('group', 'a member');
SELECT kinesis.register_stream_consumer('mixed', 'app', '{"of": "the consumer"}');
SELECT kinesis.add_tags_to_stream('mixed', '{"team": "clicks", "owner.e-mail": "a+b\@example.com"}');
SELECT kinesis.increase_stream_retention_period('mixed', 48);
SELECT setseed(0.5);
DO \$\$
BEGIN
    FOR i IN 1..20 LOOP
        PERFORM kinesis.put_records('mixed',
            ARRAY(SELECT decode(repeat(md5(random()::text), 1 + (CASE WHEN random() < 0.5 THEN 8 ELSE 625 END * random())::int), 'hex')
                    FROM generate_series(1, 50)),
            ARRAY(SELECT 'key ' || (random() * 1000)::int FROM generate_series(1, 50)));
        PERFORM kinesis.put_record('$long', convert_to('long ' || i, 'UTF8'), 'k');
    END LOOP;
END \$\$;
SELECT kinesis.split_shard('mixed', 'shardId-000000000001', (SELECT starting_hash_key + 1000 FROM kinesis.shard
    JOIN kinesis.stream USING (stream_id) WHERE stream_name = 'mixed' AND shard_index = 1));
SELECT kinesis.put_records('mixed', ARRAY(SELECT 'after the split'::bytea FROM generate_series(1, 100)),
    ARRAY(SELECT 'key ' || i FROM generate_series(1, 100) AS i));
CREATE ROLE clerk;
SELECT kinesis.grant_stream('mixed', 'clerk', 'consumer');
CREATE SCHEMA app AUTHORIZATION clerk;
CREATE FUNCTION app.work(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT \$1';
SET ROLE clerk;
SELECT kinesis.create_event_source_mapping('mixed', 'app.work', parallelization_factor => 3), kinesis.create_notification('mixed', 'news of it');
RESET ROLE;
SELECT kinesis.create_event_source_mapping('$long', 'work', 'LATEST', on_failure => 'mixed', filter_criteria => '{"Filters": [{"Pattern": "{\\"partitionKey\\": [\\"k\\"]}"}]}', enabled => false);
SELECT kinesis._sync_mappings();
UPDATE kinesis.mapping_lane SET checkpoint = 1000 + lane_id, invocations = 7, last_result = 'OK', window_state = '{"n": 1}' WHERE lanes = 3;
SQL
$other->safe_psql('postgres', 'CREATE ROLE clerk');

my $summary = <<'SQL';
SELECT stream_name, stream_status, stream_mode, stream_creation_timestamp, retention_period_hours, max_record_size_in_kib,
       write_bytes_per_second, write_records_per_second, read_bytes_per_second, read_calls_per_second, next_shard_index
  FROM kinesis.stream ORDER BY stream_name;
SELECT * FROM kinesis.tag ORDER BY 1, 2, 3, 4;
SELECT * FROM kinesis.consumer ORDER BY 1;
SELECT to_jsonb(m) - 'home' - 'transition' FROM kinesis.event_source_mapping m ORDER BY m.uuid; SELECT * FROM kinesis.mapping_lane ORDER BY 1; SELECT stream_id, channel, owner, created_at FROM kinesis.notification;
SELECT * FROM kinesis.consumer_group; SELECT * FROM kinesis.group_stream ORDER BY 1, 2; SELECT * FROM kinesis.lease ORDER BY 1, 2, 3;
SELECT * FROM kinesis.shard ORDER BY 1, 2;
SQL
my %records = map { $_ => records_of($node, 'postgres', $_) } 'mixed', $long, 'empty';
my $catalog = $node->safe_psql('postgres', $summary);
my $greatest = greatest_number($node, 'postgres', 'mixed');
cmp_ok(scalar(split /\n/, $records{mixed}), '==', 1100, 'the source has its records');

sub same
{
	my ($where, $db, $what) = @_;

	# Before anybody has touched the stream: the plain restore must have a disorder to mend.  (pg_restore -j truncates first,
	# and COPY looks for no free space in a file of its own transaction.)
	cmp_ok(disorder_of($where, $db, 'mixed'), '>', 0, "$what: the restore laid records out of order on disk") if $what =~ /^plain/;
	# Putting a slice in order is writing.  Who may not write is told, not served a wrong order.
	my ($refused, undef, $hint) = $where->psql($db,
		"SET default_transaction_read_only = on; SELECT count(*) FROM kinesis.read_shard('mixed', 'shardId-000000000000')");
	isnt($refused, 0, "$what: the first read can't be in a read-only transaction");
	like($hint, qr/HINT: .*kinesis\.finish_restore\(\)/, "$what: which is told what to do");
	is($where->safe_psql($db, 'SELECT kinesis.finish_restore()'), '3', "$what: finish_restore does all streams") if $what =~ /^folder/;
	is($where->safe_psql($db, $summary), $catalog, "$what: streams, shards and tags are the same");
	# Who has copied a database may not want its functions to run there.
	my $states = "SELECT state, state_transition_reason LIKE '%finish_restore%' FROM kinesis.list_event_source_mappings() ORDER BY 1; SELECT count(*) FROM kinesis._runnable_lanes(); SELECT active FROM kinesis.notifications";
	if ($what !~ /^folder/)
	{
		$where->safe_psql($db, "SELECT count(*) FROM kinesis.read_shard('mixed', 'shardId-000000000000')");
		is($where->safe_psql($db, "SELECT kinesis._sync_mappings(); $states"), "f\nDisabled|t\nDisabled|t\n0\nf", "$what: mappings are disabled, also when their stream is in use");
		$where->safe_psql($db, 'SELECT kinesis.finish_restore()');
	}
	is($where->safe_psql($db, "SELECT kinesis._sync_mappings(); $states"), "f\nDisabled|f\nEnabled|f\n9\nt", "$what: after finish_restore they go on");
	is($where->safe_psql($db, "SELECT string_agg(tgenabled::text, ',') FROM pg_trigger WHERE tgfoid = 'kinesis._ring_scheduler()'::regprocedure"), 'A,A', "$what: the scheduler is told of changes");
	is($where->safe_psql($db, $summary), $catalog, "$what: all is the same after that");
	foreach my $stream (sort keys %records)
	{
		ok(records_of($where, $db, $stream) eq $records{$stream}, "$what: records and their order are the same in " . substr($stream, 0, 10));
		is(faults_of($where, $db, $stream), '', "$what: check_stream finds no fault in " . substr($stream, 0, 10));
	}
	is($where->safe_psql($db, "SELECT kinesis.join_group('group', 'new', 'deadline'); SELECT count(*) > 3 FROM kinesis.acquire_leases('group', 'new'); SELECT kinesis.leave_group('group', 'new')"),
		"new\nt\n", "$what: the group has new members") unless $what =~ /later/;
	is($where->safe_psql($db, "SET ROLE clerk; SELECT count(*) > 0 FROM kinesis.read_shard('mixed', 'shardId-000000000000')"),
		't', "$what: a granted role may still read");
	is( $where->safe_psql($db, <<SQL), 't', "$what: a position of before is found by its number");
WITH old AS (SELECT * FROM kinesis.read_shard('mixed', 'shardId-000000000000')),
     middle AS (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY sequence_number) AS number FROM old)
SELECT (SELECT count(*) FROM kinesis.read_shard('mixed', 'shardId-000000000000', number)) = (SELECT count(*) FROM old WHERE sequence_number > number)
  FROM middle
SQL
	is(disorder_of($where, $db, 'mixed'), '0', "$what: on disk, too, records are in order again");
	my $numbers = $where->safe_psql($db, <<SQL);
SELECT count(*), count(*) FILTER (WHERE sequence_number > $greatest)
  FROM kinesis.put_records('mixed', ARRAY(SELECT 'new'::bytea FROM generate_series(1, 100)),
                           ARRAY(SELECT 'key ' || i FROM generate_series(1, 100) AS i))
SQL
	is($numbers, '100|100', "$what: new records are numbered above all restored ones");
	$where->safe_psql($db, "SELECT kinesis.create_stream('one-more', 1); SELECT kinesis.put_record('one-more', 'x', 'k')");
	is($where->safe_psql($db, "SELECT count(*) FROM kinesis.stream"), '4', "$what: a new stream finds a free id");
	is(faults_of($where, $db, 'mixed'), '', "$what: no fault after new records");
	my ($status, $out, $err) = $where->psql($db, "DELETE FROM kinesis_stream.mixed");
	isnt($status, 0, "$what: records are still immutable");
}

$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', "$folder/plain.sql" ], 'pg_dump, plain');
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-Fc', '-f', "$folder/custom.dump" ], 'pg_dump, custom');
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-Fd', '-j2', '-f', "$folder/folder" ], 'pg_dump, folder, two jobs');

foreach my $target ([ $node, 'here' ], [ $other, 'elsewhere' ])
{
	my ($where, $name) = @$target;
	$where->safe_psql('postgres', "CREATE DATABASE plain TEMPLATE template0; CREATE DATABASE custom TEMPLATE template0; CREATE DATABASE folder TEMPLATE template0");
	$where->command_ok([ 'psql', '-X', '-q', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-d', $where->connstr('plain'), '-f', "$folder/plain.sql" ],
		"psql restores $name");
	same($where, 'plain', "plain, $name");
	$where->command_ok([ 'pg_restore', '-e', '-j2', '-d', $where->connstr('custom'), "$folder/custom.dump" ], "pg_restore -j2 $name");
	same($where, 'custom', "custom, $name");
	$where->command_ok([ 'pg_restore', '-e', '-j2', '-d', $where->connstr('folder'), "$folder/folder" ], "pg_restore -j2 of a folder $name");
	same($where, 'folder', "folder, $name");
}

# Tables first, records later: the guard is there already, and has to be asked to look away.  pg_restore sets triggers on
# again, but not as they were.
foreach my $jobs ('-j1', '-j2')
{
	$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS later; CREATE DATABASE later TEMPLATE template0');
	$node->command_ok([ 'pg_restore', '-e', '--schema-only', '-d', $node->connstr('later'), "$folder/custom.dump" ], "tables first ($jobs)");
	my ($refused, $err);
	IPC::Run::run([ 'pg_restore', '-e', '--data-only', $jobs, '-d', $node->connstr('later'), "$folder/custom.dump" ], '2>', \$err) and $refused = 'not refused';
	is($refused // $err =~ /records are immutable/, 1, "records are refused ($jobs)");
	$node->safe_psql('later', 'TRUNCATE kinesis.stream, kinesis.shard, kinesis.slice, kinesis.tag, kinesis.consumer, kinesis.consumer_group, kinesis.group_stream, kinesis.lease, kinesis.event_source_mapping, kinesis.mapping_lane, kinesis.notification');
	$node->command_ok([ 'pg_restore', '-e', '--data-only', '--disable-triggers', $jobs, '-d', $node->connstr('later'), "$folder/custom.dump" ],
		"unless triggers are disabled ($jobs)");
	same($node, 'later', "later, $jobs");
	is($node->safe_psql('later', <<'SQL'), 'A', "the guard is what it was ($jobs)");
SELECT string_agg(DISTINCT tgenabled::text, ',') FROM pg_trigger WHERE tgfoid = 'kinesis._refuse_change()'::regprocedure
SQL
}

# pg_cron's job may come in the middle of a restore.  It must leave the streams alone, or the records that come later would
# never be put in order.
$node->safe_psql('postgres', 'CREATE DATABASE halfway TEMPLATE template0');
my @restore = ('pg_restore', '-e', '-d', $node->connstr('halfway'));
$node->command_ok([ @restore, '--section=pre-data', "$folder/custom.dump" ], 'the tables are restored');
$node->command_ok([ @restore, '--section=data', '--schema=kinesis', "$folder/custom.dump" ], 'the catalog is restored');
is($node->safe_psql('halfway', 'SELECT * FROM kinesis.purge()'), '0|0|0', 'a purge meanwhile does nothing');
$node->command_ok([ @restore, '--section=data', '--schema=kinesis_stream', "$folder/custom.dump" ], 'the records are restored');
$node->command_ok([ @restore, '--section=post-data', "$folder/custom.dump" ], 'the triggers are restored');
is($node->safe_psql('halfway', 'SELECT * FROM kinesis.purge()'), '0|0|0', 'a purge does not know that this was the end');
cmp_ok(disorder_of($node, 'halfway', 'mixed'), '>', 0, 'records lie out of order');
ok(records_of($node, 'halfway', 'mixed') eq $records{mixed}, 'the first reader puts them in order');
is(faults_of($node, 'halfway', 'mixed'), '', 'check_stream finds no fault');
is($node->safe_psql('halfway', 'SELECT slices_made > 0 FROM kinesis.purge()'), 't', 'now purge does its work');

# A restored database can be dumped and restored again.
$other->command_ok([ 'pg_dump', '-d', $other->connstr('custom'), '-f', "$folder/again.sql" ], 'pg_dump of what was restored');
$other->safe_psql('postgres', 'CREATE DATABASE again TEMPLATE template0');
$other->command_ok([ 'psql', '-X', '-q', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-d', $other->connstr('again'), '-f', "$folder/again.sql" ], 'and its restore');
ok(records_of($other, 'again', 'mixed') eq records_of($other, 'custom', 'mixed'), 'which has the same records');

# The source was not touched by any of this.
ok(records_of($node, 'postgres', 'mixed') eq $records{mixed}, 'the source is as it was');

done_testing();
