#!/bin/sh
# The first process of a guest: mounts what every program expects, with pure cgroup v2, does the jobs, and powers off.
# Each line of /vm/jobs is a name and a command. What they print goes to the second serial line, between marks:
# "@@ begin NAME" and "@@ end NAME STATUS SECONDS". The kernel, and this script's own errors, have the first one.
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
for module in $(cat /vm/wanted); do
    busybox modprobe "$module"
done

# As a service manager leaves it: programs are in a leaf, and the root hands its controllers on.
mkdir -p /sys/fs/cgroup/system.slice/tests.service
echo $$ >/sys/fs/cgroup/system.slice/tests.service/cgroup.procs

stty -F /dev/ttyS1 raw
while read -r name command; do
    begin=$(date +%s)
    {
        echo "@@ begin $name"
        status=0
        (cd / && eval "$command") </dev/null 2>&1 || status=$?
        echo "@@ end $name $status $(($(date +%s) - begin))"
    } >/dev/ttyS1
done </vm/jobs
echo "@@ done" >/dev/ttyS1
echo o >/proc/sysrq-trigger
# The kernel panics when its first process ends.
while :; do sleep 1; done
