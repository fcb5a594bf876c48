#!/bin/sh
# Does the jobs of a guest, then powers it off. Each line of /vm/jobs is a name and a command. What they print goes to the
# second serial line, between marks: "@@ begin NAME" and "@@ end NAME STATUS SECONDS". The first line is the kernel's.
set -eu
for module in $(cat /vm/wanted); do
    busybox modprobe "$module"
done
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
echo o >/proc/sysrq-trigger
# The kernel panics when its first process ends.
while :; do sleep 1; done
