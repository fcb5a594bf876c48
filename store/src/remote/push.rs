//! Pushes: layers first, side by side, then configs and documents from the inside out, the tag last.
//!
//! Layers of images made here have no compressed form: it is made on the way, the largest first, and sent while it is
//! made; the manifest says so. What came from a registry goes as it came, byte for byte.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use serde_json::Value;
use strata_archive::Compression;
use strata_image::{Config, Document, Kind, Limits, Manifest, Platforms, layer_type};
use strata_registry::{Host, Kind as Refusal, Pushed as Way, Repository, Target};
use strata_types::{Descriptor, Digest, LeaseId, Platform, Reference, media_type};
use tokio::sync::Semaphore;

use super::outgoing::{Outgoing, OutgoingGrowth};
use super::{Event, Events, Identity, Stage};
use crate::catalog::{ChildKind, DocumentKind, DocumentRow};
use crate::lease::Session;
use crate::{Error, Result, Store, blob, document, image, layer};

/// What a push still holds for a moment after its end.
const GRACE: Duration = Duration::from_secs(10);
/// Layers that are compressed at a time; each takes all processors.
const COMPRESSING: usize = 2;

/// What to push.
#[derive(Clone, Debug)]
pub struct Push {
    /// The name; it says where to.
    pub reference: Reference,
    /// The name that it has here, where that is another.
    pub source: Option<Reference>,
    /// Only the image of this platform.
    pub platform: Option<Platform>,
    /// Compression of layers that have no compressed form; none: the registry's setting, else gzip.
    pub compression: Option<Compression>,
    /// Compress those that are compressed in another way too.
    pub force: bool,
    /// Form of images and indexes there, where it shall not be their own.
    pub form: Option<Form>,
    /// Who we are.
    pub identity: Identity,
}

/// Whose media types documents have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OCI's.
    Oci,
    /// Docker's, which know neither zstd nor annotations.
    Docker,
}

/// What was pushed.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// What the tag points at now.
    pub target: Descriptor,
    /// One image of an index was pushed: the others are not all here.
    pub is_partial: bool,
}

/// Pushes an image.
pub async fn push(store: &Arc<Store>, push: Push, events: &Events) -> Result<Pushed> {
    let session = Session::begin(store, "a push", GRACE).await?;
    let lease = session.lease().id.clone();
    let result = run(store, push, &lease, events).await;
    // What was compressed for it stays only if something else wants it.
    let ended = session.end().await;
    let pushed = result?;
    ended?;
    Ok(pushed)
}

async fn run(store: &Arc<Store>, push: Push, lease: &LeaseId, events: &Events) -> Result<Pushed> {
    let repository = store.remotes.repository(&push.reference, &push.identity)?;
    let source = push.source.as_ref().unwrap_or(&push.reference);
    let root = store.catalog.target(source).await?;
    let root = root.ok_or_else(|| Error::ImageNotFound { reference: source.familiar() })?;
    store.catalog.hold_document(&root.digest, lease).await?;
    let setting = store.remotes.settings().settings(&Host::of(&push.reference)).compression;
    let work = Work {
        store: Arc::clone(store),
        registry: Host::of(&push.reference),
        repository,
        path: push.reference.path().to_owned(),
        lease: lease.clone(),
        identity: push.identity.clone(),
        compression: match push.compression.or(setting.map(super::compression)).unwrap_or(Compression::Gzip) {
            Compression::Zstd if push.form == Some(Form::Docker) => Compression::Gzip,
            compression => compression,
        },
        force: push.force,
        form: push.form,
        events: events.clone(),
        compressing: Semaphore::new(COMPRESSING),
    };
    let chosen = work.choose(&root, source, push.platform.clone()).await?;
    let tag = Target::Tag(push.reference.tag().unwrap_or("latest").to_owned());
    let target = work.document(chosen.clone(), Some(tag)).await?;
    Ok(Pushed { target, is_partial: chosen.digest != root.digest && push.platform.is_none() })
}

struct Work {
    store: Arc<Store>,
    registry: Host,
    repository: Repository,
    path: String,
    lease: LeaseId,
    identity: Identity,
    compression: Compression,
    force: bool,
    form: Option<Form>,
    events: Events,
    compressing: Semaphore,
}

impl Work {
    /// What to push of all that a name points at: all of it, the platform that was asked for, or the one image that is
    /// here.
    async fn choose(&self, root: &DocumentRow, source: &Reference, platform: Option<Platform>) -> Result<Descriptor> {
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
        Ok(is_here || super::elsewhere(&self.store, digest).await?.is_some())
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
    fn document(&self, descriptor: Descriptor, target: Option<Target>) -> BoxFuture<'_, Result<Descriptor>> {
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

    /// Pushes one layer, in another form where that is wanted; answers with what it has become.
    async fn layer(&self, layer: &Descriptor, diff_id: Option<Digest>, is_made_here: bool) -> Result<Descriptor> {
        let form = layer_type(&layer.media_type).map(|kind| kind.compression);
        let is_other = form.is_some_and(|form| form != self.compression);
        let is_raw = form == Some(Compression::None);
        let is_unknown_there = form == Some(Compression::Zstd) && self.form == Some(Form::Docker);
        let wanted = match diff_id {
            Some(diff_id) if is_other && ((is_raw && is_made_here) || self.force || is_unknown_there) => {
                Some((diff_id, self.compression))
            }
            // Kept as a tree alone: the archive has to be written first.
            Some(diff_id) if is_raw => Some((diff_id, Compression::None)),
            _ => None,
        };
        let Some((diff_id, compression)) = wanted else { return self.send(layer, layer, diff_id).await };
        match self.form(&diff_id, compression).await? {
            Some(form) => self.send(layer, &form, Some(diff_id)).await,
            None if compression == Compression::None => {
                let _place = self.compressing.acquire().await;
                let made = layer::archive(&self.store, &diff_id, compression, &self.lease).await?;
                self.send(layer, &made.ok_or(Error::BlobNotFound { digest: layer.digest })?, Some(diff_id)).await
            }
            None => self.make(layer, diff_id, compression).await,
        }
    }

    /// A layer in another form: one that the registry has, else one that is here.
    async fn form(&self, diff_id: &Digest, compression: Compression) -> Result<Option<Descriptor>> {
        let is_wanted = |media_type: &str| layer_type(media_type).is_some_and(|kind| kind.compression == compression);
        let forms = self.store.catalog.forms(diff_id).await?;
        let is_here = forms.iter().any(|form| form.is_here && is_wanted(&form.descriptor.media_type));
        if is_here {
            // Found by a request of another one.
            return layer::archive(&self.store, diff_id, compression, &self.lease).await;
        }
        for form in forms.into_iter().filter(|form| is_wanted(&form.descriptor.media_type)) {
            if self.repository.has_blob(form.descriptor.digest).await? {
                return Ok(Some(form.descriptor));
            }
        }
        Ok(None)
    }

    /// Compresses a layer, and sends it meanwhile.
    async fn make(&self, layer: &Descriptor, diff_id: Digest, compression: Compression) -> Result<Descriptor> {
        let place = self.compressing.acquire().await;
        self.tell(layer, Stage::Compressing).await;
        let (grower, growing) = layer::growing();
        let source = OutgoingGrowth { growing, told: (layer.digest, self.events.clone()) };
        let mut making = pin!(async {
            let made = layer::archive_growing(&self.store, &diff_id, compression, &self.lease, grower).await;
            // The next one may be compressed while this one is still being sent.
            drop(place);
            made
        });
        let mut sending = pin!(self.repository.push_growing(layer.digest, &source));
        let (made, sent) = tokio::select! {
            made = &mut making => (made?, sending.await),
            sent = &mut sending => match sent {
                // Nothing will help that, and nobody needs the layer.
                Err(error) if !matches!(error.kind(), Refusal::Unavailable | Refusal::RateLimited | Refusal::Local) => {
                    return Err(error.into());
                }
                sent => (making.await?, sent),
            },
        };
        let made = made.ok_or(Error::BlobNotFound { digest: layer.digest })?;
        match sent {
            Ok(way) => self.sent(layer, &made, Some(diff_id), way).await,
            Err(error) => {
                tracing::debug!("a layer is sent again from its start: {}", strata_rpc::fault::chain(&error));
                self.send(layer, &made, Some(diff_id)).await
            }
        }
    }

    /// Pushes one blob; events call it by the digest that it has here.
    async fn send(&self, here: &Descriptor, sent: &Descriptor, diff_id: Option<Digest>) -> Result<Descriptor> {
        let neighbour = self.neighbour(&sent.digest).await?;
        let told = (here.digest, self.events.clone());
        let outgoing = Outgoing::of_blob(&self.store, sent, Some(told)).or_from_elsewhere(&self.lease, &self.identity);
        let pushed = self.repository.push_blob(sent, &outgoing, neighbour.as_deref()).await;
        let way = pushed.map_err(|error| outgoing.explain(error))?;
        self.sent(here, sent, diff_id, way).await
    }

    /// Writes down and tells that the registry has a blob.
    async fn sent(
        &self,
        here: &Descriptor,
        sent: &Descriptor,
        diff_id: Option<Digest>,
        way: Way,
    ) -> Result<Descriptor> {
        let stage = match way {
            Way::Present => Stage::Exists,
            Way::Mounted => Stage::Mounted,
            Way::Sent => Stage::Done,
        };
        // From now on it can be had from there again, or be mounted by a neighbour.
        if let Some(diff_id) = diff_id.filter(|diff_id| *diff_id != sent.digest)
            && self.store.catalog.form(&sent.digest).await?.is_none_or(|form| form.source.is_empty())
        {
            let source = format!("{}/{}", self.registry, self.path);
            self.store.catalog.put_layer_blob(sent, &diff_id, &source).await?;
        }
        self.events.tell(Event::Transfer { digest: here.digest, stage, offset: sent.size, size: sent.size }).await;
        Ok(sent.clone())
    }

    /// Another repository of the same registry that a blob came from or went to.
    async fn neighbour(&self, digest: &Digest) -> Result<Option<String>> {
        let Some(form) = self.store.catalog.form(digest).await? else { return Ok(None) };
        let source = Reference::parse(&form.source).ok();
        let source = source.filter(|source| Host::of(source) == self.registry && source.path() != self.path);
        Ok(source.map(|source| source.path().to_owned()))
    }

    async fn tell(&self, blob: &Descriptor, stage: Stage) {
        self.events.tell(Event::Transfer { digest: blob.digest, stage, offset: 0, size: 0 }).await;
    }
}

fn note(changed: &mut BTreeMap<Digest, Descriptor>, before: &Descriptor, after: Descriptor) {
    if before.digest != after.digest || before.media_type != after.media_type {
        changed.insert(before.digest, after);
    }
}

/// Has a document a form of Docker's? Artifacts and attestations have none.
fn is_convertible(document: &Document) -> bool {
    match &document.kind {
        Kind::Index(_) => true,
        Kind::Manifest(manifest) => {
            manifest.is_image()
                && manifest.layers.iter().all(|layer| layer_type(&layer.descriptor.media_type).is_some())
        }
    }
}

fn media_type_in(form: Form, kind: &Kind) -> &'static str {
    match (form, kind) {
        (Form::Oci, Kind::Index(_)) => media_type::OCI_INDEX,
        (Form::Oci, Kind::Manifest(_)) => media_type::OCI_MANIFEST,
        (Form::Docker, Kind::Index(_)) => media_type::DOCKER_INDEX,
        (Form::Docker, Kind::Manifest(_)) => media_type::DOCKER_MANIFEST,
    }
}

/// A document with other descriptors in it, in one of the two forms. All that it says besides, and that form knows, stays.
pub(crate) fn rewritten(
    document: &Document,
    changed: &BTreeMap<Digest, Descriptor>,
    form: Form,
) -> Result<(String, Vec<u8>)> {
    let what = || format!("document {}", document.descriptor.digest);
    let json = |source| strata_image::Error::Json { what: what(), source };
    let mut value: Value = serde_json::from_slice(&document.bytes).map_err(json)?;
    let media_type = media_type_in(form, &document.kind);
    let list = if matches!(document.kind, Kind::Index(_)) { "manifests" } else { "layers" };
    value["mediaType"] = media_type.into();
    if let Some(kind) = value.pointer_mut("/config/mediaType")
        && (*kind == media_type::DOCKER_CONFIG || *kind == media_type::OCI_CONFIG)
    {
        *kind = if form == Form::Oci { media_type::OCI_CONFIG } else { media_type::DOCKER_CONFIG }.into();
    }
    if form == Form::Docker
        && let Some(fields) = value.as_object_mut()
    {
        fields.remove("annotations");
    }
    for entry in value.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
        let digest = entry.get("digest").and_then(Value::as_str).and_then(|text| Digest::parse(text).ok());
        if let Some(after) = digest.and_then(|digest| changed.get(&digest)) {
            entry["mediaType"] = after.media_type.as_str().into();
            entry["digest"] = after.digest.to_string().into();
            entry["size"] = after.size.into();
        }
        let kind = entry.get("mediaType").and_then(Value::as_str).unwrap_or_default();
        if let Some(kind) = layer_in(form, kind)? {
            entry["mediaType"] = kind.into();
        }
        if form == Form::Docker
            && let Some(fields) = entry.as_object_mut()
        {
            fields.remove("annotations");
        }
    }
    let bytes = serde_json::to_vec(&value).map_err(json)?;
    Ok((media_type.to_owned(), bytes))
}

/// The name of a layer in the other form; none for what has it already, or is no layer of the image's own.
fn layer_in(form: Form, media_type: &str) -> Result<Option<&'static str>> {
    let from = match form {
        Form::Oci => "application/vnd.docker.image.rootfs.diff.",
        Form::Docker => "application/vnd.oci.image.layer.v1.",
    };
    let Some(kind) = layer_type(media_type).filter(|_| media_type.starts_with(from)) else { return Ok(None) };
    Ok(match (form, kind.compression) {
        (Form::Oci, Compression::None) => Some(media_type::OCI_LAYER),
        (Form::Oci, Compression::Gzip) => Some(media_type::OCI_LAYER_GZIP),
        (Form::Oci, Compression::Zstd) => Some(media_type::OCI_LAYER_ZSTD),
        (Form::Docker, Compression::None) => Some(media_type::DOCKER_LAYER),
        (Form::Docker, Compression::Gzip) => Some(media_type::DOCKER_LAYER_GZIP),
        (Form::Docker, Compression::Zstd) => {
            let problem = "a layer is compressed with zstd, which Docker's form does not know; pull the image first";
            return Err(Error::invalid("manifest_format", problem));
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        blob::digest(text.as_bytes())
    }

    #[test]
    fn a_rewritten_manifest_keeps_all_but_its_layers() {
        let (one, two) = (digest("one"), digest("two"));
        let text = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": { "mediaType": media_type::DOCKER_CONFIG, "digest": digest("config"), "size": 3 },
            "layers": [
                { "mediaType": media_type::DOCKER_LAYER_GZIP, "digest": one, "size": 1, "annotations": { "a": "b" } },
                { "mediaType": media_type::DOCKER_LAYER_GZIP, "digest": two, "size": 2 },
            ],
            "annotations": { "kept": "yes" },
        });
        let document = Document::parse(text.to_string().into_bytes(), "", &Limits::default()).unwrap();
        let after = Descriptor::new(media_type::OCI_LAYER_ZSTD, digest("zstd"), 9);

        let (media_type, bytes) = rewritten(&document, &BTreeMap::from([(two, after)]), Form::Oci).unwrap();

        let again = Document::parse(bytes.clone(), &media_type, &Limits::default()).unwrap();
        let Kind::Manifest(manifest) = again.kind else { panic!("it became an index") };
        assert_eq!(manifest.annotations["kept"], "yes");
        assert_eq!(manifest.config.descriptor.media_type, media_type::OCI_CONFIG);
        let layers: Vec<_> = manifest.layers.iter().map(|layer| &layer.descriptor).collect();
        assert_eq!((layers[0].digest, layers[0].media_type.as_str()), (one, media_type::OCI_LAYER_GZIP));
        assert_eq!(layers[0].annotations["a"], "b");
        assert_eq!((layers[1].digest, layers[1].size), (digest("zstd"), 9));
        let (_, same) = rewritten(&document, &BTreeMap::from([(two, layers[1].clone())]), Form::Oci).unwrap();
        assert_eq!(same, bytes, "equal inputs give equal bytes");
    }

    #[test]
    fn an_image_has_a_form_of_dockers_unless_it_has_zstd() {
        let of = |layer: &str| {
            let text = serde_json::json!({
                "schemaVersion": 2,
                "mediaType": media_type::OCI_MANIFEST,
                "config": { "mediaType": media_type::OCI_CONFIG, "digest": digest("config"), "size": 3 },
                "layers": [{ "mediaType": layer, "digest": digest("one"), "size": 1, "annotations": { "a": "b" } }],
                "annotations": { "c": "d" },
            });
            Document::parse(text.to_string().into_bytes(), "", &Limits::default()).unwrap()
        };

        let (media_type, bytes) = rewritten(&of(media_type::OCI_LAYER_GZIP), &BTreeMap::new(), Form::Docker).unwrap();

        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let expected = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": { "mediaType": media_type::DOCKER_CONFIG, "digest": digest("config"), "size": 3 },
            "layers": [{ "mediaType": media_type::DOCKER_LAYER_GZIP, "digest": digest("one"), "size": 1 }],
        });
        assert_eq!((media_type.as_str(), value), (media_type::DOCKER_MANIFEST, expected));
        let (media_type, again) =
            rewritten(&Document::parse(bytes, "", &Limits::default()).unwrap(), &BTreeMap::new(), Form::Oci).unwrap();
        let value: Value = serde_json::from_slice(&again).unwrap();
        assert_eq!(
            (media_type.as_str(), &value["layers"][0]["mediaType"]),
            (media_type::OCI_MANIFEST, &Value::from(media_type::OCI_LAYER_GZIP))
        );
        assert!(rewritten(&of(media_type::OCI_LAYER_ZSTD), &BTreeMap::new(), Form::Docker).is_err());
        assert!(!is_convertible(&of("application/x-of-an-artifact")));
    }
}
