#!/bin/sh
# What a host with systemd sees of the installed package, one part for each argument; the parts follow each other. Each command
# is shown, and the first that fails ends its part.
set -eux

SOCKETS="strata-store.socket strata-builder.socket strata-runtime.socket"
UNITS="strata-store.service strata-builder.service strata-runtime.service"

main_pid() { systemctl show --property MainPID --value "$1"; }
life_runs() { [ "$(ctl inspect -f '{{.State.Running}}' life)" = true ]; }
life_pid() { ctl inspect -f '{{.State.Pid}}' life; }

# Waits until a command succeeds.
until_ok() {
    for _ in $(seq 600); do
        ! "$@" || return 0
        sleep 0.1
    done
    return 1
}

# Fails if a command succeeds, which `!` before it does not make the shell see.
fails() { if "$@"; then return 1; fi; }

# Any process in the cgroup of a container?
any_process() { [ -n "$(cat /sys/fs/cgroup/strata/*/cgroup.procs)" ]; }

installed() {
    dpkg --force-unsafe-io -i /vm/strata.deb
    for unit in $SOCKETS strata-runtime.service; do
        systemctl is-enabled "$unit"
    done
    systemctl is-active $SOCKETS
    # Nobody has asked for it.
    fails systemctl is-active strata-builder.service
    # All keys are comments: every service takes the file.
    [ -z "$(grep -hv '^#' /etc/strata/*.toml | tr -d '\n')" ]
    ls /usr/share/bash-completion/completions/ctl /usr/lib/systemd/user/strata-store.socket
}

socket() {
    mkdir -p /tmp/box/bin /tmp/context
    cp /usr/bin/busybox /tmp/box/bin/busybox
    ln -sf busybox /tmp/box/bin/sleep
    tar -C /tmp/box -c . | ctl import - box
    [ "$(readlink "/proc/$(main_pid strata-store.service)/exe")" = /usr/bin/strata-store ]
    printf 'FROM box\nRUN ["/bin/busybox", "true"]\n' >/tmp/context/Dockerfile
    ctl build -t built /tmp/context
    systemctl is-active strata-builder.service
}

restart() {
    ctl volume create kept
    ctl run -d --name life --restart always --network none -v kept:/kept box /bin/sleep 100000
    pid=$(life_pid)
    # The service's own score is for the service.
    [ "$(cat "/proc/$pid/oom_score_adj")" = 0 ]
    [ "$(cat "/proc/$(main_pid strata-runtime.service)/oom_score_adj")" = -500 ]

    before=$(main_pid strata-runtime.service)
    # Certificates are read again, and the service goes on.
    systemctl reload strata-runtime.service
    ctl exec life /bin/busybox true
    [ "$(main_pid strata-runtime.service)" = "$before" ]
    systemctl restart $UNITS
    [ "$(main_pid strata-runtime.service)" != "$before" ]
    [ "$(life_pid)" = "$pid" ]
    ctl exec life /bin/busybox true

    kill -KILL "$(main_pid strata-runtime.service)"
    until_ok systemctl is-active strata-runtime.service
    [ "$(life_pid)" = "$pid" ]

    # An upgrade, as far as dpkg can tell.
    before=$(main_pid strata-runtime.service)
    dpkg --force-unsafe-io -i /vm/strata.deb
    [ "$(main_pid strata-runtime.service)" != "$before" ]
    [ "$(life_pid)" = "$pid" ]
    ctl exec life /bin/busybox true
}

# The guest's disk is its memory, so what a power cut leaves is made by hand: no process, no cgroup, nothing in /run, and
# another boot, which it is from then on.
boot() {
    before=$(life_pid)
    systemctl stop $SOCKETS $UNITS
    for group in /sys/fs/cgroup/system.slice/strata-*.service /sys/fs/cgroup/strata/*/; do
        [ ! -e "$group/cgroup.kill" ] || echo 1 >"$group/cgroup.kill"
    done
    until_ok rmdir /sys/fs/cgroup/strata/*/
    rm -rf /run/strata
    cat /proc/sys/kernel/random/uuid >/run/another-boot
    mount --bind /run/another-boot /proc/sys/kernel/random/boot_id

    # What is enabled, which `installed` has looked at.
    systemctl start $SOCKETS strata-runtime.service
    # No `ctl` was needed.
    until_ok any_process
    until_ok life_runs
    [ "$(life_pid)" != "$before" ]
}

# Units of an ordinary user, who enables them for herself.
user() {
    useradd --create-home ann
    id=$(id -u ann)
    loginctl enable-linger ann
    systemctl start "user@$id.service"
    as_ann() { runuser -u ann -- env HOME=/home/ann "XDG_RUNTIME_DIR=/run/user/$id" "$@"; }
    as_ann systemctl --user enable --now $SOCKETS
    [ "$(as_ann ctl images --quiet)" = "" ]
    [ "$(as_ann ctl ps --all --quiet)" = "" ]
    as_ann systemctl --user is-active strata-store.service strata-runtime.service
    # It is root of a user namespace, and nobody else's.
    pid=$(as_ann systemctl --user show --property MainPID --value strata-store.service)
    [ "$(readlink "/proc/$pid/ns/user")" != "$(readlink /proc/1/ns/user)" ]
    as_ann systemctl --user disable --now $SOCKETS
    loginctl disable-linger ann
    systemctl stop "user@$id.service"
}

removed() {
    dpkg --remove strata
    fails any_process
    [ ! -e /run/strata/store.sock ]
    [ ! -e /etc/systemd/system/multi-user.target.wants/strata-runtime.service ] ||
        [ "$(readlink -f /etc/systemd/system/strata-runtime.service)" = /dev/null ]
    ls /etc/strata/store.toml
    dpkg --purge strata
    [ ! -e /etc/strata ]
    # What is in volumes nobody can fetch or build again.
    [ "$(ls /var/lib/strata)" = runtime ]
    [ "$(ls /var/lib/strata/runtime)" = volumes ]
    [ -d /var/lib/strata/runtime/volumes/kept ]
}

"$1"
