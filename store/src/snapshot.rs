//! Snapshots: a writable directory over a chain of layers. Nothing is mounted here; whoever acquires a snapshot gets
//! the mount to make, and a new work directory each time, because overlay refuses a second use of a volatile one.
//!
//! A commit renames the writable directory to a layer. Rows lead: a directory without a row is removed at the next
//! start, a row without a directory gets one.

mod changes;
mod copy;
mod export;
mod measure;
mod stub;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strata_archive::owner;
use strata_init::quota;
use strata_types::{Digest, LayerId, LeaseId, SnapshotKey};

use crate::catalog::{CacheRecord, Durability, LayerRow, NewLayer, NewSnapshot, SnapshotRow, blocking};
use crate::layer::{self, chain::Chain};
use crate::trash::Trash;
use crate::tree::View;
use crate::{Error, Result, Store};

pub use changes::{Change, Comparison, Kind as ChangeKind, compare};
pub use copy::copy;
pub use export::{Export, export};
pub use measure::measure;
pub use stub::Stub;

/// Longest name of a holder.
const LONGEST_HOLDER: usize = 256;

/// The mount that a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Directories to stack, topmost first.
    pub lowers: Vec<PathBuf>,
    /// The writable directory.
    pub upper: PathBuf,
    /// The work directory, empty.
    pub work: PathBuf,
    /// Options of the mount.
    pub options: Vec<String>,
}

/// Whether writes may be lost when the host goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// They may not.
    Durable,
    /// They may: nothing is synced.
    Volatile,
}

/// What holds of what is written to a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writing {
    /// Whether it may be lost.
    pub keep: Keep,
    /// Bytes that it may have. None: as many as there are.
    pub limit: Option<u64>,
}

impl Writing {
    /// Without a limit.
    pub fn of(keep: Keep) -> Self {
        Self { keep, limit: None }
    }
}

/// Prepares a snapshot over layers, bottom first. The same key with the same parents again changes nothing but the limit.
pub async fn prepare(
    store: &Arc<Store>,
    key: SnapshotKey,
    layer_ids: Vec<LayerId>,
    image_id: Option<Digest>,
    lease: Option<LeaseId>,
    writing: Writing,
) -> Result<SnapshotRow> {
    let chain = layer::chain(store, &layer_ids).await?;
    let durability = match writing.keep {
        Keep::Durable => Durability::Full,
        Keep::Volatile => Durability::Relaxed,
    };
    let row = store.catalog.prepare_snapshot(NewSnapshot { key, layer_ids, image_id, lease, durability }).await?;
    let directory = store.paths.snapshot(row.directory);
    let make = move || {
        limit(&directory, writing.limit)?;
        make_upper(&directory, &chain)
    };
    blocking(make).await?;
    Ok(row)
}

/// Limits what is below the directory of a snapshot, which is made if need be. Whatever is made in there then counts.
fn limit(directory: &Path, bytes: Option<u64>) -> Result<()> {
    let Some(bytes) = bytes else { return Ok(()) };
    fs::create_dir_all(directory).map_err(|source| Error::io("make directory", directory, source))?;
    Ok(quota::limit(directory, bytes)?)
}

/// Makes the writable directory of a snapshot, unless it is there.
fn make_upper(directory: &Path, chain: &Chain) -> Result<PathBuf> {
    let upper = directory.join("upper");
    if upper.is_dir() {
        return Ok(upper);
    }
    // Gets its name when it has the attributes of the root that it covers.
    let new = directory.join("new");
    layer::make_directory(&new)?;
    layer::take_root(chain, &new)?;
    match fs::rename(&new, &upper) {
        Err(_) if upper.is_dir() => Ok(upper),
        other => other.map(|()| upper.clone()).map_err(|source| Error::io("rename to", upper, source)),
    }
}

/// Takes a free snapshot, or takes it again for the same holder, with an empty work directory.
///
/// A limit is looked after each time: the file system may have been mounted otherwise meanwhile.
pub async fn acquire(
    store: &Arc<Store>,
    key: &SnapshotKey,
    holder: &str,
    writing: Writing,
) -> Result<(SnapshotRow, Mount)> {
    if holder.is_empty() || holder.len() > LONGEST_HOLDER {
        return Err(Error::invalid("holder", format!("it must be 1 to {LONGEST_HOLDER} bytes")));
    }
    let row = store.catalog.acquire_snapshot(key, holder).await?;
    let chain = layer::chain(store, &row.layer_ids).await?;
    let directory = store.paths.snapshot(row.directory);
    let work = directory.join(format!("work-{}", row.work));
    let made = work.clone();
    let empty = store.layers.chains.empty().to_path_buf();
    let mount = blocking(move || {
        limit(&directory, writing.limit)?;
        let upper = make_upper(&directory, &chain)?;
        for old in works(&directory)? {
            remove_directory(&old)?;
        }
        fs::create_dir(&made).map_err(|source| Error::io("make directory", &made, source))?;
        // Overlay wants a lower, if only an empty one.
        let lowers = if chain.lowers.is_empty() { vec![empty] } else { chain.lowers.clone() };
        let mut options: Vec<String> = ["index=off", "redirect_dir=nofollow", "metacopy=off"].map(str::to_owned).into();
        if writing.keep == Keep::Volatile {
            options.push("volatile".to_owned());
        }
        if owner::is_restricted() {
            // A user namespace may set no attributes of overlay's own kind.
            options.push("userxattr".to_owned());
        }
        Ok::<_, Error>(Mount { lowers, upper, work: made, options })
    })
    .await?;
    Ok((row, mount))
}

/// Lets go of a snapshot. The holder's mount must be gone.
pub async fn release(store: &Arc<Store>, key: &SnapshotKey, holder: &str) -> Result<()> {
    let row = store.catalog.release_snapshot(key, holder).await?;
    let directory = store.paths.snapshot(row.directory);
    blocking(move || works(&directory)?.iter().try_for_each(|work| remove_directory(work))).await
}

/// Turns a free snapshot into a layer held by the lease, with what the build cache is to know of it. Mount stubs that
/// nobody touched are removed first.
pub async fn commit(
    store: &Arc<Store>,
    key: &SnapshotKey,
    lease: &LeaseId,
    stubs: Vec<Stub>,
    record: Option<CacheRecord>,
) -> Result<LayerRow> {
    let row = store.catalog.begin_commit(key).await?;
    let result = commit_begun(store, &row, lease, stubs, record).await;
    if result.is_err() {
        // The first error is the one to tell; a commit that stays begun is ended by the next start.
        let _ = store.catalog.abort_commit(key).await;
    }
    result
}

async fn commit_begun(
    store: &Arc<Store>,
    row: &SnapshotRow,
    lease: &LeaseId,
    stubs: Vec<Stub>,
    record: Option<CacheRecord>,
) -> Result<LayerRow> {
    let chain = layer::chain(store, &row.layer_ids).await?;
    let id = store.catalog.new_layer_id(lease).await?;
    let directory = store.paths.snapshot(row.directory);
    let (upper, target) = (directory.join("upper"), store.paths.layer(&id));
    let this = Arc::clone(store);
    let renamed = {
        let (upper, target) = (upper.clone(), target.clone());
        blocking(move || {
            let upper = make_upper(upper.parent().unwrap_or(&upper), &chain)?;
            if !stubs.is_empty() {
                let below = View::open(&chain.lowers, this.layers.chains.empty())?;
                stub::remove(&upper, &below, &stubs)?;
            }
            fs::rename(&upper, &target).map_err(|source| Error::io("rename to", &target, source))
        })
        .await
    };
    let new = NewLayer { id, lease: lease.clone(), record, shape: None };
    let (id, cached) = (new.id.clone(), new.record.clone());
    let finished = match renamed {
        Ok(()) => store.catalog.finish_commit(&row.key, new).await,
        Err(error) => Err(error),
    };
    let layer = match finished {
        Ok(layer) => layer,
        Err(error) => {
            // The tree goes back if it went. What this says matters less.
            let _ = blocking(move || if target.exists() { fs::rename(&target, &upper) } else { Ok(()) }).await;
            return Err(error);
        }
    };
    layer::start(store, &id);
    store.recorded(cached, &row.layer_ids);
    if let Err(error) = discard_directory(store, row.directory).await {
        // The commit is done; the next start removes what is left.
        tracing::warn!("{}", strata_rpc::fault::chain(&error));
    }
    Ok(layer)
}

/// Removes a snapshot and what was written to it, unless somebody other than `holder` has it. Says whether there was one.
pub async fn remove(store: &Arc<Store>, key: &SnapshotKey, holder: &str) -> Result<bool> {
    let row = match store.catalog.remove_snapshot(key, holder).await {
        Err(Error::SnapshotNotFound { .. }) => return Ok(false),
        other => other?,
    };
    discard(store, &row).await?;
    Ok(true)
}

/// Moves the directory of a snapshot that is marked for removal to the trash, and then forgets its row.
pub(crate) async fn discard(store: &Arc<Store>, row: &SnapshotRow) -> Result<()> {
    discard_directory(store, row.directory).await?;
    store.catalog.forget_snapshot(&row.key).await
}

async fn discard_directory(store: &Arc<Store>, number: u64) -> Result<()> {
    let (directory, trash) = (store.paths.snapshot(number), store.trash.clone());
    blocking(move || throw_away(&trash, &directory)).await
}

/// Moves the directory of a snapshot to the trash, and its limit away: its number is free when all is unlinked.
pub(crate) fn throw_away(trash: &Trash, directory: &Path) -> Result<()> {
    if let Err(refusal) = quota::lift(directory) {
        // A number that nobody gets again is no reason to keep what is to go.
        tracing::warn!("{}", strata_rpc::fault::chain(&refusal));
    }
    trash.discard(directory).map(drop)
}

/// Lists the work directories of a snapshot.
fn works(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|source| Error::io("read directory", directory, source))?,
    };
    let is_work = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"work-"));
    Ok(entries.flatten().map(|entry| entry.path()).filter(is_work).collect())
}

fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, source)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
