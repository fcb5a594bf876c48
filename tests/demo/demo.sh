#!/bin/bash
# The tour: an application in Python, built layer by layer from a Dockerfile as every tutorial has it, and run.
# Each command is echoed as a person would type it, and what it showed is checked: exit status 0 means that all of it was right.
# State is below target/demo; nothing of the machine's own Strata is touched. The services end with the tour.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${STRATA_TARGET:-$(cd "$here/../.." && pwd)/target}
base=$target/images/debian-bookworm.tar
demo=$target/demo
app=$demo/python-app
seen=$demo/seen

mkdir -p "$demo"
export STRATA_ROOT=$demo/state STRATA_RUN=$demo/state/run STRATA_BIN_DIR=$target/bin XDG_CONFIG_HOME=$demo/config XDG_CACHE_HOME=$demo/cache
export PATH=$target/bin:$PATH
unset STRATA_CONTEXT
# What is run needs no network: the interfaces of this host stay as they are.
mkdir -p "$STRATA_ROOT/etc"
printf '[networks]\ndefault = "none"\n' >"$STRATA_ROOT/etc/runtime.toml"

if [ -t 1 ]; then bold=$(printf '\033[1m') green=$(printf '\033[32m') red=$(printf '\033[31m') plain=$(printf '\033[0m'); else bold= green= red= plain=; fi

say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
fail() {
    printf '%sFAILED: %s%s\n' "$red" "$*" "$plain" >&2
    exit 1
}
ok() { printf '%s  as it should be: %s%s\n' "$green" "$*" "$plain"; }

# Echoes a command, runs it, keeps what it showed.
show() {
    printf '%s$' "$bold"
    printf ' %q' "$@"
    printf '%s\n' "$plain"
    "$@" 2>&1 | tee "$seen"
    local status=${PIPESTATUS[0]}
    [ "$status" = 0 ] || fail "exit status $status"
}
shows() { grep -qE -- "$1" "$seen" || fail "no line matches: $1"; }
shows_not() { ! grep -qE -- "$1" "$seen" || fail "a line matches: $1"; }

# Lines that say CACHED of the last build.
cached() { grep -c 'CACHED' "$seen" || true; }
# "#7 CACHED" or "#7 DONE 0.3s", of the step whose name matches.
state_of() {
    local number
    number=$(grep -oE "^#[0-9]+ \[.*$1" "$seen" | head -1 | cut -d' ' -f1)
    [ -n "$number" ] || fail "there is no step $1"
    grep -E "^$number (CACHED|DONE|ERROR)" "$seen" | head -1 | cut -d' ' -f2
}

# The services of this tour and nobody else's: their command line names this root.
stop_services() {
    local name process
    for name in builder runtime store; do
        for process in /proc/[0-9]*; do
            if { tr '\0' '\n' <"$process/cmdline"; } 2>/dev/null | grep -qxF -- "$STRATA_ROOT/$name"; then
                kill -TERM "${process#/proc/}" 2>/dev/null
                for _ in $(seq 200); do [ -d "$process" ] && sleep 0.05 || break; done
            fi
        done
    done
}
trap stop_services EXIT
trap 'exit 130' INT TERM

# A private copy, so that the edit below does not touch the repository.
rm -rf "$app"
cp -r "$here/../images/python-app" "$app"
cd "$demo" || fail "cannot enter $demo"

say "A base image, made of Debian's own packages"
if [ -z "$(ctl images -q debian:bookworm 2>/dev/null)" ]; then
    show ctl import "$base" debian:bookworm
fi
show ctl images debian:bookworm
shows '^debian +bookworm +[0-9a-f]{12}'
ok "debian:bookworm is there"

say "An image from a Dockerfile"
show cat python-app/Dockerfile
show ctl build --progress plain -t my-python-app python-app
ok "it is built"
show ctl images
shows '^my-python-app +latest +[0-9a-f]{12}'
ok "my-python-app:latest is in the list"

say "Layer by layer: one row per instruction"
show ctl history my-python-app
for instruction in 'CMD \["python3"' 'COPY' 'RUN .*pip install' 'WORKDIR /app' 'RUN .*apt-get update'; do shows "$instruction"; done
ok "every instruction has its row"
show ctl inspect my-python-app
shows '"sha256:[0-9a-f]{64}"'
shows '"python3"'
shows '"WorkingDir": "/app"'
ok "config and layers can be looked at"

say "A container from it"
show ctl run --rm my-python-app
shows 'Hello from Strata: Python 3'
shows 'process sees a disk of'
ok "the application ran, with what pip installed"

say "The same build again: nothing is done twice"
show ctl build --progress plain -t my-python-app python-app
shows_not '^#[0-9]+ DONE.*[1-9][0-9]*\.[0-9]s'
for step in 'RUN apt-get' 'WORKDIR /app' 'COPY requirements.txt' 'RUN pip' 'COPY \. \.'; do
    [ "$(state_of "$step")" = CACHED ] || fail "$step was not cached"
done
ok "all $(cached) steps came from the cache"

say "One file changes: only the last COPY is done again"
edit="Hello from Strata, edited at $(date +%H:%M:%S.%N)"
show sed -i "s/^GREETING = .*/GREETING = \"$edit\"/" python-app/app.py
show ctl build --progress plain -t my-python-app python-app
for step in 'RUN apt-get' 'WORKDIR /app' 'COPY requirements.txt' 'RUN pip'; do
    [ "$(state_of "$step")" = CACHED ] || fail "$step was not cached"
done
[ "$(state_of 'COPY \. \.')" = DONE ] || fail "the last COPY was not done again"
ok "only the last COPY was done again"
show ctl run --rm my-python-app
shows "$edit"
ok "the edit is in the image"

say "Containers have layers of their own: what one changes, another does not see"
ctl rm -f first second >/dev/null 2>&1
show ctl run --name first my-python-app sh -c 'echo changed > /app/app.py; rm /etc/debian_version; cat /app/app.py'
shows '^changed$'
show ctl run --name second my-python-app sh -c 'cat /etc/debian_version; python3 app.py'
shows '^12'
shows "$edit"
shows_not '^changed$'
ok "the second container sees the image as it was"
show ctl ps -a
shows ' first'
shows ' second'
show ctl start -a first
shows '^changed$'
ok "the first one still has its change"
show ctl rm first second

if [ -n "${HUB:-}" ]; then
    say "The Dockerfile that every newcomer copies, with its base from Docker Hub"
    mkdir -p hub && cp python-app/app.py python-app/requirements.txt hub/
    printf '%s\n' 'FROM python:3.10-slim' 'WORKDIR /app' 'COPY requirements.txt .' 'RUN pip install -r requirements.txt' \
        'COPY . .' 'CMD ["python", "app.py"]' >hub/Dockerfile
    show cat hub/Dockerfile
    show ctl build --pull --progress plain -t newcomer hub
    show ctl run --rm newcomer
    shows 'Python 3'
    ok "it is built and runs, unchanged"
fi

say "Everything that is stored is what it was when it was written"
show ctl system verify
rm -f "$seen"
printf '\n%sThe tour is over: every step showed what it should.%s\n' "$green" "$plain"
echo "To go on by hand: export STRATA_ROOT=$STRATA_ROOT PATH=$target/bin:\$PATH"
