#!/bin/sh
# stubs.sh DIR: makes DIR/venv with what requirements.txt pins, and DIR/stubs from proto/. Says nothing and does nothing
# when both are there and nothing they are made of has changed. Half of either is never taken for the whole.
set -eu

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
protos=$(cd "$here/../../../proto" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)

# Two at once: the second waits, and finds everything done.
exec 9>"$dir/lock"
flock 9

hash() {
    "$@" | sha256sum | cut -d ' ' -f 1
}
files() {
    cat "$here/requirements.txt" "$here/stubs.sh"
    find strata -name '*.proto' -type f | LC_ALL=C sort | while IFS= read -r proto; do
        echo "$proto"
        cat "$proto"
    done
}
# A venv knows its own path and its interpreter; a move or an upgrade of Python makes it useless.
environment() {
    echo "$dir"
    python3 -c 'import sys; print(sys.version, sys.base_prefix)'
    cat "$here/requirements.txt"
}

venv_stamp=$(hash environment)
if [ "$(cat "$dir/venv/stamp" 2>/dev/null)" != "$venv_stamp" ]; then
    echo "making a Python environment in $dir/venv"
    rm -rf "$dir/venv" "$dir/stubs"
    python3 -m venv "$dir/venv"
    "$dir/venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
        --requirement "$here/requirements.txt"
    echo "$venv_stamp" >"$dir/venv/stamp"
fi

cd "$protos"
stubs_stamp=$(hash files)
if [ "$(cat "$dir/stubs/stamp" 2>/dev/null)" != "$stubs_stamp" ]; then
    echo "making Python stubs in $dir/stubs"
    rm -rf "$dir/stubs" "$dir/stubs.new"
    mkdir "$dir/stubs.new"
    find strata -name '*.proto' -type f | LC_ALL=C sort | xargs "$dir/venv/bin/python" -m grpc_tools.protoc \
        --proto_path=. --python_out="$dir/stubs.new" --grpc_python_out="$dir/stubs.new"
    echo "$stubs_stamp" >"$dir/stubs.new/stamp"
    mv "$dir/stubs.new" "$dir/stubs"
fi
