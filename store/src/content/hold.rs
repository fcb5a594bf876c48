//! What is missing of contents, with the layers held that have the others: whoever asks can rely on what is there.

use std::sync::Arc;

use strata_types::{LayerId, LeaseId};

use crate::catalog::blocking;
use crate::{Error, Result, Store};

/// Says which contents are missing, by their places in the list, ascending. The others are held by the lease from this
/// call on.
pub async fn missing(store: &Arc<Store>, lease: &LeaseId, wanted: Vec<blake3::Hash>) -> Result<Vec<u32>> {
    store.catalog.check_lease(lease).await?;
    let wanted = Arc::new(wanted);
    loop {
        let (this, name, asked) = (Arc::clone(store), lease.as_str().to_owned(), Arc::clone(&wanted));
        let found = blocking(move || this.contents.missing(&name, &asked)).await?;
        let layers: Vec<LayerId> = found.layers.iter().filter_map(|id| LayerId::parse(id.as_str()).ok()).collect();
        match hold(store, &layers, lease).await {
            Ok(()) => return Ok(found.missing),
            // It went since the index was asked. The next turn knows one layer less, so there are not many.
            Err(Error::LayerNotFound { id }) => {
                tracing::debug!(layer = id.as_str(), "index names a layer that is gone");
                let this = Arc::clone(store);
                blocking(move || this.contents.forget(id.as_str())).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn hold(store: &Arc<Store>, layers: &[LayerId], lease: &LeaseId) -> Result<()> {
    if layers.is_empty() { Ok(()) } else { store.catalog.keep_layers(layers, lease).await }
}
