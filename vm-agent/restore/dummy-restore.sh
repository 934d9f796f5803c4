#!/bin/sh
# The dummy restore's PID 1: runs the command that follows the first argument in its own PID, mount and network namespaces, and
# ends; with it the kernel ends all that was restored. The first argument is a batch for ip(8).
set -e
# The PIDs of the image are low ones: CRIU's helpers shall get others.
echo 1000000 >/proc/sys/kernel/ns_last_pid
ip -force -batch "$1"
shift
setsid --wait "$@"
