//! Cache mounts: directories that steps of builds keep things in, by id. Rows lead: a directory without a row goes at the
//! next start, a row without a directory gets an empty one.
//!
//! Who has a mount now is known in memory alone: a step holds it by a stream, and whatever ends that (the step, a crash of
//! the builder, the end of this service) makes it free. The id is never a path: directories have numbers.

mod files;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use strata_rpc::{Busy, fault::chain};
use strata_types::LayerId;
use tokio::sync::Notify;

use crate::catalog::{MountRow, blocking};
use crate::{Error, Result, Store, layer};

pub use files::{export, import};

/// Longest id, in bytes.
const LONGEST_ID: usize = 4096;

/// What happens where a mount is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Steps that share have it at the same time.
    Shared,
    /// Each step has one for itself.
    Private,
    /// One step after the other has it.
    Locked,
}

/// The mount that a step wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its id.
    pub id: String,
    /// Who else may have it.
    pub sharing: Sharing,
    /// What a new one begins with.
    pub seed: Seed,
}

/// What a mount begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seed {
    /// Digest of what follows; mounts with different ones have nothing to do with each other. Empty: nothing follows.
    pub base: String,
    /// Layers whose content it is, bottom first.
    pub layers: Vec<LayerId>,
    /// Path in them, a directory.
    pub path: PathBuf,
    /// Permission bits of its root. `None`: the source's, else 755.
    pub mode: Option<u32>,
    /// Owner and group of its root. `None`: the source's, else root.
    pub owner: Option<(u32, u32)>,
}

/// Mounts that are in use, by directory.
#[derive(Debug, Default)]
pub struct Held {
    inner: Mutex<HashMap<u64, Holders>>,
    freed: Notify,
    /// Finding one and making one is one step: two that come at once must not make two.
    door: tokio::sync::Mutex<()>,
    /// One directory is made at a time.
    making: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Holders {
    count: usize,
    sharing: Sharing,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Holders>> {
        self.inner.lock().expect("no holder of this lock panics")
    }

    /// Takes one of these mounts, if one may be had.
    fn take(&self, rows: &[MountRow], sharing: Sharing) -> Option<MountRow> {
        let mut held = self.lock();
        let is_joined = |row: &&MountRow| held.get(&row.directory).is_some_and(|one| one.sharing == Sharing::Shared);
        let joined = rows.iter().find(|row| sharing == Sharing::Shared && is_joined(row));
        let row = joined.or_else(|| rows.iter().find(|row| !held.contains_key(&row.directory)))?;
        held.entry(row.directory).or_insert(Holders { count: 0, sharing }).count += 1;
        Some(row.clone())
    }

    /// Takes a mount for its removal.
    fn take_alone(&self, row: &MountRow) -> bool {
        let mut held = self.lock();
        let is_free = !held.contains_key(&row.directory);
        if is_free {
            held.insert(row.directory, Holders { count: 1, sharing: Sharing::Private });
        }
        is_free
    }

    fn free(&self, directory: u64) {
        let mut held = self.lock();
        if let Some(holders) = held.get_mut(&directory) {
            holders.count -= 1;
            if holders.count == 0 {
                held.remove(&directory);
            }
        }
        drop(held);
        self.freed.notify_waiters();
    }

    /// Somebody has it.
    pub fn has(&self, row: &MountRow) -> bool {
        self.lock().contains_key(&row.directory)
    }
}

/// A mount in somebody's hands; it is free when this is dropped.
#[derive(Debug)]
pub struct Hold {
    store: Arc<Store>,
    row: MountRow,
    counts: bool,
    _busy: Busy,
}

impl Hold {
    fn new(store: &Arc<Store>, row: MountRow, counts: bool) -> Self {
        Self { store: Arc::clone(store), row, counts, _busy: store.idle.busy() }
    }

    /// What is held.
    pub fn row(&self) -> &MountRow {
        &self.row
    }

    /// Its directory.
    pub fn path(&self) -> PathBuf {
        self.store.paths.cache_mount(self.row.directory).join(files::DATA)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.store.cache_mounts.free(self.row.directory);
        if !self.counts {
            return;
        }
        let (store, row, path) = (Arc::clone(&self.store), self.row.clone(), self.path());
        let busy = self.store.idle.busy();
        self.store.drain.spawn(async move {
            let size = blocking(move || strata_archive::disk_usage(&path)).await;
            if let Err(error) = store.catalog.count_mount_use(&row.key, size).await {
                tracing::warn!("cannot count the use of a cache mount: {}", chain(&error));
            }
            store.build_cache_changed();
            drop(busy);
        });
    }
}

/// Takes a mount, waiting for it where it is locked, and makes it where there is none.
pub async fn hold(store: &Arc<Store>, wanted: &Wanted) -> Result<Hold> {
    check_id(&wanted.id)?;
    loop {
        let freed = store.cache_mounts.freed.notified();
        tokio::pin!(freed);
        freed.as_mut().enable();
        if let Some(row) = find(store, wanted).await? {
            // From here on it is let go of whatever happens.
            let mut hold = Hold::new(store, row, true);
            let made = files::make(store, hold.row.directory, &wanted.seed).await;
            let Err(error) = made else { return Ok(hold) };
            hold.counts = false;
            let row = hold.row.clone();
            drop(hold);
            // What could not be made is not there; the first error is the one to tell.
            let _ = remove(store, &row).await;
            return Err(error);
        }
        freed.await;
    }
}

/// An id is a name: any text.
fn check_id(id: &str) -> Result<()> {
    match (1..=LONGEST_ID).contains(&id.len()) && !id.contains('\0') {
        true => Ok(()),
        false => Err(Error::invalid("id", format!("it must have 1 to {LONGEST_ID} bytes, and no NUL"))),
    }
}

/// Finds a mount that may be had. `None`: it is to be waited for.
async fn find(store: &Arc<Store>, wanted: &Wanted) -> Result<Option<MountRow>> {
    let _door = store.cache_mounts.door.lock().await;
    let rows = store.catalog.mounts_of(&wanted.id, &wanted.seed.base).await?;
    if let Some(row) = store.cache_mounts.take(&rows, wanted.sharing) {
        return Ok(Some(row));
    }
    if wanted.sharing == Sharing::Locked && !rows.is_empty() {
        return Ok(None);
    }
    // What it begins with must be there before its row is.
    layer::chain(store, &wanted.seed.layers).await?;
    let row = store.catalog.create_mount(&wanted.id, &wanted.seed.base).await?;
    Ok(store.cache_mounts.take(std::slice::from_ref(&row), wanted.sharing))
}

/// A mount by its key, for export.
pub async fn by_key(store: &Arc<Store>, key: &str) -> Result<MountRow> {
    let row = store.catalog.mount(key).await?;
    row.ok_or_else(|| Error::CacheMountNotFound { key: key.to_owned() })
}

/// Removes a mount that nobody has; says whether it went.
pub async fn remove(store: &Arc<Store>, row: &MountRow) -> Result<bool> {
    if !store.cache_mounts.take_alone(row) {
        return Ok(false);
    }
    let hold = Hold::new(store, row.clone(), false);
    let (trash, directory) = (store.trash.clone(), store.paths.cache_mount(row.directory));
    blocking(move || trash.discard(&directory)).await?;
    store.catalog.forget_mount(&row.key).await?;
    drop(hold);
    Ok(true)
}
