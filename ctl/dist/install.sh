#!/bin/sh
# Puts Strata where it is to be, or takes it away: install.sh [--uninstall] BINARIES
#   BINARIES   the directory with what `make dist` has made
#   PREFIX     below which it goes (/usr/local), DESTDIR what stands before all paths (nothing), SYSCONFDIR of settings (/etc)
# A file is there whole, or not at all, even where one is running. Settings that are there stay as they are, and state is never
# touched.
set -eu

here=$(dirname "$0")
: "${PREFIX:=/usr/local}" "${DESTDIR:=}" "${SYSCONFDIR:=/etc}"
PROGRAMS="ctl strata-store strata-builder strata-runtime strata-init strata-oci"
UNITS="strata-store.socket strata-store.service strata-builder.socket strata-builder.service strata-runtime.socket strata-runtime.service"
FILES="strata store builder runtime"
root=$DESTDIR$PREFIX
share=$root/share

# Is this the host that runs, and does systemd run it?
lives() { [ -z "$DESTDIR" ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null; }

# place MODE FILE: standard input becomes the file.
place() {
    mkdir -p "$(dirname "$2")"
    new=$(dirname "$2")/.$(basename "$2").new
    cat >"$new"
    chmod "$1" "$new"
    mv -f "$new" "$2"
}

if [ "${1-}" = --uninstall ]; then
    if lives; then
        # Containers go on, and the next `ctl` finds them. What is not there is not stopped.
        systemctl disable --now $UNITS 2>/dev/null || true
    fi
    for program in $PROGRAMS; do rm -f "$root/bin/$program"; done
    for unit in $UNITS; do rm -f "$root/lib/systemd/system/$unit" "$root/lib/systemd/user/$unit"; done
    rm -f "$share"/man/man1/ctl.1 "$share"/man/man1/ctl-*.1 "$share"/man/man5/strata.toml.5
    rm -f "$share/bash-completion/completions/ctl" "$share/zsh/site-functions/_ctl" "$share/fish/vendor_completions.d/ctl.fish"
    if lives; then systemctl daemon-reload; fi
    echo "Settings in $DESTDIR$SYSCONFDIR/strata and state in /var/lib/strata stay; \`ctl system reset\`, before this, removes state."
    exit 0
fi

binaries=$1
for program in $PROGRAMS; do place 755 "$root/bin/$program" <"$binaries/$program"; done
for kind in system user; do
    for unit in $UNITS; do
        sed "s|@BIN@|$PREFIX/bin|g" "$here/systemd/$kind/$unit" | place 644 "$root/lib/systemd/$kind/$unit"
    done
done
"$binaries/ctl" man "$share/man"
"$binaries/ctl" completion bash | place 644 "$share/bash-completion/completions/ctl"
"$binaries/ctl" completion zsh | place 644 "$share/zsh/site-functions/_ctl"
"$binaries/ctl" completion fish | place 644 "$share/fish/vendor_completions.d/ctl.fish"
for file in $FILES; do
    settings=$DESTDIR$SYSCONFDIR/strata/$file.toml
    # Every key with what holds without it, none of them in force.
    [ -e "$settings" ] || "$binaries/ctl" config show --defaults "$file" | sed 's/^\([^#]\)/#\1/' | place 644 "$settings"
done
if lives; then
    systemctl daemon-reload
    # What runs is replaced, and containers go on; what does not run stays so.
    systemctl try-restart strata-store.service strata-builder.service strata-runtime.service
    echo "At boot, and by socket:  systemctl enable --now strata-store.socket strata-builder.socket strata-runtime.socket strata-runtime.service"
    echo "The same for a user:     systemctl --user enable --now strata-store.socket strata-builder.socket strata-runtime.socket strata-runtime.service"
fi
