//! Comparing a tree with its table of contents: every name, all metadata, every byte.
//! Finds what is missing, what differs and what should not be there; changes nothing.

use crate::diff::{archived_xattrs, inode, read_xattrs, unopenable_xattrs};
use crate::error::{Error, Name};
use crate::owner;
use crate::place;
use crate::toc::Toc;
use crate::tree::{Inode, Kind, Xattrs, join};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where, relative to the root.
    pub path: Name,
    /// What is wrong, for people.
    pub reason: String,
}

/// Compares the tree at `layer_root` with `toc`; an empty list is a clean bill.
pub fn verify(toc: &Toc, layer_root: BorrowedFd<'_>) -> Result<Vec<Damage>, Error> {
    let mut verifier = Verifier { toc, root: layer_root, damage: Vec::new(), numbers: HashMap::new() };
    for (path, index) in &toc.tree.names {
        // An implied root carries a mark for other layers, and nothing of its own.
        if !path.is_empty() || !toc.tree.inodes[*index].is_implied {
            verifier.name(path, *index)?;
        }
    }
    for content in toc.contents.iter().filter(|content| content.inline.is_none()) {
        match content.read(layer_root, |_| Ok(())) {
            Err(Error::Damaged { path, reason }) => verifier.report(&path.0, reason),
            Err(Error::Disk { source, .. }) if is_absence(&source) => {}
            Err(Error::Disk { path, source, .. }) => verifier.report(&path.0, format!("it cannot be read: {source}")),
            result => result?,
        }
    }
    verifier.extras()?;
    Ok(verifier.damage)
}

struct Verifier<'a> {
    toc: &'a Toc,
    root: BorrowedFd<'a>,
    damage: Vec<Damage>,
    /// Inode numbers seen behind each inode of the table.
    numbers: HashMap<usize, u64>,
}

impl Verifier<'_> {
    fn report(&mut self, path: &[u8], reason: impl Into<String>) {
        let damage = Damage { path: Name(path.to_vec()), reason: reason.into() };
        if !self.damage.contains(&damage) {
            self.damage.push(damage);
        }
    }

    fn name(&mut self, path: &[u8], index: usize) -> Result<(), Error> {
        let at = path.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = match at {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None if path.is_empty() => (path, &b"."[..]),
            None => (&path[..0], path),
        };
        let directory = match place::open(self.root, parent, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            Err(error) if is_absence(&error.into()) => {
                self.report(path, "it is missing");
                return Ok(());
            }
            Err(error) => return Err(Error::disk("open", parent, error)),
        };
        let wanted = &self.toc.tree.inodes[index];
        let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // A user namespace makes no devices.
            Err(Errno::NOENT) if wanted.kind.is_device() && owner::is_restricted() => return Ok(()),
            Err(Errno::NOENT) => {
                self.report(path, "it is missing");
                return Ok(());
            }
            Err(error) => return Err(Error::disk("read", path, error)),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
            self.report(path, "its type differs");
            return Ok(());
        }
        let mut found = inode(&stat, path)?;
        let first = *self.numbers.entry(index).or_insert(stat.st_ino);
        if first != stat.st_ino {
            self.report(path, "it is no longer a hard link to the same file");
        }
        if found.kind != wanted.kind {
            self.report(path, "its type differs");
            return Ok(());
        }
        let mut xattrs = self.details(&directory, name, path, wanted)?;
        (found.uid, found.gid) = owner::take(&mut xattrs, (found.uid, found.gid));
        if !wanted.kind.is_file() && owner::is_restricted() {
            // It may have an owner that cannot be kept.
            (found.uid, found.gid) = (wanted.uid, wanted.gid);
        }
        self.metadata(path, wanted, &found);
        self.xattrs(path, wanted, xattrs);
        Ok(())
    }

    fn metadata(&mut self, path: &[u8], wanted: &Inode, found: &Inode) {
        if wanted.kind == Kind::Whiteout {
            return;
        }
        if (found.uid, found.gid) != (wanted.uid, wanted.gid) {
            let (want, have) = ((wanted.uid, wanted.gid), (found.uid, found.gid));
            self.report(path, format!("its owner is {}:{}, not {}:{}", have.0, have.1, want.0, want.1));
        }
        if found.mode != wanted.mode {
            self.report(path, format!("its mode is {:04o}, not {:04o}", found.mode, wanted.mode));
        }
        let is_exact = !self.toc.is_truncated_to_seconds;
        let (want, have) = (wanted.mtime, found.mtime);
        if have.seconds != want.seconds || (is_exact && have.nanoseconds != want.nanoseconds) {
            self.report(path, format!("its modification time is {}, not {}", have.seconds, want.seconds));
        }
        if found.device != wanted.device {
            self.report(path, "its device number differs");
        }
        if found.size != wanted.size {
            self.report(path, "its size differs");
        }
    }

    fn details(&mut self, directory: &OwnedFd, name: &[u8], path: &[u8], wanted: &Inode) -> Result<Xattrs, Error> {
        if wanted.kind == Kind::Symlink {
            let target = place::read_link(directory, name).map_err(|error| Error::disk("read", path, error))?;
            if target != wanted.link {
                self.report(path, format!("its target is {}, not {}", Name(target), Name(wanted.link.clone())));
            }
        }
        match wanted.kind {
            Kind::Whiteout => Ok(Xattrs::new()),
            Kind::Regular | Kind::Directory => {
                let file = place::open(self.root, path, OFlags::RDONLY | OFlags::NONBLOCK)
                    .map_err(|error| Error::disk("open", path, error))?;
                read_xattrs(&file, path)
            }
            _ => unopenable_xattrs(directory, name, path),
        }
    }

    fn xattrs(&mut self, path: &[u8], wanted: &Inode, found: Xattrs) {
        if wanted.kind == Kind::Whiteout {
            return;
        }
        let (found, is_opaque) = match archived_xattrs(found, path) {
            Ok(found) => found,
            Err(error) => return self.report(path, error.to_string()),
        };
        if is_opaque != wanted.is_opaque {
            self.report(path, "its opaque mark differs");
        }
        for name in wanted.xattrs.keys().chain(found.keys().filter(|name| !wanted.xattrs.contains_key(*name))) {
            if wanted.xattrs.get(name) != found.get(name) {
                self.report(path, format!("its extended attribute {} differs", Name(name.clone())));
            }
        }
    }

    /// Looks for names that the table does not have.
    fn extras(&mut self) -> Result<(), Error> {
        let mut pending = vec![Vec::new()];
        while let Some(path) = pending.pop() {
            let directory = match place::open(self.root, &path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(directory) => directory,
                // It was reported when it was compared.
                Err(error) if is_absence(&error.into()) => continue,
                Err(error) => return Err(Error::disk("open", &path, error)),
            };
            for name in place::list(&directory).map_err(|error| Error::disk("list", &path, error))? {
                let child = join(&path, &name);
                match self.toc.tree.get(&child).map(|inode| inode.kind) {
                    Some(Kind::Directory) => pending.push(child),
                    Some(_) => {}
                    None if is_socket(&directory, &name) => {}
                    None => self.report(&child, "it should not be there"),
                }
            }
        }
        Ok(())
    }
}

/// Sockets are left out of archives, so they are no damage.
fn is_socket(directory: &OwnedFd, name: &[u8]) -> bool {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
}

fn is_absence(error: &std::io::Error) -> bool {
    let absent = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    absent.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
