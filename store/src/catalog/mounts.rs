//! Cache mounts: directories that outlive the steps that write to them.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{Catalog, Durability, PROJECT, now};
use crate::Result;

/// A cache mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRow {
    /// Names it among all: 64 hex digits.
    pub key: String,
    /// The id that builds give it.
    pub id: String,
    /// What it was filled with and whose it is, as a digest. Empty: nothing, and root's.
    pub base: String,
    /// Number that names its directory.
    pub directory: u64,
    /// When it was made, milliseconds since 1970.
    pub created: i64,
    /// When a step had it last. `None`: never.
    pub used: Option<i64>,
    /// How many steps had it.
    pub uses: u64,
    /// Bytes in it when that was.
    pub size: u64,
}

const COLUMNS: &str = "key, id, base, directory, created, used, uses, size";

fn mount(row: &Row<'_>) -> rusqlite::Result<MountRow> {
    Ok(MountRow {
        key: row.get(0)?,
        id: row.get(1)?,
        base: row.get(2)?,
        directory: row.get(3)?,
        created: row.get(4)?,
        used: row.get(5)?,
        uses: row.get(6)?,
        size: row.get(7)?,
    })
}

fn find(transaction: &Transaction<'_>, key: &str) -> Result<Option<MountRow>> {
    let mut statement =
        transaction.prepare_cached(&format!("SELECT {COLUMNS} FROM cache_mounts WHERE project = ? AND key = ?"))?;
    Ok(statement.query_row(params![PROJECT, key], mount).optional()?)
}

impl Catalog {
    /// The mounts of an id over a base, oldest first.
    pub async fn mounts_of(&self, id: &str, base: &str) -> Result<Vec<MountRow>> {
        let (id, base) = (id.to_owned(), base.to_owned());
        self.read("find a cache mount", move |transaction| {
            let mut statement = transaction.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM cache_mounts WHERE project = ? AND id = ? AND base = ? ORDER BY directory"
            ))?;
            let rows = statement.query_map(params![PROJECT, id, base], mount)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Makes a mount. Its directory follows.
    pub async fn create_mount(&self, id: &str, base: &str) -> Result<MountRow> {
        let (id, base) = (id.to_owned(), base.to_owned());
        self.write("make a cache mount", Durability::Relaxed, move |transaction| {
            let directory: u64 = transaction
                .prepare_cached(
                    "INSERT INTO counters (name, value) VALUES ('cache mount', 1)
                     ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value",
                )?
                .query_row([], |row| row.get(0))?;
            let mut hasher = blake3::Hasher::new();
            for part in [PROJECT.as_bytes(), id.as_bytes(), base.as_bytes(), &directory.to_le_bytes()] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
            }
            let key = hasher.finalize().to_hex().to_string();
            let created = now();
            transaction
                .prepare_cached(
                    "INSERT INTO cache_mounts (project, key, id, base, directory, created) VALUES (?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![PROJECT, key, id, base, directory, created])?;
            Ok(MountRow { key, id, base, directory, created, used: None, uses: 0, size: 0 })
        })
        .await
    }

    /// Writes down that a step had a mount, and how large it is since.
    pub async fn count_mount_use(&self, key: &str, size: u64) -> Result<()> {
        let key = key.to_owned();
        self.write("count the use of a cache mount", Durability::Relaxed, move |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE cache_mounts SET used = ?3, uses = uses + 1, size = ?4 WHERE project = ?1 AND key = ?2",
                )?
                .execute(params![PROJECT, key, now(), size])?;
            Ok(())
        })
        .await
    }

    /// Finds a mount by its key.
    pub async fn mount(&self, key: &str) -> Result<Option<MountRow>> {
        let key = key.to_owned();
        self.read("find a cache mount", move |transaction| find(transaction, &key)).await
    }

    /// All mounts after this key, by key.
    pub async fn mounts(&self, after: &str, most: usize) -> Result<Vec<MountRow>> {
        let after = after.to_owned();
        self.read("list cache mounts", move |transaction| {
            let mut statement = transaction.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM cache_mounts WHERE project = ? AND key > ? ORDER BY key LIMIT ?"
            ))?;
            let rows = statement.query_map(params![PROJECT, after, most as i64], mount)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Forgets a mount, whose directory is gone.
    pub async fn forget_mount(&self, key: &str) -> Result<()> {
        let key = key.to_owned();
        self.write("forget a cache mount", Durability::Relaxed, move |transaction| {
            transaction
                .prepare_cached("DELETE FROM cache_mounts WHERE project = ? AND key = ?")?
                .execute(params![PROJECT, key])?;
            Ok(())
        })
        .await
    }
}
