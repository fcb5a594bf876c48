//! What a guest boots from: an archive in the one format that the kernel unpacks by itself, cpio "newc".
//! See Documentation/driver-api/early-userspace/buffer-format.rst.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
};

use tar::EntryType;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// An archive in the making.
pub struct Archive {
    out: BufWriter<File>,
    entries: u32,
    /// Directories in it: naming one again would change its mode.
    directories: BTreeSet<Vec<u8>>,
}

/// What an entry says of itself.
#[derive(Default)]
struct Header {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Archive {
    /// An archive without entries.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { out: BufWriter::new(File::create(path)?), entries: 0, directories: BTreeSet::new() })
    }

    /// Adds what is in a tar. Hard links become symbolic ones; nothing here minds.
    pub fn tar(&mut self, path: &Path) -> io::Result<()> {
        let mut tar = tar::Archive::new(File::open(path)?);
        for entry in tar.entries()? {
            let mut entry = entry?;
            let name = entry.path_bytes().into_owned();
            let name = trimmed(&name);
            let link = entry.link_name_bytes().unwrap_or_default().into_owned();
            let own = entry.header();
            let mut header = Header { mode: own.mode()? & 0o7777, uid: own.uid()? as u32, gid: own.gid()? as u32 };
            let mut data = vec![];
            match own.entry_type() {
                EntryType::Directory => {
                    header.mode |= DIRECTORY;
                    self.directories.insert(name.to_vec());
                }
                EntryType::Regular => {
                    header.mode |= REGULAR;
                    entry.read_to_end(&mut data)?;
                }
                EntryType::Symlink => {
                    header.mode = SYMLINK | 0o777;
                    data = link;
                }
                EntryType::Link => {
                    header.mode = SYMLINK | 0o777;
                    data = [b"/", trimmed(&link)].concat();
                }
                // The kernel makes those of /dev itself.
                EntryType::Char => continue,
                other => return Err(io::Error::other(format!("{name:?} is of kind {other:?}"))),
            }
            if !name.is_empty() && name != b"." {
                self.entry(name, &header, &data)?;
            }
        }
        Ok(())
    }

    /// Adds a copy of a file of this host, of root's, under an absolute path.
    pub fn copy(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        let data = fs::read(source)?;
        self.file(target, fs::metadata(source)?.permissions().mode() & 0o777, &data)
    }

    /// Adds the files of a folder of this host, and those below.
    pub fn copy_all(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            let target = target.join(entry.file_name());
            match entry.file_type()?.is_dir() {
                true => self.copy_all(&entry.path(), &target)?,
                false => self.copy(&entry.path(), &target)?,
            }
        }
        Ok(())
    }

    /// Adds a file of root's under an absolute path; directories that are missing are made.
    pub fn file(&mut self, target: &Path, mode: u32, data: &[u8]) -> io::Result<()> {
        self.place(target, REGULAR | mode, data)
    }

    /// Adds a symbolic link under an absolute path.
    pub fn symlink(&mut self, target: &Path, to: &Path) -> io::Result<()> {
        self.place(target, SYMLINK | 0o777, to.as_os_str().as_bytes())
    }

    fn place(&mut self, target: &Path, mode: u32, data: &[u8]) -> io::Result<()> {
        let parents: Vec<&Path> = target.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev() {
            let name = trimmed(parent.as_os_str().as_bytes());
            if !name.is_empty() && self.directories.insert(name.to_vec()) {
                self.entry(name, &Header { mode: DIRECTORY | 0o755, ..Header::default() }, b"")?;
            }
        }
        let header = Header { mode, ..Header::default() };
        self.entry(trimmed(target.as_os_str().as_bytes()), &header, data)
    }

    /// Writes the end.
    pub fn finish(mut self) -> io::Result<()> {
        self.entry(b"TRAILER!!!", &Header::default(), b"")?;
        self.out.flush()
    }

    fn entry(&mut self, name: &[u8], header: &Header, data: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = u32::try_from(data.len()).map_err(io::Error::other)?;
        let name_size = name.len() as u32 + 1;
        let Header { mode, uid, gid } = header;
        let fields = [self.entries, *mode, *uid, *gid, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let text: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        self.out.write_all(format!("070701{text}").as_bytes())?;
        self.out.write_all(name)?;
        self.padding(1, 110 + name.len() + 1)?;
        self.out.write_all(data)?;
        self.padding(0, data.len())
    }

    /// Writes so many zeros, and those that make `size` a multiple of four.
    fn padding(&mut self, zeros: usize, size: usize) -> io::Result<()> {
        self.out.write_all(&[0; 4][..zeros + (4 - size % 4) % 4])
    }
}

/// A path as the archive names it, below the root.
fn trimmed(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b"./").or(path.strip_prefix(b"/")).unwrap_or(path);
    path.strip_suffix(b"/").unwrap_or(path)
}
