# KinesisNode - servers with kinesis for the TAP tests, and what all of them ask of a stream.
package KinesisNode;

use strict;
use warnings;
use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  kinesis_node kinesis_conf records_of numbers_of greatest_number faults_of disorder_of
  becomes_in start_psql start_writers wait_for_acknowledged stop_writers acknowledged_of is_each_read_once kill_all_with_9
);

# What postgresql.conf needs; beside what Test::Cluster writes, which is too small for streams.
sub kinesis_conf
{
	return <<'CONF';
shared_preload_libraries = 'kinesis'
max_connections = 40
max_prepared_transactions = 10
max_locks_per_transaction = 256
max_worker_processes = 20
shared_buffers = 32MB
log_statement = none
CONF
}

# A running server.  conf => more lines of postgresql.conf, extension => 0 to go without; the rest goes to init.
sub kinesis_node
{
	my ($name, %params) = @_;
	my $conf = delete $params{conf} // '';
	my $extension = delete $params{extension} // 1;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(extra => [ '--encoding=UTF8', '--locale=C' ], %params);
	$node->append_conf('postgresql.conf', kinesis_conf() . $conf);
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION kinesis') if $extension;
	return $node;
}

# All records of a stream by read_shard, in the order in which it gives them: shard|number|key|size|md5 of the data.
sub records_of
{
	my ($node, $db, $stream) = @_;
	return $node->safe_psql($db, <<SQL);
SELECT s.shard_id, r.sequence_number, r.partition_key, octet_length(r.data), md5(r.data)
  FROM kinesis.list_shards('$stream') AS s,
       LATERAL ROWS FROM (kinesis.read_shard('$stream', s.shard_id))
           WITH ORDINALITY AS r(sequence_number, arrival, partition_key, data, encryption_type, n)
 ORDER BY s.shard_id, r.n
SQL
}

# The sequence numbers of one shard as read_shard gives them.
sub numbers_of
{
	my ($node, $db, $stream, $shard) = @_;
	return split /\n/, $node->safe_psql($db, "SELECT sequence_number FROM kinesis.read_shard('$stream', '$shard')");
}

sub greatest_number
{
	my ($node, $db, $stream) = @_;
	return $node->safe_psql($db, <<SQL);
SELECT max(r.sequence_number) FROM kinesis.list_shards('$stream') AS s, kinesis.read_shard('$stream', s.shard_id) AS r
SQL
}

# What check_stream finds, empty for a healthy stream.
sub faults_of
{
	my ($node, $db, $stream) = @_;
	return $node->safe_psql($db, "SELECT * FROM kinesis.check_stream('$stream')");
}

# How many records lie behind one with a greater number, in the files of all slices.
sub disorder_of
{
	my ($node, $db, $table) = @_;
	return $node->safe_psql($db, <<SQL);
SELECT count(*)
  FROM (SELECT sequence_number, lag(sequence_number) OVER (PARTITION BY tableoid ORDER BY ctid) AS previous
          FROM kinesis_stream."$table") AS r
 WHERE sequence_number < previous
SQL
}

# Waits until a query has the expected answer; says what event source mappings are at when it never has.
sub becomes_in
{
	my ($node, $db, $query, $expected, $what) = @_;
	my $good = $node->poll_query_until($db, $query, $expected);

	local $Test::Builder::Level = $Test::Builder::Level + 2;
	ok($good, $what);
	diag $node->safe_psql($db, 'SELECT * FROM kinesis.event_source_mapping_lanes') if !$good;
	return $good;
}

# A session that runs a command in the background, under a name.  What it complains of is in {errors}; {run} is to be finished.
sub start_psql
{
	my ($node, $db, $name, $sql) = @_;
	my $session = { name => $name, errors => '' };

	$session->{run} = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr($db) . " application_name='$name'", '-c', $sql ],
		'<', '/dev/null', '>', '/dev/null', '2>', \$session->{errors});
	return $session;
}

# Sessions that put without pause, one record a statement or twenty, and write what was acknowledged to a file:
# "data|shard|number".  The data is unique: writer and count.  PGOPTIONS of the caller hold for them.
sub start_writers
{
	my ($node, $db, $stream, @names) = @_;
	my @writers;

	foreach my $name (@names)
	{
		my $script = PostgreSQL::Test::Utils::tempdir . "/$name.sql";
		open my $out, '>', $script or die "cannot write $script: $!";
		my $count = 0;
		for (1 .. 4000)
		{
			for (1 .. 5)
			{
				$count++;
				print $out "SELECT '$name $count', shard_id, sequence_number"
				  . " FROM kinesis.put_record('$stream', '$name $count', 'key ' || $count % 50);\n";
			}
			my ($from, $to) = ($count + 1, $count + 20);
			$count = $to;
			print $out "SELECT '$name ' || $from + r.n - 1, r.shard_id, r.sequence_number"
			  . " FROM kinesis.put_records('$stream',"
			  . " ARRAY(SELECT convert_to('$name ' || i, 'UTF8') FROM generate_series($from, $to) AS i),"
			  . " ARRAY(SELECT 'key ' || i % 50 FROM generate_series($from, $to) AS i))"
			  . " WITH ORDINALITY AS r(sequence_number, shard_id, error_code, error_message, n)"
			  . " WHERE r.error_code IS NULL;\n";
		}
		close $out;
		my $acknowledged = PostgreSQL::Test::Utils::tempdir . "/$name.acknowledged";
		my $errors = "$acknowledged.errors";
		my $run = IPC::Run::start(
			[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db), '-f', $script ],
			'<', '/dev/null', '>', $acknowledged, '2>', $errors);
		push @writers, { name => $name, run => $run, file => $acknowledged, errors => $errors };
	}
	return @writers;
}

# Waits until each writer has so many records acknowledged.
sub wait_for_acknowledged
{
	my ($goal, @writers) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	foreach my $writer (@writers)
	{
		until (($writer->{now} = () = slurp_file($writer->{file}) =~ /\n/g) >= $goal)
		{
			die "writer $writer->{name} stopped at $writer->{now} of $goal records: " . slurp_file($writer->{errors})
			  if time > $deadline || !$writer->{run}->pumpable && -s $writer->{errors};
			select undef, undef, undef, 0.05;
		}
	}
}

# Waits until the writers have ended, which a lost server makes them do.
sub stop_writers
{
	my @writers = @_;
	foreach my $writer (@writers)
	{
		eval { $writer->{run}->finish };
	}
}

# What the writers were told is stored: data => "shard|number".
sub acknowledged_of
{
	my %acknowledged;
	foreach my $writer (@_)
	{
		foreach my $line (split /\n/, slurp_file($writer->{file}))
		{
			my ($data, $shard, $number) = split /\|/, $line;
			next unless defined $number && $number =~ /^\d+$/;
			die "acknowledged twice: $data" if exists $acknowledged{$data};
			$acknowledged{$data} = "$shard|$number";
		}
	}
	return \%acknowledged;
}

# The promise: each acknowledged record is read once, with its shard and number, and every shard is in order.
sub is_each_read_once
{
	my ($node, $db, $stream, $acknowledged, $what) = @_;
	my @lines = split /\n/, $node->safe_psql($db, <<SQL);
SELECT s.shard_id, r.sequence_number, convert_from(r.data, 'UTF8')
  FROM kinesis.list_shards('$stream') AS s,
       LATERAL ROWS FROM (kinesis.read_shard('$stream', s.shard_id))
           WITH ORDINALITY AS r(sequence_number, arrival, partition_key, data, encryption_type, n)
 ORDER BY s.shard_id, r.n
SQL
	my (%read, %last, @twice, @disorder);
	foreach my $line (@lines)
	{
		my ($shard, $number, $data) = split /\|/, $line;
		push @twice, $data if exists $read{$data};
		push @disorder, "$shard $number after $last{$shard}" if exists $last{$shard} && $number <= $last{$shard};
		$read{$data} = "$shard|$number";
		$last{$shard} = $number;
	}
	my @lost = grep { !exists $read{$_} } sort keys %$acknowledged;
	my @moved = grep { exists $read{$_} && $read{$_} ne $acknowledged->{$_} } sort keys %$acknowledged;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	cmp_ok(scalar(keys %$acknowledged), '>', 0, "$what: " . keys(%$acknowledged) . " records were acknowledged");
	is("@lost[0 .. ($#lost < 9 ? $#lost : 9)]", '', "$what: none of them is lost");
	is("@moved[0 .. ($#moved < 9 ? $#moved : 9)]", '', "$what: none has another shard or number");
	is("@twice[0 .. ($#twice < 9 ? $#twice : 9)]", '', "$what: none is read twice");
	is("@disorder[0 .. ($#disorder < 9 ? $#disorder : 9)]", '', "$what: every shard is in order");
	return \%read;
}

# kill -9 of the postmaster and all its children at once.  Each child is a session of its own, so they are found by parent.
sub kill_all_with_9
{
	my ($node) = @_;
	my $postmaster = $node->safe_psql('postgres',
		"SELECT (regexp_split_to_array(pg_read_file('postmaster.pid'), '\\n'))[1]");
	# A stopped postmaster makes no more children while we count them.
	kill 'STOP', $postmaster or die "cannot stop $postmaster: $!";
	my @children;
	foreach my $stat (glob '/proc/[0-9]*/stat')
	{
		open my $in, '<', $stat or next;
		my $line = <$in> // '';
		push @children, $1 if $line =~ /^(\d+) \(.*\) \S (\d+) /s && $2 == $postmaster;
	}
	kill 'KILL', @children;
	$node->kill9;
	# A child that still lives holds the shared memory, and the next start would be refused.
	foreach my $pid ($postmaster, @children)
	{
		my $tries = 0;
		while (_state($pid) ne 'Z')
		{
			die "process $pid survives kill -9" if $tries++ > 600;
			select undef, undef, undef, 0.05;
		}
	}
	# The lock files' process seems to live as long as nobody has asked for its exit status; some containers' init never does.
	my $tries = 0;
	select undef, undef, undef, 0.05 while -e "/proc/$postmaster" && $tries++ < 100;
	unlink $node->data_dir . '/postmaster.pid', $node->host . '/.s.PGSQL.' . $node->port . '.lock' if -e "/proc/$postmaster";
}

# The state of a process as a letter; Z, dead, for one that is no more.
sub _state
{
	my ($pid) = @_;
	open my $in, '<', "/proc/$pid/stat" or return 'Z';
	my $line = <$in> // '';
	return $line =~ /^\d+ \(.*\) (\S) /s ? $1 : 'Z';
}

1;
