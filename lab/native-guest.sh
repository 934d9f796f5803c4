#!/bin/sh
# Boots a template's tree on the host's own kernel: run in new namespaces (pid, mount, net, uts, ipc, cgroup) as their PID 1, it does the work of
# the initramfs (template/guest-init.sh) and goes on as the tree's systemd. Everything is mounted in this mount namespace alone,
# and its interfaces live in this network namespace: when PID 1 ends, nothing of it is left on the host but the folder DISK.
#
#   TEMPLATE  root tree, read only       DISK     folder for what the guest writes
#   FILES     tar laid over the root     NETWORK  a line per interface: NAME HOST-SIDE-NAME MAC ADDRESS/PREFIX…
#   HYPERVISOR  network namespace with the host-side names     CREDENTIALS  folder with systemd's credentials     CONSOLE  file
set -eu
umask 022
mkdir -p "$DISK/upper" "$DISK/work" "$DISK/root"
mount -t overlay -o "lowerdir=$TEMPLATE,upperdir=$DISK/upper,workdir=$DISK/work" disk "$DISK/root"
tar -x -f "$FILES" -C "$DISK/root"
# The kernel and its clock are the host's. (CRIU wants sys_time too, for the clocks of what it restores: the agent keeps it, and sets no clock.)
cat >"$DISK/root/etc/systemd/system/service.d/15-native.conf" <<UNIT
[Service]
CapabilityBoundingSet=~CAP_SYS_TIME CAP_SYS_MODULE CAP_SYS_RAWIO
UNIT

exec 9</proc/self/ns/net
ip link set lo up
while read -r name cable mac addresses; do
  nsenter --net="$HYPERVISOR" ip link set "$cable" netns /proc/self/fd/9
  ip link set "$cable" address "$mac" name "$name"
  # Open vSwitch's userspace datapath hands on frames as they are.
  ethtool -K "$name" tx off >/dev/null
  # The same address lives in the sink while the VM is off, as in guest-init.sh; and who is frozen asks for no routers.
  for setting in accept_dad accept_ra autoconf router_solicitations; do echo 0 >"/proc/sys/net/ipv6/conf/$name/$setting"; done
  echo 0 >"/proc/sys/net/ipv6/conf/$name/disable_ipv6"
  for address in $addresses; do ip addr add "$address" dev "$name"; done
  ip link set "$name" up
done <"$NETWORK"
exec 9<&-

cd "$DISK/root"
mount -t proc proc proc
# Its network's part is the guest's own, and changed by file as in a VM.
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount --bind sys/devices/virtual/net sys/devices/virtual/net
mount -o remount,bind,ro sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid,nodev run run
mount -t tmpfs -o mode=755,nosuid,size=1m dev dev
mkdir -m 755 dev/pts dev/shm
mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=0666 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev shm dev/shm
umask 0
while read -r node major minor; do mknod -m 666 "dev/$node" c "$major" "$minor"; done <<NODES
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
ptmx 5 2
NODES
umask 022
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
: >dev/console
mount --bind "$CONSOLE" dev/console
mkdir -p -m 700 run/credentials/@system
cp "$CREDENTIALS"/* run/credentials/@system/

# Of the host's settings a guest may change its network's, and the PIDs that CRIU counts on.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount --bind proc/sys/kernel/ns_last_pid proc/sys/kernel/ns_last_pid
mount -o remount,bind,ro proc/sys

cat etc/hostname >/proc/sys/kernel/hostname
# CRIU wants `/` to be a real mount: hence pivot_root, not chroot.
pivot_root . .
umount -l .
cd /
# systemd makes a unit's credentials in a mount namespace of its own, and counts on their getting here.
mount --make-rshared /
exec env -i container=seamless-lab CREDENTIALS_DIRECTORY=/run/credentials/@system PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --show-status=no 0<>/dev/null
