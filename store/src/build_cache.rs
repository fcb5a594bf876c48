//! The build cache as something that takes room: what it holds, when that was used, and what of it goes when it is too
//! much. Records are removed here; the layers that only they kept are the collector's.

mod policy;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strata_types::LayerId;
use tokio::sync::mpsc;

use crate::catalog::{self, CacheFound, CacheKind, CacheQuery, CacheRecord, CacheUse, Finds, LayerContents, MountRow};
use crate::{Result, Store, cache_mount, gc, layer};

pub use policy::{BuildCache, Policy, Space};

/// Records that are looked at, and removed, at a time.
const BATCH: usize = 1000;
/// Finds that are kept in memory before they are written down.
const PENDING: usize = 10_000;

/// Finds and deeds since they were written down last, and whether the cache has changed since policies were applied.
#[derive(Debug, Default)]
pub struct Usage {
    finds: Mutex<Finds>,
    deeds: Mutex<Vec<Deed>>,
    has_changed: AtomicBool,
}

/// What a step did to which layers, as long as it is not known what is in these.
#[derive(Clone, Debug)]
struct Deed {
    key: String,
    operation: String,
    layers: Vec<LayerId>,
}

/// Which records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only records whose keys begin so. Empty: all.
    pub ids: Vec<String>,
    /// Only records whose description contains this.
    pub description: String,
    /// Only records that are in use, or only those that are not.
    pub is_in_use: Option<bool>,
    /// Only records that images share, or only those that none does.
    pub is_shared: Option<bool>,
    /// Only this kind.
    pub kind: Option<CacheKind>,
}

/// What is to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruning {
    /// Records that images share too.
    pub all: bool,
    /// Which records.
    pub filter: Filter,
    /// Nothing that was used since.
    pub keep: Duration,
    /// So many bytes stay in any case.
    pub reserved: u64,
    /// More than this many bytes is too much. 0: no matter.
    pub max_used: u64,
    /// So much of the disk is to be free. 0: no matter.
    pub min_free: u64,
}

impl Filter {
    /// The record is meant.
    pub fn matches(&self, record: &CacheUse) -> bool {
        let is = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        (self.ids.is_empty() || self.ids.iter().any(|id| record.key.starts_with(id.as_str())))
            && record.description.contains(&self.description)
            && is(self.is_in_use, record.is_in_use)
            && is(self.is_shared, record.is_shared)
            && self.kind.is_none_or(|kind| kind == record.kind)
    }
}

impl Pruning {
    /// How many of `used` bytes may stay, with so many free on the disk. `None`: nothing has to, and no limit holds.
    fn allowed(&self, used: u64, free: u64) -> Option<u64> {
        if self.max_used == 0 && self.reserved == 0 && self.min_free == 0 {
            return None;
        }
        let excess = self.min_free.saturating_sub(free);
        let most = match (self.max_used, excess) {
            // Only a reserve: down to it.
            (0, 0) if self.min_free == 0 => 0,
            (0, 0) => used,
            (max, 0) => max,
            (0, excess) => used.saturating_sub(excess),
            (max, excess) => max.min(used.saturating_sub(excess)),
        };
        Some(most.max(self.reserved))
    }
}

impl Store {
    /// A record was found. Cheap: it is written down later, with others.
    pub async fn count_cache_find(&self, key: &str) -> Result<()> {
        let is_much = {
            let mut finds = self.usage.finds();
            let entry = finds.entry(key.to_owned()).or_default();
            *entry = (entry.0 + 1, catalog::now());
            finds.len() >= PENDING
        };
        if is_much { self.write_cache_finds().await } else { Ok(()) }
    }

    /// Writes down what was found.
    pub async fn write_cache_finds(&self) -> Result<()> {
        let finds = std::mem::take(&mut *self.usage.finds());
        if finds.is_empty() { Ok(()) } else { self.catalog.count_cache_finds(finds).await }
    }

    /// A record came with its layer, which was made over these. What it did to which files is written down later.
    pub(crate) fn recorded(&self, record: Option<CacheRecord>, layers: &[LayerId]) {
        let Some(CacheRecord { key, operation, .. }) = record else { return };
        if !operation.is_empty() {
            self.usage.deeds().push(Deed { key, operation, layers: layers.to_vec() });
        }
        self.build_cache_changed();
    }

    /// Writes down what steps did to which files, where that is known by now.
    pub async fn write_cache_deeds(&self) -> Result<()> {
        let deeds = std::mem::take(&mut *self.usage.deeds());
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for deed in deeds {
            match self.catalog.layer_contents(&deed.layers).await? {
                LayerContents::Known(contents) => known.push((deed.key, content_key(&deed.operation, &contents))),
                LayerContents::Later => unknown.push(deed),
                LayerContents::Never => {}
            }
        }
        unknown.truncate(PENDING);
        self.usage.deeds().append(&mut unknown);
        if known.is_empty() { Ok(()) } else { self.catalog.set_cache_contents(known).await }
    }

    /// Finds the record of a key; else, if `layers` are given, that of a step that did the same to the same files, for which
    /// what is in them is waited for; else the newest of the family.
    pub async fn find_cached(self: &Arc<Self>, query: CacheQuery, layers: Option<&[LayerId]>) -> Result<CacheFound> {
        let (lease, operation) = (query.lease.clone(), query.operation.clone());
        let mut found = self.catalog.cache_record(query).await?;
        if let (None, true, Some(layers)) = (&found.record, found.is_known, layers) {
            for id in layers {
                layer::describe(self, id).await?;
            }
            self.write_cache_deeds().await?;
            if let LayerContents::Known(contents) = self.catalog.layer_contents(layers).await? {
                let content = content_key(&operation, &contents);
                found.record = self.catalog.cache_record_of_content(&content, &lease).await?;
            }
        }
        if found.record.is_some() {
            found.previous = None;
        }
        if let Some(used) = found.record.as_ref().or(found.previous.as_ref()) {
            self.count_cache_find(&used.key).await?;
        }
        Ok(found)
    }

    /// A record was stored, or an image went: policies may have something to do.
    pub fn build_cache_changed(&self) {
        self.usage.has_changed.store(true, Ordering::Relaxed);
    }

    /// The build cache ordered by key, after this one.
    pub async fn cache_uses(&self, after: &str, most: usize) -> Result<Vec<CacheUse>> {
        let mut all = self.catalog.cache_uses(after, most).await?;
        let mounts = self.catalog.mounts(after, most).await?;
        all.extend(mounts.iter().map(|mount| self.mount_use(mount)));
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.truncate(most);
        Ok(all)
    }

    fn mount_use(&self, mount: &MountRow) -> CacheUse {
        CacheUse {
            kind: CacheKind::Mount,
            key: mount.key.clone(),
            layer: None,
            description: format!("cache mount {}", mount.id),
            created: mount.created,
            used: mount.used,
            uses: mount.uses,
            size: mount.size,
            is_in_use: self.cache_mounts.has(mount),
            is_shared: false,
        }
    }

    /// Removes records, the ones that were not used for longest first, and tells of each batch. Stops where enough is
    /// gone, or nobody is told any more. Layers go with the next collection. Returns how many records went.
    pub async fn prune_build_cache(
        self: &Arc<Self>,
        what: &Pruning,
        told: Option<&mpsc::Sender<Vec<CacheUse>>>,
    ) -> Result<usize> {
        self.write_cache_finds().await?;
        let mounts = self.catalog.mounts("", usize::MAX >> 1).await?;
        let mut used = self.catalog.cache_size().await? + mounts.iter().map(|mount| mount.size).sum::<u64>();
        let allowed = what.allowed(used, self.free()?);
        let keep = i64::try_from(what.keep.as_millis()).unwrap_or(i64::MAX);
        let until = catalog::now().saturating_sub(keep);
        let mut after = (i64::MIN, String::new());
        let mut count = 0;
        let mut waiting: Vec<CacheUse> = mounts.iter().map(|mount| self.mount_use(mount)).collect();
        waiting.retain(|mount| age(mount).0 <= until);
        while allowed.is_none_or(|allowed| used > allowed) {
            let mut batch = self.catalog.cache_uses_by_age(after.clone(), until, BATCH).await?;
            if let Some(last) = batch.last() {
                after = age(last);
            }
            let is_last = batch.is_empty();
            batch.extend(waiting.extract_if(.., |mount| is_last || age(mount) <= after));
            if batch.is_empty() {
                break;
            }
            batch.sort_by_key(age);
            let mut chosen: Vec<CacheUse> = Vec::new();
            for record in batch {
                if allowed.is_some_and(|allowed| used <= allowed) {
                    break;
                }
                if record.is_in_use || (record.is_shared && !what.all) || !what.filter.matches(&record) {
                    continue;
                }
                used = used.saturating_sub(if record.is_shared { 0 } else { record.size });
                chosen.push(record);
            }
            let of = |kind| chosen.iter().filter(move |one| one.kind == kind).map(|one| one.key.clone());
            let mut removed = self.catalog.remove_cache_records(of(CacheKind::Step).collect(), what.all).await?;
            for key in of(CacheKind::Mount) {
                let row = mounts.iter().find(|row| row.key == key).expect("it was listed");
                if cache_mount::remove(self, row).await? {
                    removed.insert(key);
                }
            }
            chosen.retain(|record| removed.contains(&record.key));
            count += chosen.len();
            if let Some(told) = told.filter(|_| !chosen.is_empty())
                && told.send(chosen).await.is_err()
            {
                break;
            }
        }
        Ok(count)
    }

    /// Applies the policies of the configuration, where the cache has changed since. Tells whether something went.
    pub(crate) async fn apply_cache_policies(self: &Arc<Self>) -> Result<bool> {
        self.write_cache_finds().await?;
        if !self.config.build_cache.automatic || !self.usage.has_changed.swap(false, Ordering::Relaxed) {
            return Ok(false);
        }
        let disk = self.disk()?;
        let mut removed = 0;
        for policy in self.config.build_cache.policies(disk.0) {
            removed += self.prune_build_cache(&policy, None).await?;
        }
        if removed > 0 {
            tracing::info!("removed {removed} build cache records by policy");
        }
        Ok(removed > 0)
    }

    /// Bytes of the disk, and those that are free.
    fn disk(&self) -> Result<(u64, u64)> {
        let root = self.paths.root();
        let found = rustix::fs::statvfs(root)
            .map_err(|error| crate::Error::io("measure the disk of", root, std::io::Error::from(error)))?;
        Ok((found.f_blocks.saturating_mul(found.f_frsize), found.f_bavail.saturating_mul(found.f_frsize)))
    }

    fn free(&self) -> Result<u64> {
        Ok(self.disk()?.1)
    }
}

/// What an operation does to these files.
fn content_key(operation: &str, contents: &[String]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in contents.iter().map(String::as_str).chain([operation]) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// What goes first: when it was used or made last, and its key.
fn age(part: &CacheUse) -> (i64, String) {
    (part.used.unwrap_or(part.created), part.key.clone())
}

impl Usage {
    fn deeds(&self) -> std::sync::MutexGuard<'_, Vec<Deed>> {
        self.deeds.lock().expect("no holder of this lock panics")
    }

    fn finds(&self) -> std::sync::MutexGuard<'_, Finds> {
        self.finds.lock().expect("no holder of this lock panics")
    }
}

/// Prunes as a person asks, and collects at once: whoever prunes wants the room. Returns the bytes freed.
pub async fn prune(store: &Arc<Store>, what: &Pruning, told: mpsc::Sender<Vec<CacheUse>>) -> Result<u64> {
    store.prune_build_cache(what, Some(&told)).await?;
    drop(told);
    store.catalog.expire_leases().await?;
    let freed = gc::collect(store, Duration::ZERO).await?.0;
    store.trash.empty().await?;
    Ok(freed)
}
