//! Extended attributes as a file system of Linux would take them: what may have which, and what an access control list
//! does to a mode. A tree that is only written down has no kernel to ask.

use crate::error::Error;
use crate::tree::{Inode, Kind, Xattrs};
use rustix::io::Errno;

/// Longest name and longest value; the kernel's limit for values is one byte more, which is no size that is kept.
const LONGEST: (usize, usize) = (255, 65_535);

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";
/// Size and revision of the two forms of capabilities, linux/capability.h.
const CAPABILITIES: [(usize, u32); 2] = [(20, 0x0200_0000), (24, 0x0300_0000)];

/// Leaves the attributes that a disk would keep, and the mode that it would show.
pub(super) fn keep(path: &[u8], inode: &mut Inode) -> Result<(), Error> {
    let mut kept = Xattrs::new();
    for (name, value) in std::mem::take(&mut inode.xattrs) {
        match take(&name, value, inode) {
            Ok(Some(value)) => drop(kept.insert(name, value)),
            Ok(None) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(Error::disk("set an extended attribute of", path, error)),
        }
    }
    inode.xattrs = kept;
    Ok(())
}

/// Returns what is there after an attribute was set.
fn take(name: &[u8], value: Vec<u8>, inode: &mut Inode) -> Result<Option<Vec<u8>>, Errno> {
    if name.len() > LONGEST.0 {
        return Err(Errno::RANGE);
    }
    if value.len() > LONGEST.1 {
        return Err(Errno::TOOBIG);
    }
    if name == ACCESS || name == DEFAULT {
        return list(name == ACCESS, &value, inode);
    }
    let classes: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    let Some(class) = classes.into_iter().find(|class| name.starts_with(class)) else { return Err(Errno::OPNOTSUPP) };
    if name == class {
        return Err(Errno::INVAL);
    }
    if class == b"user." && !inode.kind.is_file() {
        return Err(Errno::PERM);
    }
    if name == b"security.capability" && !is_capability(&value) {
        return Err(Errno::INVAL);
    }
    Ok(Some(value))
}

fn is_capability(value: &[u8]) -> bool {
    let Some(magic) = value.first_chunk::<4>() else { return false };
    let revision = u32::from_le_bytes(*magic) & 0xff00_0000;
    CAPABILITIES.contains(&(value.len(), revision))
}

/// Sets an access control list: one that says no more than a mode becomes the mode.
fn list(is_access: bool, value: &[u8], inode: &mut Inode) -> Result<Option<Vec<u8>>, Errno> {
    let entries = entries(value)?;
    if inode.kind == Kind::Symlink {
        return Err(Errno::OPNOTSUPP);
    }
    if entries.is_empty() {
        return Ok(None);
    }
    check(&entries)?;
    if !is_access {
        return if inode.kind == Kind::Directory { Ok(Some(encode(&entries))) } else { Err(Errno::ACCESS) };
    }
    let permissions = |tag| entries.iter().find(|entry| entry.tag == tag).map(|entry| u32::from(entry.permissions));
    let group = permissions(MASK).or(permissions(GROUP_OBJ)).unwrap_or(0);
    let mode = permissions(USER_OBJ).unwrap_or(0) << 6 | group << 3 | permissions(OTHER).unwrap_or(0);
    inode.mode = inode.mode & !0o777 | mode;
    let is_more = entries.iter().any(|entry| matches!(entry.tag, USER | GROUP | MASK));
    Ok(is_more.then(|| encode(&entries)))
}

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const VERSION: [u8; 4] = 2_u32.to_le_bytes();

/// Who may do what.
struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

/// Reads a list; one of no entries is none.
fn entries(value: &[u8]) -> Result<Vec<Entry>, Errno> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let (version, entries) = value.split_first_chunk::<4>().ok_or(Errno::INVAL)?;
    if *version != VERSION {
        return Err(Errno::OPNOTSUPP);
    }
    let (entries, rest) = entries.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(Errno::INVAL);
    }
    let entries = entries.iter().map(|entry| Entry {
        tag: u16::from_le_bytes([entry[0], entry[1]]),
        permissions: u16::from_le_bytes([entry[2], entry[3]]),
        id: u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]),
    });
    Ok(entries.collect())
}

/// Writes a list as the kernel gives it back: ids only where they mean something.
fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut value = VERSION.to_vec();
    for entry in entries {
        let id = if matches!(entry.tag, USER | GROUP) { entry.id } else { u32::MAX };
        value.extend(entry.tag.to_le_bytes());
        value.extend(entry.permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// Checks what the kernel checks: the order, which entries must be there, and permissions (posix_acl_valid).
fn check(entries: &[Entry]) -> Result<(), Errno> {
    let mut expected = USER_OBJ;
    let mut needs_mask = false;
    for entry in entries {
        let is_named = matches!(entry.tag, USER | GROUP);
        if entry.permissions > 7 || (is_named && entry.id == u32::MAX) {
            return Err(Errno::INVAL);
        }
        needs_mask |= is_named;
        expected = match (entry.tag, expected) {
            (USER_OBJ, USER_OBJ) | (USER, USER) => USER,
            (GROUP_OBJ, USER) | (GROUP, GROUP) => GROUP,
            (MASK, GROUP) => OTHER,
            (OTHER, OTHER) => 0,
            (OTHER, GROUP) if !needs_mask => 0,
            _ => return Err(Errno::INVAL),
        };
    }
    if expected == 0 { Ok(()) } else { Err(Errno::INVAL) }
}
