//! Rows of layers. A layer is usable before its diff-id is known and before it is on disk; see `LayerState`.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Row, Transaction, params};
use strata_types::{Digest, LayerId, LeaseId};

use super::{CacheRecord, Catalog, Durability, Held, PROJECT, blobs, cache, leases, now};
use crate::{Error, Result};

/// How far a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerState {
    /// Being written; dropped at start.
    Incomplete,
    /// Usable, but lost if the host goes down now.
    Unsynced,
    /// On disk.
    Ready,
    /// Waiting for its directory to go.
    Deleting,
}

/// A layer of this store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRow {
    /// Its id, which names its directory.
    pub id: LayerId,
    /// How far it is.
    pub state: LayerState,
    /// Digest of its uncompressed tar, once known.
    pub diff_id: Option<Digest>,
    /// Blob with its table of contents, known together with the diff-id.
    pub toc: Option<Digest>,
    /// Bytes of its contents, known together with the diff-id.
    pub size: u64,
    /// Bytes of its uncompressed tar, known together with the diff-id.
    pub tar_size: u64,
}

/// A layer that is in its place.
#[derive(Clone, Debug)]
pub struct NewLayer {
    /// Its id, of [`Catalog::new_layer_id`].
    pub id: LayerId,
    /// Lease that holds it.
    pub lease: LeaseId,
    /// What the build cache is to know of it: a record that names no layer yet.
    pub record: Option<CacheRecord>,
    /// What it leaves to those below. `None`: nothing.
    pub shape: Option<Vec<u8>>,
}

/// What the tar of a layer is.
#[derive(Clone, Debug)]
pub struct Description {
    /// Id of the layer.
    pub id: LayerId,
    /// Digest of the tar.
    pub diff_id: Digest,
    /// Blob with its table of contents.
    pub toc: Digest,
    /// Bytes of that blob.
    pub toc_size: u64,
    /// Bytes of the contents.
    pub size: u64,
    /// Bytes of the tar.
    pub tar_size: u64,
    /// Digest of the files without times, in hex.
    pub content: String,
}

/// What a chain needs to know of a layer.
#[derive(Clone, Debug)]
pub struct LayerPart {
    /// Blob with its table of contents, once known.
    pub toc: Option<String>,
    /// The directories that it implies; none: it was written over its parents.
    pub shape: Option<Vec<u8>>,
}

/// What is known of the files of layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerContents {
    /// A digest of each, in hex.
    Known(Vec<String>),
    /// One of them is not described yet.
    Later,
    /// One of them is gone, or was described before digests of files were.
    Never,
}

const COLUMNS: &str = "id, state, diff_id, toc, size, tar_size";

pub(super) fn layer_id(text: String) -> Result<LayerId> {
    LayerId::parse(text.clone()).map_err(|_| Error::CatalogCorrupt { noun: "layer id", text })
}

pub(super) fn layer(row: &Row<'_>) -> Result<LayerRow> {
    let state: String = row.get(1)?;
    Ok(LayerRow {
        id: layer_id(row.get(0)?)?,
        state: match state.as_str() {
            "incomplete" => LayerState::Incomplete,
            "unsynced" => LayerState::Unsynced,
            "ready" => LayerState::Ready,
            _ => LayerState::Deleting,
        },
        diff_id: row.get::<_, Option<String>>(2)?.map(blobs::digest).transpose()?,
        toc: row.get::<_, Option<String>>(3)?.map(blobs::digest).transpose()?,
        size: row.get(4)?,
        tar_size: row.get(5)?,
    })
}

pub(super) fn find(transaction: &Transaction<'_>, id: &LayerId) -> Result<LayerRow> {
    let mut statement = transaction.prepare_cached(&format!("SELECT {COLUMNS} FROM layers WHERE id = ?"))?;
    let mut rows = statement.query([id.as_str()])?;
    let found = rows.next()?.map(layer).transpose()?;
    found.ok_or_else(|| Error::LayerNotFound { id: id.clone() })
}

/// Finds a layer that may be used: complete and not going away.
pub(super) fn usable(transaction: &Transaction<'_>, id: &LayerId) -> Result<LayerRow> {
    let found = find(transaction, id)?;
    match found.state {
        LayerState::Unsynced | LayerState::Ready => Ok(found),
        LayerState::Incomplete | LayerState::Deleting => Err(Error::LayerNotFound { id: id.clone() }),
    }
}

// CROSS JOIN keeps the order of the tables: SQLite knows nothing of their sizes, and would read the list anew for each row.
pub(super) const USABLE: &str =
    "SELECT count(*) FROM json_each(?1) AS wanted CROSS JOIN layers l ON l.id = wanted.value
     WHERE l.state IN ('unsynced', 'ready')";
pub(super) const HELD: &str =
    "SELECT count(*) FROM json_each(?1) AS wanted CROSS JOIN lease_refs r ON r.object = wanted.value
     WHERE r.project = ?2 AND r.lease_id = ?3 AND r.kind = 'layer'";

/// Says whether all these layers may be used: one look, however many there are.
pub(super) fn are_usable(transaction: &Transaction<'_>, ids: &[LayerId]) -> Result<bool> {
    let distinct: BTreeSet<&str> = ids.iter().map(LayerId::as_str).collect();
    let found: usize = transaction.prepare_cached(USABLE)?.query_row([list(&distinct)], |row| row.get(0))?;
    Ok(found == distinct.len())
}

/// Says whether a lease holds all these layers by what is written.
pub(super) fn are_held(transaction: &Transaction<'_>, ids: &[LayerId], lease: &LeaseId) -> Result<bool> {
    let distinct: BTreeSet<&str> = ids.iter().map(LayerId::as_str).collect();
    let found: usize = transaction
        .prepare_cached(HELD)?
        .query_row(params![list(&distinct), PROJECT, lease.as_str()], |row| row.get(0))?;
    Ok(found == distinct.len())
}

/// Ids as a list of JSON: they are letters and digits.
fn list(ids: &BTreeSet<&str>) -> String {
    format!("[{}]", ids.iter().map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(","))
}

fn oldest(transaction: &Transaction<'_>, diff_id: &Digest) -> Result<Option<LayerRow>> {
    let mut statement = transaction.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM layers WHERE project = ? AND diff_id = ?
         AND state IN ('unsynced', 'ready') ORDER BY created, id LIMIT 1"
    ))?;
    let mut rows = statement.query(params![PROJECT, diff_id.to_string()])?;
    rows.next()?.map(layer).transpose()
}

pub(super) fn set_usable(transaction: &Transaction<'_>, id: &LayerId, boot_id: &str) -> Result<()> {
    let changed = transaction
        .prepare_cached("UPDATE layers SET state = 'unsynced', boot_id = ? WHERE id = ? AND state = 'incomplete'")?
        .execute(params![boot_id, id.as_str()])?;
    if changed == 1 { Ok(()) } else { Err(Error::LayerNotFound { id: id.clone() }) }
}

/// Adds a layer whose directory is in place, with its record in the build cache.
pub(super) fn insert(transaction: &Transaction<'_>, new: NewLayer, boot_id: &str) -> Result<LayerRow> {
    let NewLayer { id, lease, record, shape } = new;
    leases::must_exist(transaction, &lease)?;
    transaction
        .prepare_cached(
            "INSERT INTO layers (id, project, state, boot_id, created, shape) VALUES (?, ?, 'unsynced', ?, ?, ?)",
        )?
        .execute(params![id.as_str(), PROJECT, boot_id, now(), shape])?;
    leases::add(transaction, &lease, Held::Layer, id.as_str())?;
    if let Some(record) = record {
        cache::put(transaction, &CacheRecord { layer: Some(id.clone()), ..record })?;
    }
    find(transaction, &id)
}

pub(super) fn set_ready(transaction: &Transaction<'_>, id: &LayerId) -> Result<()> {
    transaction
        .prepare_cached("UPDATE layers SET state = 'ready', boot_id = NULL WHERE id = ? AND state = 'unsynced'")?
        .execute([id.as_str()])?;
    transaction
        .prepare_cached(
            "UPDATE blobs SET boot_id = NULL WHERE project = ?1 AND boot_id IS NOT NULL
             AND digest = (SELECT toc FROM layers WHERE id = ?2)",
        )?
        .execute(params![PROJECT, id.as_str()])?;
    Ok(())
}

impl Catalog {
    /// Makes the row of a layer that is about to be written, held by the lease; the id is new.
    pub async fn create_layer(&self, lease: &LeaseId) -> Result<LayerId> {
        let lease = lease.clone();
        self.write("make a layer", Durability::Relaxed, move |transaction| {
            leases::must_exist(transaction, &lease)?;
            let mut statement = transaction.prepare_cached(
                "INSERT OR IGNORE INTO layers (id, project, state, created) VALUES (?, ?, 'incomplete', ?)",
            )?;
            loop {
                let id = crate::lease::random_text(6);
                if statement.execute(params![id, PROJECT, now()])? == 1 {
                    leases::add(transaction, &lease, Held::Layer, &id)?;
                    return layer_id(id);
                }
            }
        })
        .await
    }

    /// An id for a layer that a lease is to hold: nothing is written before the layer is in its place.
    pub async fn new_layer_id(&self, lease: &LeaseId) -> Result<LayerId> {
        let lease = lease.clone();
        self.read("name a layer", move |transaction| {
            leases::must_exist(transaction, &lease)?;
            let mut statement = transaction.prepare_cached("SELECT 1 FROM layers WHERE id = ?")?;
            loop {
                let id = crate::lease::random_text(6);
                if !statement.exists([&id])? {
                    return layer_id(id);
                }
            }
        })
        .await
    }

    /// Adds a layer whose directory is in place: it may be used from now on, in this boot.
    pub async fn add_layer(&self, new: NewLayer) -> Result<LayerRow> {
        let boot_id = self.boot_id().to_owned();
        self.write("add a layer", Durability::Relaxed, move |transaction| insert(transaction, new, &boot_id)).await
    }

    /// The layer's directory is complete: it may be used from now on, in this boot.
    pub async fn mark_layer_usable(&self, id: &LayerId) -> Result<()> {
        let (id, boot_id) = (id.clone(), self.boot_id().to_owned());
        self.write("finish a layer", Durability::Relaxed, move |transaction| set_usable(transaction, &id, &boot_id))
            .await
    }

    /// Writes down what the tars of layers are. The files of the blobs with their tables of contents must be in place. A
    /// layer that is gone is passed over.
    pub async fn describe_layers(&self, descriptions: Vec<Description>) -> Result<()> {
        let boot_id = self.boot_id().to_owned();
        self.write("describe layers", Durability::Relaxed, move |transaction| {
            let mut statement = transaction.prepare_cached(
                "UPDATE layers SET diff_id = ?, toc = ?, size = ?, tar_size = ?, content = ? WHERE id = ?",
            )?;
            for Description { id, diff_id, toc, toc_size, size, tar_size, content } in descriptions {
                // The layer's row holds the blob from here on: no lease is needed in between.
                blobs::insert(transaction, &toc, toc_size, Some(&boot_id))?;
                statement.execute(params![
                    diff_id.to_string(),
                    toc.to_string(),
                    size,
                    tar_size,
                    content,
                    id.as_str()
                ])?;
            }
            Ok(())
        })
        .await
    }

    /// What is known of the files of layers, in the order given.
    pub async fn layer_contents(&self, ids: &[LayerId]) -> Result<LayerContents> {
        let ids = ids.to_vec();
        self.read("read what layers hold", move |transaction| {
            let mut statement =
                transaction.prepare_cached("SELECT content, diff_id IS NULL FROM layers WHERE id = ?")?;
            let mut contents = Vec::with_capacity(ids.len());
            for id in &ids {
                let row = statement.query_row([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
                match row {
                    Some((Some(content), _)) => contents.push(content),
                    Some((None, true)) => return Ok(LayerContents::Later),
                    Some((None, false)) | None => return Ok(LayerContents::Never),
                }
            }
            Ok(LayerContents::Known(contents))
        })
        .await
    }

    /// Says whether all these layers may be used.
    pub async fn are_layers_usable(&self, ids: &[LayerId]) -> Result<bool> {
        let ids = ids.to_vec();
        self.read("find layers", move |transaction| are_usable(transaction, &ids)).await
    }

    /// Writes down which directories a layer implies, before it is usable. Without it the layer implies none.
    pub async fn set_layer_shape(&self, id: &LayerId, shape: Vec<u8>) -> Result<()> {
        let id = id.clone();
        self.write("describe the shape of a layer", Durability::Relaxed, move |transaction| {
            transaction
                .prepare_cached("UPDATE layers SET shape = ? WHERE id = ?")?
                .execute(params![shape, id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Reads what a chain needs to know of usable layers, in the order given: no more, since chains are long.
    pub async fn layer_parts(&self, ids: &[LayerId]) -> Result<Vec<LayerPart>> {
        let ids = ids.to_vec();
        self.read("read the shapes of layers", move |transaction| {
            let mut statement = transaction
                .prepare_cached("SELECT toc, shape FROM layers WHERE id = ? AND state IN ('unsynced', 'ready')")?;
            let parts = ids.iter().map(|id| {
                let part = statement
                    .query_row([id.as_str()], |row| Ok(LayerPart { toc: row.get(0)?, shape: row.get(1)? }))
                    .optional()?;
                part.ok_or_else(|| Error::LayerNotFound { id: id.clone() })
            });
            parts.collect()
        })
        .await
    }

    /// These layers, and their tables of contents, are on disk: a `syncfs` came after they were usable.
    pub async fn mark_layers_synced(&self, ids: &[LayerId]) -> Result<()> {
        let ids = ids.to_vec();
        self.write("mark layers as synced", Durability::Full, move |transaction| {
            ids.iter().try_for_each(|id| set_ready(transaction, id))
        })
        .await
    }

    /// Gives up a layer that could not be finished; its directory may go after this.
    pub async fn abandon_layer(&self, id: &LayerId) -> Result<()> {
        let id = id.clone();
        self.write("give up a layer", Durability::Relaxed, move |transaction| {
            transaction
                .prepare_cached("DELETE FROM lease_refs WHERE project = ? AND kind = 'layer' AND object = ?")?
                .execute(params![PROJECT, id.as_str()])?;
            transaction
                .prepare_cached("DELETE FROM layers WHERE id = ? AND state = 'incomplete'")?
                .execute([id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Finds a layer in any state.
    pub async fn layer(&self, id: &LayerId) -> Result<LayerRow> {
        let id = id.clone();
        self.read("find a layer", move |transaction| find(transaction, &id)).await
    }

    /// Finds usable layers, in the order given.
    pub async fn layers_usable(&self, ids: &[LayerId]) -> Result<Vec<LayerRow>> {
        let ids = ids.to_vec();
        self.read("find layers", move |transaction| ids.iter().map(|id| usable(transaction, id)).collect()).await
    }

    /// Finds usable layers and holds them by the lease.
    pub async fn hold_layers(&self, ids: &[LayerId], lease: &LeaseId) -> Result<Vec<LayerRow>> {
        let (ids, lease) = (ids.to_vec(), lease.clone());
        self.write("hold layers", Durability::Relaxed, move |transaction| {
            leases::must_exist(transaction, &lease)?;
            ids.iter()
                .map(|id| {
                    let row = usable(transaction, id)?;
                    leases::add(transaction, &lease, Held::Layer, id.as_str())?;
                    Ok(row)
                })
                .collect()
        })
        .await
    }

    /// Finds the oldest usable layer with this diff-id.
    pub async fn layer_by_diff_id(&self, diff_id: &Digest) -> Result<Option<LayerRow>> {
        let diff_id = *diff_id;
        self.read("find a layer", move |transaction| oldest(transaction, &diff_id)).await
    }

    /// Finds the oldest usable layer with this diff-id and holds it by the lease.
    pub async fn hold_layer_by_diff_id(&self, diff_id: &Digest, lease: &LeaseId) -> Result<Option<LayerRow>> {
        let (diff_id, lease) = (*diff_id, lease.clone());
        self.write("find a layer", Durability::Relaxed, move |transaction| {
            leases::must_exist(transaction, &lease)?;
            let found = oldest(transaction, &diff_id)?;
            if let Some(row) = &found {
                leases::add(transaction, &lease, Held::Layer, row.id.as_str())?;
            }
            Ok(found)
        })
        .await
    }

    /// Usable layers that still have no diff-id: their description was cut off by a restart.
    pub async fn layers_undescribed(&self) -> Result<Vec<LayerId>> {
        self.read("list layers without diff-id", |transaction| {
            let mut statement = transaction
                .prepare_cached("SELECT id FROM layers WHERE diff_id IS NULL AND state IN ('unsynced', 'ready')")?;
            let rows = statement.query_and_then([], |row| layer_id(row.get(0)?))?;
            rows.collect()
        })
        .await
    }

    /// Lists layers after an id, by id.
    pub async fn layers(&self, after: &str, limit: usize) -> Result<Vec<LayerRow>> {
        let after = after.to_owned();
        self.read("list layers", move |transaction| {
            let mut statement = transaction
                .prepare_cached(&format!("SELECT {COLUMNS} FROM layers WHERE id > ? ORDER BY id LIMIT ?"))?;
            let rows = statement.query_and_then(params![after, limit as i64], layer)?;
            rows.collect()
        })
        .await
    }
}
