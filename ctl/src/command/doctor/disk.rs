//! The disk that state is on, and the clock by which things are old.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use strata_proto::runtime::v1::Finding;

use super::{notice, problem};
use crate::render::size;

/// Free space that is little, whatever the disk has: a base image and what a build makes of it.
const LITTLE: u64 = 2 << 30;
/// Free space with which nothing goes.
const NONE: u64 = 64 << 20;
/// As great a part of a disk may be free that is not told of.
const PART: u64 = 20;

/// File systems whose directories cannot be the upper one of an overlay: statfs(2), f_type.
const UNFIT: [(u64, &str); 5] =
    [(0x794c_7630, "overlay"), (0x6969, "NFS"), (0x4d44, "FAT"), (0xff53_4d42, "CIFS"), (0x2011_bab0, "exFAT")];

/// Nothing here was made before.
const EARLIEST: &str = "2025-01-01T00:00:00Z";

/// How far the clock may be behind what it has written.
const BEHIND_SECONDS: i64 = 300;

/// What is wrong with where state is, and with the time.
pub fn findings(directory: &Path, now: Timestamp) -> Vec<Finding> {
    let place = existing(directory);
    let mut found = Vec::new();
    if let (Ok(space), Ok(kind)) = (rustix::fs::statvfs(&place), rustix::fs::statfs(&place)) {
        let space = Space {
            free: space.f_bavail * space.f_frsize,
            all: space.f_blocks * space.f_frsize,
            free_inodes: space.f_favail,
            all_inodes: space.f_files,
        };
        found.extend(of_space(directory, &space));
        #[allow(
            clippy::cast_sign_loss,
            clippy::unnecessary_cast,
            reason = "the type of the field differs by processor"
        )]
        found.extend(of_kind(directory, u64::from(kind.f_type as u32)));
    }
    let written = std::fs::metadata(directory.join("store/catalog.db-wal")).and_then(|found| found.modified()).ok();
    found.extend(of_clock(now, written.and_then(|time| Timestamp::try_from(time).ok())));
    found
}

/// The directory, or the nearest above it that is there.
fn existing(directory: &Path) -> PathBuf {
    directory.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Room on a file system, in bytes and inodes. A file system that counts no inodes has 0 of both.
struct Space {
    free: u64,
    all: u64,
    free_inodes: u64,
    all_inodes: u64,
}

fn of_space(directory: &Path, space: &Space) -> Vec<Finding> {
    let fix = "`ctl system df` shows what is used, `ctl system prune -a` removes what nothing uses";
    let mut found = Vec::new();
    let place = directory.display();
    if space.free < NONE {
        found.push(problem(format!("the disk of {place} is full: {} are free", size::human(space.free)), fix));
    } else if space.free < LITTLE && space.free < space.all / PART {
        let what = format!(
            "the disk of {place} is nearly full: {} of {} are free",
            size::human(space.free),
            size::human(space.all)
        );
        found.push(notice(what, fix));
    }
    if space.all_inodes > 0 && space.free_inodes < space.all_inodes / 100 {
        let what =
            format!("the disk of {place} has nearly no inodes left: {} of {}", space.free_inodes, space.all_inodes);
        found.push(notice(what, fix));
    }
    found
}

fn of_kind(directory: &Path, kind: u64) -> Option<Finding> {
    let (_, name) = UNFIT.iter().find(|(known, _)| *known == kind)?;
    let what = format!("{} is on {name}, on which no overlay can write: containers do not start", directory.display());
    Some(problem(what, "mount ext4, XFS or Btrfs there, or set STRATA_ROOT to a directory on one"))
}

fn of_clock(now: Timestamp, written: Option<Timestamp>) -> Option<Finding> {
    let fix = "`timedatectl set-ntp true`, or `date -s` and `hwclock -w`";
    let earliest: Timestamp = EARLIEST.parse().ok()?;
    if now < earliest {
        let what = format!("the clock says {now}: certificates of registries and services are not valid yet");
        return Some(problem(what, fix));
    }
    let ahead = written?.as_second() - now.as_second();
    (ahead > BEHIND_SECONDS).then(|| {
        let what = format!("the clock went back: the store has written {ahead} seconds from now, by its time");
        notice(format!("{what}; \"until\" filters, retention and certificates go by it"), fix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_a_problem_and_a_nearly_full_one_is_told_of() {
        let of = |free, all, free_inodes, all_inodes| {
            of_space(Path::new("/x"), &Space { free, all, free_inodes, all_inodes })
        };
        assert_eq!(of(10 << 30, 100 << 30, 1000, 10_000), []);
        // A small disk may be half full, and a large one has enough.
        assert_eq!(of(1 << 30, 2 << 30, 0, 0), []);
        assert_eq!(of(3 << 30, 1000 << 30, 0, 0), []);
        assert!(of(1 << 30, 100 << 30, 0, 0)[0].what.contains("nearly full: 1.07GB of 107GB"));
        assert!(of(1 << 20, 100 << 30, 0, 0)[0].what.contains("is full"));
        assert!(of(10 << 30, 100 << 30, 9, 1000)[0].what.contains("9 of 1000"));
    }

    #[test]
    fn file_systems_that_overlays_cannot_write_on_are_named() {
        assert!(of_kind(Path::new("/x"), 0x6969).unwrap().what.contains("on NFS"));
        assert_eq!(of_kind(Path::new("/x"), 0xef53), None, "ext4");
    }

    #[test]
    fn a_clock_that_is_wrong_is_told_of() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-30T12:00:00Z");
        assert_eq!(of_clock(now, None), None);
        assert_eq!(of_clock(now, Some(at("2026-11-30T12:04:00Z"))), None);
        assert!(of_clock(now, Some(at("2026-11-30T13:00:00Z"))).unwrap().what.contains("3600 seconds"));
        assert!(of_clock(at("1970-01-02T00:00:00Z"), None).unwrap().what.contains("not valid yet"));
    }

    #[test]
    fn where_nothing_is_yet_the_disk_above_counts() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(existing(&root.path().join("a/b")), root.path());
    }
}
