//! Open files that a process hands to a service of the same host, so that their bytes need no stream. A caller tells the
//! number of its descriptor; the kernel tells who the caller is. Both must agree on which file that is: a socket can be
//! forwarded from another host, where the same number is another file.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::identity::Peer;

/// An open regular file, as its process describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// Number of the descriptor in the calling process.
    pub number: u32,
    /// Which boot of which host: /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
    /// Device that the file is on.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
}

/// What is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read from its start.
    Read,
    /// It is written from its start.
    Write,
}

/// A file that cannot be used by another process than its own.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller is on another host, or the kernel does not say which process it is.
    #[error("the caller is no process of this host that the kernel names")]
    NotLocal,
    /// The process or its descriptor cannot be reached.
    #[error("cannot open {}", path.display())]
    Open {
        /// The descriptor below /proc.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is another file than the one that is meant, or none that has bytes at places.
    #[error("{} is not the regular file that the caller means", path.display())]
    AnotherFile {
        /// The descriptor below /proc.
        path: PathBuf,
    },
    /// The caller may not do itself what it asks for.
    #[error("the caller has not opened {} for that", path.display())]
    NotAllowed {
        /// The descriptor below /proc.
        path: PathBuf,
    },
}

impl Handed {
    /// Describes a file of this process, which must stay open until the service has answered.
    pub fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        // A descriptor is never negative.
        let number = file.as_fd().as_raw_fd().unsigned_abs();
        Ok(Self { number, boot_id: boot_id()?, device: found.dev(), inode: found.ino() })
    }

    /// Opens the file of a caller, for no more than the caller may do with it. Blocks, but not for long.
    pub fn open(&self, caller: Option<&Peer>, access: Access) -> Result<File, Error> {
        let Some(Peer::Local { pid: Some(pid @ 1..), .. }) = caller else { return Err(Error::NotLocal) };
        let path = PathBuf::from(format!("/proc/{pid}/fd/{}", self.number));
        let failed = |source: io::Error| Error::Open { path: path.clone(), source };
        if boot_id().map_err(failed)? != self.boot_id {
            return Err(Error::NotLocal);
        }
        // Looked at first: opening a device can do something.
        self.check(&path, &fs::metadata(&path).map_err(failed)?)?;
        let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", self.number)).map_err(failed)?;
        if !allows(&text, access) {
            return Err(Error::NotAllowed { path });
        }
        let mode = if access == Access::Read { OFlags::RDONLY } else { OFlags::WRONLY };
        let opened = rustix::fs::open(&path, mode | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
        let file = File::from(opened.map_err(|errno| failed(errno.into()))?);
        self.check(&path, &file.metadata().map_err(failed)?)?;
        Ok(file)
    }

    fn check(&self, path: &Path, found: &Metadata) -> Result<(), Error> {
        let is_meant = found.is_file() && (found.dev(), found.ino()) == (self.device, self.inode);
        if is_meant { Ok(()) } else { Err(Error::AnotherFile { path: path.to_path_buf() }) }
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

/// Do the flags of a descriptor, as proc(5) writes them in octal, allow this?
fn allows(info: &str, access: Access) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
    let own = match access {
        Access::Read => OFlags::RDONLY,
        Access::Write => OFlags::WRONLY,
    };
    flags.is_some_and(|flags| {
        let mode = OFlags::from_bits_retain(flags);
        // O_PATH opens nothing.
        let is_open = !mode.contains(OFlags::PATH);
        is_open && (mode.intersection(OFlags::RWMODE) == own || mode.contains(OFlags::RDWR))
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn own() -> Option<Peer> {
        Some(Peer::Local { uid: 0, pid: i32::try_from(std::process::id()).ok() })
    }

    fn both() -> (tempfile::TempDir, File) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        (directory, file)
    }

    #[test]
    fn a_file_is_read_from_its_start_and_written() {
        let (directory, mut file) = both();
        file.write_all(b"hello").unwrap();
        fs::remove_file(directory.path().join("f")).unwrap();
        let handed = Handed::of(&file).unwrap();

        let mut text = String::new();
        handed.open(own().as_ref(), Access::Read).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        handed.open(own().as_ref(), Access::Write).unwrap().write_all(b"J").unwrap();
        let mut text = String::new();
        handed.open(own().as_ref(), Access::Read).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "Jello");
    }

    #[test]
    fn nobody_gets_more_than_they_have() {
        let (directory, _file) = both();
        let path = directory.path().join("f");
        let (reader, writer) = (File::open(&path).unwrap(), File::options().write(true).open(&path).unwrap());

        let denied = Handed::of(&reader).unwrap().open(own().as_ref(), Access::Write);
        assert!(matches!(denied, Err(Error::NotAllowed { .. })), "{denied:?}");
        let denied = Handed::of(&writer).unwrap().open(own().as_ref(), Access::Read);
        assert!(matches!(denied, Err(Error::NotAllowed { .. })), "{denied:?}");
        assert!(!allows("pos:\t0\nflags:\t012000000\n", Access::Read), "O_PATH");
        assert!(!allows("", Access::Read));
    }

    #[test]
    fn another_file_host_or_process_is_refused() {
        let (_directory, file) = both();
        let handed = Handed::of(&file).unwrap();

        let other = Handed { inode: handed.inode + 1, ..handed.clone() };
        assert!(matches!(other.open(own().as_ref(), Access::Read), Err(Error::AnotherFile { .. })));
        let other = Handed { boot_id: "another".into(), ..handed.clone() };
        assert!(matches!(other.open(own().as_ref(), Access::Read), Err(Error::NotLocal)));
        let remote = Peer::Remote { names: Vec::new() };
        for caller in [None, Some(&remote), Some(&Peer::Local { uid: 0, pid: None })] {
            assert!(matches!(handed.open(caller, Access::Read), Err(Error::NotLocal)), "{caller:?}");
        }
        let closed = Handed { number: 999_999, ..handed };
        assert!(matches!(closed.open(own().as_ref(), Access::Read), Err(Error::Open { .. })));
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let device = File::open("/dev/zero").unwrap();
        let refused = Handed::of(&device).unwrap().open(own().as_ref(), Access::Read);
        assert!(matches!(refused, Err(Error::AnotherFile { .. })), "{refused:?}");
    }
}
