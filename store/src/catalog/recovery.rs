//! What a start of the service changes in the catalog, before anybody uses it.

use rusqlite::params;
use strata_types::{Digest, LayerId};

use super::{Catalog, Durability, PROJECT, blobs, layers, now};
use crate::Result;

/// What the catalog says should be on disk.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Blobs with their sizes.
    pub blobs: Vec<(Digest, u64)>,
    /// Layers that are not on their way out.
    pub layers: Vec<LayerId>,
    /// Numbers of snapshot directories.
    pub snapshots: Vec<u64>,
    /// Numbers of the directories of cache mounts.
    pub mounts: Vec<u64>,
}

impl Catalog {
    /// Drops what did not survive: uploads, unfinished layers, and what another boot wrote without a sync. Leases
    /// of sessions begin their grace. Returns what should be on disk now.
    pub async fn recover(&self) -> Result<Known> {
        let boot_id = self.boot_id().to_owned();
        self.write("recover", Durability::Full, move |transaction| {
            transaction.execute("DELETE FROM ingests", [])?;
            transaction.execute("UPDATE leases SET expires = ? + grace WHERE grace IS NOT NULL AND expires IS NULL", [now()])?;
            transaction.execute("DELETE FROM leases WHERE expires <= ?", [now()])?;
            // Their directories go as files without a row. An image cannot name such a layer: it is durable first.
            let lost = "state IN ('incomplete', 'deleting') OR (state = 'unsynced' AND boot_id <> ?1)";
            transaction.execute(
                &format!("DELETE FROM lease_refs WHERE kind = 'layer' AND object IN (SELECT id FROM layers WHERE {lost})"),
                [&boot_id],
            )?;
            transaction.execute(
                &format!("DELETE FROM layers WHERE ({lost}) AND NOT EXISTS (SELECT 1 FROM image_layers i WHERE i.layer_id = layers.id)"),
                [&boot_id],
            )?;
            let lost = "boot_id IS NOT NULL AND boot_id <> ?1";
            transaction.execute(
                &format!("DELETE FROM lease_refs WHERE kind = 'blob' AND object IN (SELECT digest FROM blobs WHERE {lost})"),
                [&boot_id],
            )?;
            // Nothing durable names them: a name is set over documents that are on disk.
            transaction.execute(
                &format!("DELETE FROM documents WHERE digest IN (SELECT digest FROM blobs WHERE {lost})"),
                [&boot_id],
            )?;
            transaction.execute(&format!("DELETE FROM blobs WHERE {lost}"), [&boot_id])?;
            // A commit that was cut off: its layer is gone, its tree is as it was, or went with the layer.
            transaction.execute("UPDATE snapshots SET state = 'free' WHERE state = 'committing'", [])?;
            transaction.execute("DELETE FROM snapshots WHERE state = 'deleting'", [])?;

            let mut known = Known::default();
            let mut statement = transaction.prepare("SELECT digest, size FROM blobs WHERE project = ?")?;
            let mut rows = statement.query([PROJECT])?;
            while let Some(row) = rows.next()? {
                known.blobs.push((blobs::digest(row.get(0)?)?, row.get(1)?));
            }
            let mut statement = transaction.prepare("SELECT id FROM layers")?;
            known.layers = statement.query_and_then([], |row| layers::layer_id(row.get(0)?))?.collect::<Result<_>>()?;
            let mut statement = transaction.prepare("SELECT directory FROM snapshots")?;
            known.snapshots = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let mut statement = transaction.prepare("SELECT directory FROM cache_mounts")?;
            known.mounts = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(known)
        })
        .await
    }

    /// Drops blobs whose files are missing or damaged, with the tables of contents that they were: a layer without
    /// one has to be described again. Images that need them stay, and say so when they are used.
    pub async fn drop_blobs(&self, digests: Vec<Digest>) -> Result<()> {
        self.write("drop damaged blobs", Durability::Full, move |transaction| {
            for digest in &digests {
                transaction.execute(
                    "DELETE FROM blobs WHERE project = ? AND digest = ?",
                    params![PROJECT, digest.to_string()],
                )?;
                transaction.execute(
                    "UPDATE layers SET diff_id = NULL, toc = NULL WHERE toc = ? AND NOT EXISTS
                     (SELECT 1 FROM image_layers i WHERE i.layer_id = layers.id)",
                    [digest.to_string()],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Drops layers whose directories are missing, with cache records and snapshots that stand on them, unless an
    /// image names them: that image stays, and says what it misses when it is used.
    pub async fn drop_layers(&self, ids: Vec<LayerId>) -> Result<()> {
        self.write("drop missing layers", Durability::Full, move |transaction| {
            for id in &ids {
                transaction.execute("DELETE FROM lease_refs WHERE kind = 'layer' AND object = ?", [id.as_str()])?;
                transaction.execute("DELETE FROM cache_records WHERE layer_id = ?", [id.as_str()])?;
                transaction.execute(
                    "DELETE FROM layers WHERE id = ? AND NOT EXISTS (SELECT 1 FROM image_layers i WHERE i.layer_id = layers.id)",
                    [id.as_str()],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Drops snapshots whose directories are missing.
    pub async fn drop_snapshots(&self, directories: Vec<u64>) -> Result<()> {
        self.write("drop missing snapshots", Durability::Full, move |transaction| {
            for directory in &directories {
                transaction.execute("DELETE FROM snapshots WHERE directory = ?", [directory])?;
            }
            Ok(())
        })
        .await
    }
}
