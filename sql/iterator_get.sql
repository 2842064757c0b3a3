-- Shard iterators: five starting points, how they end, and texts that are none.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('it', 1);
SELECT kinesis.set_shard_limits('it', NULL, NULL, NULL, NULL);
CREATE FUNCTION got(iterator text, n int DEFAULT 10000) RETURNS text LANGUAGE sql AS
    $$ SELECT coalesce(string_agg(convert_from(r.data, 'UTF8'), ' ' ORDER BY r.sequence_number), '-') FROM kinesis.get_records(iterator, n) g, unnest(g.records) r $$;

SELECT kinesis.get_shard_iterator('it', 'shardId-000000000000', 'LATEST') AS latest \gset
SELECT sequence_number AS one FROM kinesis.put_record('it', 'one', 'k') \gset
-- A second later, and another: one record a millisecond at most.
SET kinesis.clock_offset = '1 s';
SELECT sequence_number AS two FROM kinesis.put_record('it', 'two', 'k') \gset
SET kinesis.clock_offset = '2 s';
SELECT sequence_number AS three FROM kinesis.put_record('it', 'three', 'k') \gset
SELECT got(:'latest'), got(kinesis.get_shard_iterator('it', '0', 'TRIM_HORIZON')) AS trim_horizon, got(kinesis.get_shard_iterator('it', '0', 'LATEST')) AS latest_now;
SELECT got(kinesis.get_shard_iterator('it', '0', 'AT_SEQUENCE_NUMBER', :two)) AS at_two, got(kinesis.get_shard_iterator('it', '0', 'AFTER_SEQUENCE_NUMBER', :two)) AS after_two,
    got(kinesis.get_shard_iterator('it', '0', 'AT_SEQUENCE_NUMBER', :two + 1)) AS between, got(kinesis.get_shard_iterator('it', '0', 'AFTER_SEQUENCE_NUMBER', :three)) AS after_all,
    got(kinesis.get_shard_iterator('it', '0', 'AT_SEQUENCE_NUMBER', 0)) AS before_all;
SELECT got(kinesis.get_shard_iterator('it', '0', 'AT_TIMESTAMP', "timestamp" => kinesis.arrival(:two))) AS at_time,
    got(kinesis.get_shard_iterator('it', '0', 'AT_TIMESTAMP', "timestamp" => '2001-01-01')) AS long_ago,
    got(kinesis.get_shard_iterator('it', '0', 'AT_TIMESTAMP', "timestamp" => kinesis._now())) AS now;
-- Shard ids as AWS takes them.
SELECT got(kinesis.get_shard_iterator('it', 'shardId-0', 'TRIM_HORIZON')), got(kinesis.get_shard_iterator('it', 'any-prefix-0', 'TRIM_HORIZON'));

-- Step by step: the position goes on, and says how far it is behind.
SELECT kinesis.get_shard_iterator('it', '0', 'TRIM_HORIZON') AS next \gset
SELECT convert_from(records[1].data, 'UTF8') AS data, millis_behind_latest > 0 AS behind, next_shard_iterator AS next FROM kinesis.get_records(:'next', 1) \gset
\echo :data :behind
SELECT convert_from(records[1].data, 'UTF8') AS data, millis_behind_latest > 0 AS behind, next_shard_iterator AS next FROM kinesis.get_records(:'next', 1) \gset
\echo :data :behind
SELECT convert_from(records[1].data, 'UTF8') AS data, millis_behind_latest AS behind, next_shard_iterator AS next FROM kinesis.get_records(:'next', 1) \gset
\echo :data :behind
SELECT records, millis_behind_latest, next_shard_iterator IS NOT NULL AS goes_on, child_shards FROM kinesis.get_records(:'next', 1);

-- Expiry, by the clock that tests may move; 0 means never.
SET kinesis.clock_offset = '299 s';
SELECT got(:'latest');
SET kinesis.clock_offset = '302 s';
\set VERBOSITY sqlstate
SELECT got(:'latest');
\set VERBOSITY default
SET kinesis.shard_iterator_lifetime = 0;
SELECT got(:'latest');
RESET kinesis.shard_iterator_lifetime;
RESET kinesis.clock_offset;

-- Forged, truncated, foreign.
SELECT got('');
SELECT got('AAAA');
SELECT got(repeat('A', 600));
SELECT got(left(:'latest', -4));
SELECT got(overlay(:'latest' placing 'B' from 8 for 1));
SELECT got(translate(:'latest', 'abcdefghijklm', 'nopqrstuvwxyz'));
SELECT kinesis.get_records(NULL);
SELECT kinesis.get_records(:'latest', 0);
SELECT kinesis.get_records(:'latest', 10001);
SELECT kinesis.get_records(:'latest', wait => '61 s');
SELECT kinesis.get_records(:'latest', wait => '-1 s');

-- Bound to this very stream.
SELECT kinesis.delete_stream('it');
SELECT got(:'latest');
SELECT kinesis.create_stream('it', 1);
SELECT got(:'latest');

-- Wrong arguments.
SELECT kinesis.get_shard_iterator('it', '0', 'NEWEST');
SELECT kinesis.get_shard_iterator('it', '0', 'AT_SEQUENCE_NUMBER');
SELECT kinesis.get_shard_iterator('it', '0', 'LATEST', 5);
SELECT kinesis.get_shard_iterator('it', '0', 'AT_TIMESTAMP');
SELECT kinesis.get_shard_iterator('it', '0', 'TRIM_HORIZON', "timestamp" => now());
SELECT kinesis.get_shard_iterator('it', '0', 'AT_SEQUENCE_NUMBER', -1);
SELECT kinesis.get_shard_iterator('it', '0', 'AFTER_SEQUENCE_NUMBER', 9223372036854775807);
\set VERBOSITY sqlstate
SELECT kinesis.get_shard_iterator('it', '0', 'AT_TIMESTAMP', "timestamp" => now() + interval '1 hour');
SELECT kinesis.get_shard_iterator('it', '0', 'AT_TIMESTAMP', "timestamp" => 'infinity');
\set VERBOSITY default
SELECT kinesis.get_shard_iterator('it', '7', 'LATEST');
SELECT kinesis.get_shard_iterator('it', 'shardId-x', 'LATEST');
SELECT kinesis.get_shard_iterator('it', '99999999999', 'LATEST');
SELECT kinesis.get_shard_iterator('nowhere', '0', 'LATEST');
SELECT kinesis.get_shard_iterator(NULL, '0', 'LATEST');
SELECT kinesis.get_shard_iterator('it', NULL, 'LATEST');
SELECT kinesis.get_shard_iterator('it', '0', NULL);

-- From another database, also from one that was made of this one.
SELECT kinesis.get_shard_iterator('it', '0', 'LATEST') AS foreign_one, current_database() AS here \gset
\c template1
CREATE DATABASE kinesis_iterator_copy TEMPLATE :"here";
\c kinesis_iterator_copy
SELECT got(:'foreign_one');
SELECT got(kinesis.get_shard_iterator('it', '0', 'LATEST'));
\c :"here"
DROP DATABASE kinesis_iterator_copy;
SELECT got(:'foreign_one');

-- A wait can be cancelled.
SELECT kinesis.create_stream('quiet', 1);
SET statement_timeout = '100ms';
SELECT records FROM kinesis.get_records(kinesis.get_shard_iterator('quiet', '0', 'LATEST'), wait => '30 s');
RESET statement_timeout;
SELECT cardinality(records) FROM kinesis.get_records(kinesis.get_shard_iterator('quiet', '0', 'LATEST'), wait => '1 ms');
