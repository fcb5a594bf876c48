//! Owners that this process cannot give: in a user namespace, ids without a number there.
//! They are kept in an extended attribute, which overlay copies up with its file, and count again when a tree is
//! read. What is no file or directory takes no such attribute, so it stays with who made it.

use crate::tree::Xattrs;
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, Gid, Uid, XattrFlags};
use rustix::io::Errno;
use std::fs;
use std::sync::OnceLock;

/// `uid:gid` as they should be, then as they were when this was written: a later change of owner makes it void.
pub const ATTRIBUTE: &str = "user.strata.owner";

/// Ids that this process's user namespace has a number for, as (first, count).
struct Ids {
    users: Vec<(u32, u32)>,
    groups: Vec<(u32, u32)>,
}

fn ids() -> &'static Ids {
    static IDS: OnceLock<Ids> = OnceLock::new();
    let read = |file: &str| parse(&fs::read_to_string(file).unwrap_or_default());
    IDS.get_or_init(|| Ids { users: read("/proc/self/uid_map"), groups: read("/proc/self/gid_map") })
}

/// Reads a map; one that cannot be read restricts nothing.
fn parse(map: &str) -> Vec<(u32, u32)> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.nth(1)??))
    };
    let found: Vec<_> = map.lines().filter_map(line).collect();
    if found.is_empty() { vec![(0, u32::MAX)] } else { found }
}

fn has(ids: &[(u32, u32)], id: u32) -> bool {
    ids.iter().any(|(first, count)| id.checked_sub(*first).is_some_and(|offset| offset < *count))
}

/// Says whether this process is in a user namespace that lacks ids: its privileges end where that ends.
pub fn is_restricted() -> bool {
    [&ids().users, &ids().groups].iter().any(|ids| ids.as_slice() != [(0, u32::MAX)])
}

/// Gives an open file or directory an owner, or keeps in mind whose it should be.
pub fn set(file: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<(), Errno> {
    rustix::fs::fchown(file, user(uid), group(gid))?;
    if has(&ids().users, uid) && has(&ids().groups, gid) {
        return Ok(());
    }
    let now = rustix::fs::fstat(file)?;
    let value = format!("{uid}:{gid} {}:{}", now.st_uid, now.st_gid);
    match rustix::fs::fsetxattr(file, ATTRIBUTE, value.as_bytes(), XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        result => result,
    }
}

/// Gives what may be no file an owner, as far as it can be given.
pub fn set_at(directory: BorrowedFd<'_>, name: impl rustix::path::Arg, uid: u32, gid: u32) -> Result<(), Errno> {
    rustix::fs::chownat(directory, name, user(uid), group(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Drops what was kept in mind of an open file or directory.
pub fn forget(file: BorrowedFd<'_>) {
    if is_restricted() {
        // Most have none; who cannot remove it cannot write it either.
        let _ = rustix::fs::fremovexattr(file, ATTRIBUTE);
    }
}

fn user(uid: u32) -> Option<Uid> {
    given(&ids().users, uid).map(Uid::from_raw)
}

fn group(gid: u32) -> Option<Gid> {
    given(&ids().groups, gid).map(Gid::from_raw)
}

/// Nobody's is what has no owner here, so that set-id bits mean nothing; with a single id it stays the user's.
fn given(ids: &[(u32, u32)], id: u32) -> Option<u32> {
    const NOBODY: u32 = 65534;
    [id, NOBODY].into_iter().find(|id| has(ids, *id))
}

/// Returns the owner that the attribute's value stands for, of a file that has `now`.
///
/// Only ids without a number here count: nobody in a container becomes root by writing the attribute.
pub fn of(value: &[u8], now: (u32, u32)) -> (u32, u32) {
    meant(ids(), value, now)
}

fn meant(ids: &Ids, value: &[u8], now: (u32, u32)) -> (u32, u32) {
    let pair = |text: &str| {
        let (uid, gid) = text.split_once(':')?;
        Some((uid.parse().ok()?, gid.parse().ok()?))
    };
    let pairs = std::str::from_utf8(value).ok().and_then(|text| text.split_once(' '));
    match pairs.and_then(|(meant, then)| Some((pair(meant)?, pair(then)?))) {
        Some(((uid, gid), then)) if then == now => {
            (if has(&ids.users, uid) { now.0 } else { uid }, if has(&ids.groups, gid) { now.1 } else { gid })
        }
        _ => now,
    }
}

/// Takes the attribute out of those of a file, and returns the file's owner.
pub(crate) fn take(xattrs: &mut Xattrs, now: (u32, u32)) -> (u32, u32) {
    match xattrs.remove(ATTRIBUTE.as_bytes()) {
        Some(value) => of(&value, now),
        None => now,
    }
}

/// Says whether a failure to make a device, or to set an attribute, is one that this user namespace explains.
pub(crate) fn explains(error: Errno) -> bool {
    error == Errno::PERM && is_restricted()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_without_a_number_here_are_taken_from_the_attribute() {
        let ids = Ids { users: vec![(0, 1), (5, 2)], groups: vec![(0, 10)] };
        let meant = |value: &str, now| meant(&ids, value.as_bytes(), now);

        assert_eq!(meant("7:70 0:0", (0, 0)), (7, 70));
        assert_eq!(meant("7:3 0:0", (0, 0)), (7, 0), "group 3 could have been given");
        assert_eq!(meant("0:0 5:5", (5, 5)), (5, 5), "nobody becomes root");
        assert_eq!(meant("7:70 0:0", (5, 0)), (5, 0), "the owner was changed since");
        for nonsense in ["", "7:70", "7 0", "a:b 0:0", "7:70 0:0 1:1", "-1:7 0:0"] {
            assert_eq!(meant(nonsense, (0, 0)), (0, 0), "{nonsense:?}");
        }
    }

    #[test]
    fn the_first_user_namespace_restricts_nothing() {
        assert_eq!(parse("         0          0 4294967295\n"), [(0, u32::MAX)]);
        assert_eq!(parse(""), [(0, u32::MAX)]);
        assert_eq!(parse("0 1000 1\n1 100000 65536\n"), [(0, 1), (1, 65_536)]);
    }
}
