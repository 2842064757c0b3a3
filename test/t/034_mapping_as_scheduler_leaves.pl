# A mapping that is enabled just as the database's scheduler leaves, because there was nothing to do, is run all the same.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $node = kinesis_node('main');

# The scheduler that the disabled mapping calls finds nothing and leaves; the mapping is enabled anywhere between its start and
# its end.
$node->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('s', 1);
SELECT kinesis.put_record('s', 'data', 'key');
CREATE FUNCTION work(records kinesis.record[], context kinesis.batch_context) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
-- Polls, often: what it waits for is over within milliseconds.
CREATE PROCEDURE wait_for(query text) LANGUAGE plpgsql AS $$
DECLARE
    until timestamptz := clock_timestamp() + interval '20 s';
    reached boolean;
BEGIN
    LOOP
        EXECUTE query INTO reached;
        EXIT WHEN reached;
        IF clock_timestamp() > until THEN
            RAISE 'waited in vain for: %', query;
        END IF;
        COMMIT;
        PERFORM pg_sleep(0.001);
    END LOOP;
END $$;
CREATE PROCEDURE enable_after(delay interval) LANGUAGE plpgsql AS $$
DECLARE
    id uuid := kinesis.create_event_source_mapping('s', 'work', enabled => false);
    until timestamptz;
BEGIN
    COMMIT;
    until := clock_timestamp() + delay;
    WHILE clock_timestamp() < until LOOP
    END LOOP;
    PERFORM kinesis.update_event_source_mapping(id, enabled => true);
    COMMIT;
    CALL wait_for(format('SELECT sum(records) = 1 FROM kinesis.event_source_mapping_lanes WHERE uuid = %L', id));
    PERFORM kinesis.delete_event_source_mapping(id);
    COMMIT;
    CALL wait_for('SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = ''kinesis scheduler'')');
END $$;
SQL

my ($status, $out, $err) =
  $node->psql('postgres', join('', map { "CALL enable_after('" . $_ * 0.25 . " ms');\n" } 1 .. 120), on_error_stop => 1);
is($err, '', 'whenever it is enabled, the mapping works');

done_testing();
