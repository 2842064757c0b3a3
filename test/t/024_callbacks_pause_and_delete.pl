# A mapping that is paused keeps its position, one that is deleted leaves nothing of what was under way.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;
use KinesisMapping;

my $node = mapping_node('main');
my $holder = $node->background_psql('postgres');
# What a function waits for while the test holds it.
my $wait = "IF texts[1] = 'wait' THEN INSERT INTO worked (function, data) VALUES ('NAME', 'begun'); PERFORM pg_advisory_xact_lock(1); END IF;";

sub function_has_ended
{
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'"), 'the function has ended');
}

sub state_becomes
{
	my ($name, $state) = @_;
	ok($node->poll_query_until('postgres', "SELECT state = '$state' FROM kinesis.event_source_mappings WHERE function_name = 'public.$name'"), "$name is $state");
}

make_mapping($node, 'paused', $wait =~ s/NAME/paused/r, batch_size => 2);
make_mapping($node, 'other', '', stream => 'paused');
put_data($node, 'paused', 'a');
wait_until_done($node, 'paused');

# While it rests.
update_mapping($node, 'paused', enabled => 'false');
state_becomes('paused', 'Disabled');
put_data($node, 'paused', 'b', 'c', 'd');
wait_until_done($node, 'other');
is(worked_of($node, 'paused'), 'a', 'a paused mapping is not called');
update_mapping($node, 'paused', enabled => 'true');
state_becomes('paused', 'Enabled');
wait_until_done($node, 'paused');
is_called($node, 'paused', [ '1: a', '1: b c', '1: d' ], 'enabled again it goes on where it was');

# While the function runs: it ends what it does, and no more.
$holder->query_safe('SELECT pg_advisory_lock(1)');
put_data($node, 'paused', 'wait', 'e', 'f', 'g');
is_held($node, 'the function runs');
update_mapping($node, 'paused', enabled => 'false');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
state_becomes('paused', 'Disabled');
function_has_ended();
put_data($node, 'paused', 'h');
wait_until_done($node, 'other');
is(worked_of($node, 'paused'), 'a b c d begun wait e', 'what ran when it was paused counts, and nothing comes after it');
update_mapping($node, 'paused', enabled => 'true');
wait_until_done($node, 'paused');
is(worked_of($node, 'paused'), 'a b c d begun wait e f g h', 'until it is enabled again');

# While a batch is retried: the batch and its attempts are kept, too.
make_mapping($node, 'failing', "IF texts[1] = 'bad' THEN RAISE 'bad'; END IF;");
put_data($node, 'failing', 'bad', 'a');
wait_for_result($node, 'failing', 'PROBLEM: Function call failed');
update_mapping($node, 'failing', enabled => 'false');
state_becomes('failing', 'Disabled');
ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM kinesis.event_source_mapping_lanes WHERE function_name = 'public.failing' AND status = 'running')"), 'it does not run');
my $attempts = lane_of($node, 'failing', 'attempts');
put_data($node, 'failing', 'b');
make_function($node, 'failing', '');
update_mapping($node, 'failing', enabled => 'true');
wait_until_done($node, 'failing');
is((calls_of($node, 'failing'))[-2], ($attempts + 1) . ': bad a', 'a batch that was retried is retried on, as it was');
is((calls_of($node, 'failing'))[-1], '1: b', 'before what came meanwhile');

# Deleted while the function runs.
make_mapping($node, 'deleted', $wait =~ s/NAME/deleted/r);
$holder->query_safe('SELECT pg_advisory_lock(1)');
put_data($node, 'deleted', 'wait');
is_held($node, 'the function runs');
$node->safe_psql('postgres', "SELECT kinesis.delete_event_source_mapping('" . uuid_of($node, 'deleted') . "')");
$holder->query_safe('SELECT pg_advisory_unlock(1)');
function_has_ended();
is(worked_of($node, 'deleted'), '', 'what the function of a deleted mapping did is undone');
is_called($node, 'deleted', ['1: wait'], 'it was called');
is(uuid_of($node, 'deleted'), '', 'the mapping is gone');

# So is that of a deleted stream, but the mapping stays, disabled.
make_mapping($node, 'sourceless', $wait =~ s/NAME/sourceless/r);
$holder->query_safe('SELECT pg_advisory_lock(1)');
put_data($node, 'sourceless', 'wait');
is_held($node, 'the function runs');
$node->safe_psql('postgres', "SELECT kinesis.delete_stream('sourceless')");
$holder->query_safe('SELECT pg_advisory_unlock(1)');
function_has_ended();
is(worked_of($node, 'sourceless'), '', 'what the function of a deleted stream did is undone');
is($node->safe_psql('postgres', "SELECT state, state_transition_reason FROM kinesis.event_source_mappings WHERE function_name = 'public.sourceless'"),
	'Disabled|The stream was deleted', 'and the mapping is disabled');

# The others were not disturbed.
put_data($node, 'paused', 'i');
wait_until_done($node, $_) foreach 'paused', 'other';
like(worked_of($node, 'paused'), qr/ h i$/, 'the others go on');
$holder->quit;

done_testing();
