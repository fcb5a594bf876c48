//! Files of a container, looked at and copied by descriptor below its root: openat2(2) keeps every look-up inside it, and no
//! name that the container changes meanwhile leads out. All of it is blocking.

use std::{
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use strata_archive::{ApplyOptions, Replaces, Whiteouts};

use crate::error::Error;

/// How often a look-up is repeated that lost a race with a rename: openat2(2), EAGAIN.
const ATTEMPTS: usize = 64;

/// The kernel takes no path of this many bytes.
const LONGEST: usize = 4096;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Type and permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, u32),
    /// Where a link leads.
    pub link: Option<String>,
}

/// The root of a container, with all that is mounted there.
#[derive(Debug)]
pub struct Root {
    /// Name of the container, for people.
    name: String,
    fd: OwnedFd,
}

impl Root {
    /// The root that a process has.
    pub fn of(pid: u32, name: &str) -> Result<Self, Error> {
        let path = format!("/proc/{pid}/root");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| Error::io("open", path, e))?;
        Ok(Self { name: name.to_owned(), fd })
    }

    /// Looks at what is at a path, not following a link at its end.
    pub fn stat(&self, path: &str) -> Result<Stat, Error> {
        let file = self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let failed = |errno| self.failed(path, errno);
        let found = rustix::fs::fstat(&file).map_err(failed)?;
        let link = match FileType::from_raw_mode(found.st_mode) {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&file, "", Vec::new()).map_err(failed)?;
                Some(target.to_string_lossy().into_owned())
            }
            _ => None,
        };
        // The types of these fields differ between architectures.
        #[allow(clippy::unnecessary_cast)]
        let modified = (found.st_mtime as i64, found.st_mtime_nsec as u32);
        Ok(Stat { mode: found.st_mode, size: found.st_size as u64, modified, link })
    }

    /// Writes what is at a path as a tar. A name is given to it there; empty is its own, or none where the path ends in "/.".
    pub fn read(&self, path: &str, name: &str, out: impl Write) -> Result<(), Error> {
        let (parent, own) = split(path);
        let directory = self.open(parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        // What is looked up by its path once more: a link is itself what is read, unless a slash follows it.
        let (directory, entry) = match own {
            "." => (directory, "."),
            own if path.ends_with('/') => (self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?, own),
            own => {
                let stat = rustix::fs::statat(&directory, own, AtFlags::SYMLINK_NOFOLLOW);
                stat.map_err(|errno| self.failed(path, errno))?;
                (directory, own)
            }
        };
        let followed = path.ends_with('/') && entry != ".";
        let (entry, renamed) = match (followed, name) {
            (true, "") => (".", own),
            (true, name) => (".", name),
            (false, "") if entry == "." => (".", ""),
            (false, "") => (entry, entry),
            (false, name) => (entry, name),
        };
        if strata_archive::is_of_the_kernel(&directory).map_err(|errno| self.failed(path, errno))? {
            return Err(Error::KernelFile { path: path.to_owned() });
        }
        let exported = strata_archive::export_one(directory.as_fd(), entry.as_bytes(), renamed.as_bytes(), out);
        exported.map(drop).map_err(|source| self.of_archive(path, source))
    }

    /// Puts the entries of an archive, which may be compressed, below a directory.
    pub fn write(&self, path: &str, owner: Option<(u32, u32)>, archive: impl Read) -> Result<(), Error> {
        let directory = self.open(path, OFlags::PATH | OFlags::DIRECTORY)?;
        if strata_archive::is_of_the_kernel(&directory).map_err(|errno| self.failed(path, errno))? {
            return Err(Error::KernelFile { path: path.to_owned() });
        }
        let options = ApplyOptions {
            whiteouts: Whiteouts::Literal,
            owner,
            below: path.as_bytes().to_vec(),
            replaces: Replaces::SameKind,
            ..ApplyOptions::default()
        };
        let (_, plain) = strata_archive::decompress(archive).map_err(|source| Error::Archive { source })?;
        let root = self.open("", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let applied = strata_archive::apply(plain, root.as_fd(), &options);
        applied.map(drop).map_err(|source| self.of_archive(path, source))
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Error> {
        if path.len() >= LONGEST || path.contains('\0') {
            return Err(Error::argument("path", "it is too long, or holds a NUL"));
        }
        let path = if path.is_empty() { "/" } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // openat2(2) takes nothing that means something to a file where only a path is opened.
        let quiet = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK };
        let flags = flags | quiet | OFlags::CLOEXEC;
        let mut left = ATTEMPTS;
        loop {
            match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if left > 0 => left -= 1,
                opened => return opened.map_err(|errno| self.failed(path, errno)),
            }
        }
    }

    fn failed(&self, path: &str, errno: Errno) -> Error {
        let (path, container) = (path.to_owned(), self.name.clone());
        match errno {
            Errno::NOENT => Error::FileNotFound { path, container },
            Errno::NOTDIR => Error::NoDirectory { path, container },
            errno => Error::File { path, container, source: errno.into() },
        }
    }

    /// What went wrong with an archive on its way: what its source says of itself, where that is known.
    fn of_archive(&self, path: &str, error: strata_archive::Error) -> Error {
        use strata_archive::Error as Archive;
        let is = |source: &std::io::Error, errno: Errno| source.raw_os_error() == Some(errno.raw_os_error());
        match error {
            Archive::Overwrite { .. } => Error::Overwrite { container: self.name.clone(), source: error },
            Archive::Disk { source, .. } if is(&source, Errno::ROFS) => {
                Error::ReadOnly { path: path.to_owned(), container: self.name.clone() }
            }
            Archive::Disk { action: "open", source, .. } if is(&source, Errno::NOENT) => {
                Error::FileNotFound { path: path.to_owned(), container: self.name.clone() }
            }
            source => Error::Archive { source },
        }
    }
}

/// A path's directory and its last name; the name "." where that is how it ends, or it has no name.
fn split(path: &str) -> (&str, &str) {
    if path.is_empty() || path == "." || path.ends_with("/.") {
        return (path, ".");
    }
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        _ if trimmed.is_empty() => ("/", "."),
        Some((parent, name)) => (if parent.is_empty() { "/" } else { parent }, name),
        None => ("/", trimmed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_directory_and_a_name() {
        for (path, expected) in [
            ("/etc/passwd", ("/etc", "passwd")),
            ("/etc", ("/", "etc")),
            ("etc", ("/", "etc")),
            ("/etc/", ("/", "etc")),
            ("/a/b//", ("/a", "b")),
            ("/etc/.", ("/etc/.", ".")),
            ("/", ("/", ".")),
            ("", ("", ".")),
            ("/.", ("/.", ".")),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }
}
