//! What is known of the files of a build context: stat data to content digest, kept between builds.
//! An entry is believed only when nothing of its stat data changed, and not when the file was changed in the very
//! moment it was read.
//!
//! It is a list of directories, and what is in one is read by who looks at that directory: on all cores.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;

use super::attributes::{self, Attributes};

/// Files changed less than this long before a scan are read again by the next one, in nanoseconds.
const RACY: i64 = 20_000_000;

#[derive(Clone, PartialEq, Message)]
struct Saved {
    /// 1 were files with their paths, once.
    #[prost(message, repeated, tag = "2")]
    directories: Vec<SavedDirectory>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedDirectory {
    #[prost(bytes = "bytes", tag = "1")]
    path: Bytes,
    /// The form of `SavedFiles`.
    #[prost(bytes = "bytes", tag = "2")]
    files: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct SavedFiles {
    /// By name.
    #[prost(message, repeated, tag = "1")]
    files: Vec<SavedFile>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedFile {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(uint64, tag = "2")]
    size: u64,
    #[prost(int64, tag = "3")]
    changed: i64,
    #[prost(int64, tag = "4")]
    modified: i64,
    #[prost(uint64, tag = "5")]
    inode: u64,
    #[prost(bytes = "bytes", tag = "6")]
    blake3: Bytes,
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
    /// blake3 of its content, 32 bytes.
    pub digest: Bytes,
    /// Its extended attributes.
    pub attributes: Attributes,
}

impl Known {
    /// Reads it.
    pub fn read(path: &Path) -> io::Result<Self> {
        let file = fs::File::open(path)?;
        let attributes = attributes::of_file(&file)?;
        Ok(Self { digest: Bytes::copy_from_slice(&hash(file)?), attributes })
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

/// Files of a directory, by name.
pub type Files<'a> = Vec<(&'a [u8], Stamp, &'a Known)>;

/// The index of one context, as the last scan left it.
#[derive(Debug)]
pub struct Index {
    file: Option<PathBuf>,
    directories: HashMap<Bytes, Bytes>,
    now: i64,
}

/// What is known of the files of a directory, which are asked for in the order of their names.
#[derive(Debug)]
pub struct Remembered {
    files: std::iter::Peekable<std::vec::IntoIter<SavedFile>>,
    /// Files that were asked for are as they were, and no others were there.
    is_same: bool,
}

impl Index {
    /// Opens the index of the context at `root`. One that is missing or damaged is empty.
    pub fn open(root: &Path) -> Self {
        let file = cache_file(root);
        let saved = file.as_ref().and_then(|file| fs::read(file).ok());
        let saved = saved.and_then(|bytes| Saved::decode(Bytes::from(bytes)).ok()).unwrap_or_default();
        let directories = saved.directories.into_iter().map(|directory| (directory.path, directory.files)).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i64);
        Self { file, directories, now }
    }

    /// What is known of a directory, by its path below the root.
    pub fn directory(&self, path: &[u8]) -> Remembered {
        let saved = self.directories.get(path).and_then(|bytes| SavedFiles::decode(bytes.clone()).ok());
        Remembered { files: saved.unwrap_or_default().files.into_iter().peekable(), is_same: true }
    }

    /// Writes what a scan learnt: of each directory with files its path, and its files, or none where they are as they
    /// were. A failure only costs time at the next build.
    pub fn save<'a>(&self, directories: impl Iterator<Item = (&'a [u8], Option<Files<'a>>)>) {
        let Some(file) = &self.file else { return };
        let mut is_same = true;
        let saved = directories.map(|(path, files)| {
            is_same &= files.is_none();
            let files = match files {
                None => self.directories.get(path).cloned().unwrap_or_default(),
                Some(files) => {
                    let files = files.into_iter().filter_map(|file| self.saved(file)).collect();
                    SavedFiles { files }.encode_to_vec().into()
                }
            };
            SavedDirectory { path: Bytes::copy_from_slice(path), files }
        });
        let saved = Saved { directories: saved.collect() };
        if is_same && saved.directories.len() == self.directories.len() {
            return;
        }
        let bytes = saved.encode_to_vec();
        let part = file.with_extension(format!("part{}", std::process::id()));
        let written = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&part, bytes));
        if written.and_then(|()| fs::rename(&part, file)).is_err() {
            let _ = fs::remove_file(&part);
        }
    }

    /// A file in the form that is kept; none that may have changed after it was read.
    fn saved(&self, (name, stamp, known): (&[u8], Stamp, &Known)) -> Option<SavedFile> {
        let Stamp { size, changed, modified, inode } = stamp;
        let attribute = |(name, value): &(String, Vec<u8>)| SavedAttribute { name: name.clone(), value: value.clone() };
        (self.now - changed.max(modified) > RACY).then(|| SavedFile {
            name: Bytes::copy_from_slice(name),
            size,
            changed,
            modified,
            inode,
            blake3: known.digest.clone(),
            attributes: known.attributes.iter().map(attribute).collect(),
        })
    }
}

impl Remembered {
    /// What is known of the file of this name, which comes after those that were asked for before.
    pub fn file(&mut self, name: &[u8], stamp: Stamp) -> Option<Known> {
        while self.files.next_if(|saved| saved.name < name).is_some() {
            self.is_same = false;
        }
        let saved = self.files.next_if(|saved| saved.name == name);
        let saved = saved.filter(|saved| saved.stamp() == stamp && saved.blake3.len() == 32);
        self.is_same &= saved.is_some();
        let saved = saved?;
        let attributes = saved.attributes.into_iter().map(|one| (one.name, one.value)).collect();
        Some(Known { digest: saved.blake3, attributes })
    }

    /// Says whether the files of the directory are those that were asked for, as they were.
    pub fn is_same(&mut self) -> bool {
        self.is_same && self.files.peek().is_none()
    }
}

impl SavedFile {
    fn stamp(&self) -> Stamp {
        Stamp { size: self.size, changed: self.changed, modified: self.modified, inode: self.inode }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn index(file: &Path, now: i64) -> Index {
        let directories = fs::read(file).map(|bytes| Saved::decode(Bytes::from(bytes)).unwrap()).unwrap_or_default();
        let directories = directories.directories.into_iter().map(|one| (one.path, one.files)).collect();
        Index { file: Some(file.to_owned()), directories, now }
    }

    fn stamp(inode: u64, changed: i64) -> Stamp {
        Stamp { size: 1, changed, modified: 5, inode }
    }

    #[test]
    fn a_file_is_known_as_long_as_its_stat_data_are_the_same_and_not_from_the_moment_of_its_change() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("index");
        let known = Known { digest: vec![7; 32].into(), attributes: vec![("user.a".into(), b"1".to_vec())] };
        let now = 10 * RACY;
        let files = [("a", stamp(1, 9)), ("b", stamp(2, 9)), ("young", stamp(3, now - RACY))];
        let files = files.iter().map(|(name, stamp)| (name.as_bytes(), *stamp, &known)).collect();
        index(&file, now).save([(&b"d"[..], Some(files))].into_iter());

        let index = index(&file, now);
        let mut directory = index.directory(b"d");
        assert_eq!(directory.file(b"a", stamp(1, 9)).unwrap().attributes, known.attributes);
        assert!(directory.file(b"aa", stamp(1, 9)).is_none());
        assert_eq!(directory.file(b"b", stamp(2, 9)).unwrap().digest, known.digest);
        assert!(directory.file(b"young", stamp(3, now - RACY)).is_none());
        assert!(index.directory(b"d").file(b"a", stamp(1, 8)).is_none());
        assert!(index.directory(b"other").file(b"a", stamp(1, 9)).is_none());
    }

    #[test]
    fn a_directory_is_the_same_only_when_all_its_files_are() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("index");
        let known = Known { digest: vec![7; 32].into(), attributes: Attributes::new() };
        let files = vec![(&b"a"[..], stamp(1, 9), &known), (b"b", stamp(2, 9), &known)];
        index(&file, 10 * RACY).save([(&b"d"[..], Some(files))].into_iter());
        let index = index(&file, 10 * RACY);
        let is_same = |files: &[(&str, u64)]| {
            let mut directory = index.directory(b"d");
            files.iter().for_each(|(name, inode)| drop(directory.file(name.as_bytes(), stamp(*inode, 9))));
            directory.is_same()
        };

        assert!(is_same(&[("a", 1), ("b", 2)]));
        for other in [&[("a", 1)][..], &[("b", 2)], &[("a", 1), ("b", 3)], &[("a", 1), ("b", 2), ("c", 3)], &[]] {
            assert!(!is_same(other), "{other:?}");
        }
        // Nothing is written where nothing is new.
        fs::remove_file(&file).unwrap();
        index.save([(&b"d"[..], None)].into_iter());
        assert!(!file.exists());
    }
}
