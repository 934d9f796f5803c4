#!/bin/sh
# Kernel settings of a sink's own namespaces; runs in all of them.
set -eu
# The addresses are known to be the VM's own: nothing to detect, nothing to learn from routers.
for setting in accept_dad accept_ra autoconf router_solicitations; do
  echo 0 > "/proc/sys/net/ipv6/conf/default/$setting"
done
# Whoever runs in here from now on gets numbers far from those of the VM's processes, so that CRIU finds these free.
# (The limit is the namespace's own since Linux 6.14; on older ones systemd has raised the host's already.)
[ "$(cat /proc/sys/kernel/pid_max)" -ge 4194304 ] || echo 4194304 > /proc/sys/kernel/pid_max
echo 4000000 > /proc/sys/kernel/ns_last_pid
