#!/bin/sh
# The first process of a guest: hands over to systemd where that is installed, which runs work.sh as a service;
# else mounts what every program expects, with pure cgroup v2, and does the work itself.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C

if [ -z "${SETTLED-}" ]; then
    # No mount can be pivoted away from the kernel's first one, so everything lives in a second one above it.
    mkdir /root/again
    mount --bind / /root/again
    cd /root/again
    mount --move . /
    exec env SETTLED=yes chroot . /init
fi
[ ! -x /lib/systemd/systemd ] || exec /lib/systemd/systemd
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate cgroup2 /sys/fs/cgroup
mount --make-rshared /
busybox ip link set lo up
hostname guest

# As a service manager leaves it: programs are in a leaf.
mkdir -p /sys/fs/cgroup/system.slice/work.service
echo $$ >/sys/fs/cgroup/system.slice/work.service/cgroup.procs
exec sh /vm/work.sh
