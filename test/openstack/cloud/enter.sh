#!/bin/sh
# Enters the root tree in namespaces of its own: enter.sh TREE PROGRAMS, run by unshare --mount --pid --fork --kill-child.
# What is written goes to a tmpfs over the tree; with this process all of it ends, mounts and processes.
set -eu
tree=$1 programs=$2
mount --make-rprivate /
mount -t tmpfs -o size=3g,mode=755 cloud /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$tree,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
mount -t proc proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
mkdir -p /mnt/root/cloud /mnt/root/etc/cloud /mnt/root/var/lib/cloud /mnt/root/var/log/cloud
mount --bind "$programs" /mnt/root/cloud
exec chroot /mnt/root /usr/bin/python3 /cloud/cloud.py
