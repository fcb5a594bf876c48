//! Whiteouts and opaque directories: they hide what lower layers have, never what the same layer adds,
//! whatever the order of entries. What overlay uses as marks, layers may not bring themselves.

use crate::tar::{Header, Scratch, Tar, rebuild};
use rustix::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use strata_archive::{DiffOptions, Error, Whiteouts, verify};

fn is_whiteout(scratch: &Scratch, path: &str) -> bool {
    let stat = scratch.path(path).symlink_metadata();
    stat.is_ok_and(|stat| stat.file_type().is_char_device() && stat.rdev() == 0)
}

fn is_opaque(scratch: &Scratch, path: &str) -> bool {
    let mut value = [0; 8];
    let result = rustix::fs::getxattr(scratch.path(path), "trusted.overlay.opaque", &mut value);
    result.is_ok_and(|count| &value[..count] == b"y")
}

#[test]
fn a_whiteout_becomes_overlays_mark_and_comes_back_in_the_diff() {
    let scratch = Scratch::new();

    let applied = scratch.apply(&Tar::new().dir("d", 0o755).file("d/.wh.gone", "").end()).expect("apply");

    assert!(is_whiteout(&scratch, "d/gone"));
    assert_eq!(verify(&applied.toc, scratch.root().as_fd()).expect("verify"), []);
    let mut out = Vec::new();
    strata_archive::pack(scratch.root().as_fd(), &DiffOptions::default(), &mut out).expect("pack");
    assert!(out.windows(11).any(|window| window == b"d/.wh.gone\0"));
}

#[test]
fn a_whiteout_hides_lower_layers_and_not_what_the_layer_adds() {
    let file = Tar::new().file("a", "new");
    let dir = Tar::new().dir("a", 0o755).file("a/x", "new");
    let implied = Tar::new().file("a/x", "new");
    for (tar, directory) in [(&file, false), (&dir, true), (&implied, true)] {
        for is_first in [false, true] {
            let scratch = Scratch::new();
            let whiteout = Tar::new().file(".wh.a", "");
            let tar = if is_first { whiteout.raw(&tar.0) } else { tar.clone().raw(&whiteout.0) };

            let applied = scratch.apply(&tar.end()).expect("apply");

            let kept = if directory { "a/x" } else { "a" };
            assert_eq!(std::fs::read_to_string(scratch.path(kept)).expect("read"), "new");
            assert_eq!(is_opaque(&scratch, "a"), directory, "whiteout first: {is_first}");
            assert_eq!(applied.implied, Vec::<Vec<u8>>::new(), "nothing shows through an opaque directory");
            assert_eq!(verify(&applied.toc, scratch.root().as_fd()).expect("verify"), []);
        }
    }
}

#[test]
fn opaque_marks_hide_in_any_order() {
    for is_first in [false, true] {
        let scratch = Scratch::new();
        let (mark, file) = (Tar::new().file("d/.wh..wh..opq", ""), Tar::new().file("d/x", "new"));
        let tar = if is_first { mark.raw(&file.0) } else { file.raw(&mark.0) };

        let applied = scratch.apply(&tar.end()).expect("apply");

        assert!(is_opaque(&scratch, "d") && scratch.path("d/x").exists());
        assert_eq!(applied.implied, Vec::<Vec<u8>>::new());
    }
}

#[test]
fn an_opaque_root_is_reported_since_overlay_ignores_it() {
    let scratch = Scratch::new();

    let applied = scratch.apply(&Tar::new().file(".wh..wh..opq", "").file("x", "").end()).expect("apply");

    assert!(applied.is_root_opaque && !applied.has_root);
    let again = strata_archive::diff(scratch.root().as_fd(), &DiffOptions::default()).expect("diff");
    assert!(again.is_root_opaque && !again.has_root);
    assert_eq!(verify(&again.toc, scratch.root().as_fd()).expect("verify"), []);
}

#[test]
fn a_directory_that_replaces_a_file_of_the_same_layer_does_not_bring_the_lower_one_back() {
    let scratch = Scratch::new();

    scratch.apply(&Tar::new().symlink("x", "a").dir("a", 0o755).end()).expect("apply");

    assert!(is_opaque(&scratch, "a"));
}

#[test]
fn parents_without_an_entry_are_reported_as_implied() {
    let scratch = Scratch::new();
    let tar = Tar::new().file("a/b/c", "x").dir("d/e", 0o700).dir("a", 0o711).file("g/.wh.h", "");

    let applied = scratch.apply(&tar.end()).expect("apply");

    let implied: Vec<&[u8]> = applied.implied.iter().map(Vec::as_slice).collect();
    assert_eq!(implied, [&b"a/b"[..], b"d", b"g"]);
    assert_eq!(scratch.path("a/b").metadata().expect("stat").mode() & 0o7777, 0o755);
}

/// Row 94: what overlay would take for its own marks.
#[test]
fn overlay_marks_from_a_layer_are_stripped_or_refused() {
    let scratch = Scratch::new();
    let mut tar = Tar::new();
    for name in
        ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "trusted.overlay.metacopy"]
    {
        tar = tar.pax(&[(&format!("SCHILY.xattr.{name}"), b"y")]).dir("d", 0o755);
        tar = tar.pax(&[(&format!("SCHILY.xattr.{name}"), b"/d")]).file("f", "x");
    }
    let applied = scratch.apply(&tar.end()).expect("apply");

    for path in ["d", "f"] {
        let mut names = [0; 1024];
        let count = rustix::fs::listxattr(scratch.path(path), &mut names).expect("list");
        assert_eq!(count, 0, "{path}: {}", names[..count].escape_ascii());
    }
    assert_eq!(verify(&applied.toc, scratch.root().as_fd()).expect("verify"), []);

    for whiteouts in [Whiteouts::Oci, Whiteouts::Literal, Whiteouts::Refuse] {
        let scratch = Scratch::new();
        let device = Header { name: b"hidden".to_vec(), flag: b'3', ..Header::default() };
        let result = scratch.apply_as(&Tar::new().header(&device).end(), whiteouts);
        assert!(matches!(result, Err(Error::Entry { .. })), "{whiteouts:?}: {result:?}");
    }
}

/// Row 94.
#[test]
fn a_hard_link_cannot_make_a_second_mark() {
    let scratch = Scratch::new();

    let result = scratch.apply(&Tar::new().file(".wh.a", "").link("a", "b").end());

    assert!(matches!(result, Err(Error::LinkTarget { .. })), "{result:?}");
}

#[test]
fn plain_archives_keep_or_refuse_names_that_look_like_whiteouts() {
    let tar = Tar::new().file(".wh.a", "text").end();
    let scratch = Scratch::new();

    scratch.apply_as(&tar, Whiteouts::Literal).expect("apply");
    let refused = scratch.apply_as(&tar, Whiteouts::Refuse);

    assert_eq!(std::fs::read_to_string(scratch.path(".wh.a")).expect("read"), "text");
    assert!(matches!(refused, Err(Error::Entry { .. })), "{refused:?}");
    let packed = strata_archive::diff(scratch.root().as_fd(), &DiffOptions::default());
    assert!(matches!(packed, Err(Error::Unarchivable { .. })), "{packed:?}");
}

#[test]
fn bookkeeping_of_aufs_is_ignored_but_kept_in_the_archive() {
    let scratch = Scratch::new();
    let tar = Tar::new().dir(".wh..wh.plnk", 0o700).file(".wh..wh.plnk/1.2", "data").file("x", "y").end();

    let applied = scratch.apply(&tar).expect("apply");

    assert!(!scratch.path(".wh..wh.plnk").exists());
    assert_eq!(rebuild(&scratch, &applied), tar);
}

#[test]
fn unknown_overlay_attributes_are_an_error_in_a_diff() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("d")).expect("dir");
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(scratch.path("d"), name, value, rustix::fs::XattrFlags::empty()).expect("setxattr");
    };
    set("trusted.overlay.impure", b"y");
    set("trusted.overlay.origin", b"\0\x01");
    strata_archive::diff(scratch.root().as_fd(), &DiffOptions::default()).expect("these are bookkeeping");

    set("trusted.overlay.redirect", b"/elsewhere");
    let result = strata_archive::diff(scratch.root().as_fd(), &DiffOptions::default());

    assert!(matches!(result, Err(Error::Unarchivable { .. })), "{result:?}");
}
