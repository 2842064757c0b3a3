-- One table of errors: each AWS exception has one SQLSTATE, and every error of a function is in it.
CREATE EXTENSION kinesis;
SELECT * FROM kinesis.error_codes();
SELECT count(DISTINCT error) = count(*) AND count(DISTINCT sqlstate) = count(*) AS unique FROM kinesis.error_codes();
SELECT kinesis._raise('LimitExceededException', NULL);
SELECT kinesis._raise('ValidationException', 'a message', 'A detail.', 'A hint.');
SELECT kinesis._raise('NoSuchException', 'x');
DO $$
BEGIN
    PERFORM kinesis.put_record('nowhere', 'x', 'k');
EXCEPTION WHEN SQLSTATE 'KN001' THEN
    RAISE NOTICE 'caught by SQLSTATE';
END
$$;
