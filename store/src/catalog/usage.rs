//! How much the build cache holds, and when it was used.

use std::collections::{HashMap, HashSet};

use rusqlite::{Row, Transaction, params};
use strata_types::LayerId;

use super::{Catalog, Durability, PROJECT, garbage, layers};
use crate::Result;

/// What the build cache keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// What a step made.
    Step,
    /// A cache mount.
    Mount,
}

/// A part of the build cache, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheUse {
    /// What it is.
    pub kind: CacheKind,
    /// Its key, 64 hex digits.
    pub key: String,
    /// Layer it made, if any.
    pub layer: Option<LayerId>,
    /// Instruction, for people.
    pub description: String,
    /// When it was made, milliseconds since 1970.
    pub created: i64,
    /// When it was found last. `None`: never.
    pub used: Option<i64>,
    /// How often it was found.
    pub uses: u64,
    /// Bytes of its layer; nothing where another record has the same layer and counts it.
    pub size: u64,
    /// A lease or a snapshot needs the layer now.
    pub is_in_use: bool,
    /// An image has the layer too: it stays when the record goes.
    pub is_shared: bool,
}

/// Finds of records since they were written down last: how many of each, and when the last was.
pub type Finds = HashMap<String, (u64, i64)>;

const SHARED: &str = "EXISTS (SELECT 1 FROM image_layers i WHERE i.layer_id = c.layer_id)";
const LEASED: &str = "EXISTS (SELECT 1 FROM lease_refs r
    WHERE r.project = c.project AND r.kind = 'layer' AND r.object = c.layer_id)";
/// The first record of a layer counts it.
const SIZE: &str = "CASE WHEN EXISTS (SELECT 1 FROM cache_records d WHERE d.layer_id = c.layer_id AND d.key < c.key)
    THEN 0 ELSE coalesce(l.size, 0) END";
const TABLES: &str = "cache_records c
    LEFT JOIN cache_usage u ON u.project = c.project AND u.key = c.key
    LEFT JOIN layers l ON l.id = c.layer_id";

fn select(rest: &str) -> String {
    format!(
        "SELECT c.key, c.layer_id, c.description, c.created, u.used, coalesce(u.uses, 0), {SIZE}, {LEASED}, {SHARED}
         FROM {TABLES} WHERE c.project = ?1 AND {rest}"
    )
}

fn read(row: &Row<'_>, in_snapshots: &HashSet<String>) -> Result<CacheUse> {
    let layer: Option<String> = row.get(1)?;
    let is_in_snapshot = layer.as_ref().is_some_and(|id| in_snapshots.contains(id));
    Ok(CacheUse {
        kind: CacheKind::Step,
        key: row.get(0)?,
        layer: layer.map(layers::layer_id).transpose()?,
        description: row.get(2)?,
        created: row.get(3)?,
        used: row.get(4)?,
        uses: row.get(5)?,
        size: row.get(6)?,
        is_in_use: row.get::<_, bool>(7)? || is_in_snapshot,
        is_shared: row.get(8)?,
    })
}

fn all(transaction: &Transaction<'_>, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<CacheUse>> {
    let in_snapshots = garbage::of_snapshots(transaction)?;
    let mut statement = transaction.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row, &in_snapshots)?);
    }
    Ok(found)
}

impl Catalog {
    /// Writes down that records were found. Those that are gone are left out.
    pub async fn count_cache_finds(&self, finds: Finds) -> Result<()> {
        self.write("count what the build cache gave", Durability::Relaxed, move |transaction| {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO cache_usage (project, key, used, uses)
                 SELECT project, key, ?3, ?4 FROM cache_records WHERE project = ?1 AND key = ?2
                 ON CONFLICT (project, key) DO UPDATE SET used = max(used, ?3), uses = uses + ?4",
            )?;
            for (key, (count, at)) in &finds {
                statement.execute(params![PROJECT, key, at, count])?;
            }
            Ok(())
        })
        .await
    }

    /// Records ordered by key, after this one.
    pub async fn cache_uses(&self, after: &str, most: usize) -> Result<Vec<CacheUse>> {
        let after = after.to_owned();
        self.read("list the build cache", move |transaction| {
            all(transaction, &select("c.key > ?2 ORDER BY c.key LIMIT ?3"), params![PROJECT, after, most])
        })
        .await
    }

    /// Records that were used or made last at `until` or before, the ones of longest ago first, after this one.
    pub async fn cache_uses_by_age(&self, after: (i64, String), until: i64, most: usize) -> Result<Vec<CacheUse>> {
        self.read("look for old build cache records", move |transaction| {
            let rest = "(coalesce(u.used, c.created), c.key) > (?2, ?3) AND coalesce(u.used, c.created) <= ?4
                        ORDER BY coalesce(u.used, c.created), c.key LIMIT ?5";
            all(transaction, &select(rest), params![PROJECT, after.0, after.1, until, most])
        })
        .await
    }

    /// Bytes of layers that only build cache records keep.
    pub async fn cache_size(&self) -> Result<u64> {
        self.read("measure the build cache", |transaction| {
            let mut statement = transaction.prepare_cached(&format!(
                "SELECT coalesce(sum(size), 0) FROM (SELECT DISTINCT l.id, l.size FROM cache_records c
                 JOIN layers l ON l.id = c.layer_id WHERE c.project = ?1 AND NOT {SHARED})"
            ))?;
            Ok(statement.query_row([PROJECT], |row| row.get(0))?)
        })
        .await
    }

    /// Removes those of these records whose layers no lease holds, and no image has, unless that does not matter.
    /// Returns their keys.
    pub async fn remove_cache_records(&self, keys: Vec<String>, with_shared: bool) -> Result<HashSet<String>> {
        self.write("remove build cache records", Durability::Relaxed, move |transaction| {
            let shared = if with_shared { String::new() } else { format!("AND NOT {SHARED}") };
            let mut statement = transaction.prepare_cached(&format!(
                "DELETE FROM cache_records AS c WHERE c.project = ?1 AND c.key = ?2 AND NOT {LEASED} {shared}"
            ))?;
            let mut removed = HashSet::new();
            for key in keys {
                if statement.execute(params![PROJECT, key])? > 0 {
                    removed.insert(key);
                }
            }
            Ok(removed)
        })
        .await
    }
}
