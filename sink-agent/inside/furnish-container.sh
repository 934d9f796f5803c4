#!/bin/sh
# Makes a sink of a container that Docker has started: runs in its namespaces, started in the sink's cgroup with a cgroup namespace there.
# Images and programs are Docker's own bind mounts.
set -eu
umask 022
# These come from Docker, on top of the template's; the VM's own take their place.
for file in hosts hostname resolv.conf; do umount -l "/etc/$file" 2>/dev/null || :; done
umount -R -l /dev
cd /
sh /run/seamless-sink/programs/make-devices.sh
mkdir -p /run/lock
chmod 700 /run/seamless-sink
mkdir -p /run/seamless-sink/ends /run/seamless-sink/cgroup
mount -t cgroup2 sink /run/seamless-sink/cgroup
# Docker turns IPv6 off where it has given no address of it.
for device in all default lo; do
  [ ! -e "/proc/sys/net/ipv6/conf/$device" ] || echo 0 > "/proc/sys/net/ipv6/conf/$device/disable_ipv6"
done
sh /run/seamless-sink/programs/settle.sh
