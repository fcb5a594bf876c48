//! What is known of the files of a build context: stat data to content digest, kept between builds.
//! An entry is believed only when nothing of its stat data changed, and not when the file was changed in the very
//! moment it was read.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use super::attributes::{self, Attributes};

/// Files changed less than this long before a scan are read again by the next one, in nanoseconds.
const RACY: i64 = 20_000_000;

#[derive(Clone, PartialEq, Message)]
struct Saved {
    #[prost(message, repeated, tag = "1")]
    files: Vec<SavedFile>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedFile {
    #[prost(bytes = "vec", tag = "1")]
    path: Vec<u8>,
    #[prost(uint64, tag = "2")]
    size: u64,
    #[prost(int64, tag = "3")]
    changed: i64,
    #[prost(int64, tag = "4")]
    modified: i64,
    #[prost(uint64, tag = "5")]
    inode: u64,
    #[prost(bytes = "vec", tag = "6")]
    blake3: Vec<u8>,
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<SavedAttribute>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedAttribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// What is known of a file.
#[derive(Debug, Clone)]
pub struct Known {
    /// blake3 of its content.
    pub digest: [u8; 32],
    /// Its extended attributes.
    pub attributes: Attributes,
}

impl Known {
    fn of(file: fs::File) -> io::Result<Self> {
        let attributes = attributes::of_file(&file)?;
        Ok(Self { digest: hash(file)?, attributes })
    }
}

/// Stat data that change when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change of content or inode, in nanoseconds.
    pub changed: i64,
    /// Time of the last change of content, in nanoseconds.
    pub modified: i64,
    /// Inode number.
    pub inode: u64,
}

/// The index of one context.
#[derive(Debug)]
pub struct Index {
    file: Option<PathBuf>,
    old: HashMap<Vec<u8>, (Stamp, Known)>,
    new: HashMap<Vec<u8>, (Stamp, Known)>,
    /// Read in this scan, ahead.
    fresh: HashMap<Vec<u8>, (Stamp, Known)>,
    is_dirty: bool,
    now: i64,
}

impl Index {
    /// Opens the index of the context at `root`. One that is missing or damaged is empty.
    pub fn open(root: &Path) -> Self {
        let file = cache_file(root);
        let saved = file.as_ref().and_then(|file| fs::read(file).ok());
        let saved = saved.and_then(|bytes| Saved::decode(&bytes[..]).ok()).unwrap_or_default();
        let entry = |file: SavedFile| {
            let stamp = Stamp { size: file.size, changed: file.changed, modified: file.modified, inode: file.inode };
            let attributes = file.attributes.into_iter().map(|one| (one.name, one.value)).collect();
            Some((file.path, (stamp, Known { digest: file.blake3.try_into().ok()?, attributes })))
        };
        let old = saved.files.into_iter().filter_map(entry).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i64);
        Self { file, old, new: HashMap::new(), fresh: HashMap::new(), is_dirty: false, now }
    }

    /// Reads the files that nothing is known of, on all cores. What cannot be read is told when it is looked at.
    pub fn learn(&mut self, files: impl Iterator<Item = (Vec<u8>, Stamp, PathBuf)>) {
        let is_known = |path: &[u8], stamp: &Stamp| self.old.get(path).is_some_and(|(old, _)| old == stamp);
        let unknown: Vec<_> = files.filter(|(path, stamp, _)| !is_known(path, stamp)).collect();
        let next = AtomicUsize::new(0);
        let read = || {
            let mut read = Vec::new();
            while let Some((path, stamp, file)) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Ok(known) = fs::File::open(file).and_then(Known::of) {
                    read.push((path.clone(), (*stamp, known)));
                }
            }
            read
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(unknown.len());
        self.fresh = thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(read)).collect();
            let mut all: HashMap<_, _> = read().into_iter().collect();
            for other in others {
                all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            all
        });
    }

    /// What is known of a file: remembered, or read now.
    pub fn look(
        &mut self,
        path: Vec<u8>,
        stamp: Stamp,
        open: impl FnOnce() -> io::Result<fs::File>,
    ) -> io::Result<Known> {
        let remembered = self.old.get(&path).filter(|(old, _)| *old == stamp).map(|(_, known)| known.clone());
        let known = match remembered {
            Some(known) => Some(known),
            None => {
                let fresh = self.fresh.remove(&path).filter(|(then, _)| *then == stamp);
                self.is_dirty |= fresh.is_some();
                fresh.map(|(_, known)| known)
            }
        };
        let known = match known {
            Some(known) => known,
            None => {
                self.is_dirty = true;
                Known::of(open()?)?
            }
        };
        if self.now - stamp.changed.max(stamp.modified) > RACY {
            self.new.insert(path, (stamp, known.clone()));
        }
        Ok(known)
    }

    /// Writes what this scan learnt. A failure only costs time at the next build.
    pub fn save(self) {
        let Some(file) = self.file else { return };
        if !self.is_dirty && self.new.len() == self.old.len() {
            return;
        }
        let attribute = |(name, value)| SavedAttribute { name, value };
        let files = self.new.into_iter().map(|(path, (stamp, known))| SavedFile {
            path,
            size: stamp.size,
            changed: stamp.changed,
            modified: stamp.modified,
            inode: stamp.inode,
            blake3: known.digest.to_vec(),
            attributes: known.attributes.into_iter().map(attribute).collect(),
        });
        let bytes = Saved { files: files.collect() }.encode_to_vec();
        let part = file.with_extension(format!("part{}", std::process::id()));
        let written = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&part, bytes));
        if written.and_then(|()| fs::rename(&part, &file)).is_err() {
            let _ = fs::remove_file(&part);
        }
    }
}

fn hash(mut file: fs::File) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(*hasher.finalize().as_bytes()),
            n => hasher.update(&buffer[..n]),
        };
    }
}

fn cache_file(root: &Path) -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    let name = blake3::hash(root.as_os_str().as_encoded_bytes()).to_hex();
    Some(base.join("strata/contexts").join(&name[..32]))
}
