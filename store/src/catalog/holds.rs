//! Layers that leases hold for the contents in them: as staged contents, this need not outlive the process, so it is kept
//! in memory, and to ask for contents writes nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use strata_types::{LayerId, LeaseId};

use super::{Catalog, blocking, layers, leases, lock};
use crate::{Error, Result};

/// Layers by the lease that holds them.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<HashMap<LeaseId, BTreeSet<LayerId>>>);

impl Holds {
    fn add(&self, lease: &LeaseId, ids: &[LayerId]) {
        lock(&self.0).entry(lease.clone()).or_default().extend(ids.iter().cloned());
    }

    /// Ends what a lease holds.
    pub(super) fn end(&self, lease: &LeaseId) {
        lock(&self.0).remove(lease);
    }

    /// Says whether a lease holds a layer.
    pub(super) fn has(&self, id: &LayerId) -> bool {
        lock(&self.0).values().any(|held| held.contains(id))
    }

    /// Ids of all layers that leases hold.
    pub(super) fn ids(&self) -> BTreeSet<String> {
        lock(&self.0).values().flatten().map(|id| id.as_str().to_owned()).collect()
    }
}

impl Catalog {
    /// Holds usable layers by the lease, as long as it lives and this process does. Nothing is written.
    pub async fn keep_layers(&self, ids: &[LayerId], lease: &LeaseId) -> Result<()> {
        let (inner, ids, lease) = (Arc::clone(&self.inner), ids.to_vec(), lease.clone());
        blocking(move || {
            {
                // Between two writes: a layer that is being reclaimed is gone before the look below.
                let _turn = lock(&inner.writers);
                inner.holds.add(&lease, &ids);
            }
            let held = inner.read("hold layers", |transaction| {
                leases::must_exist(transaction, &lease)?;
                if layers::are_usable(transaction, &ids)? {
                    return Ok(());
                }
                // This says which.
                ids.iter().try_for_each(|id| layers::usable(transaction, id).map(drop))
            });
            held.inspect_err(|error| {
                if matches!(error, Error::LeaseNotFound { .. }) {
                    inner.holds.end(&lease);
                }
            })
        })
        .await
    }
}
