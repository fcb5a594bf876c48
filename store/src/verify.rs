//! Verify: every blob and every layer is read again, every image's parts are looked up. Changes nothing.

use std::sync::Arc;

use strata_archive::Toc;
use strata_types::{Digest, Manifest};
use tokio::sync::mpsc;

use crate::catalog::{BlobRow, ImageRow, LayerRow, LayerState, blocking};
use crate::{Error, Result, Store, blob, layer};

/// Rows read at a time.
const PAGE: usize = 256;

/// Something that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// "blob", "layer", "image" or "catalog".
    pub kind: &'static str,
    /// Digest, id or name.
    pub object: String,
    /// Path inside a layer; empty: the object as a whole.
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Blobs read.
    pub blobs: u64,
    /// Layers read.
    pub layers: u64,
    /// Images checked.
    pub images: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Damaged objects found.
    pub damaged: u64,
}

struct Verifier {
    store: Arc<Store>,
    found: mpsc::Sender<Damage>,
    summary: Summary,
}

/// Checks everything; sends each damage as it is found. Ends early when the receiver is gone.
pub async fn verify(store: &Arc<Store>, found: mpsc::Sender<Damage>) -> Result<Summary> {
    let mut verifier = Verifier { store: Arc::clone(store), found, summary: Summary::default() };
    verifier.catalog().await?;
    verifier.blobs().await?;
    verifier.layers().await?;
    verifier.images().await?;
    Ok(verifier.summary)
}

impl Verifier {
    async fn report(&mut self, kind: &'static str, object: impl ToString, path: &str, problem: String) {
        self.summary.damaged += 1;
        let damage = Damage { kind, object: object.to_string(), path: path.to_owned(), problem };
        // A receiver that is gone is seen by `is_over`.
        let _ = self.found.send(damage).await;
    }

    fn is_over(&self) -> bool {
        self.found.is_closed() || self.store.drain.is_draining()
    }

    async fn catalog(&mut self) -> Result<()> {
        for line in self.store.catalog.check().await? {
            self.report("catalog", "catalog.db", "", line).await;
        }
        Ok(())
    }

    async fn blobs(&mut self) -> Result<()> {
        let mut after = String::new();
        loop {
            let page = self.store.catalog.blobs(&after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.digest.to_string();
            for row in page {
                if self.is_over() {
                    return Ok(());
                }
                if self.problem_of(&row).await?.is_some()
                    && let Some(problem) = self.settled_problem_of(&row).await?
                {
                    self.report("blob", row.digest, "", problem).await;
                }
                self.summary.blobs += 1;
                self.summary.bytes += row.size;
            }
        }
    }

    async fn problem_of(&self, row: &BlobRow) -> Result<Option<String>> {
        let (path, digest, size) = (self.store.paths.blob(&row.digest), row.digest, row.size);
        blocking(move || blob::check(path, digest, size)).await
    }

    /// The problem of a blob while no blob comes or goes: one that was collected meanwhile has none.
    async fn settled_problem_of(&self, row: &BlobRow) -> Result<Option<String>> {
        let _settled = self.store.placing.read().await;
        match self.store.catalog.blob(&row.digest).await {
            Ok(_) => self.problem_of(row).await,
            Err(_) => Ok(None),
        }
    }

    async fn layers(&mut self) -> Result<()> {
        let mut after = String::new();
        loop {
            let page = self.store.catalog.layers(&after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id.to_string();
            for row in page {
                if self.is_over() {
                    return Ok(());
                }
                if matches!(row.state, LayerState::Unsynced | LayerState::Ready) {
                    self.layer(row).await?;
                }
            }
        }
    }

    async fn layer(&mut self, row: LayerRow) -> Result<()> {
        self.summary.layers += 1;
        self.summary.bytes += row.size;
        let damaged = match self.check_layer(&row).await {
            Ok(damaged) => damaged,
            Err(error) => vec![(String::new(), strata_rpc::fault::chain(&error))],
        };
        if damaged.is_empty() || self.store.catalog.layers_usable(std::slice::from_ref(&row.id)).await.is_err() {
            return Ok(());
        }
        for (path, problem) in damaged {
            self.report("layer", &row.id, &path, problem).await;
        }
        Ok(())
    }

    async fn check_layer(&self, row: &LayerRow) -> Result<Vec<(String, String)>> {
        let path = self.store.paths.layer(&row.id);
        let Some(toc) = row.toc else {
            // Not described yet: there is nothing to compare it with but its being there.
            let is_there = crate::disk::exists(&path);
            return Ok(if is_there {
                Vec::new()
            } else {
                vec![(String::new(), "its directory is missing".to_owned())]
            });
        };
        let bytes = match blob::read(&self.store, &toc).await {
            Ok(bytes) => bytes,
            Err(error) => {
                let cause = strata_rpc::fault::chain(&error);
                return Ok(vec![(String::new(), format!("its table of contents cannot be used: {cause}"))]);
            }
        };
        let (store, id) = (Arc::clone(&self.store), row.id.clone());
        blocking(move || {
            let toc = Toc::decode(&bytes).map_err(|source| Error::Archive { source })?;
            layer::verify(&path, &store.layers.tree(&id)?, &toc)
        })
        .await
    }

    async fn images(&mut self) -> Result<()> {
        let mut after = String::new();
        loop {
            let page = self.store.catalog.images(&after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id.to_string();
            for row in page {
                self.summary.images += 1;
                if let Err(error) = self.image(&row).await {
                    let problem = strata_rpc::fault::chain(&error);
                    let name = row.names.first().cloned().unwrap_or_else(|| row.id.to_string());
                    self.report("image", name, "", problem).await;
                }
            }
        }
    }

    /// Config, manifest and layers say the same.
    async fn image(&self, row: &ImageRow) -> Result<()> {
        let document = |what, digest| move |source| Error::Document { what, digest, source };
        let config = blob::read(&self.store, &row.id).await?;
        let config: strata_types::ImageConfig = serde_json::from_slice(&config).map_err(document("config", row.id))?;
        let manifest = blob::read(&self.store, &row.manifest).await?;
        let manifest: Manifest = serde_json::from_slice(&manifest).map_err(document("manifest", row.manifest))?;
        let layers = self.store.catalog.layers_usable(&row.layers).await?;
        let diff_ids: Vec<Option<Digest>> = layers.iter().map(|layer| layer.diff_id).collect();
        let wanted: Vec<Option<Digest>> = config.rootfs.diff_ids.iter().copied().map(Some).collect();
        if diff_ids != wanted || manifest.config.digest != row.id || manifest.layers.len() != layers.len() {
            let problem = "config, manifest and layers do not agree".to_owned();
            return Err(Error::BlobDamaged { digest: row.manifest, problem });
        }
        Ok(())
    }
}
