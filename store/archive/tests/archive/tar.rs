//! A small tar writer for tests that can also lie, and a scratch root with a sentinel beside it.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use strata_archive::{Applied, ApplyOptions, Error, Limits, Whiteouts};

/// An archive under construction.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

/// One header's fields; `Default` is an empty file of root's.
#[derive(Clone)]
pub struct Header {
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub flag: u8,
    pub mode: u32,
    pub owner: (u32, u32),
    pub size: u64,
    pub mtime: i64,
    pub device: (u32, u32),
}

impl Default for Header {
    fn default() -> Self {
        let (name, link) = (Vec::new(), Vec::new());
        Self { name, link, flag: b'0', mode: 0o644, owner: (0, 0), size: 0, mtime: 1_700_000_000, device: (0, 0) }
    }
}

impl Header {
    pub fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, format!("{:07o}", self.owner.0).as_bytes());
        put(116, format!("{:07o}", self.owner.1).as_bytes());
        put(124, format!("{:011o}", self.size).as_bytes());
        put(136, format!("{:011o}", self.mtime).as_bytes());
        put(156, &[self.flag]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}", self.device.0).as_bytes());
        put(337, format!("{:07o}", self.device.1).as_bytes());
        seal(&mut block);
        block
    }
}

/// Writes the checksum of a header.
pub fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn header(self, header: &Header) -> Self {
        self.raw(&header.block())
    }

    /// Bytes and their padding.
    pub fn body(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        let header = Header { name: name.as_ref().to_vec(), size: content.len() as u64, ..Header::default() };
        self.header(&header).body(content)
    }

    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.header(&Header { name: name.into(), flag: b'5', mode, ..Header::default() })
    }

    pub fn symlink(self, target: &str, name: &str) -> Self {
        self.header(&Header { name: name.into(), link: target.into(), flag: b'2', mode: 0o777, ..Header::default() })
    }

    pub fn link(self, target: &str, name: &str) -> Self {
        self.header(&Header { name: name.into(), link: target.into(), flag: b'1', ..Header::default() })
    }

    /// PAX records for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.extension(b'x', &pax_body(records))
    }

    pub fn extension(self, flag: u8, body: &[u8]) -> Self {
        let header = Header { name: b"extension".to_vec(), flag, size: body.len() as u64, ..Header::default() };
        self.header(&header).body(body)
    }

    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

pub fn pax_body(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let bare = key.len() + value.len() + 3;
        let length = (bare + 1..).find(|length| bare + length.to_string().len() == *length).expect("one fits");
        body.extend_from_slice(format!("{length} {key}=").as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    body
}

/// A root to apply to, inside a directory that nothing may touch.
pub struct Scratch {
    outside: tempfile::TempDir,
    before: Vec<String>,
}

impl Scratch {
    pub fn new() -> Self {
        let outside = tempfile::Builder::new().prefix("strata-archive-").tempdir_in("/var/tmp").expect("scratch");
        let path = outside.path();
        std::fs::create_dir(path.join("root")).expect("root");
        std::fs::create_dir(path.join("etc")).expect("etc");
        for (name, mode) in [("sentinel", 0o640), ("perm400", 0o400), ("etc/passwd", 0o644)] {
            std::fs::write(path.join(name), "outside").expect("sentinel");
            std::fs::set_permissions(path.join(name), std::fs::Permissions::from_mode(mode)).expect("mode");
        }
        let mut scratch = Self { outside, before: Vec::new() };
        scratch.before = scratch.sentinels();
        scratch
    }

    pub fn outside(&self) -> &Path {
        self.outside.path()
    }

    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.outside.path().join("root").join(inside)
    }

    pub fn root(&self) -> OwnedFd {
        open(&self.path(""))
    }

    pub fn apply(&self, tar: &[u8]) -> Result<Applied, Error> {
        self.apply_as(tar, Whiteouts::Oci)
    }

    pub fn apply_as(&self, tar: &[u8], whiteouts: Whiteouts) -> Result<Applied, Error> {
        let result =
            strata_archive::apply(tar, self.root().as_fd(), &ApplyOptions { whiteouts, ..ApplyOptions::default() });
        self.assert_contained();
        result
    }

    pub fn apply_within(&self, tar: impl std::io::Read, limits: Limits) -> Result<Applied, Error> {
        strata_archive::apply(tar, self.root().as_fd(), &ApplyOptions { limits, ..ApplyOptions::default() })
    }

    /// Everything outside the root is as it was: names, modes, owners, link counts, contents.
    pub fn assert_contained(&self) {
        assert_eq!(self.before, self.sentinels(), "something outside the root changed");
    }

    fn sentinels(&self) -> Vec<String> {
        let mut found = Vec::new();
        for directory in [self.outside().to_path_buf(), self.outside().join("etc")] {
            for entry in std::fs::read_dir(directory).expect("list") {
                let path = entry.expect("entry").path();
                let stat = path.symlink_metadata().expect("stat");
                let content =
                    if stat.is_file() { std::fs::read_to_string(&path).expect("read") } else { String::new() };
                // The root itself may be given another owner; that it is still there says its own name.
                let about = match path.ends_with("root") {
                    true => format!("{}", stat.is_dir()),
                    false => format!("{:o} {} {} {} {content}", stat.mode(), stat.uid(), stat.gid(), stat.nlink()),
                };
                found.push(format!("{} {about}", path.display()));
            }
        }
        found.sort();
        found
    }
}

pub fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("open")
}

/// Rebuilds an archive from a tree.
pub fn rebuild(scratch: &Scratch, applied: &Applied) -> Vec<u8> {
    let mut out = Vec::new();
    applied.toc.rebuild(scratch.root().as_fd(), &mut out).expect("rebuild");
    out
}
