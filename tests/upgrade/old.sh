#!/bin/sh
# Makes the programs of an older commit: upgrade/old.sh COMMIT DIR puts them into DIR/bin. A second run finds them and does
# nothing; one that was cut off goes on. The sources are of this clone: nothing is fetched but crates.
set -eu

commit=$1
dir=$2
work=$dir/work-$commit
[ "$(cat "$dir/made" 2>/dev/null || :)" = "$commit" ] && exit 0
if ! git cat-file -e "$commit^{commit}"; then
    echo "upgrade/old.sh: this clone has no commit $commit, whose programs are to be replaced by ours." >&2
    echo "A shallow one gets it by \`git fetch --unshallow\`; an unpacked archive of the sources has no older commits." >&2
    exit 1
fi
echo "building the programs of $(git log -1 --format='%h, %s' "$commit"): this takes as long as a first \`make build\`"
mkdir -p "$work/source"
git archive --output "$work/source.tar" "$commit"
tar -x -C "$work/source" -f "$work/source.tar"
# By its own rules, and not with the flags and variables of the make that runs this.
env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -C "$work/source" build "CARGO_TARGET_DIR=$work/target"
rm -rf "$dir/made" "$dir/bin"
mv "$work/target/bin" "$dir/bin"
echo "$commit" >"$dir/made"
rm -rf "$work"
