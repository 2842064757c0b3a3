# A turn sees what the last one has committed, also when that happens between the begin of its transaction and its getting the lane's
# lock: a batch that is done is not given to the function again.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main');
my $workers = q{FROM pg_stat_activity WHERE backend_type = 'kinesis worker'};

# One session that can do all of this while nobody else gets at pg_namespace: who has found the extension's schema before goes on,
# who has not begins its transaction and stops there.
$node->safe_psql('postgres', <<'SQL');
CREATE PROCEDURE wait_for(query text) LANGUAGE plpgsql AS $$
DECLARE
    until timestamptz := clock_timestamp() + interval '60 s';
    reached boolean;
BEGIN
    LOOP
        PERFORM pg_stat_clear_snapshot();
        EXECUTE query INTO reached;
        EXIT WHEN reached;
        IF clock_timestamp() > until THEN
            RAISE 'waited in vain for: %', query;
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
SQL
make_mapping($node, 'work', q{IF 'b' = ANY (texts) THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;});
put_data($node, 'work', 'a');
wait_until_done($node, 'work');
my $session = $node->background_psql('postgres');
$session->query_safe('SELECT pg_advisory_lock(1)');
put_data($node, 'work', 'b');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"), 'the function runs');
my $first = lane_of($node, 'work', 'pid');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'kinesis scheduler'");
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT $workers AND pid <> $first)"), 'the next scheduler has another worker for it');

$session->query_safe(<<SQL);
BEGIN;
LOCK TABLE pg_catalog.pg_namespace;
SELECT pg_terminate_backend(pid) $workers AND pid <> $first;
CALL wait_for('SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE l.relation = ''pg_namespace''::regclass AND NOT l.granted AND a.backend_type = ''kinesis worker'' AND a.xact_start IS NOT NULL)');
SELECT pg_advisory_unlock(1);
CALL wait_for('SELECT records = 2 FROM kinesis.mapping_lane');
COMMIT;
SQL
pass('a turn has begun, and after that the first one has committed');
put_data($node, 'work', 'c');
wait_until_done($node, 'work');
is_called($node, 'work', [ '1: a', '1: b', '1: c' ], 'each batch is called once');
$session->quit;

done_testing();
