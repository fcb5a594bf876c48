#!/bin/sh
# Makes a Debian root file system from Debian's own packages, as a tar: images/base.sh FILE [PACKAGE...]
# A second run finds the file and does nothing. The host's CA bundle goes in, because machines may sit behind
# a TLS-inspecting mirror; the package ca-certificates must be there first, or a later install rewrites the bundle.
# What PostgreSQL compiles queries with would be half of its image, and is not needed.
set -eu

out=$1
shift
[ -s "$out" ] && exit 0
mkdir -p "$(dirname "$out")"
part="$out.part.$$.tar"
trap 'rm -f "$part"' EXIT
mmdebstrap --quiet --variant=minbase "--include=$(echo ca-certificates "$@" | tr ' ' ,)" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/lib/*/libLLVM*' \
    --dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/bitcode/*' \
    --dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/llvmjit*' \
    --customize-hook='rm -f "$1"/etc/hostname "$1"/etc/resolv.conf' \
    --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
    bookworm "$part"
mv "$part" "$out"
