//! Placing one file, link or archive in a layer that is being written.
//!
//! A content is linked, not copied, where the result cannot be told from a copy: a staged content that no layer has
//! taken yet becomes the file itself, and a file of another layer is shared when all its attributes are as wanted.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use strata_archive::{ApplyOptions, Whiteouts, owner};

use super::resolve::{self, Directory};
use super::write::{Entry, Made, Owner, Time, Writer};
use super::{Error, Metadata, Result, entry};
use crate::content::Found;

/// Mode of a file from a context that comes without one.
const FILE_MODE: u32 = 0o644;

/// Places a regular file.
pub(super) fn file(
    writer: &mut Writer<'_>,
    parent: &Directory,
    name: &OsStr,
    blake3: &blake3::Hash,
    entry: &Entry,
    found: Option<&Found>,
) -> Result<()> {
    writer.canvas.clear(parent, name)?;
    let wanted = Metadata {
        mode: entry.owner.mode.unwrap_or(FILE_MODE),
        uid: entry.owner.uid.unwrap_or(0),
        gid: entry.owner.gid.unwrap_or(0),
        ..Metadata::default()
    };
    let shown = || Path::new("/").join(&parent.path).join(name);
    let found = found.ok_or_else(|| Error::ContentNotFound { blake3: blake3.to_hex().to_string() })?;
    let time = entry.modified.unwrap_or(writer.modified);
    match found {
        Found::Staged(path) => {
            if writer.contents.claim(path, parent.upper.as_fd(), name) {
                attributes(parent, name, &wanted, time).map_err(|e| Error::io("write", shown(), e))?;
                return extended(parent, name, entry);
            }
        }
        Found::Layer(path, metadata) => {
            if entry.attributes.is_empty() && share(writer, (path, metadata), &wanted, entry.modified, parent, name) {
                return Ok(());
            }
        }
    }
    let from = File::open(found.path()).map_err(|source| Error::io("open", found.path(), source))?;
    copy_file(&from, parent, name, &wanted, time)?;
    extended(parent, name, entry)
}

/// Gives a file just placed the attributes that its entry names.
fn extended(parent: &Directory, name: &OsStr, entry: &Entry) -> Result<()> {
    if entry.attributes.is_empty() {
        return Ok(());
    }
    let shown = Path::new("/").join(&parent.path).join(name);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&parent.upper, name, flags, Mode::empty());
    let file = file.map_err(|source| Error::io("open", &shown, source))?;
    entry::set_given(file.as_fd(), &entry.attributes, &shown)
}

/// Links a file of another layer if it is, but for its time, what is wanted.
fn share(
    writer: &mut Writer<'_>,
    (path, metadata): (&Path, &Metadata),
    wanted: &Metadata,
    time: Option<Time>,
    parent: &Directory,
    name: &OsStr,
) -> bool {
    let same = metadata.kind() == FileType::RegularFile
        && metadata.permissions() == wanted.mode
        && (metadata.uid, metadata.gid) == (wanted.uid, wanted.gid)
        && time.is_none_or(|time| Time::from(metadata.modified) == time)
        && matches!(rustix::fs::llistxattr_query(path), Ok(0) | Err(Errno::NOTSUP));
    if !same || !writer.linked.insert(metadata.inode) {
        return false;
    }
    rustix::fs::linkat(CWD, path, &parent.upper, name, AtFlags::empty()).is_ok()
}

/// Sets the attributes of a file just placed.
fn attributes(parent: &Directory, name: &OsStr, wanted: &Metadata, time: Time) -> std::result::Result<(), Errno> {
    let directory = parent.upper.as_fd();
    // Staged contents belong to root already.
    if (wanted.uid, wanted.gid) != (0, 0) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        owner::set(rustix::fs::openat(directory, name, flags, Mode::empty())?.as_fd(), wanted.uid, wanted.gid)?;
    }
    rustix::fs::chmodat(directory, name, Mode::from_raw_mode(wanted.permissions()), AtFlags::empty())?;
    resolve::set_times(directory, Path::new(name), time)
}

/// Makes a new file with the content of another.
pub(super) fn copy_file(from: &File, parent: &Directory, name: &OsStr, wanted: &Metadata, time: Time) -> Result<()> {
    let shown = || Path::new("/").join(&parent.path).join(name);
    let failed = |source: std::io::Error| Error::io("write", shown(), source);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut to = rustix::fs::openat(&parent.upper, name, flags, Mode::from_raw_mode(0o600))
        .map(File::from)
        .map_err(|source| failed(source.into()))?;
    // Copies inside the file system where it can (reflink, copy_file_range).
    std::io::copy(&mut &*from, &mut to).map_err(failed)?;
    let owner = Owner { mode: Some(wanted.permissions()), uid: Some(wanted.uid), gid: Some(wanted.gid) };
    resolve::set_owner_and_mode(to.as_fd(), owner).map_err(|source| failed(source.into()))?;
    rustix::fs::futimens(&to, &resolve::timestamps(time)).map_err(|source| failed(source.into()))
}

/// Places a symbolic link.
pub(super) fn symlink(
    writer: &mut Writer<'_>,
    parent: &Directory,
    name: &OsStr,
    target: &[u8],
    owner: Owner,
    time: Time,
) -> Result<()> {
    writer.canvas.clear(parent, name)?;
    let make = || {
        rustix::fs::symlinkat(target, &parent.upper, name)?;
        // It is new, so it is root's.
        if owner.uid.is_some() || owner.gid.is_some() {
            owner::set_at(parent.upper.as_fd(), name, owner.uid.unwrap_or(0), owner.gid.unwrap_or(0))?;
        }
        resolve::set_times(parent.upper.as_fd(), Path::new(name), time)
    };
    make().map_err(|source| Error::io("make link", Path::new("/").join(&parent.path).join(name), source))
}

/// Makes a device or a FIFO; of a socket, which nobody would listen on, an empty file. A service without root leaves
/// devices out.
pub(super) fn special(
    writer: &mut Writer<'_>,
    parent: &Directory,
    name: &OsStr,
    (kind, device): (FileType, u64),
    owner: Owner,
    time: Time,
) -> Result<()> {
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    if is_device && owner::is_restricted() {
        return Ok(());
    }
    writer.canvas.clear(parent, name)?;
    let kind = if kind == FileType::Socket { FileType::RegularFile } else { kind };
    let mode = Mode::from_raw_mode(owner.mode.unwrap_or(FILE_MODE) & 0o7777);
    let make = || {
        rustix::fs::mknodat(&parent.upper, name, kind, mode, if is_device { device } else { 0 })?;
        owner::set_at(parent.upper.as_fd(), name, owner.uid.unwrap_or(0), owner.gid.unwrap_or(0))?;
        rustix::fs::chmodat(&parent.upper, name, mode, AtFlags::empty())?;
        resolve::set_times(parent.upper.as_fd(), Path::new(name), time)
    };
    make().map_err(|source| Error::io("make", Path::new("/").join(&parent.path).join(name), source))
}

/// Unpacks an archive below a directory of the view, which is made where missing.
pub(super) fn archive(writer: &mut Writer<'_>, blake3: &blake3::Hash, entry: &Entry) -> Result<()> {
    let hex = || blake3.to_hex().to_string();
    let found = writer.contents.find(blake3, None).ok_or_else(|| Error::ContentNotFound { blake3: hex() })?;
    let packed = File::open(found.path()).map_err(|source| Error::io("open", found.path(), source))?;
    let (directory, existed) = writer.directory(entry)?;
    if !existed {
        // What --chmod says is not for archives.
        let made = Made { mode: Made::default().mode, ..writer.plan.made };
        writer.canvas.set_directory(&directory, made.owner(), entry.modified)?;
    }
    let path = Path::new("/").join(&directory.path);
    drop(directory);
    let view = writer.mount()?;
    let target =
        view.lookup(&path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|source| Error::lookup(&path, source))?;
    unpack(packed, target, entry).map_err(|source| Error::Archive { blake3: hex(), source: Box::new(source) })
}

fn unpack(packed: File, target: OwnedFd, entry: &Entry) -> std::result::Result<(), strata_archive::Error> {
    let Owner { mode, uid, gid } = entry.owner;
    let owner = if uid.is_some() || gid.is_some() { Some((uid.unwrap_or(0), gid.unwrap_or(0))) } else { None };
    let options = ApplyOptions { whiteouts: Whiteouts::Literal, owner, mode, ..ApplyOptions::default() };
    let (_, tar) = strata_archive::decompress(std::io::BufReader::new(packed))?;
    strata_archive::apply(tar, target.as_fd(), &options)?;
    Ok(())
}
