//! Archives that try to leave the root. Most must succeed, inside: real layers write through `lib -> usr/lib`.
//! The table follows containerd's TestBreakouts (security.md, 1E); every case runs beside a sentinel.

use crate::tar::{Header, Scratch, Tar};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use strata_archive::{Error, Whiteouts};

enum Check {
    Content(&'static str, &'static str),
    Same(&'static str, &'static str),
    Different(&'static str, &'static str),
    Hidden(&'static str),
    Refused,
}
use Check::{Content, Different, Hidden, Refused, Same};

/// Follows a path the way a process would after chroot(2).
fn resolve(root: &Path, path: &str) -> PathBuf {
    let root_fd = crate::tar::open(root);
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let found =
        rustix::fs::openat2(&root_fd, path, flags, rustix::fs::Mode::empty(), rustix::fs::ResolveFlags::IN_ROOT)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found));
    std::fs::read_link(link).expect("proc link")
}

fn passwd(root: &Path) {
    std::fs::create_dir(root.join("etc")).expect("etc");
    std::fs::write(root.join("etc/passwd"), "all users").expect("passwd");
    std::fs::write(root.join("etc/whitedout"), "ahhhh").expect("whitedout");
}

fn localetc(root: &Path) {
    passwd(root);
    std::fs::create_dir(root.join("localetc")).expect("localetc");
}

fn linked(root: &Path, target: &str) {
    passwd(root);
    symlink(target, root.join("localetc")).expect("symlink");
}

type Case = (&'static str, fn(&Path), Tar, Check);

fn symlink_cases() -> Vec<Case> {
    let none: fn(&Path) = |_| {};
    let t = Tar::new;
    let unbroken = || Content("etc/unbroken", "unbroken");
    vec![
        (
            "SymlinkAbsolute",
            none,
            t().dir("etc", 0o755).symlink("/etc", "localetc").file("/localetc/unbroken", "unbroken"),
            unbroken(),
        ),
        (
            "SymlinkUpAndOut",
            none,
            t().dir("etc", 0o755)
                .dir("dummy", 0o755)
                .symlink("/dummy/../etc", "localetc")
                .file("/localetc/unbroken", "unbroken"),
            unbroken(),
        ),
        (
            "SymlinkMultipleAbsolute",
            none,
            t().dir("etc", 0o755)
                .dir("dummy", 0o755)
                .symlink("/etc", "/dummy/etc")
                .symlink("/dummy/etc", "localetc")
                .file("/dummy/etc/unbroken", "unbroken"),
            unbroken(),
        ),
        (
            "SymlinkMultipleRelative",
            none,
            t().dir("etc", 0o755)
                .dir("dummy", 0o755)
                .symlink("/etc", "/dummy/etc")
                .symlink("./dummy/etc", "localetc")
                .file("/localetc/unbroken", "unbroken"),
            unbroken(),
        ),
        (
            "SymlinkEmptyFile",
            none,
            t().dir("etc", 0o755)
                .file("etc/emptied", "notempty")
                .symlink("/etc", "localetc")
                .file("/localetc/emptied", ""),
            Content("etc/emptied", ""),
        ),
        (
            "SymlinkParentDirectory",
            none,
            t().dir("etc", 0o770)
                .file("/etc/passwd", "inside")
                .symlink("/etc/", "..")
                .link("/etc/passwd", "localpasswd"),
            Same("localpasswd", "etc/passwd"),
        ),
        (
            "SymlinkEmptyFilename",
            none,
            t().dir("etc", 0o770).file("/etc/passwd", "inside").symlink("/etc/", "").link("/etc/passwd", "localpasswd"),
            Same("localpasswd", "etc/passwd"),
        ),
        (
            "SymlinkParentRelative",
            none,
            t().dir("etc", 0o770)
                .file("/etc/passwd", "inside")
                .symlink("/etc/", "localetc/sub/..")
                .link("/etc/passwd", "/localetc/localpasswd"),
            Same("localetc/localpasswd", "etc/passwd"),
        ),
        (
            "SymlinkSlashEnded",
            none,
            t().dir("etc", 0o770)
                .file("/etc/passwd", "inside")
                .dir("localetc/", 0o770)
                .link("/etc/passwd", "/localetc/localpasswd"),
            Same("localetc/localpasswd", "etc/passwd"),
        ),
        (
            "SymlinkOverrideDirectory",
            localetc,
            t().symlink("/etc", "localetc").link("/etc/passwd", "/localetc/localpasswd"),
            Same("etc/localpasswd", "etc/passwd"),
        ),
        (
            "SymlinkOverrideDirectoryRelative",
            localetc,
            t().symlink("../../etc", "localetc").link("/etc/passwd", "/localetc/localpasswd"),
            Same("etc/localpasswd", "etc/passwd"),
        ),
        (
            "DirectoryOverrideSymlink",
            |root| linked(root, "/etc"),
            t().dir("/localetc/", 0o755).link("/etc/passwd", "/localetc/localpasswd"),
            Same("localetc/localpasswd", "etc/passwd"),
        ),
        (
            "DirectoryOverrideSymlinkAndHardlink",
            |root| {
                linked(root, "etc");
                std::fs::hard_link(root.join("etc/passwd"), root.join("etc/localpasswd")).expect("link");
            },
            t().dir("/localetc/", 0o755).file("/localetc/localpasswd", "different"),
            Different("localetc/localpasswd", "etc/passwd"),
        ),
        (
            "SymlinkOverridePath",
            |root| linked(root, "../../../etc"),
            t().file("localetc/passwd", "changed inside"),
            Content("etc/passwd", "changed inside"),
        ),
    ]
}

fn hardlink_cases() -> Vec<Case> {
    let none: fn(&Path) = |_| {};
    let base = || Tar::new().dir("etc", 0o770).file("/etc/passwd", "inside");
    let same = || Same("localpasswd", "etc/passwd");
    vec![
        (
            "HardlinkRelative",
            none,
            base()
                .dir("breakouts", 0o755)
                .symlink("../../etc", "breakouts/d1")
                .link("/breakouts/d1/passwd", "localpasswd"),
            same(),
        ),
        (
            "HardlinkDownAndOut",
            none,
            base()
                .dir("breakouts", 0o755)
                .dir("downandout", 0o755)
                .symlink("../downandout/../../etc", "breakouts/d1")
                .link("/breakouts/d1/passwd", "localpasswd"),
            same(),
        ),
        ("HardlinkAbsolute", none, base().symlink("/etc", "localetc").link("/localetc/passwd", "localpasswd"), same()),
        (
            "HardlinkRelativeLong",
            none,
            base().symlink("../../../../../../../etc", "localetc").link("/localetc/passwd", "localpasswd"),
            same(),
        ),
        (
            // `upandout` is not there: names that are left again are not entered.
            "HardlinkRelativeUpAndOut",
            none,
            base().symlink("upandout/../../../etc", "localetc").link("/localetc/passwd", "localpasswd"),
            same(),
        ),
        ("HardlinkDirectRelative", none, base().link("../../../../../etc/passwd", "localpasswd"), same()),
        ("HardlinkDirectAbsolute", none, base().link("/etc/passwd", "localpasswd"), same()),
        (
            "HardlinkSymlinkBeforeCreateTarget",
            none,
            Tar::new()
                .dir("etc", 0o770)
                .symlink("/etc/passwd", "localpasswd")
                .link("localpasswd", "localpasswd-dup")
                .file("/etc/passwd", "after"),
            Same("localpasswd-dup", "etc/passwd"),
        ),
        (
            "HardlinkSymlinkRelative",
            none,
            base().symlink("../../../../../etc/passwd", "passwdlink").link("/passwdlink", "localpasswd"),
            same(),
        ),
        (
            "HardlinkSymlinkAbsolute",
            none,
            base().symlink("/etc/passwd", "passwdlink").link("/passwdlink", "localpasswd"),
            same(),
        ),
    ]
}

fn whiteout_cases() -> Vec<Case> {
    let empty = |name: &str| Tar::new().file(name, "");
    let kept = || Content("etc/passwd", "all users");
    vec![
        ("WhiteoutRootParent", passwd, empty(".wh..."), Refused),
        ("WhiteoutParent", passwd, empty("etc/.wh..."), Refused),
        ("WhiteoutRoot", passwd, empty(".wh.."), Refused),
        ("WhiteoutCurrentDirectory", passwd, empty("etc/.wh.."), Refused),
        ("WhiteoutOfNoName", passwd, empty("etc/.wh."), Refused),
        ("WhiteoutSymlink", |root| linked(root, "/etc"), empty(".wh.localetc"), Hidden("localetc")),
        ("WhiteoutSymlinkKeepsTarget", |root| linked(root, "/etc"), empty(".wh.localetc"), kept()),
        ("WhiteoutSymlinkPath", |root| linked(root, "/etc"), empty("localetc/.wh.whitedout"), Hidden("etc/whitedout")),
        (
            "WhiteoutDirectoryName",
            |root| linked(root, "/etc"),
            Tar::new().file(".wh.etc/somefile", "non-empty"),
            Content(".wh.etc/somefile", "non-empty"),
        ),
        ("WhiteoutDeadSymlinkParent", |root| linked(root, "/dne"), empty("localetc/.wh.etc"), kept()),
        ("WhiteoutRelativePath", |root| linked(root, "/dne"), empty("dne/../.wh.etc"), Hidden("etc")),
    ]
}

/// CVE-2014-6407, CVE-2014-9356 and CVE-2020-10696, rows 52, 53, 67 and 93: the corpus of 1E.
#[test]
fn breakouts_stay_inside_and_mean_what_they_mean_after_chroot() {
    let cases: Vec<Case> = symlink_cases().into_iter().chain(hardlink_cases()).chain(whiteout_cases()).collect();
    assert!(cases.len() >= 34, "the corpus has shrunk to {}", cases.len());
    for (name, prepare, tar, check) in cases {
        let scratch = Scratch::new();
        let root = scratch.path("");
        prepare(&root);

        let result = scratch.apply(&tar.end());

        if let Refused = check {
            assert!(matches!(result, Err(Error::Entry { .. })), "{name}: {result:?}");
            continue;
        }
        result.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let ino = |path: &str| resolve(&root, path).metadata().expect("stat").ino();
        match check {
            Content(path, wanted) => {
                assert_eq!(std::fs::read_to_string(resolve(&root, path)).expect("read"), wanted, "{name}");
            }
            Same(one, other) => assert_eq!(ino(one), ino(other), "{name}"),
            Different(one, other) => assert_ne!(ino(one), ino(other), "{name}"),
            Hidden(path) => {
                let stat = root.join(path).symlink_metadata().expect("the mark");
                assert!(stat.file_type().is_char_device() && stat.rdev() == 0, "{name}");
            }
            Refused => unreachable!("handled above"),
        }
    }
}

/// CVE-2021-32760, row 69: HardlinkSymlinkChmod of TestBreakouts.
#[test]
fn a_hard_link_through_a_symlink_never_changes_a_mode_outside() {
    let scratch = Scratch::new();
    let outside = scratch.outside().join("perm400");
    let (outside, link) = (outside.to_str().expect("UTF-8"), scratch.outside().join("also-outside"));
    let link = link.to_str().expect("UTF-8");

    scratch.apply(&Tar::new().symlink(outside, link).link(link, "sketchylink").end()).expect("it is contained");

    let kept = scratch.path("sketchylink").symlink_metadata().expect("stat");
    assert!(kept.is_symlink(), "the link is to the symlink, not to what it names");
}

/// CVE-2026-33056, rows 79 and 82: a directory entry takes a symlink's place, also in the pass that sets times.
#[test]
fn a_directory_entry_over_a_symlink_does_not_touch_where_it_led() {
    for target in ["../etc", "../../etc", "/../etc"] {
        let scratch = Scratch::new();

        scratch.apply(&Tar::new().symlink(target, "a").dir("a", 0o777).file("a/new", "x").end()).expect("apply");

        assert!(scratch.path("a").symlink_metadata().expect("stat").is_dir());
        assert!(scratch.path("a/new").exists());
    }
}

/// CVE-2026-17106, row 78: deferred directory metadata must not go through a link that came later.
#[test]
fn a_symlink_over_a_directory_does_not_lead_deferred_times_outside() {
    let scratch = Scratch::new();

    scratch.apply(&Tar::new().dir("d", 0o777).file("d/x", "1").symlink("../etc", "d").end()).expect("apply");

    assert!(scratch.path("d").symlink_metadata().expect("stat").is_symlink());
}

/// CVE-2021-29136, row 68.
#[test]
fn the_root_is_never_replaced() {
    for name in ["", ".", "./", "/", "..", "a/.."] {
        for flag in [b'0', b'1', b'2', b'3', b'4', b'6'] {
            let scratch = Scratch::new();
            let header =
                Header { name: name.into(), link: b"/etc".to_vec(), flag, device: (1, 3), ..Header::default() };

            scratch.apply(&Tar::new().header(&header).file("after", "x").end()).expect("it is ignored");

            assert!(scratch.path("").symlink_metadata().expect("stat").is_dir());
            assert_eq!(std::fs::read_to_string(scratch.path("after")).expect("read"), "x");
        }
    }
}

/// CVE-2026-50163, row 84.
#[test]
fn hard_link_targets_never_resolve_against_the_working_directory() {
    for target in ["sentinel", "./sentinel", "../sentinel", "../../sentinel", "/sentinel", "a/../../sentinel"] {
        let scratch = Scratch::new();

        let result = scratch.apply(&Tar::new().link(target, "x").end());

        assert!(matches!(result, Err(Error::LinkTarget { .. })), "{target}: {result:?}");
        assert!(!scratch.path("x").exists());
    }
}

/// CVE-2026-23745 and CVE-2026-26960, row 85.
#[test]
fn chains_of_symlinks_and_a_hard_link_stay_inside() {
    let scratch = Scratch::new();
    let tar = Tar::new()
        .dir("a/b/c", 0o755)
        .symlink("../..", "a/b/c/up")
        .symlink("c/up/../..", "a/b/escape")
        .link("a/b/escape/../sentinel", "x");

    let result = scratch.apply(&tar.end());

    assert!(matches!(result, Err(Error::LinkTarget { .. })), "{result:?}");
}

/// CVE-2014-6407 and CVE-2014-9356, rows 52 and 53, for archives that are not layers.
#[test]
fn names_that_climb_are_clamped_in_plain_archives_too() {
    for name in ["../sentinel", "../../sentinel", "/../sentinel", "a/../../sentinel", "//sentinel"] {
        let scratch = Scratch::new();

        scratch.apply_as(&Tar::new().file(name, "inside").end(), Whiteouts::Literal).expect("it is contained");

        assert_eq!(std::fs::read_to_string(scratch.path("sentinel")).expect("read"), "inside", "{name}");
    }
}

#[test]
fn symlink_loops_end_with_an_error() {
    let scratch = Scratch::new();

    let result = scratch.apply(&Tar::new().symlink("b", "a").symlink("a", "b").file("a/x", "x").end());

    assert!(matches!(result, Err(Error::Disk { .. })), "{result:?}");
}
