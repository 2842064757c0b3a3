# Pages of zeros, in the middle of a slice and at its end, as a crash between the extension of a file and its first use
# leaves them: readers, searches and the next put step over them or use them, and nothing is lost or out of order.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use KinesisNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $page = 8192;
my $node = kinesis_node('main');
$node->safe_psql('postgres', <<'SQL');
SELECT kinesis.create_stream('z', 1);
SELECT kinesis.set_shard_limits('z', NULL, NULL, NULL, NULL);
SELECT count(p.sequence_number) FROM generate_series(1, 4) i,
  LATERAL kinesis.put_records('z', array_fill(convert_to(repeat('x', 300), 'UTF8'), ARRAY[200]), array_fill(i::text, ARRAY[200])) p;
CHECKPOINT;
SQL
my $before = records_of($node, 'postgres', 'z');
my $file = $node->data_dir . '/' . $node->safe_psql('postgres', <<'SQL');
SELECT pg_relation_filepath(c.oid) FROM pg_class c
WHERE relnamespace = 'kinesis_stream'::regnamespace AND relkind = 'r' AND pg_relation_size(c.oid) > 0
SQL

# The last page with records moves three pages on, and three more pages of zeros follow it.
$node->stop;
open my $f, '+<:raw', $file or die "$file: $!";
my $content = do { local $/; <$f> };
my @pages = unpack("(a$page)*", $content);
pop @pages while $pages[-1] eq "\0" x $page;
my $used = @pages;
cmp_ok($used, '>', 5, 'the slice has some pages');
my $last = pop @pages;
my $zero = "\0" x $page;
seek $f, 0, 0;
print $f join('', @pages, $zero, $zero, $zero, $last, $zero, $zero, $zero);
truncate $f, $page * ($used + 6);
close $f;
$node->start;

is(records_of($node, 'postgres', 'z'), $before, 'all records are read, in order');
is($node->safe_psql('postgres', <<'SQL'), 'f|800', 'every record is found by its number');
WITH r AS (SELECT sequence_number FROM kinesis.read_shard('z', '0'))
SELECT bool_or(g.records[1].sequence_number IS DISTINCT FROM r.sequence_number), count(*)
FROM r, LATERAL kinesis.get_records(kinesis.get_shard_iterator('z', '0', 'AT_SEQUENCE_NUMBER', r.sequence_number), 1) g
SQL
my $greatest = $node->safe_psql('postgres', "SELECT max(sequence_number) FROM kinesis.read_shard('z', '0')");
is($node->safe_psql('postgres', <<SQL), 't', 'the number after a restart is greater than all before');
SET kinesis.clock_offset = '-1 h';
SELECT sequence_number > $greatest FROM kinesis.put_record('z', 'next', 'k');
SQL
$node->safe_psql('postgres', <<'SQL');
SELECT count(p.sequence_number) FROM generate_series(1, 4) i,
  LATERAL kinesis.put_records('z', array_fill(convert_to(repeat('y', 300), 'UTF8'), ARRAY[200]), array_fill(i::text, ARRAY[200])) p;
SQL
is($node->safe_psql('postgres', "SELECT count(*) FROM kinesis.read_shard('z', '0')"), '1601', 'what was put then is read, too');
is($node->safe_psql('postgres', 'SELECT count(*) FROM kinesis_stream.z'), '1601', 'and an ordinary SELECT says the same');
is(faults_of($node, 'postgres', 'z'), '', 'check_stream finds nothing');
cmp_ok($node->safe_psql('postgres', "SELECT sum(pg_relation_size(relid)) / $page FROM pg_partition_tree('kinesis_stream.z') WHERE isleaf"),
	'<', 2 * $used + 20, 'the pages of zeros at the end are used');
$node->safe_psql('postgres', 'VACUUM');
is($node->safe_psql('postgres', "SELECT count(*) FROM kinesis.read_shard('z', '0')"), '1601', 'VACUUM changes nothing');
$node->stop;
done_testing();
