#!/bin/sh
# Makes /dev of a sink as the VM has it, below the working directory: what CRIU opens by the names that it has noted there.
set -eu
umask 022
mount -t tmpfs -o mode=755,nosuid,size=1m dev dev
mkdir -m 755 dev/pts dev/shm
mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=0666 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev shm dev/shm
umask 0
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mknod -m 600 dev/console c 5 1
mknod -m 666 dev/ptmx c 5 2
umask 022
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
ln -s /run/systemd/journal/dev-log dev/log
