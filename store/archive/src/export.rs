//! A merged tree as an archive: all that a container sees, which may be changing while it is read.
//!
//! Unlike [`pack`](fn@crate::pack) this keeps no record of what passed, and knows no marks: a name is what it says. What
//! goes away in the middle is left out, as tar does; a name is never followed, so one that was swapped for a link leads
//! nowhere.

use crate::apply::is_overlay;
use crate::diff::{self, Node};
use crate::error::{Error, Name};
use crate::header::BLOCK;
use crate::kernel;
use crate::place;
use crate::tree::{Inode, Kind, Xattrs, join};
use crate::write::headers_of;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};

/// The label of SELinux: the host's, not the tree's.
const LABEL: &[u8] = b"security.selinux";

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Entries of the archive.
    pub entries: u64,
    /// Names that were gone, or no longer what they were, when it was their turn. They are left out.
    pub gone: u64,
    /// Files that became shorter while they were read. Zeros stand for what was missing.
    pub shortened: u64,
}

/// Writes the archive of a merged tree, its root first: names in byte order, times in whole seconds. Sockets have no
/// place in it.
pub fn export(root: BorrowedFd<'_>, out: impl Write) -> Result<Exported, Error> {
    let mut exporter = Exporter::new(root, b"", What::All, out);
    exporter.tree()?;
    exporter.end()
}

/// Writes the archive of one name in a directory, and of what is below it, under another name. With the name `.` it is what
/// is in the directory; without another name that has no entry for the directory itself.
///
/// Devices have no place in it, and the kernel's own file systems, `/proc` and its like, are empty directories.
pub fn export_one(parent: BorrowedFd<'_>, name: &[u8], renamed: &[u8], out: impl Write) -> Result<Exported, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => {
            let mut exporter = Exporter::new(directory.as_fd(), renamed, What::Copied, out);
            exporter.tree()?;
            exporter.end()
        }
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let mut exporter = Exporter::new(parent, renamed, What::Copied, out);
            let own = rustix::io::fcntl_dupfd_cloexec(parent, 0).map_err(|error| Error::disk("open", name, error))?;
            if let Some(node) = diff::node(&own, name, Vec::new())? {
                exporter.entry(node)?;
            }
            exporter.end()
        }
        Err(error) => Err(Error::disk("open", name, error)),
    }
}

/// What is exported of what is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// All of it.
    All,
    /// What is a copy elsewhere: no devices, nothing of the kernel's.
    Copied,
}

struct Exporter<'a, W> {
    root: BorrowedFd<'a>,
    /// The name that the root has in the archive.
    renamed: &'a [u8],
    what: What,
    out: W,
    /// First name of each inode with several names.
    seen: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    exported: Exported,
}

impl<'a, W: Write> Exporter<'a, W> {
    fn new(root: BorrowedFd<'a>, renamed: &'a [u8], what: What, out: W) -> Self {
        let (seen, buffer, exported) = (HashMap::new(), vec![0; 256 * 1024], Exported::default());
        Self { root, renamed, what, out, seen, buffer, exported }
    }

    fn end(mut self) -> Result<Exported, Error> {
        self.write(&[0; 2 * BLOCK])?;
        self.out.flush().map_err(|source| Error::Write { source })?;
        Ok(self.exported)
    }

    /// Walks depth first. Of each directory on the way only the names that are still to come are kept: a tree may be
    /// deeper than a process has descriptors.
    fn tree(&mut self) -> Result<(), Error> {
        let top = self.open(b"")?;
        if self.what == What::All || !self.renamed.is_empty() {
            self.entry(diff::root(&top)?)?;
        }
        let mut pending = vec![(Vec::new(), self.names(&top, b"")?)];
        let mut current = (Vec::new(), top);
        while let Some((directory, names)) = pending.last_mut() {
            let Some(name) = names.pop() else {
                pending.pop();
                continue;
            };
            if *directory != current.0 {
                match self.open(directory) {
                    Ok(opened) => current = (directory.clone(), opened),
                    Err(error) if is_gone(&error) => {
                        self.exported.gone += 1 + names.len() as u64;
                        names.clear();
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            match self.node(&current.1, join(&current.0, &name), &name) {
                Ok(None) => {}
                Ok(Some((path, opened))) => {
                    pending.push((path.clone(), self.names(&opened, &path)?));
                    current = (path, opened);
                }
                Err(error) if is_gone(&error) => self.exported.gone += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what is at a name; a directory is returned, to be entered.
    fn node(&mut self, parent: &OwnedFd, path: Vec<u8>, name: &[u8]) -> Result<Option<(Vec<u8>, OwnedFd)>, Error> {
        if path.len() >= place::PATH_MAX {
            return Err(Error::Unarchivable { path: Name(path), reason: "its path is too long".into() });
        }
        let Some(mut node) = diff::node(parent, name, path)? else { return Ok(None) };
        let directory = match node.inode.kind {
            Kind::Directory => node.file.take().map(|file| (node.path.clone(), OwnedFd::from(file))),
            _ => None,
        };
        self.entry(node)?;
        Ok(directory)
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, Error> {
        let opened = place::open(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY);
        opened.map_err(|error| Error::disk("open", path, error))
    }

    fn names(&self, directory: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        if self.what == What::Copied
            && kernel::is_of_the_kernel(directory).map_err(|e| Error::disk("look at", path, e))?
        {
            return Ok(Vec::new());
        }
        let mut names = place::list(directory).map_err(|error| Error::disk("list", path, error))?;
        names.reverse();
        Ok(names)
    }

    fn entry(&mut self, node: Node) -> Result<(), Error> {
        let Node { stat, path, mut inode, file } = node;
        if inode.kind == Kind::Whiteout {
            // A merged tree has none: overlay lists a mark with nothing below it, and does not find it.
            return Ok(());
        }
        if self.what == What::Copied && inode.kind.is_device() {
            return Ok(());
        }
        let path = named(self.renamed, path);
        inode.xattrs = exported_xattrs(inode.xattrs);
        inode.mtime.nanoseconds = 0;
        if stat.st_nlink > 1 && inode.kind != Kind::Directory {
            let id = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.seen.get(&id).cloned() {
                return self.header(&path, &inode, Some(&first));
            }
            self.seen.insert(id, path.clone());
        }
        self.header(&path, &inode, None)?;
        match file {
            Some(file) if inode.kind == Kind::Regular => self.content(file, &path, inode.size),
            _ => Ok(()),
        }
    }

    fn header(&mut self, path: &[u8], inode: &Inode, linked: Option<&[u8]>) -> Result<(), Error> {
        let blocks = headers_of(path, inode, linked)?;
        self.exported.entries += 1;
        self.write(&blocks)
    }

    /// Writes exactly `size` bytes, which the header has promised, and fills the last block.
    fn content(&mut self, mut file: File, path: &[u8], size: u64) -> Result<(), Error> {
        let mut left = size;
        let mut is_short = false;
        while left > 0 {
            let wanted = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let mut count = 0;
            if !is_short {
                count = file.read(&mut self.buffer[..wanted]).map_err(|error| Error::disk("read", path, error))?;
            }
            if count == 0 {
                is_short = true;
                self.buffer[..wanted].fill(0);
                count = wanted;
            }
            self.out.write_all(&self.buffer[..count]).map_err(|source| Error::Write { source })?;
            left -= count as u64;
        }
        self.exported.shortened += u64::from(is_short);
        let rest = (size % BLOCK as u64) as usize;
        if rest == 0 { Ok(()) } else { self.write(&[0; BLOCK][rest..]) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(|source| Error::Write { source })
    }
}

/// The path in the archive of what has this one in the tree.
fn named(renamed: &[u8], path: Vec<u8>) -> Vec<u8> {
    match (renamed, path.as_slice()) {
        (b"", _) => path,
        (renamed, b"") => renamed.to_vec(),
        (renamed, path) => join(renamed, path),
    }
}

/// Leaves out what belongs to the host: overlay's bookkeeping and SELinux's label.
fn exported_xattrs(mut xattrs: Xattrs) -> Xattrs {
    xattrs.retain(|name, _| !is_overlay(name) && name != LABEL);
    xattrs
}

/// Says whether a name is no longer what was listed: removed, or swapped for something else.
fn is_gone(error: &Error) -> bool {
    match error {
        Error::Damaged { .. } => true,
        Error::Disk { source, .. } => {
            let gone = [Errno::NOENT, Errno::LOOP, Errno::NOTDIR, Errno::NXIO, Errno::STALE];
            gone.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    fn exported(root: &Path) -> (Vec<u8>, Exported) {
        let (root, mut bytes) = (File::open(root).unwrap(), Vec::new());
        let exported = export(root.as_fd(), &mut bytes).unwrap();
        (bytes, exported)
    }

    #[test]
    fn what_is_exported_and_applied_is_the_same_tree() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = from.path();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/file"), vec![7; 300_000]).unwrap();
        std::fs::hard_link(root.join("a/b/file"), root.join("a/twin")).unwrap();
        std::fs::write(root.join("a/empty"), "").unwrap();
        symlink("../etc/passwd", root.join("a/link")).unwrap();
        std::fs::set_permissions(root.join("a"), std::fs::Permissions::from_mode(0o1750)).unwrap();
        std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o711)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();

        let (bytes, exported) = exported(root);
        let target = File::open(to.path()).unwrap();
        crate::apply(bytes.as_slice(), target.as_fd(), &crate::ApplyOptions::default()).unwrap();

        assert_eq!(exported, Exported { entries: 7, gone: 0, shortened: 0 });
        assert_eq!(std::fs::read(to.path().join("a/b/file")).unwrap(), vec![7; 300_000]);
        assert_eq!(std::fs::metadata(to.path().join("a/twin")).unwrap().nlink(), 2);
        assert_eq!(std::fs::metadata(to.path().join("a/empty")).unwrap().len(), 0);
        assert_eq!(std::fs::read_link(to.path().join("a/link")).unwrap(), Path::new("../etc/passwd"));
        assert_eq!(std::fs::metadata(to.path().join("a")).unwrap().mode() & 0o7777, 0o1750);
        assert_eq!(std::fs::metadata(to.path()).unwrap().mode() & 0o7777, 0o711);
        assert!(!to.path().join("socket").exists());
    }

    fn exported_one(parent: &Path, name: &str, renamed: &str) -> Vec<String> {
        let (parent, mut bytes) = (File::open(parent).unwrap(), Vec::new());
        export_one(parent.as_fd(), name.as_bytes(), renamed.as_bytes(), &mut bytes).unwrap();
        let to = tempfile::tempdir().unwrap();
        let target = File::open(to.path()).unwrap();
        let applied = crate::apply(bytes.as_slice(), target.as_fd(), &crate::ApplyOptions::default()).unwrap();
        let names = applied.toc.entries().map(|listed| String::from_utf8(listed.path.to_vec()).unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn one_name_is_exported_under_another() {
        let from = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(from.path().join("tree/sub")).unwrap();
        std::fs::write(from.path().join("tree/sub/file"), "x").unwrap();
        std::fs::hard_link(from.path().join("tree/sub/file"), from.path().join("tree/twin")).unwrap();
        symlink("nowhere", from.path().join("link")).unwrap();

        for (name, renamed, expected) in [
            ("tree", "tree", &["tree", "tree/sub", "tree/sub/file", "tree/twin"][..]),
            ("tree", "new", &["new", "new/sub", "new/sub/file", "new/twin"]),
            ("link", "other", &["other"]),
        ] {
            assert_eq!(exported_one(from.path(), name, renamed), expected, "{name} {renamed}");
        }
        let tree = from.path().join("tree");
        assert_eq!(exported_one(&tree, ".", "made"), ["made", "made/sub", "made/sub/file", "made/twin"]);
        assert_eq!(exported_one(&tree, ".", ""), ["sub", "sub/file", "twin"], "the directory itself has no entry");
    }

    #[test]
    fn what_is_the_kernels_is_not_copied() {
        let bytes = exported_one(Path::new("/"), "proc", "proc");
        assert_eq!(bytes, ["proc"]);
    }

    #[test]
    fn equal_trees_give_equal_bytes() {
        let from = tempfile::tempdir().unwrap();
        for name in ["b", "a", "a.b", "c"] {
            std::fs::create_dir(from.path().join(name)).unwrap();
            std::fs::write(from.path().join(name).join("file"), name).unwrap();
        }

        assert_eq!(exported(from.path()).0, exported(from.path()).0);
    }

    #[test]
    fn overlays_own_marks_stay_here_and_are_no_reason_to_fail() {
        let from = tempfile::tempdir_in("/var/tmp").unwrap();
        let file = from.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for name in ["user.overlay.redirect", "user.kept"] {
            rustix::fs::setxattr(&file, name, b"y", rustix::fs::XattrFlags::empty()).unwrap();
        }

        let (bytes, _) = exported(from.path());

        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("user.kept") && !text.contains("overlay"));
    }

    /// Shrinks its file once the header of it has passed.
    struct Shrinks<'a>(&'a Path, Vec<u8>);

    impl Write for Shrinks<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if bytes.starts_with(b"file\0") {
                File::options().write(true).open(self.0.join("file")).unwrap().set_len(10).unwrap();
                std::fs::remove_dir_all(self.0.join("later")).unwrap();
            }
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_tree_that_changes_still_gives_a_whole_archive() {
        let from = tempfile::tempdir().unwrap();
        std::fs::write(from.path().join("file"), vec![1; 1000]).unwrap();
        std::fs::create_dir(from.path().join("later")).unwrap();
        std::fs::write(from.path().join("last"), "here").unwrap();
        let root = File::open(from.path()).unwrap();
        let mut out = Shrinks(from.path(), Vec::new());

        let exported = export(root.as_fd(), &mut out).unwrap();

        assert_eq!(exported, Exported { entries: 3, gone: 1, shortened: 1 });
        let to = tempfile::tempdir().unwrap();
        let target = File::open(to.path()).unwrap();
        crate::apply(out.1.as_slice(), target.as_fd(), &crate::ApplyOptions::default()).unwrap();
        let bytes = std::fs::read(to.path().join("file")).unwrap();
        assert_eq!((bytes.len(), &bytes[..11]), (1000, &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0][..]));
        assert_eq!(std::fs::read_to_string(to.path().join("last")).unwrap(), "here");
    }
}
