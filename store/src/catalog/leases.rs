//! Leases, and what they hold.

use rusqlite::{Row, Transaction, params};
use strata_types::LeaseId;

use super::{Catalog, Durability, Held, PROJECT, now};
use crate::{Error, Result};

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// Its id.
    pub id: LeaseId,
    /// Who holds it, for people.
    pub holder: String,
    /// When it was made, milliseconds since 1970.
    pub created: i64,
    /// When it ends by itself, milliseconds since 1970.
    pub expires: Option<i64>,
}

fn lease(row: &Row<'_>) -> Result<LeaseRow> {
    let id: String = row.get(0)?;
    Ok(LeaseRow {
        id: LeaseId::parse(id.clone()).map_err(|_| Error::CatalogCorrupt { noun: "lease id", text: id })?,
        holder: row.get(1)?,
        created: row.get(2)?,
        expires: row.get(3)?,
    })
}

/// Refuses a lease that does not exist or has ended.
pub(super) fn must_exist(transaction: &Transaction<'_>, id: &LeaseId) -> Result<()> {
    let exists = transaction
        .prepare_cached("SELECT 1 FROM leases WHERE project = ? AND id = ? AND (expires IS NULL OR expires > ?)")?
        .exists(params![PROJECT, id.as_str(), now()])?;
    if exists { Ok(()) } else { Err(Error::LeaseNotFound { id: id.clone() }) }
}

/// Says whether a lease is there, ended or not.
pub(super) fn is_there(transaction: &Transaction<'_>, id: &LeaseId) -> Result<bool> {
    let mut statement = transaction.prepare_cached("SELECT 1 FROM leases WHERE project = ? AND id = ?")?;
    Ok(statement.exists(params![PROJECT, id.as_str()])?)
}

/// Says whether a lease holds an object.
pub(super) fn holds(transaction: &Transaction<'_>, id: &LeaseId, kind: Held, object: &str) -> Result<bool> {
    let mut statement = transaction
        .prepare_cached("SELECT 1 FROM lease_refs WHERE project = ? AND lease_id = ? AND kind = ? AND object = ?")?;
    Ok(statement.exists(params![PROJECT, id.as_str(), kind.as_str(), object])?)
}

/// Makes a lease hold an object, in the transaction that finds or makes the object.
pub(super) fn hold(transaction: &Transaction<'_>, id: &LeaseId, kind: Held, object: &str) -> Result<()> {
    must_exist(transaction, id)?;
    add(transaction, id, kind, object)
}

/// As [`hold`], for a lease that was checked in this transaction.
pub(super) fn add(transaction: &Transaction<'_>, id: &LeaseId, kind: Held, object: &str) -> Result<()> {
    transaction
        .prepare_cached("INSERT OR IGNORE INTO lease_refs (project, lease_id, kind, object) VALUES (?, ?, ?, ?)")?
        .execute(params![PROJECT, id.as_str(), kind.as_str(), object])?;
    Ok(())
}

impl Catalog {
    /// Makes a lease. With a grace (milliseconds) it is a session's: it lives until that long after
    /// [`Catalog::end_session`].
    pub async fn create_lease(&self, id: &LeaseId, holder: &str, grace: Option<i64>) -> Result<LeaseRow> {
        let row = LeaseRow { id: id.clone(), holder: holder.to_owned(), created: now(), expires: None };
        let made = row.clone();
        self.write("make a lease", Durability::Relaxed, move |transaction| {
            transaction
                .prepare_cached("INSERT INTO leases (project, id, holder, created, grace) VALUES (?, ?, ?, ?, ?)")?
                .execute(params![PROJECT, row.id.as_str(), row.holder, row.created, grace])?;
            Ok(())
        })
        .await?;
        Ok(made)
    }

    /// Starts the grace of a session lease, unless it is gone.
    pub async fn end_session(&self, id: &LeaseId) -> Result<()> {
        let id = id.clone();
        self.write("end a session", Durability::Relaxed, move |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE leases SET expires = ? + grace WHERE project = ? AND id = ? AND grace IS NOT NULL",
                )?
                .execute(params![now(), PROJECT, id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Starts the grace of every session lease: no stream survives a start of the service.
    pub async fn end_sessions(&self) -> Result<()> {
        self.write("end sessions", Durability::Relaxed, |transaction| {
            transaction.execute(
                "UPDATE leases SET expires = ? + grace WHERE grace IS NOT NULL AND expires IS NULL",
                [now()],
            )?;
            Ok(())
        })
        .await
    }

    /// Deletes a lease with all that it holds; says whether there was one.
    pub async fn delete_lease(&self, id: &LeaseId) -> Result<bool> {
        let deleted = id.clone();
        let deleted = self.write("delete a lease", Durability::Relaxed, move |transaction| {
            let deleted = transaction
                .prepare_cached("DELETE FROM leases WHERE project = ? AND id = ?")?
                .execute(params![PROJECT, deleted.as_str()])?;
            Ok(deleted > 0)
        });
        let deleted = deleted.await?;
        self.inner.holds.end(id);
        Ok(deleted)
    }

    /// Deletes the leases that have ended; returns how many, and when the next one ends.
    pub async fn expire_leases(&self) -> Result<(usize, Option<i64>)> {
        let expired = self.write("expire leases", Durability::Relaxed, |transaction| {
            let mut statement = transaction.prepare_cached("DELETE FROM leases WHERE expires <= ? RETURNING id")?;
            let expired = statement.query_map([now()], |row| row.get::<_, String>(0))?;
            let expired = expired.collect::<rusqlite::Result<Vec<_>>>()?;
            let next = transaction.query_row("SELECT min(expires) FROM leases", [], |row| row.get(0))?;
            Ok((expired, next))
        });
        let (expired, next) = expired.await?;
        let ids = expired.iter().filter_map(|id| LeaseId::parse(id.as_str()).ok());
        ids.for_each(|id| self.inner.holds.end(&id));
        Ok((expired.len(), next))
    }

    /// Refuses a lease that does not exist or has ended.
    pub async fn check_lease(&self, id: &LeaseId) -> Result<()> {
        let id = id.clone();
        self.read("find a lease", move |transaction| must_exist(transaction, &id)).await
    }

    /// Lists leases after an id, by id.
    pub async fn leases(&self, after: &str, limit: usize) -> Result<Vec<LeaseRow>> {
        let after = after.to_owned();
        self.read("list leases", move |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT id, holder, created, expires FROM leases WHERE project = ? AND id > ? ORDER BY id LIMIT ?",
            )?;
            let rows = statement.query_and_then(params![PROJECT, after, limit as i64], lease)?;
            rows.collect()
        })
        .await
    }

    /// Ids of all leases.
    pub async fn lease_ids(&self) -> Result<Vec<String>> {
        self.read("list leases", |transaction| {
            let mut statement = transaction.prepare_cached("SELECT id FROM leases")?;
            Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })
        .await
    }
}
