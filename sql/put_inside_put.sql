-- A put may begin inside another one: making a slice is DDL, and an event trigger may put a record about it.
CREATE EXTENSION kinesis;
SELECT kinesis.create_stream('audit', 1);
SET kinesis.clock_offset = '5 h';
SELECT shard_id FROM kinesis.put_record('audit', 'its slice is there now', 'k');
CREATE FUNCTION audit_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM kinesis.put_records('audit', ARRAY['audit 1', 'audit 2', 'audit 3', 'audit 4']::bytea[], ARRAY['a', 'b', 'c', 'd']) WHERE tg_tag = 'CREATE TABLE';
END $$;
-- A stream of this transaction: no worker can make its slices for us.
BEGIN;
RESET kinesis.clock_offset;
SELECT kinesis.create_stream('work', 4);
SET kinesis.clock_offset = '5 h';
CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION audit_ddl();
CREATE TABLE answers AS SELECT * FROM kinesis.put_records('work', ARRAY['one', 'two', 'three', 'four', 'five', 'six']::bytea[], ARRAY['k1', 'k2', 'k3', 'k4', 'k5', 'k6']);
DROP EVENT TRIGGER audit;
COMMIT;
SELECT count(*) AS answers, count(DISTINCT (shard_id, sequence_number)) AS different FROM answers;
SELECT string_agg(convert_from(r.data, 'UTF8'), ' ' ORDER BY r.partition_key) AS stored
FROM answers a JOIN LATERAL kinesis.read_shard('work', a.shard_id) r USING (sequence_number);
SELECT count(*) > 3 AS audited, count(*) = count(DISTINCT sequence_number) AS each_once FROM kinesis.read_shard('audit', '0');
SELECT * FROM kinesis.check_stream('work');
SELECT * FROM kinesis.check_stream('audit');
