#!/bin/sh
# Becomes PID 1 of a sink: started in new namespaces, builds the root tree, moves into it, and lives on as catatonit.
# Usage: enter-root.sh TEMPLATE-ROOT MOUNT-POINT IMAGES CGROUP PROGRAMS GATE LIMITS HOSTNAME;
# prints `ready` when done. PROGRAMS is the folder of this script, GATE the program of criu/gate.ts, LIMITS the library of criu/run.ts.
#
# Everything is mounted in this mount namespace alone, so that nothing of it can be left behind on the host. CRIU wants `/`
# to be a real mount: hence pivot_root, not chroot. /run/seamless-sink is the agent's: images, the sink's cgroup, programs.
set -eu
umask 022
template=$1 base=$2 images=$3 cgroup=$4 programs=$5 gate=$6 limits=$7 hostname=$8
echo 0 > "$cgroup/helper/cgroup.procs"

mount -t tmpfs -o mode=755,size=256m sink "$base"
mkdir "$base/upper" "$base/work" "$base/root"
# xino: a file has the inode number that the kernel shows for it, or CRIU would not find what is watched by inotify.
mount -t overlay -o "lowerdir=$template,upperdir=$base/upper,workdir=$base/work,xino=on" sink "$base/root"
cd "$base/root"

mount -t proc proc proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=755,nosuid,size=16m run run
mount -t tmpfs -o mode=755,nosuid,size=1m dev dev
mkdir -m 755 dev/pts dev/shm run/lock
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

mkdir -m 700 run/seamless-sink
for folder in images cgroup programs ends; do mkdir "run/seamless-sink/$folder"; done
mount --bind "$images" run/seamless-sink/images
mount --bind "$cgroup" run/seamless-sink/cgroup
mount --bind "$programs" run/seamless-sink/programs
: > run/seamless-sink/gate
mount --bind "$gate" run/seamless-sink/gate
: > run/seamless-sink/limits.so
mount --bind "$limits" run/seamless-sink/limits.so

printf %s "$hostname" > /proc/sys/kernel/hostname
# The addresses are known to be the VM's own: nothing to detect, nothing to learn from routers.
for setting in accept_dad accept_ra autoconf router_solicitations; do
  echo 0 > "/proc/sys/net/ipv6/conf/default/$setting"
done

pivot_root . .
umount -l .
cd /
# Whoever runs in here from now on gets numbers far from those of the VM's processes, so that CRIU finds these free.
# (The limit is the namespace's own since Linux 6.14; on older ones systemd has raised the host's already.)
[ "$(cat /proc/sys/kernel/pid_max)" -ge 4194304 ] || echo 4194304 > /proc/sys/kernel/pid_max
echo 4000000 > /proc/sys/kernel/ns_last_pid
echo ready
exec catatonit -P < /dev/null > /dev/null 2>&1
