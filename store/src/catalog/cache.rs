//! Build cache records.

use rusqlite::{Row, Transaction, params};
use strata_types::{LayerId, LeaseId};

use super::{Catalog, Durability, Held, PROJECT, layers, leases};
use crate::{Error, Result};

/// What a build step made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRecord {
    /// Key of the step, 64 hex digits.
    pub key: String,
    /// Stable name of the step; empty: none.
    pub family: String,
    /// Layer it made, if any.
    pub layer: Option<LayerId>,
    /// Instruction, for people.
    pub description: String,
    /// When it was made, milliseconds since 1970.
    pub created: i64,
}

fn record(row: &Row<'_>) -> Result<CacheRecord> {
    Ok(CacheRecord {
        key: row.get(0)?,
        family: row.get(1)?,
        layer: row.get::<_, Option<String>>(2)?.map(layers::layer_id).transpose()?,
        description: row.get(3)?,
        created: row.get(4)?,
    })
}

/// Takes the record's layer under the lease; a record whose layer is going away is as good as none.
fn held(transaction: &Transaction<'_>, found: CacheRecord, lease: &LeaseId) -> Result<Option<CacheRecord>> {
    let Some(id) = &found.layer else { return Ok(Some(found)) };
    match layers::usable(transaction, id) {
        Ok(_) => leases::add(transaction, lease, Held::Layer, id.as_str()).map(|()| Some(found)),
        Err(Error::LayerNotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Catalog {
    /// Finds the record of a key, else the newest one of the family; their layers are held by the lease.
    pub async fn cache_record(
        &self,
        key: &str,
        family: &str,
        lease: &LeaseId,
    ) -> Result<(Option<CacheRecord>, Option<CacheRecord>)> {
        let (key, family, lease) = (key.to_owned(), family.to_owned(), lease.clone());
        self.write("find a cache record", Durability::Relaxed, move |transaction| {
            leases::must_exist(transaction, &lease)?;
            let mut statement = transaction.prepare_cached(
                "SELECT key, family, layer_id, description, created FROM cache_records WHERE project = ? AND key = ?",
            )?;
            let found = statement.query(params![PROJECT, key])?.next()?.map(record).transpose()?;
            if let Some(found) = found.map(|found| held(transaction, found, &lease)).transpose()?.flatten() {
                return Ok((Some(found), None));
            }
            if family.is_empty() {
                return Ok((None, None));
            }
            let mut statement = transaction.prepare_cached(
                "SELECT key, family, layer_id, description, created FROM cache_records
                 WHERE project = ? AND family = ? AND family <> '' ORDER BY created DESC, key LIMIT 1",
            )?;
            let previous = statement.query(params![PROJECT, family])?.next()?.map(record).transpose()?;
            let previous = previous.map(|found| held(transaction, found, &lease)).transpose()?.flatten();
            Ok((None, previous))
        })
        .await
    }

    /// Stores a record; one with the same key is replaced.
    pub async fn put_cache_record(&self, record: CacheRecord) -> Result<()> {
        self.write("store a cache record", Durability::Relaxed, move |transaction| {
            if let Some(id) = &record.layer {
                layers::usable(transaction, id)?;
            }
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO cache_records (project, key, family, layer_id, description, created)
                     VALUES (?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    PROJECT,
                    record.key,
                    record.family,
                    record.layer.as_ref().map(LayerId::as_str),
                    record.description,
                    record.created
                ])?;
            Ok(())
        })
        .await
    }

    /// Removes every build cache record. Returns how many there were.
    pub async fn remove_all_cache_records(&self) -> Result<u64> {
        self.write("remove build cache records", Durability::Relaxed, |transaction| {
            Ok(transaction.execute("DELETE FROM cache_records WHERE project = ?", [PROJECT])? as u64)
        })
        .await
    }
}
