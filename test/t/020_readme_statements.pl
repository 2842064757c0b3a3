# Every SQL statement that README.md shows is run, in the order of the page and in one session, and does what the page says:
# it succeeds, or, in a block that begins with "-- fails: <regular expression>", it fails with that error.  And the page's
# reference leaves out no public function, setting or SQLSTATE.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $readme = slurp_file("$ENV{KINESIS_TREE}/README.md");

# The settings that its installation chapter asks for; the rest is what Test::Cluster needs.
my $node = kinesis_node('main', extension => 0, conf => <<'CONF');
shared_preload_libraries = 'kinesis, pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = on
cron.host = ''
CONF
plan skip_all => 'pg_cron is not installed'
  unless $node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_cron'");

# Fenced blocks whose language is sql, with the line where each begins.
my @blocks;
my ($line, $open) = (0, undef);
foreach my $text (split /^/, $readme)
{
	$line++;
	if (!$open && $text =~ /^\s*```(\w*)/)
	{
		$open = { line => $line, language => $1, text => '' };
	}
	elsif ($open && $text =~ /^\s*```\s*$/)
	{
		push @blocks, $open if $open->{language} eq 'sql';
		undef $open;
	}
	elsif ($open)
	{
		$open->{text} .= $text;
	}
}
is($open, undef, 'every fenced block of README.md is closed');
cmp_ok(scalar(@blocks), '>', 30, 'README.md shows SQL');

# The extension may be gone at the end of the page, so the reference is compared when it has just been made.
my $catalog = <<'SQL';
\warn == catalog
SELECT 'function kinesis.' || proname || '(' FROM pg_proc WHERE pronamespace = 'kinesis'::regnamespace AND proname NOT LIKE '\_%'
UNION SELECT 'setting `' || name || '`' FROM pg_settings WHERE name LIKE 'kinesis.%'
UNION SELECT 'error `' || sqlstate || '` | ' || error FROM kinesis.error_codes()
UNION SELECT 'view kinesis.' || relname || '`' FROM pg_class WHERE relnamespace = 'kinesis'::regnamespace AND relkind = 'v' AND relname NOT LIKE '\_%';
SQL
my $script = '';
my $compared = 0;
foreach my $block (@blocks)
{
	$script .= "\\warn == block $block->{line}\n$block->{text}\n";
	if (!$compared && $block->{text} =~ /CREATE EXTENSION kinesis/)
	{
		$script .= $catalog;
		$compared = 1;
	}
}
$script .= "\\warn == end\n";

my ($out, $err) = ('', '');
IPC::Run::run([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'), '-f', '-' ],
	'<', \$script, '>', \$out, '2>', \$err);
my %said;
my $current = '';
foreach my $text (split /^/, $err)
{
	if ($text =~ /^== (.*)$/) { $current = $1; $said{$current} = ''; }
	else { $said{$current} .= $text; }
}
ok(exists $said{end}, 'the session came to the end of the page');

foreach my $block (@blocks)
{
	my $what = "README.md line $block->{line}";
	my $messages = $said{"block $block->{line}"} // 'not run';
	my @errors = $messages =~ /^(.*(?:ERROR|FATAL|PANIC): .*|not run|.*invalid command.*|.*server closed.*)$/mg;

	if ($block->{text} =~ /\A-- fails: (.*)$/m)
	{
		my $expected = $1;
		ok(@errors == 1 && $errors[0] =~ /$expected/, "$what fails as it says") or diag("expected: $expected\n$messages");
	}
	else
	{
		is("@errors", '', "$what succeeds") or diag($messages);
	}
}

# Before the page's callbacks are done, the scheduler has sent this; psql shows it with some later statement's result.
like($out, qr/^Asynchronous notification "payments" with payload "\{"stream_name": "payments", /m, 'the notification is heard');

ok($compared && $said{catalog} eq '', 'the reference was compared');
my @missing;
foreach my $entry ($out =~ /^((?:function|setting|error|view) .*)$/mg)
{
	my ($kind, $text) = split / /, $entry, 2;
	push @missing, $text if index($readme, $text) < 0;
}
is("@missing", '', 'the reference has every public function, setting, view and error');
cmp_ok(scalar(() = $out =~ /^function /mg), '>', 30, 'and there are many functions');

done_testing();
