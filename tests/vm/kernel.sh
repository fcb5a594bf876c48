#!/bin/sh
# Fetches what boots a guest, from Debian's mirrors: kernel.sh DIRECTORY [MODULE...]
# Makes DIRECTORY/vmlinuz, DIRECTORY/busybox and DIRECTORY/modules, in the tree of modprobe, with these modules and those
# they need. Nothing is installed. A second run finds the same list of modules and does nothing.
set -eu

out=$1
shift
[ "$(cat "$out/wanted" 2>/dev/null)" = "$*" ] && exit 0
mkdir -p "$out"
part=$(mktemp -d "$out/part.XXXXXX")
trap 'rm -rf "$part"' EXIT
# apt's own user may not look into a home directory; it then downloads as the caller, and warns.
fetch() {
    kernel=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
    [ -n "$kernel" ] && (cd "$part" && apt-get -qq -o APT::Sandbox::User=root download "$kernel" busybox-static)
}
if ! fetch; then
    [ "$(id -u)" = 0 ] || sudo=sudo
    ${sudo:-} apt-get update -qq
    fetch
fi
for package in "$part"/*.deb; do
    dpkg-deb -x "$package" "$part/root"
done
"$part/root/bin/busybox" depmod -b "$part/root" "${kernel#linux-image-}"

modules=$part/root/lib/modules/${kernel#linux-image-}
kept=$part/modules/lib/modules/${kernel#linux-image-}
mkdir -p "$kept"
for module in "$@"; do
    # A line is "kernel/fs/a.ko: kernel/fs/b.ko kernel/lib/c.ko".
    files=$(grep "/$module\.ko:" "$modules/modules.dep" | tr -d :)
    [ -n "$files" ] || { echo "$kernel has no module $module" >&2; exit 1; }
    (cd "$modules" && cp --parents $files "$kept")
done
"$part/root/bin/busybox" depmod -b "$part/modules" "${kernel#linux-image-}"

rm -rf "$out/modules" "$out/wanted"
mv "$part/root/boot/vmlinuz-${kernel#linux-image-}" "$out/vmlinuz"
mv "$part/root/bin/busybox" "$out/busybox"
mv "$part/modules" "$out/modules"
echo "$*" >"$out/wanted"
