//! Build cache records.

use rusqlite::{Row, Transaction, params};
use strata_types::{LayerId, LeaseId};

use super::{Catalog, Durability, Held, PROJECT, layers, leases};
use crate::{Error, Result};

/// What a build step made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheRecord {
    /// Key of the step, 64 hex digits.
    pub key: String,
    /// What the step does, whatever it stands on: 64 hex digits; empty: nobody says.
    pub operation: String,
    /// Stable name of the step; empty: none.
    pub family: String,
    /// Layer it made, if any.
    pub layer: Option<LayerId>,
    /// Instruction, for people.
    pub description: String,
    /// When it was made, milliseconds since 1970.
    pub created: i64,
}

/// What is looked for.
#[derive(Clone, Debug)]
pub struct CacheQuery {
    /// Key of the step.
    pub key: String,
    /// What the step does; empty: by its key only.
    pub operation: String,
    /// Stable name of the step; empty: none.
    pub family: String,
    /// Lease that shall hold the layer.
    pub lease: LeaseId,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheFound {
    /// The record of the key; its layer is held by the lease.
    pub record: Option<CacheRecord>,
    /// The newest record of the family, where the key has none. Its layer is not held.
    pub previous: Option<CacheRecord>,
    /// Some step did the same, on something else as far as its key says.
    pub is_known: bool,
}

const COLUMNS: &str = "key, operation, family, layer_id, description, created";

fn record(row: &Row<'_>) -> Result<CacheRecord> {
    Ok(CacheRecord {
        key: row.get(0)?,
        operation: row.get(1)?,
        family: row.get(2)?,
        layer: row.get::<_, Option<String>>(3)?.map(layers::layer_id).transpose()?,
        description: row.get(4)?,
        created: row.get(5)?,
    })
}

/// Stores a record.
pub(super) fn put(transaction: &Transaction<'_>, record: &CacheRecord) -> Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO cache_records (project, key, operation, family, layer_id, description, created)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            PROJECT,
            record.key,
            record.operation,
            record.family,
            record.layer.as_ref().map(LayerId::as_str),
            record.description,
            record.created
        ])?;
    Ok(())
}

/// The record whose `column` is `value`, and whether the lease holds its layer; one whose layer is going away is as good as
/// none.
fn find(
    transaction: &Transaction<'_>,
    column: &str,
    value: &str,
    lease: &LeaseId,
) -> Result<Option<(CacheRecord, bool)>> {
    let mut statement = transaction.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM cache_records WHERE project = ? AND {column} = ? AND {column} <> ''
         ORDER BY created, key LIMIT 1"
    ))?;
    let Some(found) = statement.query(params![PROJECT, value])?.next()?.map(record).transpose()? else {
        return Ok(None);
    };
    let Some(id) = &found.layer else { return Ok(Some((found, true))) };
    match layers::usable(transaction, id) {
        Ok(_) => {
            let is_held = leases::holds(transaction, lease, Held::Layer, id.as_str())?;
            Ok(Some((found, is_held)))
        }
        Err(Error::LayerNotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Catalog {
    /// Finds the record of a key, else what is known of its family and of what it does. Nothing is written where the lease
    /// holds the layer already, or there is none.
    pub async fn cache_record(&self, query: CacheQuery) -> Result<CacheFound> {
        let asked = query.clone();
        let (record, is_held, found) = self
            .read("find a cache record", move |transaction| {
                let CacheQuery { key, operation, family, lease } = asked;
                leases::must_exist(transaction, &lease)?;
                if let Some((record, is_held)) = find(transaction, "key", &key, &lease)? {
                    return Ok((Some(record), is_held, CacheFound::default()));
                }
                let mut statement = transaction.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM cache_records
                     WHERE project = ? AND family = ? AND family <> '' ORDER BY created DESC, key LIMIT 1"
                ))?;
                let previous = statement.query(params![PROJECT, family])?.next()?.map(self::record).transpose()?;
                let is_known = transaction
                    .prepare_cached(
                        "SELECT 1 FROM cache_records WHERE project = ? AND operation = ? AND operation <> ''",
                    )?
                    .exists(params![PROJECT, operation])?;
                Ok((None, true, CacheFound { record: None, previous, is_known }))
            })
            .await?;
        match record {
            Some(record) if is_held => Ok(CacheFound { record: Some(record), ..found }),
            // It went meanwhile: this is as good as never.
            Some(_) => Ok(CacheFound { record: self.hold_record("key", query.key, query.lease).await?, ..found }),
            None => Ok(found),
        }
    }

    /// Finds the oldest record of a step that did the same to the same files, as `content` says; its layer is held by the
    /// lease.
    pub async fn cache_record_of_content(&self, content: &str, lease: &LeaseId) -> Result<Option<CacheRecord>> {
        let (wanted, holder) = (content.to_owned(), lease.clone());
        let found = self.read("find a cache record", move |transaction| find(transaction, "content", &wanted, &holder));
        match found.await? {
            Some((record, true)) => Ok(Some(record)),
            Some((_, false)) => self.hold_record("content", content.to_owned(), lease.clone()).await,
            None => Ok(None),
        }
    }

    async fn hold_record(&self, column: &'static str, value: String, lease: LeaseId) -> Result<Option<CacheRecord>> {
        self.write("hold a cached layer", Durability::Relaxed, move |transaction| {
            leases::must_exist(transaction, &lease)?;
            let Some((record, _)) = find(transaction, column, &value, &lease)? else { return Ok(None) };
            if let Some(id) = &record.layer {
                leases::add(transaction, &lease, Held::Layer, id.as_str())?;
            }
            Ok(Some(record))
        })
        .await
    }

    /// Stores a record; one with the same key is replaced.
    pub async fn put_cache_record(&self, record: CacheRecord) -> Result<()> {
        self.write("store a cache record", Durability::Relaxed, move |transaction| {
            if let Some(id) = &record.layer {
                layers::usable(transaction, id)?;
            }
            put(transaction, &record)
        })
        .await
    }

    /// Writes down, by their keys, what records did to which files.
    pub async fn set_cache_contents(&self, contents: Vec<(String, String)>) -> Result<()> {
        self.write("describe cache records", Durability::Relaxed, move |transaction| {
            let mut statement =
                transaction.prepare_cached("UPDATE cache_records SET content = ? WHERE project = ? AND key = ?")?;
            for (key, content) in contents {
                statement.execute(params![content, PROJECT, key])?;
            }
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
