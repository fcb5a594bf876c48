//! The store: blobs, layers, snapshots, images, leases and build-cache records below one root directory.
//!
//! `catalog` says what exists, `disk` keeps the write order, `grpc` is the edge. Start at [`Store::open`].

pub mod blob;
pub mod build_cache;
pub mod cache_mount;
pub mod catalog;
pub mod config;
pub mod content;
pub mod disk;
pub mod document;
pub mod error;
pub mod figures;
#[cfg(test)]
mod fixture;
pub mod flush;
pub mod gc;
pub mod grpc;
mod happened;
pub mod image;
pub mod index;
pub mod ingest;
pub mod layer;
pub mod lease;
pub mod paths;
mod recovery;
pub mod remote;
pub mod serve;
pub mod snapshot;
pub mod transfer;
pub mod trash;
pub mod tree;
pub mod verify;

use std::path::Path;
use std::sync::Arc;

use strata_rpc::{Drain, Idle, fault::chain};
use strata_types::LayerId;

pub use catalog::Catalog;
pub use config::Config;
pub use error::{Error, Result};
pub use paths::Paths;

use paths::Fence;

/// What all parts of the service share.
#[derive(Debug)]
pub struct Store {
    /// Where things are.
    pub paths: Paths,
    /// What exists.
    pub catalog: Catalog,
    /// Settings.
    pub config: Config,
    /// A text that tells this store from others, another one each time it is opened.
    pub(crate) instance: String,
    /// Contents of build contexts and layers.
    pub contents: content::Contents,
    /// Chains and descriptions of layers.
    pub layers: layer::Layers,
    /// The way to registries.
    pub remotes: remote::Remotes,
    /// The way of what is written to the disk.
    pub flusher: Arc<flush::Flusher>,
    /// What has happened and happens to images.
    pub(crate) events: strata_rpc::events::Log,
    /// Pulls and pushes since the service started.
    pub(crate) moves: figures::Moves,
    /// What was deleted, and is unlinked behind.
    pub trash: trash::Trash,
    /// Who has which cache mount.
    pub cache_mounts: cache_mount::Held,
    /// When the build cache was used.
    pub(crate) usage: build_cache::Usage,
    /// Wakes the garbage collection.
    pub collector: gc::Collector,
    /// Read: a blob's file goes to its place and its row follows. Write: both go.
    pub(crate) placing: tokio::sync::RwLock<()>,
    /// Blobs that come in pieces.
    pub(crate) partials: blob::Claims,
    /// Blobs and layers on their way here.
    pub(crate) ingests: ingest::Ingests,
    /// Images on their way to the disk.
    pub(crate) arriving: image::Arriving,
    /// Keeps the service alive while layers are described in the background.
    pub idle: Idle,
    /// Ends and awaits background work when the service stops.
    pub drain: Drain,
    _fence: Fence,
}

impl Store {
    /// Opens the store below `root`, which nobody else may have open, and puts right what a crash left.
    pub async fn open(root: &Path, config: Config, idle: Idle, drain: Drain) -> Result<Arc<Self>> {
        let boot_id_path = Path::new("/proc/sys/kernel/random/boot_id");
        let boot_id =
            std::fs::read_to_string(boot_id_path).map_err(|source| Error::io("read", boot_id_path, source))?;
        Self::open_in_boot(root, config, idle, drain, boot_id.trim()).await
    }

    async fn open_in_boot(root: &Path, config: Config, idle: Idle, drain: Drain, boot_id: &str) -> Result<Arc<Self>> {
        let paths = Paths::create(root)?;
        let fence = Fence::take(root)?;
        let catalog = Catalog::open(&paths.catalog(), boot_id)?;
        let trash = trash::Trash::new(paths.trash());
        config.layer_backend.check(&paths)?;
        let layers = layer::Layers::open(&paths, boot_id, &trash)?;
        let contents = content::Contents::open(root, Arc::clone(layers.chains.images()))?;
        let remotes = remote::Remotes::new(config.registries.clone().unwrap_or_default());
        let store = Self {
            flusher: flush::Flusher::open(root)?,
            events: strata_rpc::events::Log::default(),
            moves: figures::Moves::default(),
            trash,
            paths,
            catalog,
            config,
            instance: lease::random_text(20),
            contents,
            layers,
            remotes,
            cache_mounts: cache_mount::Held::default(),
            usage: build_cache::Usage::default(),
            collector: gc::Collector::default(),
            placing: tokio::sync::RwLock::new(()),
            partials: blob::Claims::default(),
            ingests: ingest::Ingests::default(),
            arriving: image::Arriving::default(),
            idle,
            drain,
            _fence: fence,
        };
        let store = Arc::new(store);
        recovery::recover(&store).await?;
        layer::resume(&store).await?;
        Ok(store)
    }

    /// Forgets what else is known of layers that are gone from the disk: contents in them, chains over them.
    async fn forget_gone_layers(self: &Arc<Self>) -> Result<()> {
        let store = Arc::clone(self);
        catalog::blocking(move || {
            let is_there = |id: &str| LayerId::parse(id).is_ok_and(|id| disk::exists(&store.paths.layer(&id)));
            for layer in store.contents.recorded_layers()?.iter().filter(|id| !is_there(id)) {
                // The index may know layers that are gone: they are left out when it is read. A full disk would
                // otherwise keep itself full.
                if let Err(error) = store.contents.forget(layer) {
                    tracing::warn!("cannot take layer {layer} out of the index of contents: {}", chain(&error));
                }
            }
            let swept = store.layers.chains.sweep(is_there);
            store.layers.chains.images().sweep();
            swept
        })
        .await
    }

    /// Deletes staged contents whose leases have ended; returns the bytes freed.
    async fn sweep_contents(self: &Arc<Self>) -> Result<u64> {
        let live: std::collections::HashSet<String> = self.catalog.lease_ids().await?.into_iter().collect();
        let store = Arc::clone(self);
        catalog::blocking(move || store.contents.sweep(|lease| live.contains(lease))).await.map_err(Error::from)
    }
}
