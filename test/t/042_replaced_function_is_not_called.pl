# A function that somebody else has put in the place of a mapping's is not called with the rights of the mapping's owner: not before he
# has named it himself.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main');
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE library;
CREATE ROLE alice;
CREATE ROLE mallory;
CREATE SCHEMA shared;
GRANT USAGE, CREATE ON SCHEMA shared TO library, alice, mallory;
CREATE TABLE called (written_by text, run_as name, data text);
GRANT INSERT ON called TO PUBLIC;
SELECT kinesis.create_stream('s', 1);
SELECT kinesis.grant_stream('s', 'alice', 'consumer');
SQL

# Each of them writes one, which says so.
sub put_in_place
{
	my ($role) = @_;
	$node->safe_psql('postgres', <<SQL);
DROP FUNCTION IF EXISTS shared.work;
SET ROLE $role;
CREATE FUNCTION shared.work(r kinesis.record[], c kinesis.batch_context) RETURNS void LANGUAGE sql
    AS \$\$ INSERT INTO public.called SELECT '$role', current_user, convert_from(data, 'UTF8') FROM unnest(r) \$\$;
SQL
}

sub is_called_by
{
	my ($data, $expected, $what) = @_;
	becomes_in($node, 'postgres', "SELECT written_by, run_as FROM called WHERE data = '$data'", $expected, $what);
}

put_in_place('library');
my $mapping = $node->safe_psql('postgres', "SET ROLE alice; SELECT kinesis.create_event_source_mapping('s', 'shared.work')");
put_data($node, 's', 'a');
is_called_by('a', 'library|alice', 'the function that the mapping was made for is called');

put_in_place('mallory');
put_data($node, 's', 'b');
becomes_in($node, 'postgres', "SELECT last_result, error_sqlstate, error_message FROM kinesis.event_source_mapping_lanes",
	'PROBLEM: The function could not be called|42501|function shared.work belongs to another role than the one that the event source mapping was made for', 'one of somebody else is refused');
is($node->safe_psql('postgres', "SELECT count(*) FROM called WHERE written_by = 'mallory'"), '0', 'and not called');

put_in_place('library');
is_called_by('b', 'library|alice', 'one of the same owner is called again, with what has waited');
put_in_place('alice');
put_data($node, 's', 'c');
is_called_by('c', 'alice|alice', 'so is her own');
put_in_place('mallory');
$node->safe_psql('postgres', "SET ROLE alice; SELECT kinesis.update_event_source_mapping('$mapping', function_name => 'shared.work')");
put_data($node, 's', 'd');
is_called_by('d', 'mallory|alice', 'and whatever she names herself');

done_testing();
