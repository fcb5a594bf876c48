//! Unpacking while somebody exchanges what is below the root for links that lead out of it: rows 76 and 77 of the
//! security research, where containerd cached a parent or resolved a path twice. A tenth of `STRATA_ROUNDS` rounds, each with
//! many exchanges.

use crate::tar::{Header, Scratch, Tar, open};
use rustix::fd::AsFd;
use rustix::fs::{CWD, RenameFlags};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use strata_archive::ApplyOptions;

/// Names of each kind in the archive: the more, the longer somebody has for an exchange between two calls.
const NAMES: usize = 6;

/// Everything that a layer can make, with modes, owners, times and attributes that have to be set.
fn archive() -> Vec<u8> {
    let special = |name: String, flag: u8| {
        let header =
            Header { name: name.into(), flag, mode: 0o666, owner: (7, 7), device: (1, 3), ..Header::default() };
        Tar::new().header(&header).0
    };
    let mut tar = Tar::new().dir("a", 0o777).dir("a/b", 0o777).dir("o", 0o777);
    for number in 0..NAMES {
        let attributes: &[(&str, &[u8])] = &[("SCHILY.xattr.trusted.mine", b"x"), ("uid", b"7")];
        tar = tar.pax(attributes).file(format!("a/b/file-{number}"), "of the layer");
        tar = tar.raw(&special(format!("a/b/fifo-{number}"), b'6')).raw(&special(format!("a/b/null-{number}"), b'3'));
        tar = tar.pax(attributes).symlink("of-the-layer", &format!("a/b/link-{number}"));
        tar = tar.link(&format!("a/b/file-{number}"), &format!("a/b/hard-{number}"));
        tar = tar
            .dir(&format!("a/b/directory-{number}"), 0o777)
            .file(format!("a/b/directory-{number}/passwd"), "of the layer");
        // Names that exist already, outside too.
        tar = tar.file("a/b/passwd", "of the layer").file("a/passwd", "of the layer").file("o/.wh..wh..opq", "");
        tar = tar.file(format!("a/b/.wh.gone-{number}"), "").file("a/.wh.passwd", "").file("sentinel", "of the layer");
    }
    tar.end()
}

/// What is exchanged for a link: names of the archive, and its directories.
fn victims() -> Vec<String> {
    let kinds = ["file", "fifo", "null", "link", "hard", "directory"];
    let names = (0..NAMES).flat_map(|number| kinds.map(|kind| format!("a/b/{kind}-{number}")));
    names.chain(["a", "a/b", "o", "sentinel", "a/passwd", "a/b/passwd"].map(str::to_owned)).collect()
}

/// Exchanges until it is told to stop; says how often it did.
fn exchange(scratch: &Scratch, round: &AtomicUsize, is_over: &AtomicBool) -> usize {
    let (victims, mut swaps, mut turn) = (victims(), 0, 0_usize);
    while !is_over.load(Ordering::Relaxed) {
        let root = scratch.path(round.load(Ordering::Relaxed).to_string());
        // A step that shares no factor with either count, so that each meets each.
        turn = turn.wrapping_add(7);
        let victim = root.join(&victims[turn % victims.len()]);
        let trap = root.join(format!("trap-{}", turn % 3));
        let swapped = || rustix::fs::renameat_with(CWD, &trap, CWD, &victim, RenameFlags::EXCHANGE).is_ok();
        swaps += usize::from(swapped());
        // Half of them are taken back at once: a check that looks before and after sees nothing.
        if turn % 2 == 0 {
            swapped();
        }
    }
    swaps
}

fn traps(scratch: &Scratch, root: &Path) {
    std::fs::create_dir(root).expect("a root");
    let targets: [PathBuf; 3] =
        [scratch.outside().join("etc"), scratch.outside().join("sentinel"), PathBuf::from("../../etc/passwd")];
    for (number, target) in targets.iter().enumerate() {
        symlink(target, root.join(format!("trap-{number}"))).expect("a trap");
    }
}

/// Ends the racer, also where a claim does not hold.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn exchanges_below_the_root_during_an_unpack_lead_nowhere() {
    let rounds =
        std::env::var("STRATA_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300_usize).div_ceil(10);
    let (scratch, tar) = (Scratch::new(), archive());
    let (round, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    traps(&scratch, &scratch.path("0"));

    let swaps = std::thread::scope(|scope| {
        let racer = scope.spawn(|| exchange(&scratch, &round, &is_over));
        let ends = Ends(&is_over);
        for number in 0..rounds {
            let root = open(&scratch.path(number.to_string()));
            // It may succeed or fail; what it may not is reach what is outside.
            let _ = strata_archive::apply(&tar[..], root.as_fd(), &ApplyOptions::default());
            scratch.assert_contained();
            let next = scratch.path((number + 1).to_string());
            traps(&scratch, &next);
            round.store(number + 1, Ordering::Relaxed);
            // An exchange that is just happening may keep it; it goes with all of them.
            let _ = std::fs::remove_dir_all(scratch.path(number.to_string()));
        }
        drop(ends);
        racer.join().expect("the racer only renames")
    });

    assert!(swaps > rounds, "{swaps} exchanges in {rounds} rounds show nothing");
}
