//! Copies a directory tree by descriptors: what a tmpfs with `tmpcopyup` begins with.
//! Content, owners, permission bits and times come along; extended attributes and sockets do not.

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chownat, fchmod, fchown, fstat,
    mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Each level holds three descriptors.
const MAX_DEPTH: usize = 200;

/// Copies what is in one directory into another.
pub(crate) fn content(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    level(from, to, 0)
}

fn level(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG.into());
    }
    let from = openat(from, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in Dir::read_from(&from)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            one(from.as_fd(), to, entry.file_name(), depth)?;
        }
    }
    Ok(())
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match kind {
        FileType::Directory => {
            let source = openat(from, name, flags | OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
            mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let target = openat(to, name, flags | OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
            level(source.as_fd(), target.as_fd(), depth + 1)?;
            take_over(&target, &stat)?;
        }
        FileType::RegularFile => {
            let source = openat(from, name, flags | OFlags::RDONLY, Mode::empty())?;
            if FileType::from_raw_mode(fstat(&source)?.st_mode) != FileType::RegularFile {
                return Err(Errno::AGAIN.into());
            }
            let create = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let mut target = File::from(openat(to, name, create, Mode::from_raw_mode(0o600))?);
            io::copy(&mut File::from(source), &mut target)?;
            take_over(&target.into(), &stat)?;
        }
        FileType::Symlink => {
            symlinkat(readlinkat(from, name, Vec::new())?.as_c_str(), to, name)?;
            own(to, name, &stat)?;
        }
        FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
            // The umask is 0, so the mode is as asked.
            mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o777), stat.st_rdev)?;
            own(to, name, &stat)?;
        }
        _ => return Ok(()),
    }
    Ok(utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn own(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Gives owner and permission bits, in this order: a change of owner clears set-user-id bits.
fn take_over(fd: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
    fchown(fd, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(fd, Mode::from_raw_mode(stat.st_mode & 0o7777))
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime as _, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_copy_has_content_modes_times_and_links_and_follows_none() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("directory")).unwrap();
        fs::write(from.path().join("directory/file"), "content").unwrap();
        fs::set_permissions(from.path().join("directory/file"), fs::Permissions::from_mode(0o4711)).unwrap();
        symlink("/etc/passwd", from.path().join("link")).unwrap();

        content(File::open(from.path()).unwrap().as_fd(), File::open(to.path()).unwrap().as_fd()).unwrap();

        let (before, after) = (from.path().join("directory/file"), to.path().join("directory/file"));
        assert_eq!(fs::read_to_string(&after).unwrap(), "content");
        let (before, after) = (fs::metadata(before).unwrap(), fs::metadata(after).unwrap());
        assert_eq!((after.mode(), after.mtime_nsec()), (before.mode(), before.mtime_nsec()));
        assert_eq!(fs::read_link(to.path().join("link")).unwrap().to_str(), Some("/etc/passwd"));
    }

    #[test]
    fn a_tree_without_end_is_refused() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("d/".repeat(MAX_DEPTH + 2))).unwrap();

        let error = content(File::open(from.path()).unwrap().as_fd(), File::open(to.path()).unwrap().as_fd());

        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
    }
}
