//! Rows of blobs and of uploads under way.

use rusqlite::{OptionalExtension, Row, Transaction, params};
use strata_types::{Digest, LeaseId};

use super::{Catalog, Durability, Held, PROJECT, leases, now};
use crate::{Error, Result};

/// A stored blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRow {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// It is known to be on disk.
    pub is_durable: bool,
}

pub(super) fn digest(text: String) -> Result<Digest> {
    Digest::parse(&text).map_err(|_| Error::CatalogCorrupt { noun: "digest", text })
}

pub(super) fn blob(row: &Row<'_>) -> Result<BlobRow> {
    Ok(BlobRow {
        digest: digest(row.get(0)?)?,
        size: row.get(1)?,
        is_durable: row.get::<_, Option<String>>(2)?.is_none(),
    })
}

pub(super) fn find(transaction: &Transaction<'_>, wanted: &Digest) -> Result<Option<BlobRow>> {
    let mut statement =
        transaction.prepare_cached("SELECT digest, size, boot_id FROM blobs WHERE project = ? AND digest = ?")?;
    let mut rows = statement.query(params![PROJECT, wanted.to_string()])?;
    rows.next()?.map(blob).transpose()
}

pub(super) fn insert(transaction: &Transaction<'_>, digest: &Digest, size: u64, boot_id: Option<&str>) -> Result<()> {
    // A row that is durable stays so, whoever writes the same bytes again.
    transaction
        .prepare_cached(
            "INSERT INTO blobs (project, digest, size, boot_id, created) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET boot_id = NULL WHERE excluded.boot_id IS NULL",
        )?
        .execute(params![PROJECT, digest.to_string(), size, boot_id, now()])?;
    Ok(())
}

impl Catalog {
    /// Begins an upload under a lease.
    pub async fn begin_ingest(&self, id: &str, lease: &LeaseId, expected: Option<&Digest>) -> Result<()> {
        let (id, lease, expected) = (id.to_owned(), lease.clone(), expected.map(Digest::to_string));
        self.write("begin an upload", Durability::Relaxed, move |transaction| {
            leases::must_exist(transaction, &lease)?;
            transaction
                .prepare_cached(
                    "INSERT INTO ingests (id, project, lease_id, expected, started) VALUES (?, ?, ?, ?, ?)",
                )?
                .execute(params![id, PROJECT, lease.as_str(), expected, now()])?;
            Ok(())
        })
        .await
    }

    /// Forgets an upload.
    pub async fn end_ingest(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.write("end an upload", Durability::Relaxed, move |transaction| {
            transaction.prepare_cached("DELETE FROM ingests WHERE id = ?")?.execute([id])?;
            Ok(())
        })
        .await
    }

    /// Makes a blob visible whose file is in place, held by the lease. Without `Durability::Full` it counts as
    /// written in this boot only, until [`Catalog::mark_durable`].
    pub async fn put_blob(&self, blob: &Digest, size: u64, lease: &LeaseId, durability: Durability) -> Result<()> {
        let (blob, lease) = (*blob, lease.clone());
        let boot_id = (durability == Durability::Relaxed).then(|| self.boot_id().to_owned());
        self.write("store a blob", durability, move |transaction| {
            leases::hold(transaction, &lease, Held::Blob, &blob.to_string())?;
            insert(transaction, &blob, size, boot_id.as_deref())
        })
        .await
    }

    /// These blobs are on disk: a `syncfs` came after they were stored. Those that are not here stay so.
    pub async fn mark_blobs_synced(&self, digests: &[Digest]) -> Result<()> {
        let digests = digests.to_vec();
        self.write("mark blobs as synced", Durability::Full, move |transaction| {
            let mut statement = transaction.prepare_cached(
                "UPDATE blobs SET boot_id = NULL WHERE project = ? AND digest = ? AND boot_id IS NOT NULL",
            )?;
            for digest in &digests {
                statement.execute(params![PROJECT, digest.to_string()])?;
            }
            Ok(())
        })
        .await
    }

    /// Finds a blob.
    pub async fn blob(&self, digest: &Digest) -> Result<BlobRow> {
        let digest = *digest;
        self.read("find a blob", move |transaction| find(transaction, &digest)?.ok_or(Error::BlobNotFound { digest }))
            .await
    }

    /// Finds a blob and holds it by the lease.
    pub async fn hold_blob(&self, digest: &Digest, lease: &LeaseId) -> Result<Option<BlobRow>> {
        let (digest, lease) = (*digest, lease.clone());
        self.write("hold a blob", Durability::Relaxed, move |transaction| {
            leases::must_exist(transaction, &lease)?;
            let found = find(transaction, &digest)?;
            if found.is_some() {
                leases::hold(transaction, &lease, Held::Blob, &digest.to_string())?;
            }
            Ok(found)
        })
        .await
    }

    /// Lists blobs after a digest, by digest.
    pub async fn blobs(&self, after: &str, limit: usize) -> Result<Vec<BlobRow>> {
        let after = after.to_owned();
        self.read("list blobs", move |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT digest, size, boot_id FROM blobs WHERE project = ? AND digest > ? ORDER BY digest LIMIT ?",
            )?;
            let rows = statement.query_and_then(params![PROJECT, after, limit as i64], blob)?;
            rows.collect()
        })
        .await
    }

    /// Counts blobs, layers, images and bytes of blobs and layers.
    pub async fn totals(&self) -> Result<[u64; 4]> {
        self.read("count objects", |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT (SELECT count(*) FROM blobs), (SELECT count(*) FROM layers), (SELECT count(*) FROM images),
                 (SELECT coalesce(sum(size), 0) FROM blobs) + (SELECT coalesce(sum(size), 0) FROM layers)",
            )?;
            let found =
                statement.query_row([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?])).optional()?;
            Ok(found.unwrap_or_default())
        })
        .await
    }
}
