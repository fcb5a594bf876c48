//! What nothing references: marked in one read snapshot, taken one by one where that is still true.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Transaction, params};
use strata_types::{Digest, LayerId};

use super::{Catalog, Durability, PROJECT, blobs, layers, now};
use crate::{Error, Result};

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
pub(super) const BLOB_IN_USE: &str =
    "(EXISTS (SELECT 1 FROM documents d WHERE d.project = b.project AND d.digest = b.digest)
    OR EXISTS (SELECT 1 FROM document_children c WHERE c.project = b.project AND c.child = b.digest)
    OR EXISTS (SELECT 1 FROM images i WHERE i.project = b.project AND i.id = b.digest)
    OR EXISTS (SELECT 1 FROM images i WHERE i.project = b.project AND i.manifest = b.digest)
    OR EXISTS (SELECT 1 FROM layers l WHERE l.toc = b.digest)
    OR EXISTS (SELECT 1 FROM repository_blobs p WHERE p.project = b.project AND p.digest = b.digest)
    OR EXISTS (SELECT 1 FROM lease_refs r WHERE r.project = b.project AND r.kind = 'blob' AND r.object = b.digest))";

/// True for the blob of a layer that may be had again: it is unpacked, on disk with its table of contents, and a registry
/// has it. What was pushed to our own registry stays as it was pushed.
const BLOB_IS_ELSEWHERE: &str =
    "(EXISTS (SELECT 1 FROM layer_blobs f JOIN layers l ON l.project = f.project AND l.diff_id = f.diff_id
             WHERE f.project = b.project AND f.digest = b.digest AND f.source <> ''
             AND l.state = 'ready' AND l.toc IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM lease_refs r WHERE r.project = b.project AND r.kind = 'blob' AND r.object = b.digest)
    AND NOT EXISTS (SELECT 1 FROM repository_blobs p WHERE p.project = b.project AND p.digest = b.digest)
    AND NOT EXISTS (SELECT 1 FROM document_children c WHERE c.project = b.project AND c.child = b.digest
                    AND (c.kind <> 'layer' OR EXISTS (SELECT 1 FROM repository_documents d
                         WHERE d.project = c.project AND d.digest = c.document)))
    AND NOT EXISTS (SELECT 1 FROM layers l WHERE l.toc = b.digest))";

/// True for a document that nothing needs: no name, image, repository or lease leads to it, it is about none that is
/// needed, and it is not younger than `?2`.
pub(super) const DOCUMENT_NOT_IN_USE: &str = "digest NOT IN (
    WITH RECURSIVE live(digest) AS (
        SELECT target FROM names WHERE project = ?1
        UNION SELECT manifest FROM images WHERE project = ?1
        UNION SELECT digest FROM repository_documents WHERE project = ?1
        UNION SELECT object FROM lease_refs WHERE project = ?1 AND kind = 'blob'
        UNION SELECT digest FROM documents WHERE project = ?1 AND created > ?2
        UNION SELECT c.child FROM live l CROSS JOIN document_children c ON c.document = l.digest
              WHERE c.project = ?1 AND c.kind IN ('index', 'manifest')
        UNION SELECT d.digest FROM live l CROSS JOIN documents d ON d.subject = l.digest WHERE d.project = ?1)
    SELECT digest FROM live)";

/// Layers that snapshots need: read once, not once for every layer.
pub(super) fn of_snapshots(transaction: &Transaction<'_>) -> Result<HashSet<String>> {
    let mut statement = transaction.prepare_cached("SELECT layer_ids FROM snapshots WHERE state <> 'deleting'")?;
    let mut used = HashSet::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        used.extend(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?.split_whitespace().map(str::to_owned));
    }
    Ok(used)
}

impl Catalog {
    /// Forgets the documents that nothing needs and that are older than `grace` milliseconds, so that their blobs are
    /// garbage; returns how many.
    pub async fn sweep_documents(&self, grace: i64) -> Result<usize> {
        let youngest = now().saturating_sub(grace);
        // Others may have to wait for a writer, so one comes only where there is something to do.
        let is_any = self
            .read("look for documents without use", move |transaction| {
                let mut statement = transaction.prepare_cached(&format!(
                    "SELECT 1 FROM documents WHERE project = ?1 AND {DOCUMENT_NOT_IN_USE} LIMIT 1"
                ))?;
                Ok(statement.exists(params![PROJECT, youngest])?)
            })
            .await?;
        if !is_any {
            return Ok(0);
        }
        self.write("forget documents without use", Durability::Full, move |transaction| {
            let swept = transaction
                .prepare_cached(&format!("DELETE FROM documents WHERE project = ?1 AND {DOCUMENT_NOT_IN_USE}"))?
                .execute(params![PROJECT, youngest])?;
            // What is known of compressed layers is of use while they are here, or something says how to get them.
            transaction
                .prepare_cached(
                    "DELETE FROM layer_blobs AS l WHERE project = ?1
                     AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.project = l.project AND b.digest = l.digest)
                     AND NOT EXISTS (SELECT 1 FROM document_children c WHERE c.project = l.project AND c.child = l.digest)",
                )?
                .execute([PROJECT])?;
            Ok(swept)
        })
        .await
    }

    /// Finds the layers and blobs that nothing references and that are older than `grace` milliseconds.
    pub async fn garbage(&self, grace: i64) -> Result<Garbage> {
        let held = self.inner.holds.ids();
        self.read("look for garbage", move |transaction| {
            let youngest = now().saturating_sub(grace);
            let mut used = of_snapshots(transaction)?;
            used.extend(held);
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

    /// Finds the blobs of unpacked layers that registries have, older than `grace` milliseconds; says whether younger
    /// ones are left.
    pub async fn blobs_elsewhere(&self, grace: i64) -> Result<(Vec<Digest>, bool)> {
        self.read("look for blobs that registries have", move |transaction| {
            let youngest = now().saturating_sub(grace);
            let mut statement = transaction.prepare_cached(&format!(
                "SELECT DISTINCT b.digest, b.created FROM layer_blobs s
                 JOIN blobs b ON b.project = s.project AND b.digest = s.digest
                 WHERE s.source <> '' AND {BLOB_IS_ELSEWHERE}"
            ))?;
            let (mut found, mut is_young_left) = (Vec::new(), false);
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                match row.get::<_, i64>(1)? <= youngest {
                    true => found.push(blobs::digest(row.get(0)?)?),
                    false => is_young_left = true,
                }
            }
            Ok((found, is_young_left))
        })
        .await
    }

    /// Deletes the row of a layer's blob if it can be had again now; `discard` takes its file away as for
    /// [`Catalog::reclaim_blob`]. What is known of it stays, and says where it is.
    pub(crate) async fn let_blob_go(
        &self,
        digest: &Digest,
        discard: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Reclaim> {
        self.delete_blob("let go of a blob", digest, BLOB_IS_ELSEWHERE, discard).await
    }

    /// Deletes a layer's row if nothing references it now. `discard` moves its directory away in the same transaction:
    /// of a crash between them a directory without a row is left, or a row that nothing needs without a directory, and
    /// the next start takes away either.
    pub(crate) async fn reclaim_layer(
        &self,
        id: &LayerId,
        discard: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Reclaim> {
        let (id, inner) = (id.clone(), Arc::clone(&self.inner));
        self.write("reclaim a layer", Durability::Relaxed, move |transaction| {
            if inner.holds.has(&id) {
                return Ok(Reclaim::Kept);
            }
            let size = match layers::find(transaction, &id) {
                Err(Error::LayerNotFound { .. }) => return Ok(Reclaim::Kept),
                found => found?.size,
            };
            let deleted = transaction
                .prepare_cached(&format!("DELETE FROM layers AS l WHERE l.id = ? AND NOT {LAYER_IN_USE}"))?
                .execute([id.as_str()])?;
            if deleted == 0 {
                return Ok(Reclaim::Kept);
            }
            discard()?;
            Ok(Reclaim::Freed(size))
        })
        .await
    }

    /// Deletes a blob's row if nothing references it now. `discard` then takes the file away before anybody can store
    /// the same bytes again.
    pub(crate) async fn reclaim_blob(
        &self,
        digest: &Digest,
        discard: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Reclaim> {
        self.delete_blob("reclaim a blob", digest, &format!("NOT {BLOB_IN_USE}"), discard).await
    }

    async fn delete_blob(
        &self,
        attempt: &'static str,
        digest: &Digest,
        condition: &str,
        discard: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Reclaim> {
        let digest = *digest;
        let sql = format!("DELETE FROM blobs AS b WHERE b.project = ? AND b.digest = ? AND {condition}");
        self.write(attempt, Durability::Full, move |transaction| {
            let Some(blob) = blobs::find(transaction, &digest)? else { return Ok(Reclaim::Kept) };
            if transaction.prepare_cached(&sql)?.execute(params![PROJECT, digest.to_string()])? == 0 {
                return Ok(Reclaim::Kept);
            }
            discard()?;
            Ok(Reclaim::Freed(blob.size))
        })
        .await
    }
}
