//! What nothing references: marked in one read snapshot, taken one by one where that is still true.

use std::collections::HashSet;

use rusqlite::{Transaction, params};
use strata_types::{Digest, LayerId};

use super::{Catalog, Durability, PROJECT, blobs, layers, now};
use crate::Result;

/// Objects that nothing referenced when they were looked at.
#[derive(Clone, Debug, Default)]
pub struct Garbage {
    /// Layers.
    pub layers: Vec<LayerId>,
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Some objects are too young to go now.
    pub is_young_left: bool,
}

/// An object whose row is out of use, so that its file may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reclaim {
    /// It is free, with so many bytes.
    Freed(u64),
    /// It is in use again.
    Kept,
}

/// What a prune took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// Images that are gone.
    pub deleted: Vec<Digest>,
    /// Cache records that are gone.
    pub cache_records: u64,
    /// Bytes that are free again.
    pub reclaimed: u64,
}

/// True for a layer that something needs.
const LAYER_IN_USE: &str = "(EXISTS (SELECT 1 FROM image_layers i WHERE i.layer_id = l.id)
    OR EXISTS (SELECT 1 FROM cache_records c WHERE c.layer_id = l.id)
    OR EXISTS (SELECT 1 FROM lease_refs r WHERE r.project = l.project AND r.kind = 'layer' AND r.object = l.id)
    OR EXISTS (SELECT 1 FROM snapshots s WHERE s.state <> 'deleting'
               AND instr(' ' || s.layer_ids || ' ', ' ' || l.id || ' ')))";

/// True for a blob that something needs.
const BLOB_IN_USE: &str =
    "(EXISTS (SELECT 1 FROM images i WHERE i.project = b.project AND (i.id = b.digest OR i.manifest = b.digest))
    OR EXISTS (SELECT 1 FROM layers l WHERE l.toc = b.digest)
    OR EXISTS (SELECT 1 FROM lease_refs r WHERE r.project = b.project AND r.kind = 'blob' AND r.object = b.digest))";

/// Layers that snapshots need: read once, not once for every layer.
fn of_snapshots(transaction: &Transaction<'_>) -> Result<HashSet<String>> {
    let mut statement = transaction.prepare_cached("SELECT layer_ids FROM snapshots WHERE state <> 'deleting'")?;
    let mut used = HashSet::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        used.extend(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?.split_whitespace().map(str::to_owned));
    }
    Ok(used)
}

impl Catalog {
    /// Finds the layers and blobs that nothing references and that are older than `grace` milliseconds.
    pub async fn garbage(&self, grace: i64) -> Result<Garbage> {
        self.read("look for garbage", move |transaction| {
            let youngest = now().saturating_sub(grace);
            let used = of_snapshots(transaction)?;
            let mut garbage = Garbage::default();
            let mut statement = transaction.prepare_cached(
                "SELECT l.id, l.created FROM layers l
                 WHERE NOT EXISTS (SELECT 1 FROM image_layers i WHERE i.layer_id = l.id)
                 AND NOT EXISTS (SELECT 1 FROM cache_records c WHERE c.layer_id = l.id)
                 AND NOT EXISTS (SELECT 1 FROM lease_refs r WHERE r.project = l.project AND r.kind = 'layer' AND r.object = l.id)",
            )?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let id: String = row.get(0)?;
                match (used.contains(&id), row.get::<_, i64>(1)? <= youngest) {
                    (true, _) => {}
                    (false, true) => garbage.layers.push(layers::layer_id(id)?),
                    (false, false) => garbage.is_young_left = true,
                }
            }
            let mut statement =
                transaction.prepare_cached(&format!("SELECT b.digest, b.created FROM blobs b WHERE NOT {BLOB_IN_USE}"))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                match row.get::<_, i64>(1)? <= youngest {
                    true => garbage.blobs.push(blobs::digest(row.get(0)?)?),
                    false => garbage.is_young_left = true,
                }
            }
            Ok(garbage)
        })
        .await
    }

    /// Marks a layer for deletion if nothing references it now. Nobody finds it afterwards.
    pub async fn reclaim_layer(&self, id: &LayerId) -> Result<Reclaim> {
        let id = id.clone();
        self.write("reclaim a layer", Durability::Relaxed, move |transaction| {
            let changed = transaction
                .prepare_cached(&format!(
                    "UPDATE layers AS l SET state = 'deleting' WHERE l.id = ? AND NOT {LAYER_IN_USE}"
                ))?
                .execute([id.as_str()])?;
            if changed == 0 {
                return Ok(Reclaim::Kept);
            }
            Ok(Reclaim::Freed(layers::find(transaction, &id)?.size))
        })
        .await
    }

    /// Deletes the row of a layer whose directory is in the trash.
    pub async fn forget_layer(&self, id: &LayerId) -> Result<()> {
        let id = id.clone();
        self.write("forget a layer", Durability::Relaxed, move |transaction| {
            transaction
                .prepare_cached("DELETE FROM layers WHERE id = ? AND state = 'deleting'")?
                .execute([id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Deletes a blob's row if nothing references it now. `unlink` then takes the file away before anybody can store
    /// the same bytes again.
    pub(crate) async fn reclaim_blob(
        &self,
        digest: &Digest,
        unlink: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Reclaim> {
        let digest = *digest;
        self.write("reclaim a blob", Durability::Full, move |transaction| {
            let Some(blob) = blobs::find(transaction, &digest)? else { return Ok(Reclaim::Kept) };
            let deleted = transaction
                .prepare_cached(&format!(
                    "DELETE FROM blobs AS b WHERE b.project = ? AND b.digest = ? AND NOT {BLOB_IN_USE}"
                ))?
                .execute(params![PROJECT, digest.to_string()])?;
            if deleted == 0 {
                return Ok(Reclaim::Kept);
            }
            unlink()?;
            Ok(Reclaim::Freed(blob.size))
        })
        .await
    }
}
