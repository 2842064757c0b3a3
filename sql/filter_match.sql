-- Filters of event source mappings: which records pass, and which criteria are refused.
CREATE EXTENSION kinesis;
CREATE FUNCTION criteria(VARIADIC patterns text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (SELECT jsonb_build_object('Filters', jsonb_agg(jsonb_build_object('Pattern', p) ORDER BY n)) FROM unnest(patterns) WITH ORDINALITY x(p, n));
CREATE FUNCTION passes(filters jsonb, data bytea, key text DEFAULT 'key-1') RETURNS boolean LANGUAGE sql
RETURN kinesis._filters_match(filters, kinesis.sequence_at('2026-01-02 03:04:05.678+00') + 7, key, data);

-- One pattern on a field "a" of the data, and data that it matches or does not.
CREATE TABLE leaf (alternatives text, data text, expected boolean);
INSERT INTO leaf VALUES
    -- Strings
    ('["x"]', '{"a":"x"}', true),
    ('["x"]', '{"a":"y"}', false),
    ('["x"]', '{"a":"X"}', false),
    ('["x"]', '{"a":"xx"}', false),
    ('["x"]', '{"b":"x"}', false),
    ('["x"]', '{}', false),
    ('["x"]', '{"a":{"x":"x"}}', false),
    ('["x","y","z"]', '{"a":"y"}', true),
    ('["x",1,null,{"prefix":"p"}]', '{"a":"pq"}', true),
    ('["x",1,null,{"prefix":"p"}]', '{"a":null}', true),
    ('["x",1,null,{"prefix":"p"}]', '{"a":1}', true),
    ('["x",1,null,{"prefix":"p"}]', '{"a":2}', false),
    ('[""]', '{"a":""}', true),
    ('[""]', '{"a":" "}', false),
    ('[""]', '{"a":null}', false),
    ('["1"]', '{"a":1}', false),
    ('["null"]', '{"a":null}', false),
    -- Escapes are the characters that they stand for.
    ('["\u0078\/\"\\\n"]', '{"a":"x/\"\\\u000A"}', true),
    ('["é"]', '{"a":"\u00e9"}', true),
    ('["\u00e9"]', '{"a":"é"}', true),
    ('["\ud83d\ude00"]', '{"a":"😀"}', true),
    ('["😀"]', '{"a":"\uD83D\uDE00"}', true),
    ('["x\u0000y"]', '{"a":"x\u0000y"}', true),
    ('["x"]', '{"a":"x\u0000y"}', false),
    ('["x\u0000y"]', '{"a":"x"}', false),
    ('["x"]', '{"a":"x","b":"\u0000 \ud83d half a character"}', true),
    ('["\ufffd"]', '{"a":"\ud83d"}', true),
    -- Numbers, by their text
    ('[300]', '{"a":300}', true),
    ('[300]', '{"a":3.0e2}', false),
    ('[300]', '{"a":300.0}', false),
    ('[3.0e2]', '{"a":3.0e2}', true),
    ('[300]', '{"a":"300"}', false),
    ('[1e400000]', '{"a":1e400000}', true),
    ('[-0]', '{"a":0}', false),
    ('[123456789012345678901234567890]', '{"a":123456789012345678901234567890}', true),
    -- true, false, null
    ('[true]', '{"a":true}', true),
    ('[true]', '{"a":false}', false),
    ('[true]', '{"a":"true"}', false),
    ('[false]', '{"a":false}', true),
    ('[null]', '{"a":null}', true),
    ('[null]', '{}', false),
    ('[null]', '{"a":0}', false),
    -- prefix, suffix, equals-ignore-case
    ('[{"prefix":"us-"}]', '{"a":"us-east-1"}', true),
    ('[{"prefix":"us-"}]', '{"a":"us-"}', true),
    ('[{"prefix":"us-"}]', '{"a":"us"}', false),
    ('[{"prefix":"us-"}]', '{"a":"eu-us-1"}', false),
    ('[{"prefix":"1"}]', '{"a":10}', false),
    ('[{"prefix":""}]', '{"a":"anything"}', true),
    ('[{"prefix":""}]', '{"a":1}', false),
    ('[{"prefix":"é"}]', '{"a":"\u00e9t\u00e9"}', true),
    ('[{"suffix":".png"}]', '{"a":"x.png"}', true),
    ('[{"suffix":".png"}]', '{"a":".png"}', true),
    ('[{"suffix":".png"}]', '{"a":"png"}', false),
    ('[{"suffix":".png"}]', '{"a":"x.png.gz"}', false),
    ('[{"suffix":"0"}]', '{"a":10}', false),
    ('[{"equals-ignore-case":"RuNNing"}]', '{"a":"running"}', true),
    ('[{"equals-ignore-case":"RuNNing"}]', '{"a":"RUNNING"}', true),
    ('[{"equals-ignore-case":"RuNNing"}]', '{"a":"run"}', false),
    ('[{"equals-ignore-case":"x\u0000Y"}]', '{"a":"X\u0000y"}', true),
    ('[{"equals-ignore-case":"x\u0000Y"}]', '{"a":"X"}', false),
    ('[{"equals-ignore-case":""}]', '{"a":""}', true),
    ('[{"equals-ignore-case":"true"}]', '{"a":true}', false),
    -- anything-but
    ('[{"anything-but":"x"}]', '{"a":"y"}', true),
    ('[{"anything-but":"x"}]', '{"a":"x"}', false),
    ('[{"anything-but":"x"}]', '{"a":null}', true),
    ('[{"anything-but":"x"}]', '{"a":7}', true),
    ('[{"anything-but":"x"}]', '{"b":"y"}', false),
    ('[{"anything-but":"x"}]', '{"a":{}}', false),
    ('[{"anything-but":["x","y"]}]', '{"a":"y"}', false),
    ('[{"anything-but":["x","y"]}]', '{"a":"z"}', true),
    ('[{"anything-but":300}]', '{"a":300}', false),
    ('[{"anything-but":300}]', '{"a":301}', true),
    ('[{"anything-but":300}]', '{"a":3.0e2}', true),
    ('[{"anything-but":[1,2,"3"]}]', '{"a":2}', false),
    ('[{"anything-but":[1,2,"3"]}]', '{"a":3}', true),
    ('[{"anything-but":[1,2,"3"]}]', '{"a":"3"}', false),
    ('[{"anything-but":{"prefix":"init"}}]', '{"a":"initializing"}', false),
    ('[{"anything-but":{"prefix":"init"}}]', '{"a":"running"}', true),
    ('[{"anything-but":{"prefix":"init"}}]', '{"a":5}', true),
    ('[{"anything-but":{"prefix":"init"}}]', '{}', false),
    ('[{"anything-but":{"prefix":["init","stop"]}}]', '{"a":"stopped"}', false),
    ('[{"anything-but":{"prefix":["init","stop"]}}]', '{"a":"running"}', true),
    ('[{"anything-but":{"suffix":".png"}}]', '{"a":"x.png"}', false),
    ('[{"anything-but":{"suffix":[".png",".gif"]}}]', '{"a":"x.gif"}', false),
    ('[{"anything-but":{"suffix":[".png",".gif"]}}]', '{"a":"x.jpg"}', true),
    ('[{"anything-but":{"equals-ignore-case":"Stopped"}}]', '{"a":"STOPPED"}', false),
    ('[{"anything-but":{"equals-ignore-case":["Stopped","INIT"]}}]', '{"a":"init"}', false),
    ('[{"anything-but":{"equals-ignore-case":["Stopped","INIT"]}}]', '{"a":"running"}', true),
    ('["x",{"anything-but":{"prefix":"x"}}]', '{"a":"x"}', true),
    -- numeric
    ('[{"numeric":["=",300]}]', '{"a":3.0e2}', true),
    ('[{"numeric":["=",300]}]', '{"a":300.000}', true),
    ('[{"numeric":["=",300]}]', '{"a":300.000001}', false),
    ('[{"numeric":["=",300]}]', '{"a":"300"}', false),
    ('[{"numeric":[">",5]}]', '{"a":5}', false),
    ('[{"numeric":[">",5]}]', '{"a":5.0001}', true),
    ('[{"numeric":[">=",5]}]', '{"a":5}', true),
    ('[{"numeric":[">=",5]}]', '{"a":4}', false),
    ('[{"numeric":["<",-0.5]}]', '{"a":-0.5}', false),
    ('[{"numeric":["<",-0.5]}]', '{"a":-0.6}', true),
    ('[{"numeric":["<=",-5e-1]}]', '{"a":-0.5}', true),
    ('[{"numeric":["<=",-5e-1]}]', '{"a":0}', false),
    ('[{"numeric":[">",0,"<=",5]}]', '{"a":0}', false),
    ('[{"numeric":[">",0,"<=",5]}]', '{"a":5}', true),
    ('[{"numeric":[">",0,"<=",5]}]', '{"a":5.1}', false),
    ('[{"numeric":["<",5,">=",0]}]', '{"a":0}', true),
    ('[{"numeric":["<",5,">=",0]}]', '{"a":5}', false),
    ('[{"numeric":[">",0]}]', '{"a":true}', false),
    ('[{"numeric":[">",0]}]', '{}', false),
    ('[{"numeric":[">=",-5000000000]}]', '{"a":-5e9}', true),
    ('[{"numeric":["<=",5e9]}]', '{"a":5000000000}', true),
    ('[{"numeric":[">",0]}]', '{"a":5000000001}', false),      -- out of the range of numeric
    ('[{"numeric":[">",0]}]', '{"a":1e400000}', false),
    ('[{"numeric":["<",0]}]', '{"a":-1e400000}', false),
    ('[{"numeric":[">=",0]}]', '{"a":1e-400000}', true),
    ('[{"numeric":["<",1]},{"numeric":[">",9]}]', '{"a":10}', true),
    ('[{"numeric":["<",1]},{"numeric":[">",9]}]', '{"a":5}', false),
    -- exists
    ('[{"exists":true}]', '{"a":null}', true),
    ('[{"exists":true}]', '{"a":""}', true),
    ('[{"exists":true}]', '{"b":1}', false),
    ('[{"exists":true}]', '{"a":{"b":1}}', false),              -- leaves only
    ('[{"exists":true}]', '{"a":[]}', false),
    ('[{"exists":true}]', '{"a":[1]}', true),
    ('[{"exists":false}]', '{"b":1}', true),
    ('[{"exists":false}]', '{"a":null}', false),
    ('[{"exists":false}]', '{"a":{"b":1}}', true),
    ('[{"exists":false}]', '{"a":[]}', true),
    ('[{"exists":false}]', '5', true),
    ('[{"exists":false},"x"]', '{"a":"x"}', true),
    ('[{"exists":false},"x"]', '{}', true),
    ('[{"exists":false},"x"]', '{"a":"y"}', false),
    -- Arrays in the event: one element is enough.
    ('["x"]', '{"a":["w","x"]}', true),
    ('["x"]', '{"a":["w","y"]}', false),
    ('["x"]', '{"a":[]}', false),
    ('["x"]', '{"a":[["w",["x"]]]}', true),
    ('["x"]', '{"a":[{"b":"x"},"x"]}', true),
    ('["x"]', '{"a":[{"b":"x"}]}', false),
    ('[{"anything-but":"x"}]', '{"a":["x","y"]}', true),
    ('[{"anything-but":"x"}]', '{"a":["x","x"]}', false),
    ('[{"numeric":[">",5]}]', '{"a":[1,2,7]}', true),
    ('["x"]', '[{"a":"w"},{"a":"x"}]', true),
    -- Of keys that are there twice the last counts.
    ('["x"]', '{"a":"x","a":"y"}', false),
    ('["x"]', '{"a":"y","a":"x"}', true),
    ('["x"]', '{"a":"y","\u0061":"x"}', true),
    ('["x"]', '{"a":"x","a":{}}', false);
SELECT * FROM leaf WHERE passes(criteria('{"data":{"a":' || alternatives || '}}'), convert_to(data, 'UTF8')) IS DISTINCT FROM expected;
SELECT count(*) AS cases, count(*) FILTER (WHERE expected) AS pass FROM leaf;
-- What is matched inside an object is so inside others, too; and an alternative more or another filter makes nothing narrower.
SELECT count(*) AS differ FROM leaf
WHERE passes(criteria('{"data":{"o":{"p":{"a":' || alternatives || '}}}}'), convert_to('{"x":[],"o":{"p":' || data || '},"y":{"a":"x"}}', 'UTF8')) IS DISTINCT FROM expected;
SELECT count(*) AS differ FROM leaf
WHERE passes(criteria('{"sequenceNumber":["0"]}', '{"data":{"a":' || alternatives || '}}'), convert_to(data, 'UTF8')) IS DISTINCT FROM expected;
SELECT count(*) AS differ FROM leaf
WHERE passes(criteria('{"data":{"$or":[{"no":["x"]},{"a":' || alternatives || '}]}}'), convert_to(data, 'UTF8')) IS DISTINCT FROM expected;

-- Whole patterns
CREATE TABLE pattern (filters jsonb, data text, expected boolean);
INSERT INTO pattern VALUES
    -- Metadata; the data may be anything.
    (criteria('{"partitionKey":["key-1"]}'), 'no JSON', true),
    (criteria('{"partitionKey":["key-2"]}'), 'no JSON', false),
    (criteria('{"partitionKey":[{"prefix":"key-"}],"kinesisSchemaVersion":["1.0"]}'), '', true),
    (criteria('{"sequenceNumber":["' || kinesis.sequence_at('2026-01-02 03:04:05.678+00') + 7 || '"]}'), '', true),
    (criteria('{"sequenceNumber":[' || kinesis.sequence_at('2026-01-02 03:04:05.678+00') + 7 || ']}'), '', false),
    (criteria('{"approximateArrivalTimestamp":[1767323045.678]}'), '', true),
    (criteria('{"approximateArrivalTimestamp":[{"numeric":[">=",1767323045.678,"<",1767323045.679]}]}'), '', true),
    (criteria('{"approximateArrivalTimestamp":[{"numeric":[">",1767323045.678]}]}'), '', false),
    (criteria('{"approximateArrivalTimestamp":["1767323045.678"]}'), '', false),
    (criteria('{"nosuch":["x"]}'), '', false),
    (criteria('{"nosuch":[{"exists":false}]}'), '', true),
    (criteria('{"partitionKey":{"x":["key-1"]}}'), '', false),
    -- Data that are no JSON match no pattern on data.
    (criteria('{"data":{"a":[{"exists":false}]}}'), 'no JSON', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), '', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), '{"b":1} {}', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), '{"b":01}', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), '{"b":"\x"}', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), '{b:1}', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), '{"b":1,}', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), '[1,]', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), '[1}', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), '{"b"}', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), '{"b":}', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), '[', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), ']', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), ',', false),
    (criteria('{"data":{"a":[{"exists":false}]}}'), e' {\t"b" :\r\n[ ] } ', true),
    (criteria('{"data":{"a":[{"exists":false}]}}'), '"text"', true),
    (criteria('{"data":{"a":[{"exists":false}]}}'), 'null', true),
    (criteria('{"$or":[{"data":{"a":[1]}},{"partitionKey":["key-1"]}]}'), 'no JSON', true),
    (criteria('{"data":{"a":[1]}}', '{"partitionKey":["key-1"]}'), 'no JSON', true),
    -- Every key must match, one filter is enough.
    (criteria('{"data":{"a":[1],"b":[2]}}'), '{"a":1,"b":2,"c":3}', true),
    (criteria('{"data":{"a":[1],"b":[2]}}'), '{"a":1,"b":3}', false),
    (criteria('{"data":{"a":[1]},"partitionKey":["key-1"]}'), '{"a":1}', true),
    (criteria('{"data":{"a":[1]},"partitionKey":["key-2"]}'), '{"a":1}', false),
    (criteria('{"data":{"a":[1]}}', '{"data":{"b":[2]}}'), '{"a":0,"b":2}', true),
    (criteria('{"data":{"a":[1]}}', '{"data":{"b":[2]}}'), '{"a":0,"b":0}', false),
    (criteria('{"data":{"a":{"b":{"c":["x"]}}}}'), '{"a":{"b":{"c":"x"}}}', true),
    (criteria('{"data":{"a":{"b":{"c":["x"]}}}}'), '{"a":{"b":"x"}}', false),
    (criteria('{"data":{"a":{"b":{"c":[{"exists":false}]}}}}'), '{"a":{"b":"x"}}', true),
    (criteria('{"data":{"a":{"b":{"c":[{"exists":false}]}}}}'), '{"a":{"b":{"c":{}}}}', true),
    (criteria('{"data":{"a":{"b":{"c":[{"exists":false}]}}}}'), '{"a":{"b":{"c":0}}}', false),
    -- An object in an array has to match by itself.
    (criteria('{"data":{"a":{"b":[1],"c":[2]}}}'), '{"a":[{"b":1,"c":2}]}', true),
    (criteria('{"data":{"a":{"b":[1],"c":[2]}}}'), '{"a":[{"b":1},{"c":2}]}', false),
    (criteria('{"data":{"a":{"b":[1],"c":[2]}}}'), '{"a":[0,[{"b":0,"c":2},{"b":1,"c":2}]]}', true),
    (criteria('{"data":{"a":{"b":[1],"c":[2]}}}'), '{"a":[]}', false),
    (criteria('{"data":{"a":{"b":[{"exists":false}]}}}'), '{"a":[{"b":1},{"c":1}]}', true),
    (criteria('{"data":{"a":{"b":[{"exists":false}]}}}'), '{"a":[0,{"b":1}]}', false),
    -- $or
    (criteria('{"data":{"s":["x"],"$or":[{"a":[1]},{"b":[2],"c":[3]}]}}'), '{"s":"x","a":1}', true),
    (criteria('{"data":{"s":["x"],"$or":[{"a":[1]},{"b":[2],"c":[3]}]}}'), '{"s":"x","b":2,"c":3}', true),
    (criteria('{"data":{"s":["x"],"$or":[{"a":[1]},{"b":[2],"c":[3]}]}}'), '{"s":"x","b":2}', false),
    (criteria('{"data":{"s":["x"],"$or":[{"a":[1]},{"b":[2],"c":[3]}]}}'), '{"s":"y","a":1}', false),
    (criteria('{"data":{"$or":[{"a":[1],"$or":[{"b":[2]},{"c":[3]}]},{"d":[4]}]}}'), '{"a":1,"c":3}', true),
    (criteria('{"data":{"$or":[{"a":[1],"$or":[{"b":[2]},{"c":[3]}]},{"d":[4]}]}}'), '{"a":1,"d":4}', true),
    (criteria('{"data":{"$or":[{"a":[1],"$or":[{"b":[2]},{"c":[3]}]},{"d":[4]}]}}'), '{"a":1}', false),
    (criteria('{"data":{"$or":[{"a":[{"exists":false}]}]}}'), '{"b":1}', true),
    -- Of keys that are there twice in a pattern the last counts.
    (criteria('{"data":{"a":[1],"a":[2]}}'), '{"a":2}', true),
    (criteria('{"data":{"a":[1],"a":[2]}}'), '{"a":1}', false);
SELECT filters, data FROM pattern WHERE passes(filters, convert_to(data, 'UTF8')) IS DISTINCT FROM expected;
SELECT count(*) AS cases, count(*) FILTER (WHERE expected) AS pass FROM pattern;

-- No filters, and nulls
SELECT passes(NULL, 'x') AS without, kinesis._filters_match(NULL, NULL, 'k', 'x') IS NULL AS unknown, kinesis._check_filters(NULL) AS checked;

-- Data that are no text, deep, large
CREATE FUNCTION absent_a(data bytea) RETURNS boolean LANGUAGE sql RETURN passes(criteria('{"data":{"a":[{"exists":false}]}}'), data);
SELECT absent_a('\x7b7d') AS empty_object, absent_a('\x7b2262223a22ff227d') AS not_utf8, absent_a('\x7b2262223a22c0af227d') AS overlong,
    absent_a('\x7b2262223a22eda080227d') AS surrogate, absent_a('\x7b7d00') AS zero_byte, absent_a('\x7b2262223a22c3') AS cut;
SELECT absent_a(repeat('[', 100000)::bytea) AS opened, absent_a((repeat('[', 100000) || repeat(']', 100000))::bytea) AS deep_array,
    absent_a((repeat('{"a":', 100000) || '1' || repeat('}', 100000))::bytea) AS deep_object, absent_a((repeat('[', 500) || repeat(']', 500))::bytea) AS deep_enough,
    absent_a((repeat('[', 501) || repeat(']', 501))::bytea) AS too_deep, absent_a(('["' || repeat('[', 100000) || '"]')::bytea) AS in_a_string;
WITH big(data) AS MATERIALIZED (SELECT convert_to('{"n":[' || string_agg('{"k":' || i || ',"v":"value \u0041 ' || i || '"}', ',' ORDER BY i) || '],"a":"last"}', 'UTF8') FROM generate_series(1, 150000) i)
SELECT length(data) > 5000000 AS large, passes(criteria('{"data":{"a":["last"]}}'), data) AS last, passes(criteria('{"data":{"n":{"k":[150000],"v":[{"suffix":"A 150000"}]}}}'), data) AS element,
    passes(criteria('{"data":{"n":{"k":[149999],"v":[{"suffix":"A 150000"}]}}}'), data) AS none FROM big;
WITH big(data) AS MATERIALIZED (SELECT convert_to('{"a":"' || repeat('Abc\u0044', 1000000) || '"}', 'UTF8'))
SELECT passes(criteria('{"data":{"a":[{"prefix":"AbcDA"}]}}'), data) AS prefix, passes(criteria('{"data":{"a":[{"equals-ignore-case":"abcd"}]}}'), data) AS same FROM big;
SELECT passes(criteria('{"data":{"a":[{"numeric":[">",0]}]}}'), ('{"a":0.' || repeat('1', 1000000) || '}')::bytea) AS long_number;
-- 10 filters of 4096 characters each
SELECT passes((SELECT criteria(VARIADIC array_agg(rpad('{"data":{"a":["x' || i || '"]}}', 4096))) FROM generate_series(1, 10) i), '{"a":"x10"}') AS ten;

-- A key that is stored with a short header or a long one
SELECT passes(criteria('{"partitionKey":["' || repeat('é', 100) || '"]}'), '', repeat('é', 100)) AS long_key, passes(criteria('{"partitionKey":["é"]}'), '', 'é') AS short_key;

-- What is refused
CREATE FUNCTION refusal(filters jsonb) RETURNS TABLE (error text) LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
BEGIN
    PERFORM kinesis._check_filters(filters);
    RETURN QUERY VALUES ('accepted');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    RETURN QUERY VALUES (state || ': ' || message), ('    ' || detail);
END
$$;
\pset format unaligned
\pset tuples_only on
SELECT c, r.error FROM unnest(ARRAY['null', '[]', '"x"', '{}', '{"filters":[]}', '{"Filters":{}}', '{"Filters":[]}', '{"Filters":[{"Pattern":"{\"a\":[1]}"}],"More":1}', '{"Filters":[1]}', '{"Filters":[{}]}',
    '{"Filters":[{"Pattern":1}]}', '{"Filters":[{"Pattern":{"a":[1]}}]}', '{"Filters":[{"Pattern":"{\"a\":[1]}","Name":"x"}]}', '{"Filters":[{"Pattern":"{\"a\":[1]}"},{"pattern":"{}"}]}']::jsonb[]) WITH ORDINALITY x(c, n), refusal(c) WITH ORDINALITY r(error, m) ORDER BY n, m;
SELECT r.error FROM refusal((SELECT criteria(VARIADIC array_fill('{"a":[1]}'::text, ARRAY[11])))) r;
SELECT r.error FROM refusal((repeat('[', 1000) || repeat(']', 1000))::jsonb) r;
SELECT r.error FROM refusal(jsonb_build_object('Filters', repeat('x', 1000000))) r;
SELECT r.error FROM refusal(criteria('{"a":["' || repeat('é', 4086) || '"]}')) r;
SELECT r.error FROM refusal(criteria('{"a":["' || repeat('é', 4087) || '"]}')) r;
SELECT r.error FROM refusal(criteria(repeat('{"a":', 600) || '[1]' || repeat('}', 600))) r;
SELECT r.error FROM refusal(criteria(repeat('{"a":', 499) || '[1]' || repeat('}', 499))) r;
SELECT left(p, 60), r.error FROM unnest(ARRAY['', 'x', '{"a":[1]', '{"a":[1]} x', '{"é":[é]}', '{"a":["\x"]}', '[]', '"a"', '1', 'null',
    '{}', '{"a":{}}', '{"a":[]}', '{"a":"x"}', '{"a":1}', '{"a":null}', '{"a":true}', '{"a":[["x"]]}', '{"a":[{}]}', '{"a":["x",{"b":["x"]}]}', '{"a":[{"prefix":"x","suffix":"y"}]}',
    '{"data":["x"]}', '{"data":"x"}', '{"data":[{"exists":true}]}', '{"data":{}}', '{"data":{"a":{"b":{"c":"x"}}}}', '{"$or":[{"data":[1]},{"a":[1]}]}',
    '{"a":[{"prefix":1}]}', '{"a":[{"prefix":["x"]}]}', '{"a":[{"suffix":null}]}', '{"a":[{"equals-ignore-case":["x"]}]}', '{"a":[{"prefix":{"equals-ignore-case":"x"}}]}',
    '{"a":[{"cidr":"10.0.0.0/8"}]}', '{"a":[{"wildcard":"*"}]}', '{"a":[{"Prefix":"x"}]}', '{"a":[{"":"x"}]}',
    '{"a":[{"anything-but":null}]}', '{"a":[{"anything-but":true}]}', '{"a":[{"anything-but":[]}]}', '{"a":[{"anything-but":["x",null]}]}', '{"a":[{"anything-but":[["x"]]}]}', '{"a":[{"anything-but":{}}]}',
    '{"a":[{"anything-but":{"prefix":"x","suffix":"y"}}]}', '{"a":[{"anything-but":{"numeric":[">",1]}}]}', '{"a":[{"anything-but":{"prefix":1}}]}', '{"a":[{"anything-but":{"prefix":[]}}]}', '{"a":[{"anything-but":{"prefix":""}}]}', '{"a":[{"anything-but":{"suffix":["x",""]}}]}',
    '{"a":[{"numeric":5}]}', '{"a":[{"numeric":[]}]}', '{"a":[{"numeric":[">"]}]}', '{"a":[{"numeric":[">","5"]}]}', '{"a":[{"numeric":[5,">"]}]}', '{"a":[{"numeric":[">",1,"<"]}]}', '{"a":[{"numeric":[[">",1],[2,3]]}]}', '{"a":[{"numeric":[">",1,["<",2],3]}]}',
    '{"a":[{"numeric":[">",1,"<",2,"=",3]}]}', '{"a":[{"numeric":["!=",1]}]}', '{"a":[{"numeric":["<>",1]}]}', '{"a":[{"numeric":["",1]}]}', '{"a":[{"numeric":[">",1,">=",2]}]}', '{"a":[{"numeric":["<",1,"<=",2]}]}', '{"a":[{"numeric":["=",1,"<=",2]}]}', '{"a":[{"numeric":[">",1,"=",2]}]}',
    '{"a":[{"numeric":[">",2,"<",2]}]}', '{"a":[{"numeric":["<",1,">",2]}]}', '{"a":[{"numeric":[">",5000000001]}]}', '{"a":[{"numeric":["<",-5e9,">",-5.1e9]}]}', '{"a":[{"numeric":["=",1e400000]}]}',
    '{"a":[{"exists":"true"}]}', '{"a":[{"exists":1}]}', '{"a":[{"exists":null}]}',
    '{"$or":[]}', '{"$or":{"a":[1]}}', '{"$or":"x"}', '{"$or":[1]}', '{"$or":[{"a":[1]},[]]}', '{"a":{"$or":[{"b":[1]},{}]}}', '{"a":{"$or":[{"b":[1]},{"c":[2,{"exists":0}]}]}}',
    '{"a\u0000b":"x"}', '{"a":[{"x\u0000y":"x"}]}', '{"clé":{"日本":["x",{"ü":1}]}}', '{"' || repeat('long ', 100) || '":1}', '{"a":[{"' || repeat('日本', 100) || '":1}]}']) WITH ORDINALITY x(p, n), refusal(criteria(p)) WITH ORDINALITY r(error, m) ORDER BY n, m;
\pset tuples_only off
\pset format aligned

-- In a database with another encoding patterns and keys are in that, and data in UTF-8 as everywhere; data in the database's own encoding are understood, too.
SELECT current_database() AS this \gset
CREATE DATABASE kinesis_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
\c kinesis_latin1
SET client_encoding = 'UTF8';
CREATE EXTENSION kinesis;
CREATE FUNCTION latin_passes(pattern text, data bytea, key text DEFAULT 'k') RETURNS boolean LANGUAGE sql
RETURN kinesis._filters_match(jsonb_build_object('Filters', jsonb_build_array(jsonb_build_object('Pattern', pattern))), 1, key, data);
SELECT latin_passes('{"data":{"a":["é"]}}', '{"a":"\\u00e9"}') AS escaped, latin_passes('{"data":{"a":["é"]}}', '\x7b2261223a22c3a9227d') AS utf8, latin_passes('{"data":{"a":["é"]}}', '\x7b2261223a22e9227d') AS latin1,
    latin_passes('{"data":{"a":["x"]}}', '{"a":"x","b":"\\ud83d\\ude00"}') AS emoji_aside, latin_passes('{"data":{"a":["\ud83d\ude00"]}}', '\x7b2261223a22f09f9880227d') AS emoji,
    latin_passes('{"data":{"a":[{"equals-ignore-case":"ÉX"}]}}', '{"a":"\\u00c9x"}') AS ignoring_case, latin_passes('{"partitionKey":["é"]}', '', 'é') AS key, latin_passes('{"partitionKey":[{"suffix":"\u00e9"}]}', '', 'été') AS key_suffix;
SELECT latin_passes('{"é\u65e5":["x",{"é\u65e5":1}]}', '');
\c :this
DROP DATABASE kinesis_latin1;

-- The letters of other alphabets have cases where the database's collation knows them.
CREATE DATABASE kinesis_letters ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0;
\c kinesis_letters
CREATE EXTENSION kinesis;
SELECT p, left(d, 20), kinesis._filters_match(jsonb_build_object('Filters', jsonb_build_array(jsonb_build_object('Pattern', '{"data":{"a":[' || p || ']}}'))), 1, 'k', convert_to('{"a":' || d || '}', 'UTF8'))
FROM (VALUES ('{"equals-ignore-case":"ÉCOLE"}', '"\u00e9cole"'), ('{"equals-ignore-case":"привет"}', '"ПРИВЕТ"'), ('{"equals-ignore-case":"привет"}', '"ПРИВЕТ!"'), ('{"anything-but":{"equals-ignore-case":["Ω","ä"]}}', '"Ä"'),
    ('{"equals-ignore-case":"k"}', '"\u212A"'), ('{"equals-ignore-case":"É\u0000"}', '"é\u0000"'), ('{"equals-ignore-case":"x"}', '"' || repeat('X', 1000) || '"')) x(p, d);
\c :this
DROP DATABASE kinesis_letters;

-- Private
SELECT count(*) AS public FROM pg_proc WHERE pronamespace = 'kinesis'::regnamespace AND proname ~ '^_(check_filters|filters_match)$' AND has_function_privilege('public', oid, 'EXECUTE');
