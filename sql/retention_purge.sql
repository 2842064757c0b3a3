-- Retention: what is past it can't be read at once, and goes with its slice; slices are made ahead; expired shards leave.
CREATE EXTENSION kinesis;
-- The clock of this test begins a minute after an hour, whatever the time is.
SELECT 1000 * extract(epoch FROM date_trunc('hour', now()) + interval '61 min' - now()) AS base \gset
SET kinesis.clock_offset = :base;
SELECT kinesis.create_stream('ret', 2);
SELECT kinesis.set_shard_limits('ret', NULL, NULL, NULL, NULL);
CREATE FUNCTION put(what text) RETURNS text LANGUAGE sql AS $$ SELECT shard_id FROM kinesis.put_record('ret', what::bytea, 'k', 0) $$;
CREATE FUNCTION readable(shard text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(convert_from(data, 'UTF8'), ' ' ORDER BY sequence_number), '-') FROM kinesis.read_shard('ret', shard) $$;
CREATE VIEW tables AS SELECT (SELECT count(*) FROM kinesis.slice) AS in_catalog, (SELECT count(*) FROM pg_class WHERE relnamespace = 'kinesis_stream'::regnamespace AND relkind = 'r') AS tables;

-- A slice is a 24th of the period: an hour. Made ahead: this one and the next, by purge one more.
SELECT DISTINCT (kinesis.arrival(upper_bound) - kinesis.arrival(lower_bound)) AS width, extract(minute FROM kinesis.arrival(lower_bound)) AS aligned FROM kinesis.slice;
SELECT * FROM kinesis.purge();
SELECT bool_and(ahead > interval '2 hours') AS far_enough FROM (SELECT max(kinesis.arrival(upper_bound)) - kinesis._now() AS ahead FROM kinesis.slice GROUP BY shard_index) s;
SELECT * FROM kinesis.purge();

SELECT put('old');
SELECT :base + 3600000.0 * 23 AS clock \gset
SET kinesis.clock_offset = :clock;
SELECT kinesis.purge() IS NOT NULL AS purged;
SELECT put('younger');
SELECT readable('0');
SELECT :base + 3600000.0 * 24.01 AS clock \gset
SET kinesis.clock_offset = :clock;
SELECT readable('0');
SELECT convert_from(r.data, 'UTF8') FROM kinesis.get_records(kinesis.get_shard_iterator('ret', '0', 'TRIM_HORIZON')) g, unnest(g.records) r;
SELECT convert_from(r.data, 'UTF8') FROM kinesis.get_records(kinesis.get_shard_iterator('ret', '0', 'AT_SEQUENCE_NUMBER', 0)) g, unnest(g.records) r;

-- A longer period does not bring back what had expired, and keeps what had not.
SELECT kinesis.increase_stream_retention_period('ret', 48);
SELECT readable('0');
SELECT :base + 3600000.0 * 26 AS clock \gset
SET kinesis.clock_offset = :clock;
SELECT slices_dropped > 0 AS dropped FROM kinesis.purge();
SELECT in_catalog = tables AS same FROM tables;
SELECT readable('0');
SELECT kinesis.decrease_stream_retention_period('ret', 24);
SELECT kinesis.increase_stream_retention_period('ret', 12);
SELECT kinesis.decrease_stream_retention_period('ret', 48);
SELECT kinesis.increase_stream_retention_period('ret', 8761);
SELECT kinesis.decrease_stream_retention_period('ret', 23);
SELECT kinesis.increase_stream_retention_period('ret', NULL);

-- A closed shard stays for its records' sake, then leaves the listings, and goes with the next purge.
SELECT put('before the split');
SELECT kinesis.split_shard('ret', '0', 2::numeric ^ 126);
SELECT put('after the split');
SELECT :base + 3600000.0 * 49 AS clock \gset
SET kinesis.clock_offset = :clock;
SELECT kinesis.purge() IS NOT NULL AS purged;
SELECT readable('0'), readable('2');
SELECT shard_id, ending_sequence_number IS NOT NULL AS closed FROM kinesis.list_shards('ret');
SELECT :base + 3600000.0 * 50.1 AS clock \gset
SET kinesis.clock_offset = :clock;
SELECT shard_id FROM kinesis.list_shards('ret');
SELECT readable('0');
SELECT shards_expired FROM kinesis.purge();
SELECT shard_id, parent_shard_id FROM kinesis.list_shards('ret');
SELECT to_regclass('kinesis_stream."1/0"');
SELECT * FROM kinesis.check_stream('ret');
-- Down for a month: everything is gone but the streams, and they work.
SELECT :base + 3600000.0 * 800 AS clock \gset
SET kinesis.clock_offset = :clock;
SELECT put('a month later');
SELECT kinesis.purge() IS NOT NULL AS purged;
SELECT readable('2');
SELECT in_catalog = tables AS same, in_catalog < 12 AS few FROM tables;
SELECT * FROM kinesis.check_stream('ret');
RESET kinesis.clock_offset;
SELECT * FROM kinesis.purge() WHERE false;
-- Without pg_cron in this database the job can't be made, and the hint says how to do without.
SELECT kinesis.enable_purge_job();
SELECT kinesis.disable_purge_job();
