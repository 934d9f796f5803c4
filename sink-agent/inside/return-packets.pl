#!/usr/bin/perl
# Sends Ethernet frames out of a device of the sink, for the VM. Usage: return-packets.pl DEVICE; standard input: a frame in hexadecimal a line.
use strict;
use warnings;

use constant { AF_PACKET => 17, SOCK_RAW => 3, SIOCGIFINDEX => 0x8933, ETH_P_IP => 0x0800 };

my ($device) = @ARGV;
socket(my $out, AF_PACKET, SOCK_RAW, 0) or die "socket: $!\n";
my $request = pack('Z16 x24', $device);
ioctl($out, SIOCGIFINDEX, $request) or die "$device: $!\n";
my $address = pack('S n i S C C x8', AF_PACKET, ETH_P_IP, unpack('x16 i', $request), 0, 0, 6);
while (my $line = <STDIN>) {
    chomp $line;
    send($out, pack('H*', $line), 0, $address) or die "send: $!\n";
}
