#!/bin/sh
# Makes the Debian package: package.sh BINARIES VERSION DIRECTORY
# With dpkg-deb alone, as an ordinary user, below DIRECTORY; its last line is the path of the package.
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
binaries=$1 version=$2 out=$3
architecture=$(dpkg --print-architecture)
# The same sources make the same package.
: "${SOURCE_DATE_EPOCH:=$(git -C "$here" log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
stage=$out/strata
rm -rf "$stage"
mkdir -p "$stage/DEBIAN" "$stage/usr/share/doc/strata"

DESTDIR=$stage PREFIX=/usr SYSCONFDIR=/etc sh "$here/../install.sh" "$binaries" >/dev/null
# Debian has completions of zsh elsewhere.
mkdir -p "$stage/usr/share/zsh/vendor-completions"
mv "$stage/usr/share/zsh/site-functions/_ctl" "$stage/usr/share/zsh/vendor-completions/_ctl"
rmdir "$stage/usr/share/zsh/site-functions"
find "$stage/usr/share/man" -type f -exec gzip -9n {} +
! command -v strip >/dev/null || strip --strip-unneeded "$stage"/usr/bin/*

cp "$here/copyright" "$stage/usr/share/doc/strata/copyright"
{
    echo "strata ($version) unstable; urgency=medium"
    echo
    echo "  * Made from the sources; git tells what has changed."
    echo
    echo " -- Strata <strata@localhost>  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$stage/usr/share/doc/strata/changelog.gz"

# The least C library that has every symbol which the programs ask for.
libc=$(cat "$stage"/usr/bin/* | grep -a -o 'GLIBC_2\.[0-9][0-9.]*' | sort -u -V | tail -n 1 | sed 's/GLIBC_//')
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@LIBC@/${libc:-2.34}/" \
    -e "s/@SIZE@/$(du -k -s --apparent-size --exclude=DEBIAN "$stage" | cut -f 1)/" "$here/control" >"$stage/DEBIAN/control"
for script in postinst prerm postrm; do install -m 755 "$here/$script" "$stage/DEBIAN/$script"; done
(cd "$stage" && find etc -type f | LC_ALL=C sort | sed 's|^|/|') >"$stage/DEBIAN/conffiles"
(cd "$stage" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$stage/DEBIAN/md5sums"
chmod 644 "$stage/DEBIAN/control" "$stage/DEBIAN/conffiles" "$stage/DEBIAN/md5sums"
find "$stage" -newermt "@$SOURCE_DATE_EPOCH" -print0 | xargs -0 -r touch -h -d "@$SOURCE_DATE_EPOCH"

package=$out/strata_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz -z2 --build "$stage" "$package" >/dev/null
rm -rf "$stage"
echo "$package"
