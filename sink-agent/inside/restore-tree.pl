#!/usr/bin/perl
# Runs `criu restore` inside a sink, and gives it the ends that stayed in the VM.
# Usage: restore-tree.pl CGROUP [stream:FD | fifo:FD:NAME | device:FD:PATH | dgram:PATH]... -- criu restore ...
#
# The restored processes are born in the cgroup /run/seamless-sink/cgroup/CGROUP. A `stream` is one end of a stream socket pair
# (journald's stream), a `fifo` a FIFO of mode 0600 in our folder (logind's session), a `dgram` a socket bound to PATH (/dev/log). A child
# outside of that cgroup holds the other ends for as long as the sink lives, so that CRIU can dump ours again. Nobody reads them:
# any use is activity and doesn't get that far.
use strict;
use warnings;
use Fcntl;
use POSIX ();
use Socket;

my $folder = '/run/seamless-sink';
my $cgroup = shift @ARGV;
my @held;

while (defined(my $what = shift @ARGV)) {
    last if $what eq '--';
    my ($kind, @values) = split /:/, $what, 3;
    if    ($kind eq 'stream') { push @held, stream(@values) }
    elsif ($kind eq 'fifo')   { fifo(@values) }
    elsif ($kind eq 'device') { device(@values) }
    elsif ($kind eq 'dgram')  { push @held, dgram(join ':', @values) }
    else                      { die "expected stream, fifo, device or dgram, got $what\n" }
}
hold() if @held;
put("$folder/cgroup/$cgroup/cgroup.procs", 0);
$ENV{SEAMLESS_CGROUP} = $cgroup;
$ENV{SEAMLESS_CRIU_PID} = $$;
# Of a daemon that has left its session's leader behind, CRIU puts the tree into its own.
POSIX::setsid();
exec @ARGV or die "exec $ARGV[0]: $!\n";

sub stream {
    my ($fd) = @_;
    socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, 0) or die "socketpair: $!\n";
    give($theirs, $fd);
    return $ours;
}

sub fifo {
    my ($fd, $name) = @_;
    my $path = "$folder/ends/$name";
    unlink $path;
    POSIX::mkfifo($path, 0600) or die "mkfifo $path: $!\n";
    sysopen(my $end, $path, O_RDWR) or die "open $path: $!\n";
    give($end, $fd);
}

sub device {
    my ($fd, $path) = @_;
    $path =~ m{^/dev/(null|zero|full|u?random)$} or die "expected a plain device, got $path\n";
    sysopen(my $end, $path, O_RDWR) or die "open $path: $!\n";
    give($end, $fd);
}

sub dgram {
    my ($path) = @_;
    unlink $path;
    socket(my $ours, AF_UNIX, SOCK_DGRAM, 0) or die "socket: $!\n";
    bind($ours, sockaddr_un($path)) or die "bind $path: $!\n";
    chmod 0666, $path or die "chmod $path: $!\n";
    return $ours;
}

# Under the number that criu was told, and open across exec.
sub give {
    my ($end, $fd) = @_;
    POSIX::dup2(fileno $end, $fd) // die "dup2 to $fd: $!\n";
}

sub hold {
    my $child = fork // die "fork: $!\n";
    return if $child;
    put("$folder/cgroup/helper/cgroup.procs", 0);
    POSIX::setsid();
    my %keep = map { fileno($_) => 1 } @held;
    for my $fd (0 .. 1023) { POSIX::close($fd) unless $keep{$fd} }
    fcntl($_, F_SETFD, 0) // die "fcntl: $!\n" for @held;
    # It lives as long as the sink, and perl takes three megabytes.
    exec { '/usr/bin/sleep' } 'seamless-ends', 'infinity' or die "exec sleep: $!\n";
}

sub put {
    my ($path, $value) = @_;
    open my $file, '>', $path or die "$path: $!\n";
    syswrite($file, $value) // die "$path: $!\n";
    close $file or die "$path: $!\n";
}
