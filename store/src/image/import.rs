//! Import: an image of one layer from the tar of a root file system.

use std::io::Read;
use std::sync::Arc;

use strata_types::{History, ImageConfig, Platform, Reference};

use super::{Image, Parts, create, now_text};
use crate::lease::{GRACE, Session};
use crate::{Error, Result, Store};

/// What to make of an archive.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Name to set.
    pub name: Option<Reference>,
    /// Comment of the history entry; empty: none.
    pub message: String,
    /// Config to start from, as OCI JSON; empty: a default one.
    pub config_json: Vec<u8>,
}

/// Makes an image of an archive, plain or compressed. An error of the reader leaves nothing.
pub async fn import(store: &Arc<Store>, what: Import, archive: impl Read + Send + 'static) -> Result<Image> {
    let mut config = match what.config_json.as_slice() {
        [] => ImageConfig::empty(&Platform::host()),
        json => serde_json::from_slice(json).map_err(|error| Error::invalid("config_json", error.to_string()))?,
    };
    if config.os.is_empty() || config.architecture.is_empty() {
        let host = Platform::host();
        (config.os, config.architecture, config.variant) = (host.os, host.architecture, host.variant);
    }
    let session = Session::begin(store, "import", GRACE).await?;
    let lease = session.lease().id.clone();
    let result = async {
        let layer = crate::layer::ingest(store, archive, &lease).await?;
        let created = now_text();
        // Docker's words; its `history` shows them.
        let comment = if what.message.is_empty() { "Imported from -".to_owned() } else { what.message };
        config.created = Some(created.clone());
        config.history = vec![History { created: Some(created), comment: Some(comment), ..History::default() }];
        let config_json =
            serde_json::to_vec(&config).map_err(|error| Error::invalid("config_json", error.to_string()))?;
        create(
            store,
            Parts { config_json, layers: vec![layer.id], names: what.name.into_iter().collect(), lease: lease.clone() },
        )
        .await
    }
    .await;
    let ended = session.end().await;
    let image = result?;
    ended?;
    store.happened("import", image.row.id.to_string(), image.row.id.to_string());
    Ok(image)
}
