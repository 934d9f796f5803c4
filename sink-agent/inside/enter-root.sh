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
mkdir run/lock
sh "$programs/make-devices.sh"

mkdir -m 700 run/seamless-sink
for folder in images cgroup programs ends; do mkdir "run/seamless-sink/$folder"; done
mount --bind "$images" run/seamless-sink/images
mount --bind "$cgroup" run/seamless-sink/cgroup
mount --bind "$programs" run/seamless-sink/programs
: > run/seamless-sink/gate
mount --bind "$gate" run/seamless-sink/gate
: > run/seamless-sink/limits.so
mount --bind "$limits" run/seamless-sink/limits.so

printf %s "$hostname" > proc/sys/kernel/hostname # not the host’s /proc, which may be read-only in a container
pivot_root . .
umount -l .
cd /
sh /run/seamless-sink/programs/settle.sh
echo ready
exec catatonit -P < /dev/null > /dev/null 2>&1
