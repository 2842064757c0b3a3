# Every SQL statement that README.md shows is run, in the order of the page, and must succeed.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use KinesisNode;

my $readme = "$ENV{KINESIS_TREE}/README.md";
plan skip_all => 'there is no README.md' unless -e $readme;

my $node = kinesis_node('main', extension => 0, conf => <<'CONF');
shared_preload_libraries = 'kinesis, pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = on
CONF

# A fenced block of language sql is a script of its own; its line number says where to look.
my ($blocks, $line, $start, $text) = (0, 0);
open my $in, '<', $readme or die "cannot read $readme: $!";
while (<$in>)
{
	$line++;
	if (/^\s*```sql\s*$/) { ($start, $text) = ($line, ''); }
	elsif (/^\s*```/ && defined $start)
	{
		my ($status, $out, $err) = $node->psql('postgres', $text);
		is($status, 0, "README.md line $start") or diag($err);
		$blocks++;
		undef $start;
	}
	elsif (defined $start) { $text .= $_; }
}
close $in;
cmp_ok($blocks, '>', 0, 'README.md shows SQL');

done_testing();
