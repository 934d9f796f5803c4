#!/usr/bin/perl
# Throws away what the kernel has told the netlink sockets of these processes (as numbered in here): news of the sink's own network,
# which the VM has no use for, and with which unread CRIU refuses to dump. The processes must be stopped.
# Usage: drain-netlink.pl PID...
use strict;
use warnings;

use constant { PIDFD_OPEN => 434, PIDFD_GETFD => 438, MSG_DONTWAIT => 0x40 };    # the same for x86-64 and aarch64

open my $table, '<', '/proc/net/netlink' or die "/proc/net/netlink: $!\n";
my %isNetlink = map { (split)[9] => 1 } grep { !/^sk/ } <$table>;

for my $pid (@ARGV) {
    my $process = syscall(PIDFD_OPEN, $pid + 0, 0);
    next if $process < 0;    # it has ended
    for my $link (glob "/proc/$pid/fd/*") {
        my ($inode) = (readlink($link) // '') =~ /^socket:\[(\d+)\]$/ or next;
        $isNetlink{$inode} or next;
        my ($number) = $link =~ /(\d+)$/;
        my $fd = syscall(PIDFD_GETFD, $process, $number + 0, 0);
        $fd >= 0 or die "pidfd_getfd $pid $number: $!\n";
        open my $socket, '+<&=', $fd or die "fdopen: $!\n";
        # An overrun (ENOBUFS) is told once, like a message.
        my ($text, $turns) = ('', 0);
        while ($turns++ < 10_000) { defined recv($socket, $text, 65536, MSG_DONTWAIT) or $!{ENOBUFS} or last }
        close $socket;
    }
}
