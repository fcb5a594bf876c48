//! Snapshots of steps: they end with their lease and need not outlive the service, so their rows are kept in memory, and a
//! step writes nothing before its layer is there. A start of the service finds their directories without rows, and
//! discards them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;

use strata_types::SnapshotKey;

use super::lock;
use super::snapshots::{NewSnapshot, SnapshotRow, SnapshotState};
use crate::{Error, Result};

/// First number of their directories: the catalog counts from 1.
const FIRST_DIRECTORY: u64 = 1 << 62;

/// All of them.
#[derive(Debug)]
pub(super) struct Ephemeral {
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    rows: BTreeMap<String, SnapshotRow>,
    next: u64,
}

impl Default for Ephemeral {
    fn default() -> Self {
        Self { known: Mutex::new(Known { rows: BTreeMap::new(), next: FIRST_DIRECTORY }) }
    }
}

impl Ephemeral {
    /// Makes one. The same key with the same parents again returns what is there.
    pub(super) fn prepare(&self, new: NewSnapshot) -> Result<SnapshotRow> {
        let mut known = lock(&self.known);
        if let Some(found) = known.rows.get(new.key.as_str()) {
            return found.again(new);
        }
        let directory = known.next;
        known.next += 1;
        let row = SnapshotRow {
            key: new.key,
            directory,
            state: SnapshotState::Free,
            holder: String::new(),
            layer_ids: new.layer_ids,
            image_id: new.image_id,
            lease: new.lease,
            work: 0,
        };
        known.rows.insert(row.key.as_str().to_owned(), row.clone());
        Ok(row)
    }

    /// Changes one, and returns what the change does. `None`: it is none of these.
    pub(super) fn change<T>(
        &self,
        key: &SnapshotKey,
        change: impl FnOnce(&mut SnapshotRow) -> Result<T>,
    ) -> Option<Result<T>> {
        lock(&self.known).rows.get_mut(key.as_str()).map(change)
    }

    /// One that is not on its way out.
    pub(super) fn find(&self, key: &SnapshotKey) -> Option<Result<SnapshotRow>> {
        self.change(key, |row| match row.state {
            SnapshotState::Deleting => Err(Error::SnapshotNotFound { key: row.key.clone() }),
            _ => Ok(row.clone()),
        })
    }

    /// Forgets one; says whether it was there.
    pub(super) fn forget(&self, key: &SnapshotKey) -> bool {
        lock(&self.known).rows.remove(key.as_str()).is_some()
    }

    /// Those after a key that are not on their way out, by key.
    pub(super) fn after(&self, key: &str, limit: usize) -> Vec<SnapshotRow> {
        let known = lock(&self.known);
        let rows = known.rows.range::<str, _>((Bound::Excluded(key), Bound::Unbounded)).map(|(_, row)| row);
        rows.filter(|row| row.state != SnapshotState::Deleting).take(limit).cloned().collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<SnapshotRow> {
        lock(&self.known).rows.values().cloned().collect()
    }
}
