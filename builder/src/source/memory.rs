//! What is known of sources from earlier builds: one small file each, named by a digest. All of it can be lost without
//! loss.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What was not asked for so long is forgotten when the builder starts.
const KEPT: Duration = Duration::from_secs(60 * 24 * 3600);
/// Largest file that is read, in bytes.
const LARGEST: u64 = 64 << 10;

/// What is known.
#[derive(Debug)]
pub struct Memory {
    directory: PathBuf,
}

impl Memory {
    /// Opens what is in a directory, and forgets what is old.
    pub fn open(directory: PathBuf) -> Self {
        let oldest = SystemTime::now().checked_sub(KEPT);
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let used = entry.metadata().and_then(|metadata| metadata.modified());
            if used.ok() < oldest {
                let _ = fs::remove_file(entry.path());
            }
        }
        Self { directory }
    }

    /// What was noted under a key.
    pub fn recall<T: DeserializeOwned>(&self, kind: &str, key: &str) -> Option<T> {
        let path = self.path(kind, key);
        let file = fs::File::options().read(true).write(true).open(path).ok()?;
        if file.metadata().ok()?.len() > LARGEST {
            return None;
        }
        // Failing to say that it was used only makes it old.
        let _ = file.set_modified(SystemTime::now());
        serde_json::from_reader(&file).ok()
    }

    /// Notes something. A failure only costs time later.
    pub fn note<T: Serialize>(&self, kind: &str, key: &str, value: &T) {
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&self.directory)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(&serde_json::to_vec(value)?)?;
            file.persist(self.path(kind, key))?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::warn!(directory = %self.directory.display(), %error, "cannot note what is known of a source");
        }
    }

    fn path(&self, kind: &str, key: &str) -> PathBuf {
        let digest = blake3::Hasher::new().update(kind.as_bytes()).update(&[0]).update(key.as_bytes()).finalize();
        Path::new(&self.directory).join(digest.to_hex().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_recalled_by_kind_and_key() {
        let place = tempfile::tempdir().expect("a directory can be made");
        let memory = Memory::open(place.path().join("known"));

        memory.note("a", "k", &1);
        memory.note("b", "k", &2);
        memory.note("a", "k", &3);

        assert_eq!(memory.recall::<u32>("a", "k"), Some(3));
        assert_eq!(memory.recall::<u32>("b", "k"), Some(2));
        assert_eq!(memory.recall::<u32>("a", "j"), None);
        assert_eq!(memory.recall::<String>("a", "k"), None);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let place = tempfile::tempdir().expect("a directory can be made");
        let memory = Memory::open(place.path().to_owned());
        memory.note("a", "old", &1);
        memory.note("a", "new", &2);
        let file = fs::File::options().write(true).open(memory.path("a", "old")).expect("it was noted");
        file.set_modified(SystemTime::now() - KEPT - Duration::from_secs(60)).expect("the time can be set");

        let memory = Memory::open(place.path().to_owned());

        assert_eq!((memory.recall("a", "old"), memory.recall("a", "new")), (None::<u32>, Some(2)));
    }
}
