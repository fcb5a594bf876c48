//! The build context on this side: one walk gives a Merkle tree; directories and contents are sent when asked for.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use bytes::Bytes;
use prost::Message;
use strata_dockerfile::ignore::IgnoreFile;
use strata_proto::builder::v1 as pb;

use super::attributes::{self, Attributes};
use super::index::{Files, Index, Known, Stamp};
use super::parallel;
use super::walk::{self, Directory, Entry, walk};

/// Entries that are looked up, or described, in a microsecond.
const ENTRIES: usize = 4;
/// Microseconds that a small file takes to be read.
const FILE: usize = 50;

/// Cannot read the context.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} of the build context", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// A scanned context.
#[derive(Debug, Default)]
pub struct Context {
    /// Digest of the top directory.
    pub root: [u8; 32],
    directories: HashMap<[u8; 32], pb::ContextDirectory>,
    /// What is in no digest, by the path of the directory.
    details: HashMap<Vec<u8>, pb::DirectoryDetails>,
    looked_at: Vec<Looked>,
    found: Vec<Directory>,
    /// Where files are by the digests of their contents, made when the first is asked for: mostly the store has them all.
    files: OnceLock<HashMap<Bytes, (usize, usize)>>,
}

/// What is known of the files of a directory.
#[derive(Debug)]
struct Looked {
    /// As many as the directory has entries; none for what is no file.
    known: Vec<Option<Known>>,
    /// The index has it all.
    is_same: bool,
}

/// A directory in the form that is digested, but for the digests of those in it.
struct Made {
    entries: Vec<pb::ContextEntry>,
    details: pb::DirectoryDetails,
    /// Files with several names: place, device and inode.
    linked: Vec<(usize, (u64, u64))>,
}

impl Context {
    /// Walks the directory `top`, leaving out what `ignore` excludes. What is not known of it is read, on all cores.
    pub fn scan(top: &Path, ignore: &IgnoreFile) -> Result<Self, Error> {
        let (index, found) = thread::scope(|scope| {
            let index = scope.spawn(|| Index::open(top));
            let found = walk(top, ignore);
            (index.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), found)
        });
        let found = found?;
        let entries = found.iter().map(|directory| directory.entries.len()).sum::<usize>();
        let mut looked_at = parallel::map(&found, entries / ENTRIES, |_, directory| recall(&index, directory));
        learn(&found, &mut looked_at)?;
        let made = parallel::map(&found, entries / ENTRIES, |number, directory| make(directory, &looked_at[number]));
        let mut tree = Tree {
            found: &found,
            made: Vec::with_capacity(made.len()),
            same: HashMap::new(),
            context: Self::default(),
        };
        for made in made {
            tree.made.push(Some(made?));
        }
        let (root, _) = tree.digest(0);
        let mut context = tree.context;
        context.root = root;
        index.save(found.iter().zip(&looked_at).filter_map(|(directory, looked)| saved(directory, looked)));
        Ok(Self { looked_at, found, ..context })
    }

    /// A directory by digest.
    pub fn get(&self, digest: &[u8]) -> Option<&pb::ContextDirectory> {
        self.directories.get(digest)
    }

    /// The details of the directory at this path.
    pub fn details(&self, path: &[u8]) -> Option<&pb::DirectoryDetails> {
        self.details.get(path)
    }

    /// A file with this content.
    pub fn file(&self, blake3: &[u8]) -> Option<PathBuf> {
        let files = self.files.get_or_init(|| {
            let places = self.looked_at.iter().enumerate().flat_map(|(number, looked)| {
                let known = looked.known.iter().enumerate();
                known.filter_map(move |(place, known)| Some((known.as_ref()?.digest.clone(), (number, place))))
            });
            places.collect()
        });
        let (number, place) = *files.get(blake3)?;
        let directory = &self.found[number];
        Some(directory.path.join(&directory.entries[place].name))
    }
}

/// What the index has of the files of a directory.
fn recall(index: &Index, directory: &Directory) -> Looked {
    let mut remembered = index.directory(&directory.bytes);
    let known = directory.entries.iter().map(|entry| {
        let is_file = entry.metadata.is_file();
        if is_file { remembered.file(entry.name.as_bytes(), stamp(&entry.metadata)) } else { None }
    });
    let known = known.collect();
    Looked { known, is_same: remembered.is_same() }
}

/// Reads the files that nothing is known of.
fn learn(found: &[Directory], looked_at: &mut [Looked]) -> Result<(), Error> {
    let unknown = found.iter().zip(looked_at.iter()).enumerate().flat_map(|(number, (directory, looked))| {
        let files = directory.entries.iter().zip(&looked.known).enumerate();
        let files = files.filter(|(_, (entry, known))| known.is_none() && entry.metadata.is_file());
        files.map(move |(place, _)| (number, place))
    });
    let unknown: Vec<(usize, usize)> = unknown.collect();
    let read = parallel::map(&unknown, unknown.len() * FILE, |_, (number, place)| {
        let path = found[*number].path.join(&found[*number].entries[*place].name);
        Known::read(&path).map_err(|source| Error { path, source })
    });
    for ((number, place), known) in unknown.into_iter().zip(read) {
        looked_at[number].known[place] = Some(known?);
    }
    Ok(())
}

/// What is kept of a directory that has files: its path, and they, unless they are as they were.
fn saved<'a>(directory: &'a Directory, looked: &'a Looked) -> Option<(&'a [u8], Option<Files<'a>>)> {
    let files = directory.entries.iter().zip(&looked.known);
    let files =
        files.filter_map(|(entry, known)| Some((entry.name.as_bytes(), stamp(&entry.metadata), known.as_ref()?)));
    let has_files = looked.known.iter().any(Option::is_some);
    has_files.then(|| (directory.bytes.as_slice(), (!looked.is_same).then(|| files.collect())))
}

fn make(directory: &Directory, looked: &Looked) -> Result<Made, Error> {
    let count = directory.entries.len();
    let details = pb::DirectoryDetails { modified_ns: modified(&directory.metadata), ..Default::default() };
    let mut made = Made { entries: Vec::with_capacity(count), details, linked: Vec::new() };
    made.details.entries_modified_ns.reserve_exact(count);
    for (place, (found, known)) in directory.entries.iter().zip(&looked.known).enumerate() {
        let metadata = &found.metadata;
        if found.directory.is_none() && metadata.nlink() > 1 {
            made.linked.push((place, (metadata.dev(), metadata.ino())));
        }
        made.entries.push(entry(directory, found, known.as_ref())?);
        made.details.entries_modified_ns.push(modified(metadata));
    }
    Ok(made)
}

fn entry(parent: &Directory, found: &Entry, known: Option<&Known>) -> Result<pb::ContextEntry, Error> {
    let failed = |source| Error { path: parent.path.join(&found.name), source };
    let metadata = &found.metadata;
    let kind = metadata.file_type();
    let mut attributes = Attributes::new();
    let node = if found.directory.is_some() {
        attributes = attributes::of_path(&parent.path.join(&found.name)).map_err(failed)?;
        // Its digest comes when what is in it is known.
        pb::context_entry::Node::Directory(Bytes::new())
    } else if let Some(known) = known {
        attributes.clone_from(&known.attributes);
        let blake3 = known.digest.clone();
        pb::context_entry::Node::File(pb::ContextFile { blake3, size_bytes: metadata.len() })
    } else if kind.is_symlink() {
        let target = fs::read_link(parent.path.join(&found.name)).map_err(failed)?;
        pb::context_entry::Node::Symlink(target.as_os_str().as_bytes().to_vec().into())
    } else if kind.is_socket() {
        // Nobody would listen on it: an empty file takes its place.
        let empty = Bytes::copy_from_slice(blake3::hash(b"").as_bytes());
        pb::context_entry::Node::File(pb::ContextFile { blake3: empty, size_bytes: 0 })
    } else {
        let (device, kind) = (metadata.rdev(), metadata.mode() & !0o7777);
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        pb::context_entry::Node::Special(pb::ContextSpecial { r#type: kind, major, minor })
    };
    let attributes = attributes.into_iter().map(|(name, value)| pb::ContextAttribute { name, value: value.into() });
    Ok(pb::ContextEntry {
        name: Bytes::copy_from_slice(found.name.as_bytes()),
        mode: metadata.mode() & 0o7777,
        node: Some(node),
        attributes: attributes.collect(),
    })
}

/// Directories on their way to their digests.
struct Tree<'a> {
    found: &'a [Directory],
    made: Vec<Option<Made>>,
    /// Numbers of files with several names, by device and inode.
    same: HashMap<(u64, u64), u64>,
    context: Context,
}

impl Tree<'_> {
    /// Digests a directory and all below it. Returns its digest, and whether anything is in it.
    fn digest(&mut self, number: usize) -> ([u8; 32], bool) {
        let found = &self.found[number];
        let Made { mut entries, mut details, linked } = self.made[number].take().expect("each is in one directory");
        details.same_file = vec![0; if linked.is_empty() { 0 } else { entries.len() }];
        for (place, file) in linked {
            let next = self.same.len() as u64 + 1;
            details.same_file[place] = *self.same.entry(file).or_insert(next);
        }
        let mut left_out = Vec::new();
        for (place, entry) in found.entries.iter().enumerate() {
            let Some(below) = entry.directory else { continue };
            let (digest, has_entries) = self.digest(below);
            entries[place].node = Some(pb::context_entry::Node::Directory(Bytes::copy_from_slice(&digest)));
            if entry.is_excluded && !has_entries {
                left_out.push(place);
            }
        }
        for place in left_out.into_iter().rev() {
            entries.remove(place);
            details.entries_modified_ns.remove(place);
            if !details.same_file.is_empty() {
                details.same_file.remove(place);
            }
        }
        let is_empty = entries.is_empty();
        let directory = pb::ContextDirectory { entries };
        let digest = *blake3::hash(&directory.encode_to_vec()).as_bytes();
        self.context.directories.insert(digest, directory);
        self.context.details.insert(found.bytes.clone(), details);
        (digest, !is_empty)
    }
}

impl From<walk::Failure> for Error {
    fn from(walk::Failure { path, source }: walk::Failure) -> Self {
        Self { path, source }
    }
}

/// Time of last change, in nanoseconds since 1970.
fn modified(metadata: &fs::Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    Stamp {
        size: metadata.len(),
        changed: metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec()),
        modified: modified(metadata),
        inode: metadata.ino(),
    }
}
