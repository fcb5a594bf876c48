//! Contents of files by blake3: what a build context is made of, so that only what is missing travels.
//!
//! A content is either staged (a file of its own, held by a lease of a session) or inside a layer, which an index in
//! its own database says. Both can be lost without loss: staged contents are sent again, the index is made again from
//! tables of contents. So nothing here is synced, and staged contents do not outlive the process.

mod find;
mod hold;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rusqlite::{Connection, params};
use rustix::fs::{AtFlags, CWD};

use crate::layer::Images;
use crate::tree::Metadata;

pub use hold::missing;

/// Schema of the index; another version is dropped, since it can be made again.
const VERSION: i64 = 1;

/// Why contents could not be stored or found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The index refused.
    #[error("cannot use the index of contents")]
    Index {
        /// Why.
        #[from]
        source: rusqlite::Error,
    },
    /// The bytes are not what was announced.
    #[error("content {expected} has digest {found} in its {size} bytes")]
    DigestMismatch {
        /// Announced digest, in hex.
        expected: String,
        /// Digest of what came, in hex.
        found: String,
        /// How much came.
        size: u64,
    },
}

/// Result of what is done with contents.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where a content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// In a file of its own.
    Staged(PathBuf),
    /// In a layer, with the attributes that the file has there.
    Layer(PathBuf, Metadata),
}

impl Found {
    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Staged(path) | Self::Layer(path, _) => path,
        }
    }
}

/// Which contents are missing, and which layers hold the others.
#[derive(Debug, Default)]
pub struct Missing {
    /// Positions in the list asked for, ascending.
    pub missing: Vec<u32>,
    /// Ids of layers that hold contents of the list.
    pub layers: BTreeSet<String>,
}

/// All contents of a store.
#[derive(Debug)]
pub struct Contents {
    root: PathBuf,
    layers: Arc<Images>,
    index: Mutex<Connection>,
    state: Mutex<State>,
    next: AtomicU64,
    /// Layers that are still being recorded, and the wait for their end.
    recording: Mutex<usize>,
    recorded: Condvar,
}

#[derive(Debug, Default)]
struct State {
    staged: HashSet<blake3::Hash>,
    held: HashMap<String, HashSet<blake3::Hash>>,
}

impl Contents {
    /// Opens the contents below `root`, and in layers.
    pub fn open(root: &Path, layers: Arc<Images>) -> Result<Self> {
        let directory = root.join("contents");
        discard(root, &directory)?;
        for first in 0..=255u8 {
            let path = directory.join(hex::encode([first]));
            fs::create_dir_all(&path).map_err(|source| Error::io("make directory", &path, source))?;
        }
        Ok(Self {
            root: directory,
            layers,
            index: Mutex::new(open_index(&root.join("contents.db"))?),
            state: Mutex::default(),
            next: AtomicU64::new(0),
            recording: Mutex::default(),
            recorded: Condvar::new(),
        })
    }

    /// Says that a layer is about to be recorded: until [`Contents::end_record`], whoever asks for contents waits.
    pub(crate) fn begin_record(&self) {
        *lock(&self.recording) += 1;
    }

    /// Ends what [`Contents::begin_record`] began.
    pub(crate) fn end_record(&self) {
        *lock(&self.recording) -= 1;
        self.recorded.notify_all();
    }

    /// The index, when nothing is missing in it that was announced.
    fn index(&self) -> MutexGuard<'_, Connection> {
        let recording = lock(&self.recording);
        drop(self.recorded.wait_while(recording, |recording| *recording > 0));
        lock(&self.index)
    }

    /// Says which contents are missing; the others are held by the lease from now on.
    pub fn missing(&self, lease: &str, wanted: &[blake3::Hash]) -> Result<Missing> {
        let mut result = Missing::default();
        // No layer holds a place for nothing, and nobody has to send it.
        if wanted.contains(&blake3::hash(b"")) {
            self.put(lease, b"")?;
        }
        let mut state = lock(&self.state);
        let State { staged, held } = &mut *state;
        let held = held.entry(lease.to_owned()).or_default();
        let mut index = self.index();
        // One snapshot for all questions: each would otherwise lock the database for itself.
        let index = index.transaction()?;
        let mut statement = index.prepare_cached("SELECT layer FROM content WHERE blake3 = ?1")?;
        let mut is_there: HashMap<String, bool> = HashMap::new();
        for (position, hash) in wanted.iter().enumerate() {
            if staged.contains(hash) {
                held.insert(*hash);
                continue;
            }
            let mut rows = statement.query([hash.as_bytes().as_slice()])?;
            let mut found = false;
            while let Some(row) = rows.next()? {
                let layer = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
                let there = match is_there.get(layer) {
                    Some(there) => *there,
                    None => {
                        let there = self.layers.has(layer);
                        is_there.insert(layer.to_owned(), there);
                        there
                    }
                };
                if there {
                    if !result.layers.contains(layer) {
                        result.layers.insert(layer.to_owned());
                    }
                    found = true;
                    break;
                }
            }
            if !found {
                result.missing.push(position as u32);
            }
        }
        Ok(result)
    }

    /// Stores one whole content, of whatever digest it has.
    pub fn put(&self, lease: &str, bytes: &[u8]) -> Result<blake3::Hash> {
        let hash = blake3::hash(bytes);
        if !lock(&self.state).staged.contains(&hash) {
            let mut incoming = self.incoming(hash)?;
            incoming.file.write_all(bytes).map_err(|source| Error::io("write", &incoming.path, source))?;
            incoming.place(self)?;
        }
        self.keep(lease, hash);
        Ok(hash)
    }

    /// Starts to store a content that arrives in pieces.
    pub fn incoming(&self, expected: blake3::Hash) -> Result<Incoming> {
        let path = self.root.join(format!("incoming-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| Error::io("make", &path, source))?;
        Ok(Incoming { expected, file, path, hasher: blake3::Hasher::new(), size: 0, is_placed: false })
    }

    /// Takes in a content that has arrived whole.
    pub fn finish(&self, lease: &str, incoming: Incoming) -> Result<()> {
        let found = incoming.hasher.finalize();
        if found != incoming.expected {
            return Err(Error::DigestMismatch {
                expected: incoming.expected.to_hex().to_string(),
                found: found.to_hex().to_string(),
                size: incoming.size,
            });
        }
        incoming.place(self)?;
        self.keep(lease, found);
        Ok(())
    }

    fn keep(&self, lease: &str, hash: blake3::Hash) {
        let mut state = lock(&self.state);
        state.staged.insert(hash);
        match state.held.get_mut(lease) {
            Some(held) => held.insert(hash),
            None => state.held.entry(lease.to_owned()).or_default().insert(hash),
        };
    }

    /// Makes a staged content the file `name` of a layer, unless another layer has taken it.
    pub(crate) fn claim(&self, staged: &Path, directory: BorrowedFd<'_>, name: &OsStr) -> bool {
        // Two writers must not both take it for theirs; the lock also keeps `sweep` away.
        let _state = lock(&self.state);
        let is_free = fs::symlink_metadata(staged).is_ok_and(|found| found.nlink() == 1);
        is_free && rustix::fs::linkat(CWD, staged, directory, name, AtFlags::empty()).is_ok()
    }

    /// Records which contents a layer holds: digest, path and size of each.
    pub fn record<'a>(
        &self,
        layer: &str,
        contents: impl IntoIterator<Item = (blake3::Hash, &'a [u8], u64)>,
    ) -> Result<()> {
        let mut index = lock(&self.index);
        let transaction = index.transaction()?;
        {
            let mut statement = transaction
                .prepare_cached("INSERT OR IGNORE INTO content (blake3, layer, path, size) VALUES (?1, ?2, ?3, ?4)")?;
            for (hash, path, size) in contents {
                statement.execute(params![hash.as_bytes().as_slice(), layer, path, size as i64])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Forgets a layer that is removed.
    pub fn forget(&self, layer: &str) -> Result<()> {
        self.index().execute("DELETE FROM content WHERE layer = ?1", [layer])?;
        Ok(())
    }

    /// Says whether the index knows any content.
    pub fn is_indexed(&self) -> Result<bool> {
        let index = self.index();
        let mut statement = index.prepare_cached("SELECT 1 FROM content LIMIT 1")?;
        Ok(statement.exists([])?)
    }

    /// Lists the layers that the index knows.
    pub fn recorded_layers(&self) -> Result<BTreeSet<String>> {
        let index = self.index();
        let mut statement = index.prepare("SELECT DISTINCT layer FROM content")?;
        let layers = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(layers)
    }

    /// Removes staged contents that no live lease holds; returns the bytes freed.
    pub fn sweep(&self, is_live: impl Fn(&str) -> bool) -> Result<u64> {
        let mut state = lock(&self.state);
        let State { staged, held } = &mut *state;
        held.retain(|lease, _| is_live(lease));
        let kept: HashSet<&blake3::Hash> = held.values().flatten().collect();
        let unused: Vec<blake3::Hash> = staged.iter().filter(|hash| !kept.contains(hash)).copied().collect();
        let mut freed = 0;
        for hash in &unused {
            let path = self.staged_path(hash);
            // What a layer has taken stays on disk with it.
            freed += fs::symlink_metadata(&path).map_or(0, |found| if found.nlink() == 1 { found.len() } else { 0 });
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path, source));
                }
                _ => staged.remove(hash),
            };
        }
        Ok(freed)
    }

    fn staged_path(&self, hash: &blake3::Hash) -> PathBuf {
        let hex = hash.to_hex();
        self.root.join(&hex[..2]).join(&hex[2..])
    }
}

impl Error {
    fn io(attempt: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { attempt, path: path.to_path_buf(), source }
    }
}

/// A content on its way in; dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct Incoming {
    expected: blake3::Hash,
    file: File,
    path: PathBuf,
    hasher: blake3::Hasher,
    size: u64,
    is_placed: bool,
}

impl Incoming {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| Error::io("write", &self.path, source))
    }

    /// Returns how many bytes have arrived.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn place(mut self, contents: &Contents) -> Result<()> {
        let target = contents.staged_path(&self.expected);
        // RENAME_NOREPLACE would be wrong for a name that a sweep forgot; equal contents may replace each other.
        fs::rename(&self.path, &target).map_err(|source| Error::io("rename to", &target, source))?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_placed {
            // A leftover goes with all staged contents at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change below is a single insertion or removal, so a panic leaves nothing half done.
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// Moves what an earlier process staged out of the way, and removes it behind.
fn discard(root: &Path, directory: &Path) -> Result<()> {
    let mut leftovers = Vec::new();
    let old = root.join(format!("contents.old-{}", crate::lease::random_text(8)));
    match fs::rename(directory, &old) {
        Ok(()) => leftovers.push(old),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::io("rename", directory, source)),
    }
    let entries = fs::read_dir(root).map_err(|source| Error::io("read directory", root, source))?;
    let named = |entry: &fs::DirEntry| entry.file_name().as_bytes().starts_with(b"contents.old-");
    leftovers.extend(entries.flatten().filter(named).map(|entry| entry.path()));
    if !leftovers.is_empty() {
        std::thread::spawn(move || leftovers.iter().for_each(|path| drop(fs::remove_dir_all(path))));
    }
    Ok(())
}

fn open_index(path: &Path) -> Result<Connection> {
    match prepare_index(path) {
        Ok(index) => Ok(index),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "index of contents is damaged; making a new one");
            for suffix in ["", "-wal", "-shm"] {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                let _ = fs::remove_file(name);
            }
            prepare_index(path)
        }
    }
}

fn prepare_index(path: &Path) -> Result<Connection> {
    let index = Connection::open(path)?;
    index.pragma_update(None, "journal_mode", "WAL")?;
    index.pragma_update(None, "synchronous", "OFF")?;
    // KiB; the kernel caches the rest.
    index.pragma_update(None, "cache_size", -4096)?;
    let version: i64 = index.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != VERSION {
        index.execute_batch(
            "DROP TABLE IF EXISTS content;
             CREATE TABLE content (blake3 BLOB NOT NULL, layer TEXT NOT NULL, path BLOB NOT NULL, size INTEGER NOT NULL,
                                   PRIMARY KEY (blake3, layer)) WITHOUT ROWID;
             CREATE INDEX content_layer ON content (layer);",
        )?;
        index.pragma_update(None, "user_version", VERSION)?;
    }
    Ok(index)
}

#[cfg(test)]
mod tests;
