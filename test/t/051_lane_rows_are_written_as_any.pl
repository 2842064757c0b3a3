# The rows of lanes are written without the executor, and are for all others as if they were not: whoever rebuilds their indexes, logs
# changes by a trigger, or makes an index of his own, meets rows, entries and locks as after an UPDATE.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main', conf => "restart_after_crash = on\n");
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');

sub is_sound
{
	my ($what) = @_;

	is($node->safe_psql('postgres', "SELECT count(bt_index_check(indexrelid, true)) FROM pg_index WHERE indrelid = 'kinesis.mapping_lane'::regclass AND indisvalid") > 1, 1,
		"$what: each row is in each index");
	is($node->safe_psql('postgres', "SELECT count(*) FROM verify_heapam('kinesis.mapping_lane')"), '0', "$what: the table is sound");
}

# Its commit takes as long as somebody holds the lock; no version of the row has room on the page of the one before.
make_mapping($node, 'work', "EXECUTE 'DECLARE at_commit CURSOR WITH HOLD FOR SELECT pg_advisory_xact_lock(1)';");
$node->safe_psql('postgres', 'ALTER TABLE kinesis.mapping_lane SET (fillfactor = 100)');
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
put_data($node, 'work', 'a');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'kinesis worker' AND wait_event = 'advisory'"), 'a turn is being committed');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.backend_type = 'kinesis worker' AND l.relation = 'kinesis.mapping_lane'::regclass AND l.mode = 'RowExclusiveLock'"),
	'1', 'with the lock of who writes to the table');
my $reindex = start_psql($node, 'postgres', 'reindex', 'REINDEX TABLE CONCURRENTLY kinesis.mapping_lane');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'REINDEX%' AND wait_event_type = 'Lock'"), 'REINDEX CONCURRENTLY waits for it');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$reindex->{run}->finish;
is($reindex->{errors}, '', 'and is done then');
$holder->quit;
wait_until_done($node, 'work');
is_sound('after REINDEX CONCURRENTLY');

# Triggers and indexes that take the executor.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE log (lane_id bigint, checkpoint bigint, records bigint);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log VALUES (NEW.lane_id, NEW.checkpoint, NEW.records); RETURN NEW; END $$;
CREATE TRIGGER log AFTER UPDATE ON kinesis.mapping_lane FOR EACH ROW EXECUTE FUNCTION log();
SQL
put_data($node, 'work', 'b');
wait_until_done($node, 'work');
is($node->safe_psql('postgres', 'SELECT DISTINCT records FROM log WHERE checkpoint = (SELECT checkpoint FROM kinesis.mapping_lane)'), '2', 'a trigger sees what was written');
$node->safe_psql('postgres', 'DROP TRIGGER log ON kinesis.mapping_lane; CREATE INDEX ON kinesis.mapping_lane (abs(checkpoint)); CREATE INDEX ON kinesis.mapping_lane (lane_id) WHERE attempts > 0');
put_data($node, 'work', 'c');
wait_until_done($node, 'work');
is(worked_of($node, 'work'), 'a b c', 'each batch is done once');
is_sound('with indexes on an expression and on a part');

# A function that has changed its lane's row by its last statement.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION changes(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE sql AS $$ UPDATE kinesis.mapping_lane SET failures = failures + 10 WHERE uuid = c.mapping $$;
SELECT kinesis.create_event_source_mapping('work', 'changes');
SQL
wait_until_done($node, 'changes');
is(lane_of($node, 'changes', 'failures, records'), '10|3', 'what a function has changed itself is kept');
done_testing();
