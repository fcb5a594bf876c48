//! What a directory entry is: its attributes, and the digest that stands for it in cache keys.
//!
//! Times are not part of a digest. Extended attributes of overlay and of SELinux are the host's, not the tree's.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use strata_archive::owner;

use super::{Error, Result};

/// Extended attributes, ordered by name.
pub(crate) type Xattrs = Vec<(CString, Vec<u8>)>;

/// Attributes of one file of any type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Device number of a device.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Hard links.
    pub links: u64,
    /// Seconds and nanoseconds of the last change of content.
    pub modified: (i64, u32),
    /// Seconds and nanoseconds of the last change of anything.
    pub changed: (i64, u32),
}

impl Metadata {
    /// Reads the attributes of `name` in `directory`, not following a link.
    pub fn at(directory: BorrowedFd<'_>, name: &Path) -> Result<Self, Errno> {
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(Self::from)
    }

    /// Reads the attributes of an open file.
    pub fn of(file: impl AsFd) -> Result<Self, Errno> {
        rustix::fs::fstat(file).map(Self::from)
    }

    /// Takes the owner that an open file or directory has but for ids that this user namespace lacks.
    pub fn take_kept_owner(&mut self, file: BorrowedFd<'_>) {
        if !owner::is_restricted() {
            return;
        }
        let mut value = [0; 64];
        if let Ok(length) = rustix::fs::fgetxattr(file, owner::ATTRIBUTE, &mut value[..]) {
            (self.uid, self.gid) = owner::of(&value[..length], (self.uid, self.gid));
        }
    }

    /// Returns the type.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Returns the permission bits with set-uid, set-gid and sticky.
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// Says whether this is an overlay whiteout, which only exists in a layer and never in a view.
    pub fn is_whiteout(&self) -> bool {
        self.kind() == FileType::CharacterDevice && self.device == 0
    }
}

impl From<Stat> for Metadata {
    fn from(stat: Stat) -> Self {
        // The types of these fields differ between architectures.
        #[allow(clippy::unnecessary_cast)]
        Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size as u64,
            device: stat.st_rdev as u64,
            inode: stat.st_ino as u64,
            links: stat.st_nlink as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        }
    }
}

/// Says whether an attribute belongs to the tree.
pub(crate) fn is_portable(name: &[u8]) -> bool {
    !(name.starts_with(b"trusted.overlay.")
        || name.starts_with(b"user.overlay.")
        || name == b"security.selinux"
        || name == owner::ATTRIBUTE.as_bytes())
}

/// Reads the portable extended attributes of an open file or directory.
pub(crate) fn xattrs(file: BorrowedFd<'_>) -> io::Result<Xattrs> {
    let size = match rustix::fs::flistxattr_query(file) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = vec![0; size];
    let size = rustix::fs::flistxattr(file, &mut names[..])?;
    let mut found = Vec::new();
    for name in names[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty() && is_portable(name)) {
        let size = rustix::fs::fgetxattr_query(file, name)?;
        let mut value = vec![0; size];
        let size = if size == 0 { 0 } else { rustix::fs::fgetxattr(file, name, &mut value[..])? };
        value.truncate(size);
        found.push((CString::new(name).expect("split at NUL"), value));
    }
    found.sort();
    Ok(found)
}

/// Writes extended attributes to an open file or directory.
pub(crate) fn set_xattrs(file: BorrowedFd<'_>, xattrs: &Xattrs, path: &Path) -> Result<()> {
    for (name, value) in xattrs {
        rustix::fs::fsetxattr(file, name.as_c_str(), value, rustix::fs::XattrFlags::empty())
            .map_err(|source| Error::io("set an extended attribute of", path, source))?;
    }
    Ok(())
}

/// Writes attributes that somebody gave: those that the file system, or a service without root, does not take are left.
pub(crate) fn set_given(file: BorrowedFd<'_>, xattrs: &Xattrs, path: &Path) -> Result<()> {
    for (name, value) in xattrs {
        match rustix::fs::fsetxattr(file, name.as_c_str(), value, rustix::fs::XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(Errno::PERM) if owner::is_restricted() => {}
            Err(source) => return Err(Error::io("set an extended attribute of", path, source)),
        }
    }
    Ok(())
}

/// Computes the digest of one entry: `content` is the blake3 of a file's bytes or the target of a link.
pub(crate) fn digest(metadata: &Metadata, xattrs: &Xattrs, content: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"strata entry 1\0");
    for number in [metadata.mode, metadata.uid, metadata.gid] {
        hasher.update(&number.to_le_bytes());
    }
    let device = match metadata.kind() {
        FileType::CharacterDevice | FileType::BlockDevice => metadata.device,
        _ => 0,
    };
    hasher.update(&device.to_le_bytes());
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(content);
    for (name, value) in xattrs {
        part(name.as_bytes());
        part(value);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_covers_owner_and_attributes_but_not_times() {
        let base = Metadata { mode: 0o100644, ..Metadata::default() };
        let later = Metadata { modified: (7, 7), changed: (8, 8), inode: 9, ..base.clone() };
        let owned = Metadata { uid: 1, ..base.clone() };
        let attribute: Xattrs = vec![(c"user.a".into(), b"b".to_vec())];

        let plain = digest(&base, &Vec::new(), b"c");

        assert_eq!(plain, digest(&later, &Vec::new(), b"c"));
        assert_ne!(plain, digest(&owned, &Vec::new(), b"c"));
        assert_ne!(plain, digest(&base, &attribute, b"c"));
        assert_ne!(plain, digest(&base, &Vec::new(), b"d"));
    }
}
