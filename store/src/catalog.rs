//! The catalog: one SQLite database that says what exists. Data first, metadata last, delete in the reverse order.
//!
//! Each public method is a whole operation; no transaction crosses this module. Writes go one at a time through
//! one of two connections: one that answers when the change is on disk, one that leaves the fsync to the next such
//! write (what it writes is only needed as long as the host is up).

mod blobs;
mod cache;
mod documents;
mod ephemeral;
mod forms;
mod garbage;
mod holds;
mod images;
mod layers;
mod leases;
mod mounts;
mod names;
mod recovery;
mod removal;
mod repositories;
mod reserve;
mod snapshots;
mod upgrade;
mod usage;
mod variants;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::{Error, Result};

pub use blobs::BlobRow;
pub use cache::{CacheFound, CacheQuery, CacheRecord};
pub use documents::{Child, ChildKind, DocumentKind, DocumentRow, NewDocument};
pub use forms::Form;
pub use garbage::{Garbage, Pruned, Reclaim};
pub use images::{ImageRow, NewImage};
pub use layers::{Description, LayerContents, LayerPart, LayerRow, LayerState, NewLayer};
pub use leases::LeaseRow;
pub use mounts::MountRow;
pub use names::NameRow;
pub use recovery::Known;
pub use removal::Removed;
pub use repositories::HeldBlob;
pub use snapshots::{NewSnapshot, SnapshotRow, SnapshotState};
pub use usage::{CacheKind, CacheUse, Finds};

/// The project of everything, until there are several.
pub(crate) const PROJECT: &str = "default";

const READERS: usize = 4;

/// When a write is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk, with all writes before it.
    Full,
    /// When it is seen by others; it survives a crash of the service, not one of the host.
    Relaxed,
}

/// What a lease can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A blob, by digest.
    Blob,
    /// A layer, by id.
    Layer,
    /// An image, by id: with all that it needs.
    Image,
}

impl Held {
    fn as_str(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Layer => "layer",
            Self::Image => "image",
        }
    }
}

/// The catalog of one store.
#[derive(Clone, Debug)]
pub struct Catalog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    boot_id: String,
    writers: Mutex<Writers>,
    readers: Mutex<Vec<Connection>>,
    ephemeral: ephemeral::Ephemeral,
    holds: holds::Holds,
}

#[derive(Debug)]
struct Writers {
    full: Connection,
    relaxed: Connection,
}

impl Catalog {
    /// Opens the catalog, and makes it where there is none. `boot_id` tells this boot of the host from others.
    pub fn open(path: &Path, boot_id: &str) -> Result<Self> {
        upgrade::check(path)?;
        let full = connect(path, "FULL")?;
        upgrade::migrate(&full, path)?;
        let relaxed = connect(path, "NORMAL")?;
        reserve::take(path);
        let inner = Inner {
            path: path.to_path_buf(),
            boot_id: boot_id.to_owned(),
            writers: Mutex::new(Writers { full, relaxed }),
            readers: Mutex::new(Vec::new()),
            ephemeral: ephemeral::Ephemeral::default(),
            holds: holds::Holds::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Id of this boot of the host.
    pub fn boot_id(&self) -> &str {
        &self.inner.boot_id
    }

    /// Runs one reading operation in one snapshot of the database.
    pub(crate) async fn read<T, F>(&self, attempt: &'static str, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.read(attempt, operation)).await
    }

    /// Runs one writing operation: all of it is kept, or nothing.
    pub(crate) async fn write<T, F>(&self, attempt: &'static str, durability: Durability, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.write(attempt, durability, operation)).await
    }

    /// Lets SQLite look for damage; returns what it says, one line each.
    pub async fn check(&self) -> Result<Vec<String>> {
        self.read("check", |transaction| {
            let mut statement = transaction.prepare("PRAGMA integrity_check(100)")?;
            let lines = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
            drop(statement);
            let mut lines: Vec<_> = lines.into_iter().filter(|line| line != "ok").collect();
            let mut statement = transaction.prepare("PRAGMA foreign_key_check")?;
            let tables = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(2)?)))?;
            for pair in tables {
                let (table, parent) = pair?;
                lines.push(format!("a row of {table} names a missing row of {parent}"));
            }
            Ok(lines)
        })
        .await
    }
}

impl Inner {
    fn read<T>(&self, attempt: &'static str, operation: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let pooled = lock(&self.readers).pop();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => connect(&self.path, "NORMAL").map_err(|error| error.during(attempt))?,
        };
        let result = connection
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(Error::from)
            .and_then(|transaction| operation(&transaction))
            .map_err(|error| error.during(attempt));
        let mut readers = lock(&self.readers);
        if readers.len() < READERS {
            readers.push(connection);
        }
        result
    }

    fn write<T>(
        &self,
        attempt: &'static str,
        durability: Durability,
        operation: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut writers = lock(&self.writers);
        let connection = match durability {
            Durability::Full => &mut writers.full,
            Durability::Relaxed => &mut writers.relaxed,
        };
        let run = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = operation(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|error: Error| error.during(attempt))
    }
}

/// A poisoned lock holds a connection whose transaction was rolled back by the unwinding.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// Runs plain code on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // The runtime cancels blocking work only by never starting it while it shuts down.
        Err(error) if error.is_cancelled() => std::future::pending().await,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn connect(path: &Path, synchronous: &str) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(128);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    reserve::keep(&connection)?;
    // KiB, of each of six connections; the kernel caches the rest.
    connection.pragma_update(None, "cache_size", -512)?;
    Ok(connection)
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    millis(SystemTime::now())
}

/// A time as the catalog keeps it.
pub(crate) fn millis(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
