//! What is pushed of documents: which of an index, all below each, and what they have become.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use strata_image::{Config, Document, Kind, Limits, Manifest, Platforms};
use strata_registry::Target;
use strata_types::{Descriptor, Digest, Platform, Reference, media_type};

use super::form::{Form, is_convertible, media_type_in, rewritten};
use super::{COMPRESSING, Work};
use crate::catalog::{ChildKind, DocumentKind, DocumentRow};
use crate::remote::Stage;
use crate::remote::outgoing::Outgoing;
use crate::{Error, Result, blob, document, image};

impl Work {
    /// What to push of all that a name points at: all of it, the platform that was asked for, or the one image that is
    /// here.
    pub(super) async fn choose(
        &self,
        root: &DocumentRow,
        source: &Reference,
        platform: Option<Platform>,
    ) -> Result<Descriptor> {
        if root.kind == DocumentKind::Manifest && platform.is_none() {
            return Ok(root.descriptor());
        }
        if let Some(platform) = platform {
            let only = Platforms::Only(platform);
            let image = image::get_on(&self.store, &source.to_string(), only, Some(self.lease.clone())).await?;
            return Ok(self.store.catalog.document(&image.row.manifest).await?.descriptor());
        }
        let mut whole = Vec::new();
        if self.is_whole(root.digest, &mut whole).await? {
            return Ok(root.descriptor());
        }
        let (reference, target) = (source.familiar(), root.digest);
        match whole.as_slice() {
            // Of an index that was made here nobody else knows the rest.
            _ if root.is_made_here => Err(Error::ImageIncomplete { reference, target }),
            [one] => Ok(one.clone()),
            [] => Err(Error::ImageNotUnpacked { reference, target }),
            _ => Err(Error::ImageIncomplete { reference, target }),
        }
    }

    /// Says whether all below a document is here; collects the images that are whole.
    fn is_whole<'a>(&'a self, digest: Digest, whole: &'a mut Vec<Descriptor>) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let row = match self.store.catalog.document(&digest).await {
                Ok(row) => row,
                Err(Error::DocumentNotFound { .. }) => return Ok(false),
                Err(error) => return Err(error),
            };
            let children = self.store.catalog.document_children(&digest).await?;
            let mut is_whole = true;
            if row.kind == DocumentKind::Index {
                for child in children {
                    is_whole &= match child.kind {
                        ChildKind::Index | ChildKind::Manifest => self.is_whole(child.descriptor.digest, whole).await?,
                        _ => self.has(&child.descriptor.digest).await?,
                    };
                }
                return Ok(is_whole);
            }
            let (_, bytes) = document::read(&self.store, &digest).await?;
            let parsed = Document::parse(bytes, &row.media_type, &Limits::default())?;
            let Kind::Manifest(manifest) = parsed.kind else { return Ok(false) };
            if !self.has(&manifest.config.descriptor.digest).await? {
                return Ok(false);
            }
            let diff_ids = self.diff_ids(&manifest).await?;
            for layer in manifest.layers.iter().filter(|layer| !layer.is_foreign()) {
                let digest = layer.descriptor.digest;
                let is_made_here = diff_ids.contains_key(&digest) && diff_ids[&digest] == digest;
                let is_unpacked =
                    is_made_here && self.store.catalog.hold_layer_by_diff_id(&digest, &self.lease).await?.is_some();
                is_whole &= is_unpacked || self.has(&digest).await?;
            }
            if is_whole && manifest.is_image() {
                whole.push(row.descriptor());
            }
            Ok(is_whole)
        })
    }

    async fn has(&self, digest: &Digest) -> Result<bool> {
        let is_here = self.store.catalog.hold_blob(digest, &self.lease).await?.is_some();
        Ok(is_here || crate::remote::elsewhere(&self.store, digest).await?.is_some())
    }

    /// Diff-ids of the layers of a manifest by their digests; none for what is no image.
    async fn diff_ids(&self, manifest: &Manifest) -> Result<BTreeMap<Digest, Digest>> {
        if !manifest.is_image() {
            return Ok(BTreeMap::new());
        }
        let digest = manifest.config.descriptor.digest;
        let bytes = blob::read(&self.store, &digest).await?;
        let config = Config::parse(&bytes, &format!("config {digest}"), &Limits::default())?;
        let layers = manifest.layers.iter().map(|layer| layer.descriptor.digest);
        Ok(layers.zip(config.diff_ids).collect())
    }

    /// Pushes a document with all below it, under a tag or its digest; answers with what it has become.
    pub(super) fn document(&self, descriptor: Descriptor, target: Option<Target>) -> BoxFuture<'_, Result<Descriptor>> {
        Box::pin(async move {
            let (row, bytes) = document::read(&self.store, &descriptor.digest).await?;
            let parsed = Document::parse(bytes, &row.media_type, &Limits::default())?;
            let mut changed = BTreeMap::new();
            match &parsed.kind {
                Kind::Index(index) => {
                    for entry in &index.manifests {
                        let media_type = entry.descriptor.media_type.as_str();
                        let is_document = media_type::is_index(media_type) || media_type::is_manifest(media_type);
                        let after = match is_document {
                            true => self.document(entry.descriptor.clone(), None).await?,
                            false => self.send(&entry.descriptor, &entry.descriptor, None).await?,
                        };
                        note(&mut changed, &entry.descriptor, after);
                    }
                }
                // What came from elsewhere goes as it came; what was made here is in the form of its layers only for us.
                Kind::Manifest(manifest) => self.manifest(manifest, row.is_made_here, &mut changed).await?,
            }
            let form = self.form.filter(|_| is_convertible(&parsed));
            let is_in_form = form.is_none_or(|form| media_type_in(form, &parsed.kind) == parsed.descriptor.media_type);
            let (media_type, bytes) = match changed.is_empty() && is_in_form {
                true => (parsed.descriptor.media_type.clone(), parsed.bytes),
                false => rewritten(&parsed, &changed, form.unwrap_or(Form::Oci))?,
            };
            let digest = blob::digest(&bytes);
            let target = target.unwrap_or(Target::Digest(digest));
            let descriptor = Descriptor::new(&*media_type, digest, bytes.len() as u64);
            self.repository.push_manifest(&target, &media_type, bytes.into()).await?;
            Ok(descriptor)
        })
    }

    /// Pushes the layers and the config of a manifest.
    async fn manifest(
        &self,
        manifest: &Manifest,
        is_made_here: bool,
        changed: &mut BTreeMap<Digest, Descriptor>,
    ) -> Result<()> {
        let diff_ids = self.diff_ids(manifest).await?;
        let own = manifest.layers.iter().filter(|layer| !layer.is_foreign());
        let layers: Vec<Descriptor> = own.map(|layer| layer.descriptor.clone()).collect();
        for layer in &layers {
            self.tell(layer, Stage::Waiting).await;
        }
        let side_by_side = self.store.remotes.settings().transfers.max(1) + COMPRESSING;
        // A large one that begins last would have its end for itself.
        let mut wanted: Vec<_> =
            layers.into_iter().map(|layer| (diff_ids.get(&layer.digest).copied(), layer)).collect();
        wanted.sort_by_key(|(_, layer)| Reverse(layer.size));
        let pushes = stream::iter(wanted).map(|(diff_id, layer)| async move {
            let after = self.layer(&layer, diff_id, is_made_here).await?;
            Ok::<_, Error>((layer, after))
        });
        let pushed: Vec<(Descriptor, Descriptor)> = pushes.buffer_unordered(side_by_side).try_collect().await?;
        for (layer, after) in pushed {
            note(changed, &layer, after);
        }
        let config = &manifest.config.descriptor;
        let neighbour = self.neighbour(&config.digest).await?;
        let outgoing = Outgoing::of_blob(&self.store, config, None).or_from_elsewhere(&self.lease, &self.identity);
        let pushed = self.repository.push_blob(config, &outgoing, neighbour.as_deref()).await;
        pushed.map_err(|error| outgoing.explain(error))?;
        Ok(())
    }
}

fn note(changed: &mut BTreeMap<Digest, Descriptor>, before: &Descriptor, after: Descriptor) {
    if before.digest != after.digest || before.media_type != after.media_type {
        changed.insert(before.digest, after);
    }
}
