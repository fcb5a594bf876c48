//! Verification finds every kind of damage by name, and a rebuild never hides it.

use crate::tar::{Scratch, Tar};
use rustix::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use strata_archive::{DiffOptions, Error, Toc, verify};

fn layer() -> Tar {
    Tar::new().dir("d", 0o755).file("d/f", "content").link("d/f", "g").symlink("d/f", "s").file("d/.wh.w", "")
}

fn touch(path: &Path) {
    let past = rustix::fs::Timespec { tv_sec: 1_700_000_000, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: past, last_modification: past };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).expect("times");
}

#[test]
fn every_kind_of_damage_is_found_and_named() {
    type Damaging = fn(&Path);
    let cases: [(&str, Damaging, &str, &str); 9] = [
        ("content", |root| std::fs::write(root.join("d/f"), "cOntent").expect("write"), "d/f", "its content differs"),
        ("size", |root| std::fs::write(root.join("d/f"), "short").expect("write"), "d/f", "its size differs"),
        ("missing", |root| std::fs::remove_file(root.join("s")).expect("rm"), "s", "it is missing"),
        ("extra", |root| std::fs::write(root.join("d/new"), "").expect("write"), "d/new", "it should not be there"),
        (
            "mode",
            |root| std::fs::set_permissions(root.join("d"), PermissionsExt::from_mode(0o777)).expect("chmod"),
            "d",
            "its mode is 0777, not 0755",
        ),
        (
            "owner",
            |root| std::os::unix::fs::chown(root.join("g"), Some(9), None).expect("chown"),
            "g",
            "its owner is 9:0, not 0:0",
        ),
        (
            "type",
            |root| {
                std::fs::remove_file(root.join("s")).expect("rm");
                std::fs::create_dir(root.join("s")).expect("mkdir");
            },
            "s",
            "its type differs",
        ),
        (
            "target",
            |root| {
                std::fs::remove_file(root.join("s")).expect("rm");
                symlink("elsewhere", root.join("s")).expect("symlink");
            },
            "s",
            "its target is elsewhere, not d/f",
        ),
        (
            "hard link",
            |root| {
                std::fs::remove_file(root.join("g")).expect("rm");
                std::fs::write(root.join("g"), "content").expect("write");
            },
            "g",
            "it is no longer a hard link to the same file",
        ),
    ];
    for (name, damage, path, reason) in cases {
        let scratch = Scratch::new();
        let applied = scratch.apply(&layer().end()).expect("apply");
        assert_eq!(verify(&applied.toc, scratch.root().as_fd()).expect("verify"), [], "{name}");

        damage(&scratch.path(""));
        for path in ["d", "d/f", "g", "s"] {
            if scratch.path(path).symlink_metadata().is_ok() {
                touch(&scratch.path(path));
            }
        }
        let found = verify(&applied.toc, scratch.root().as_fd()).expect("verify");

        assert!(
            found.iter().any(|damage| damage.path.to_string() == path && damage.reason == reason),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn changed_times_and_attributes_are_found() {
    let scratch = Scratch::new();
    let applied = scratch.apply(&layer().end()).expect("apply");
    let set = |path: &str, name| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(scratch.path(path), name, b"y", flags).expect("setxattr");
    };
    std::fs::File::open(scratch.path("d/f")).expect("open").set_modified(std::time::SystemTime::now()).expect("time");
    set("d", "trusted.overlay.opaque");
    set("d/f", "user.new");

    let found = verify(&applied.toc, scratch.root().as_fd()).expect("verify");

    let reasons: Vec<_> = found.iter().map(|damage| format!("{}: {}", damage.path, damage.reason)).collect();
    assert!(reasons.contains(&"d: its opaque mark differs".to_owned()), "{reasons:?}");
    assert!(reasons.contains(&"d/f: its extended attribute user.new differs".to_owned()), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.starts_with("d/f: its modification time")), "{reasons:?}");
}

#[test]
fn a_rebuild_of_a_damaged_tree_stops_and_names_the_file() {
    let scratch = Scratch::new();
    let applied = scratch.apply(&layer().end()).expect("apply");
    std::fs::write(scratch.path("d/f"), "cOntent").expect("write");

    let result = applied.toc.rebuild(scratch.root().as_fd(), std::io::sink());

    assert!(matches!(&result, Err(Error::Damaged { path, .. }) if path.to_string() == "d/f"), "{result:?}");
}

#[test]
fn a_diff_with_whole_seconds_is_no_damage_to_finer_times() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("now"), "x").expect("write");

    let described = strata_archive::diff(scratch.root().as_fd(), &DiffOptions::default()).expect("diff");

    assert_eq!(verify(&described.toc, scratch.root().as_fd()).expect("verify"), []);
}

#[test]
fn a_damaged_table_of_contents_is_an_error_not_a_panic() {
    let scratch = Scratch::new();
    let stored = scratch.apply(&layer().end()).expect("apply").toc.encode();

    for length in 0..stored.len() {
        assert!(Toc::decode(&stored[..length]).is_err(), "cut at {length}");
    }
    for at in 0..stored.len() {
        let mut changed = stored.clone();
        changed[at] ^= 0x41;
        if let Ok(toc) = Toc::decode(&changed) {
            let mut out = Vec::new();
            let _ = toc.rebuild(scratch.root().as_fd(), &mut out);
            let _ = verify(&toc, scratch.root().as_fd());
        }
    }
}
