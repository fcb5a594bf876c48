//! What a start puts right: rows without files, files without rows, what another boot left unsynced. Bounded: files
//! are looked at, not read.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;

use strata_types::Digest;

use crate::catalog::blocking;
use crate::{Error, Result, Store, disk};

/// Brings catalog and disk together. One bad object is told and set aside; it never stops the start.
pub async fn recover(store: &Arc<Store>) -> Result<()> {
    let known = store.catalog.recover().await?;
    let this = Arc::clone(store);
    let found = blocking(move || Found::look(&this, known)).await?;
    if !found.bad_blobs.is_empty() {
        for digest in &found.bad_blobs {
            tracing::error!(%digest, "a blob is missing or damaged; what needs it says so when it is used");
        }
        store.catalog.drop_blobs(found.bad_blobs).await?;
    }
    if !found.missing_layers.is_empty() {
        for layer in &found.missing_layers {
            tracing::error!(%layer, "the directory of a layer is missing; what needs it says so when it is used");
        }
        store.catalog.drop_layers(found.missing_layers).await?;
    }
    if !found.missing_snapshots.is_empty() {
        store.catalog.drop_snapshots(found.missing_snapshots).await?;
    }
    store.forget_gone_layers().await?;
    Ok(())
}

#[derive(Debug, Default)]
struct Found {
    bad_blobs: Vec<Digest>,
    missing_layers: Vec<strata_types::LayerId>,
    missing_snapshots: Vec<u64>,
}

impl Found {
    fn look(store: &Store, known: crate::catalog::Known) -> Result<Self> {
        let (paths, trash) = (&store.paths, &store.trash);
        let mut found = Self::default();
        for name in disk::names(&paths.ingest())? {
            trash.discard(&paths.ingest().join(name))?;
        }
        crate::blob::recover_partials(store)?;

        let mut blobs = HashSet::with_capacity(known.blobs.len());
        for (digest, size) in known.blobs {
            let path = paths.blob(&digest);
            match fs::symlink_metadata(&path) {
                Ok(file) if file.is_file() && file.len() == size => {
                    blobs.insert(digest.as_hex());
                    continue;
                }
                Ok(_) => quarantine(store, &digest)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::io("look at", &path, source)),
            }
            found.bad_blobs.push(digest);
        }
        for prefix in disk::names(&paths.blobs())? {
            let directory = paths.blobs().join(prefix);
            for name in disk::names(&directory)?.into_iter().filter(|name| !blobs.contains(name)) {
                trash.discard(&directory.join(name))?;
            }
        }

        let mut layers = HashSet::with_capacity(known.layers.len());
        for id in known.layers {
            match disk::exists(&paths.layer(&id)) {
                true => drop(layers.insert(id.as_str().to_owned())),
                false => found.missing_layers.push(id),
            }
        }
        for name in disk::names(&paths.layers())?.into_iter().filter(|name| !layers.contains(name)) {
            trash.discard(&paths.layers().join(name))?;
        }

        let mounts: HashSet<String> = known.mounts.iter().map(u64::to_string).collect();
        for name in disk::names(&paths.cache_mounts())?.into_iter().filter(|name| !mounts.contains(name)) {
            trash.discard(&paths.cache_mounts().join(name))?;
        }

        let directories = disk::names(&paths.snapshots())?;
        let wanted: HashSet<String> = known.snapshots.iter().map(u64::to_string).collect();
        for name in directories.iter().filter(|name| !wanted.contains(*name)) {
            crate::snapshot::throw_away(trash, &paths.snapshots().join(name))?;
        }
        let there: HashSet<&String> = directories.iter().collect();
        found.missing_snapshots = known.snapshots.into_iter().filter(|n| !there.contains(&n.to_string())).collect();
        Ok(found)
    }
}

/// Sets a damaged blob aside, for people to look at.
fn quarantine(store: &Store, digest: &Digest) -> Result<()> {
    let path = store.paths.blob(digest);
    let target = store.paths.quarantine().join(digest.as_hex());
    // An older one of the same name is of no more use.
    disk::remove(&target)?;
    fs::rename(&path, &target).map_err(|source| Error::io("move to quarantine", &path, source))
}

#[cfg(test)]
mod tests;
