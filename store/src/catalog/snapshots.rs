//! Rows of snapshots and their transitions: free, held, committing (to a layer), deleting.

use rusqlite::{Row, Transaction, params};
use strata_types::{Digest, LayerId, LeaseId, SnapshotKey};

use super::{Catalog, Durability, Held, LayerRow, NewLayer, PROJECT, blobs, layers, leases, now};
use crate::{Error, Result};

/// What a snapshot is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotState {
    /// Nobody has it mounted.
    Free,
    /// A holder has, or had, it mounted.
    Held,
    /// It becomes a layer.
    Committing,
    /// It waits for its directory to go.
    Deleting,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its key.
    pub key: SnapshotKey,
    /// Number that names its directory.
    pub directory: u64,
    /// What it is doing.
    pub state: SnapshotState,
    /// Who holds it; empty: nobody.
    pub holder: String,
    /// Layers below, bottom first.
    pub layer_ids: Vec<LayerId>,
    /// Image that it was prepared from.
    pub image_id: Option<Digest>,
    /// Lease that it ends with.
    pub lease: Option<LeaseId>,
    /// Number of the newest work directory.
    pub work: u64,
}

/// A snapshot to prepare.
#[derive(Clone, Debug)]
pub struct NewSnapshot {
    /// Its key.
    pub key: SnapshotKey,
    /// Layers below, bottom first.
    pub layer_ids: Vec<LayerId>,
    /// Image that it is prepared from.
    pub image_id: Option<Digest>,
    /// Lease that it ends with.
    pub lease: Option<LeaseId>,
    /// Whether it survives a crash of the host; one with a lease does not.
    pub durability: Durability,
}

const COLUMNS: &str = "key, directory, state, holder, layer_ids, image_id, lease_id, work";

fn join(ids: &[LayerId]) -> String {
    ids.iter().map(LayerId::as_str).collect::<Vec<_>>().join(" ")
}

fn split(text: &str) -> Result<Vec<LayerId>> {
    text.split_whitespace().map(|id| layers::layer_id(id.to_owned())).collect()
}

fn snapshot(row: &Row<'_>) -> Result<SnapshotRow> {
    let key: String = row.get(0)?;
    let state: String = row.get(2)?;
    Ok(SnapshotRow {
        key: SnapshotKey::parse(key.clone()).map_err(|_| Error::CatalogCorrupt { noun: "snapshot key", text: key })?,
        directory: row.get(1)?,
        state: match state.as_str() {
            "free" => SnapshotState::Free,
            "held" => SnapshotState::Held,
            "committing" => SnapshotState::Committing,
            _ => SnapshotState::Deleting,
        },
        holder: row.get(3)?,
        layer_ids: split(&row.get::<_, String>(4)?)?,
        image_id: row.get::<_, Option<String>>(5)?.map(blobs::digest).transpose()?,
        lease: row
            .get::<_, Option<String>>(6)?
            .map(|text| LeaseId::parse(text.clone()).map_err(|_| Error::CatalogCorrupt { noun: "lease id", text }))
            .transpose()?,
        work: row.get(7)?,
    })
}

fn find(transaction: &Transaction<'_>, key: &SnapshotKey) -> Result<Option<SnapshotRow>> {
    let mut statement =
        transaction.prepare_cached(&format!("SELECT {COLUMNS} FROM snapshots WHERE project = ? AND key = ?"))?;
    let mut rows = statement.query(params![PROJECT, key.as_str()])?;
    rows.next()?.map(snapshot).transpose()
}

fn live(transaction: &Transaction<'_>, key: &SnapshotKey) -> Result<SnapshotRow> {
    let row = find(transaction, key)?.ok_or_else(|| Error::SnapshotNotFound { key: key.clone() })?;
    row.check_live()?;
    Ok(row)
}

impl SnapshotRow {
    /// Refuses what is becoming a layer, or is on its way out.
    fn check_live(&self) -> Result<()> {
        match self.state {
            SnapshotState::Deleting => Err(Error::SnapshotNotFound { key: self.key.clone() }),
            SnapshotState::Committing => Err(Error::SnapshotCommitted { key: self.key.clone() }),
            SnapshotState::Free | SnapshotState::Held => Ok(()),
        }
    }

    /// Refuses what somebody else than `holder` has.
    fn check_holder(&self, holder: &str) -> Result<()> {
        match self.state {
            SnapshotState::Held if self.holder != holder => {
                Err(Error::SnapshotHeld { key: self.key.clone(), holder: self.holder.clone() })
            }
            _ => Ok(()),
        }
    }

    /// What somebody gets who prepares it again: itself, if it is the same.
    pub(super) fn again(&self, new: NewSnapshot) -> Result<Self> {
        let is_same = self.layer_ids == new.layer_ids
            && self.image_id == new.image_id
            && self.lease == new.lease
            && matches!(self.state, SnapshotState::Free | SnapshotState::Held);
        if is_same { Ok(self.clone()) } else { Err(Error::SnapshotExists { key: new.key }) }
    }

    /// Refuses to be removed by `holder`.
    fn check_removal(&self, holder: &str) -> Result<()> {
        self.check_holder(holder)?;
        match self.state {
            SnapshotState::Committing => Err(Error::SnapshotCommitted { key: self.key.clone() }),
            SnapshotState::Held | SnapshotState::Free | SnapshotState::Deleting => Ok(()),
        }
    }

    fn set(&mut self, state: SnapshotState, holder: &str) -> Self {
        (self.state, self.holder) = (state, holder.to_owned());
        self.clone()
    }
}

fn set_state(transaction: &Transaction<'_>, key: &SnapshotKey, state: &str, holder: &str) -> Result<()> {
    transaction
        .prepare_cached("UPDATE snapshots SET state = ?, holder = ? WHERE project = ? AND key = ?")?
        .execute(params![state, holder, PROJECT, key.as_str()])?;
    Ok(())
}

impl Catalog {
    /// Prepares a snapshot. The same key with the same parents again returns what is there.
    pub async fn prepare_snapshot(&self, new: NewSnapshot) -> Result<SnapshotRow> {
        if let Some(found) = self.inner.ephemeral.change(&new.key, |found| found.again(new.clone())) {
            return found;
        }
        if let (Some(lease), Durability::Relaxed, None) = (&new.lease, new.durability, new.image_id) {
            self.hold_for_step(&new.key, &new.layer_ids, lease).await?;
            return self.inner.ephemeral.prepare(new);
        }
        let durability = if new.lease.is_some() { Durability::Relaxed } else { new.durability };
        self.write("prepare a snapshot", durability, move |transaction| {
            if let Some(found) = find(transaction, &new.key)? {
                return found.again(new);
            }
            if let Some(lease) = &new.lease {
                leases::must_exist(transaction, lease)?;
            }
            for id in &new.layer_ids {
                layers::usable(transaction, id)?;
            }
            let directory: u64 = transaction
                .prepare_cached(
                    "INSERT INTO counters (name, value) VALUES ('snapshot', 1)
                     ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value",
                )?
                .query_row([], |row| row.get(0))?;
            transaction
                .prepare_cached(
                    "INSERT INTO snapshots (project, key, directory, state, layer_ids, image_id, lease_id, created)
                     VALUES (?, ?, ?, 'free', ?, ?, ?, ?)",
                )?
                .execute(params![
                    PROJECT,
                    new.key.as_str(),
                    directory,
                    join(&new.layer_ids),
                    new.image_id.as_ref().map(Digest::to_string),
                    new.lease.as_ref().map(LeaseId::as_str),
                    now()
                ])?;
            find(transaction, &new.key)?.ok_or(Error::SnapshotNotFound { key: new.key })
        })
        .await
    }

    /// Sees to it that a lease holds what a snapshot of a step stands on; nothing is written for it.
    async fn hold_for_step(&self, key: &SnapshotKey, layer_ids: &[LayerId], lease: &LeaseId) -> Result<()> {
        let (key, ids, of) = (key.clone(), layer_ids.to_vec(), lease.clone());
        let is_held = self
            .read("prepare a snapshot", move |transaction| {
                if find(transaction, &key)?.is_some() {
                    return Err(Error::SnapshotExists { key });
                }
                leases::must_exist(transaction, &of)?;
                if !layers::are_usable(transaction, &ids)? {
                    // This says which.
                    ids.iter().try_for_each(|id| layers::usable(transaction, id).map(drop))?;
                }
                layers::are_held(transaction, &ids, &of)
            })
            .await?;
        if is_held { Ok(()) } else { self.keep_layers(layer_ids, lease).await }
    }

    /// Takes a free snapshot, or takes it again: every time with a new work directory number.
    pub async fn acquire_snapshot(&self, key: &SnapshotKey, holder: &str) -> Result<SnapshotRow> {
        let taken = self.inner.ephemeral.change(key, |row| {
            row.check_live()?;
            row.check_holder(holder)?;
            row.work += 1;
            Ok(row.set(SnapshotState::Held, holder))
        });
        if let Some(taken) = taken {
            return taken;
        }
        let (key, holder) = (key.clone(), holder.to_owned());
        self.write("acquire a snapshot", Durability::Relaxed, move |transaction| {
            let row = live(transaction, &key)?;
            row.check_holder(&holder)?;
            set_state(transaction, &key, "held", &holder)?;
            transaction
                .prepare_cached("UPDATE snapshots SET work = work + 1 WHERE project = ? AND key = ?")?
                .execute(params![PROJECT, key.as_str()])?;
            Ok(SnapshotRow { state: SnapshotState::Held, holder, work: row.work + 1, ..row })
        })
        .await
    }

    /// Lets go of a snapshot; that a free one is free already is no error.
    pub async fn release_snapshot(&self, key: &SnapshotKey, holder: &str) -> Result<SnapshotRow> {
        let released = self.inner.ephemeral.change(key, |row| {
            row.check_live()?;
            row.check_holder(holder)?;
            Ok(row.set(SnapshotState::Free, ""))
        });
        if let Some(released) = released {
            return released;
        }
        let (key, holder) = (key.clone(), holder.to_owned());
        self.write("release a snapshot", Durability::Relaxed, move |transaction| {
            let row = live(transaction, &key)?;
            row.check_holder(&holder)?;
            set_state(transaction, &key, "free", "")?;
            Ok(SnapshotRow { state: SnapshotState::Free, holder: String::new(), ..row })
        })
        .await
    }

    /// Begins to turn a free snapshot into a layer: nobody can acquire it any more.
    pub async fn begin_commit(&self, key: &SnapshotKey) -> Result<SnapshotRow> {
        let begun = self.inner.ephemeral.change(key, |row| {
            row.check_live()?;
            row.check_holder("")?;
            Ok(row.set(SnapshotState::Committing, ""))
        });
        if let Some(begun) = begun {
            return begun;
        }
        let key = key.clone();
        self.write("begin a commit", Durability::Relaxed, move |transaction| {
            let row = live(transaction, &key)?;
            row.check_holder("")?;
            set_state(transaction, &key, "committing", "")?;
            Ok(row)
        })
        .await
    }

    /// Takes back [`Catalog::begin_commit`]: the snapshot is free again.
    pub async fn abort_commit(&self, key: &SnapshotKey) -> Result<()> {
        let aborted = self.inner.ephemeral.change(key, |row| {
            if row.state == SnapshotState::Committing {
                row.set(SnapshotState::Free, "");
            }
            Ok(())
        });
        if let Some(aborted) = aborted {
            return aborted;
        }
        let key = key.clone();
        self.write("abort a commit", Durability::Relaxed, move |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE snapshots SET state = 'free' WHERE project = ? AND key = ? AND state = 'committing'",
                )?
                .execute(params![PROJECT, key.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Ends a commit: the key is gone, and the layer, whose directory is in place, may be used; with what the build cache
    /// is to know of it.
    pub async fn finish_commit(&self, key: &SnapshotKey, layer: NewLayer) -> Result<LayerRow> {
        if self.inner.ephemeral.find(key).is_some() {
            let row = self.add_layer(layer).await?;
            self.inner.ephemeral.forget(key);
            return Ok(row);
        }
        let (key, boot_id) = (key.clone(), self.boot_id().to_owned());
        self.write("finish a commit", Durability::Relaxed, move |transaction| {
            let row = layers::insert(transaction, layer, &boot_id)?;
            let deleted = transaction
                .prepare_cached("DELETE FROM snapshots WHERE project = ? AND key = ? AND state = 'committing'")?
                .execute(params![PROJECT, key.as_str()])?;
            if deleted == 1 { Ok(row) } else { Err(Error::SnapshotNotFound { key }) }
        })
        .await
    }

    /// Marks a snapshot that nobody but `holder` (empty: nobody at all) holds for removal; [`Catalog::forget_snapshot`]
    /// follows when its directory is gone.
    pub async fn remove_snapshot(&self, key: &SnapshotKey, holder: &str) -> Result<SnapshotRow> {
        let removed = self.inner.ephemeral.change(key, |row| {
            row.check_removal(holder)?;
            Ok(row.set(SnapshotState::Deleting, ""))
        });
        if let Some(removed) = removed {
            return removed;
        }
        let (key, holder) = (key.clone(), holder.to_owned());
        self.write("remove a snapshot", Durability::Relaxed, move |transaction| {
            let row = find(transaction, &key)?.ok_or_else(|| Error::SnapshotNotFound { key: key.clone() })?;
            row.check_removal(&holder)?;
            set_state(transaction, &key, "deleting", "")?;
            Ok(row)
        })
        .await
    }

    /// Deletes the row of a removed snapshot.
    pub async fn forget_snapshot(&self, key: &SnapshotKey) -> Result<()> {
        if self.inner.ephemeral.forget(key) {
            return Ok(());
        }
        let key = key.clone();
        self.write("forget a snapshot", Durability::Relaxed, move |transaction| {
            transaction
                .prepare_cached("DELETE FROM snapshots WHERE project = ? AND key = ? AND state = 'deleting'")?
                .execute(params![PROJECT, key.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Finds a snapshot.
    pub async fn snapshot(&self, key: &SnapshotKey) -> Result<SnapshotRow> {
        if let Some(found) = self.inner.ephemeral.find(key) {
            return found;
        }
        let key = key.clone();
        self.read("find a snapshot", move |transaction| {
            let found = find(transaction, &key)?.filter(|row| row.state != SnapshotState::Deleting);
            found.ok_or(Error::SnapshotNotFound { key })
        })
        .await
    }

    /// Lists snapshots after a key, by key.
    pub async fn snapshots(&self, after: &str, limit: usize) -> Result<Vec<SnapshotRow>> {
        let after = after.to_owned();
        let mut of_steps = self.inner.ephemeral.after(&after, limit);
        let mut rows: Vec<SnapshotRow> = self.read("list snapshots", move |transaction| {
            let mut statement = transaction.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM snapshots WHERE project = ? AND key > ? AND state <> 'deleting' ORDER BY key LIMIT ?"
            ))?;
            let rows = statement.query_and_then(params![PROJECT, after, limit as i64], snapshot)?;
            rows.collect()
        })
        .await?;
        rows.append(&mut of_steps);
        rows.sort_by(|one, other| one.key.as_str().cmp(other.key.as_str()));
        rows.truncate(limit);
        Ok(rows)
    }

    /// Snapshots whose lease has ended, and those that wait for their directory to go.
    pub async fn snapshots_ended(&self) -> Result<Vec<SnapshotRow>> {
        let of_steps = self.inner.ephemeral.all();
        self.read("list ended snapshots", move |transaction| {
            let mut statement = transaction.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM snapshots s WHERE state = 'deleting' OR (state <> 'committing' AND lease_id IS NOT NULL
                 AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.project = s.project AND l.id = s.lease_id))"
            ))?;
            let mut ended = statement.query_and_then([], snapshot)?.collect::<Result<Vec<_>>>()?;
            for row in of_steps {
                let is_over = match (row.state, &row.lease) {
                    (SnapshotState::Deleting, _) | (_, None) => true,
                    (SnapshotState::Committing, _) => false,
                    (SnapshotState::Free | SnapshotState::Held, Some(lease)) => !leases::is_there(transaction, lease)?,
                };
                ended.extend(is_over.then_some(row));
            }
            Ok(ended)
        })
        .await
    }

    /// Marks a snapshot whose lease has ended for removal, even if it is marked as held: its holder died with it.
    pub async fn end_snapshot(&self, key: &SnapshotKey) -> Result<()> {
        let ended = self.inner.ephemeral.change(key, |row| {
            row.set(SnapshotState::Deleting, "");
            Ok(())
        });
        if let Some(ended) = ended {
            return ended;
        }
        let key = key.clone();
        self.write("end a snapshot", Durability::Relaxed, move |transaction| {
            set_state(transaction, &key, "deleting", "")
        })
        .await
    }

    /// Makes a lease hold what a snapshot stands on.
    pub async fn hold_snapshot_layers(&self, key: &SnapshotKey, lease: &LeaseId) -> Result<()> {
        if let Some(found) = self.inner.ephemeral.find(key) {
            return self.hold_layers(&found?.layer_ids, lease).await.map(drop);
        }
        let (key, lease) = (key.clone(), lease.clone());
        self.write("hold the layers of a snapshot", Durability::Relaxed, move |transaction| {
            let row = find(transaction, &key)?.ok_or(Error::SnapshotNotFound { key })?;
            leases::must_exist(transaction, &lease)?;
            row.layer_ids.iter().try_for_each(|id| leases::add(transaction, &lease, Held::Layer, id.as_str()))
        })
        .await
    }
}
