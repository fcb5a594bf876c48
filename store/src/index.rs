//! Indexes that are put together here. Their entries are documents of this store; the layers below may be at the
//! registries that they came from, and stay there: whoever needs one fetches it, and a push mounts it where it can.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use strata_image::{Document, Image, Kind, Limits, Platforms, Root};
use strata_registry::Host;
use strata_types::{Descriptor, Digest, LeaseId, Reference, media_type};

use crate::catalog::Durability;
use crate::lease::{GRACE, Session};
use crate::remote::documents::{self, Nowhere, Origin, Planned};
use crate::remote::{self, Identity};
use crate::{Error, Result, Store, blob, document, image};

/// An entry for an index.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What it points at.
    pub descriptor: Descriptor,
    /// The entry as an index has it.
    pub json: Value,
}

/// Makes entries of what a text names, here or at its registry: of an index those of these platforms. Documents are
/// here afterwards, and stay for a while; layers that are not here are known by their registry.
pub async fn entries(store: &Arc<Store>, text: &str, platforms: Platforms, identity: &Identity) -> Result<Vec<Entry>> {
    let session = Session::begin(store, "entries of an index", GRACE).await?;
    let lease = &session.lease().id;
    let wanted = image::wanted(store, text).await?;
    let is_name = wanted.name.is_some() || wanted.manifest.is_some();
    let reference = if is_name { Some(Reference::parse(text).map_err(Error::field("reference"))?) } else { None };
    let here = match store.catalog.locate_document(wanted).await {
        Ok((digest, _)) => store.catalog.hold_document(&digest, lease).await?,
        Err(Error::ImageNotFound { .. }) if is_name => None,
        Err(error) => return Err(error),
    };
    let (target, bytes) = match (here, &reference) {
        (Some(row), _) => (row.descriptor(), Bytes::from(blob::read(store, &row.digest).await?)),
        (None, Some(reference)) => {
            let found = remote::manifest(store, reference, identity).await?;
            (Descriptor::new(&*found.media_type, found.digest, found.bytes.len() as u64), found.bytes)
        }
        (None, None) => return Err(Error::ImageNotFound { reference: text.to_owned() }),
    };
    let origin: Arc<dyn Origin> = match &reference {
        Some(reference) => Arc::new(store.remotes.repository(reference, identity)?),
        None => Arc::new(Nowhere),
    };
    let is_index = media_type::is_index(&target.media_type);
    // A single image is taken whatever it is for.
    let platforms = if !is_index && platforms == Platforms::Host { Platforms::All } else { platforms };
    let root = Root::new(target.clone(), reference.iter().cloned().collect());
    let planned = documents::plan(store, origin, root, bytes.clone(), platforms.clone()).await?;
    let source = reference.map(|reference| format!("{}/{}", Host::of(&reference), reference.path()));
    keep(store, &planned, source.as_deref(), lease).await?;
    let listed = if is_index { listed(&target, &bytes)? } else { Vec::new() };
    match platforms {
        Platforms::All if is_index => match planned.plan.roots().iter().flat_map(|root| &root.absent).next() {
            Some(absent) => Err(Error::DocumentNotFound { reference: format!("{text}: {}", absent.digest) }),
            None => Ok(listed),
        },
        _ => Ok(vec![chosen(&planned, listed)?]),
    }
}

/// Stores what a plan found: documents, unless they are here, and where the rest is.
async fn keep(store: &Arc<Store>, planned: &Planned, source: Option<&str>, lease: &LeaseId) -> Result<()> {
    for found in planned.plan.blobs().iter().rev() {
        let blob = &found.descriptor;
        let is_document = media_type::is_index(&blob.media_type) || media_type::is_manifest(&blob.media_type);
        match planned.documents.get(&blob.digest) {
            Some(bytes) if is_document => {
                // One that was made here stays so.
                if store.catalog.hold_document(&blob.digest, lease).await?.is_none() {
                    document::put(store, bytes.to_vec(), &blob.media_type, lease, Durability::Full).await?;
                }
            }
            Some(bytes) => {
                blob::put(store, bytes.to_vec(), lease, Durability::Full).await?;
            }
            None => {
                let is_here = store.catalog.hold_blob(&blob.digest, lease).await?.is_some()
                    || store.catalog.hold_layer_by_diff_id(&blob.digest, lease).await?.is_some();
                match source {
                    _ if is_here => {}
                    Some(source) => store.catalog.note_layer_blob(blob, source).await?,
                    None if remote::elsewhere(store, &blob.digest).await?.is_some() => {}
                    None => return Err(Error::BlobNotFound { digest: blob.digest }),
                }
            }
        }
    }
    Ok(())
}

/// The entries of an index as they stand there.
fn listed(target: &Descriptor, bytes: &[u8]) -> Result<Vec<Entry>> {
    let json = |source| Error::Document { what: "index", digest: target.digest, source };
    let value: Value = serde_json::from_slice(bytes).map_err(json)?;
    let document = Document::parse(bytes.to_vec(), &target.media_type, &Limits::default())?;
    let Kind::Index(index) = document.kind else { return Ok(Vec::new()) };
    let entries = value.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default();
    let pairs = index.manifests.into_iter().zip(entries);
    Ok(pairs.map(|(entry, json)| Entry { descriptor: entry.descriptor, json }).collect())
}

/// The entry of the one image of a plan: as its index has it, else made of its config.
fn chosen(planned: &Planned, listed: Vec<Entry>) -> Result<Entry> {
    let root = planned.plan.roots().first();
    let descriptor = root.map(|root| root.descriptor.clone());
    let descriptor = descriptor.ok_or_else(|| strata_image::Error::NoImage { what: "the document".to_owned() })?;
    if let Some(entry) = listed.into_iter().find(|entry| entry.descriptor.digest == descriptor.digest) {
        return Ok(entry);
    }
    let mut json = json!({
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest.to_string(),
        "size": descriptor.size,
    });
    match root.and_then(|root| root.images.first()) {
        Some(image) => json["platform"] = platform(planned, image)?,
        None => json["artifactType"] = artifact_type(planned, &descriptor)?.into(),
    }
    Ok(Entry { descriptor, json })
}

/// The platform that a config names, with what only indexes and configs say of it.
fn platform(planned: &Planned, image: &Image) -> Result<Value> {
    let digest = image.config.digest;
    let bytes = planned.documents.get(&digest).ok_or(Error::BlobNotFound { digest })?;
    let config: Value =
        serde_json::from_slice(bytes).map_err(|source| Error::Document { what: "config", digest, source })?;
    let mut platform = json!({ "os": image.platform.os, "architecture": image.platform.architecture });
    if let Some(variant) = image.platform.variant.as_deref().filter(|variant| !variant.is_empty()) {
        platform["variant"] = variant.into();
    }
    for field in ["os.version", "os.features"] {
        let is_empty = |value: &Value| value.is_null() || *value == "" || *value == json!([]);
        if let Some(value) = config.get(field).filter(|value| !is_empty(value)) {
            platform[field] = value.clone();
        }
    }
    Ok(platform)
}

/// What kind of artifact a manifest is (image-spec, "Guidelines for Artifact Usage").
fn artifact_type(planned: &Planned, descriptor: &Descriptor) -> Result<String> {
    let digest = descriptor.digest;
    let bytes = planned.documents.get(&digest).ok_or(Error::BlobNotFound { digest })?;
    let document = Document::parse(bytes.to_vec(), &descriptor.media_type, &Limits::default())?;
    Ok(match document.kind {
        Kind::Manifest(manifest) => manifest.artifact_type.unwrap_or(manifest.config.descriptor.media_type),
        Kind::Index(index) => index.artifact_type.unwrap_or_default(),
    })
}

/// Registries that have blobs below a document which are not here.
pub async fn registries(store: &Store, digest: &Digest) -> Result<BTreeSet<String>> {
    let (mut found, mut seen, mut left) = (BTreeSet::new(), BTreeSet::from([*digest]), vec![*digest]);
    while let Some(digest) = left.pop() {
        for child in store.catalog.document_children(&digest).await? {
            let digest = child.descriptor.digest;
            if !seen.insert(digest) {
                continue;
            }
            // What is no document has no children.
            left.push(digest);
            let form = remote::elsewhere(store, &digest).await?;
            let source = form.and_then(|form| Reference::parse(&form.source).ok());
            found.extend(source.map(|source| Host::of(&source).to_string()));
        }
    }
    Ok(found)
}

/// Stores an index and names it. `expected`, where it is given, is what the name must point at until then.
pub async fn put(
    store: &Arc<Store>,
    name: &Reference,
    bytes: Vec<u8>,
    expected: Option<Option<Digest>>,
) -> Result<Descriptor> {
    let parsed = Document::parse(bytes, "", &Limits::default())?;
    let Kind::Index(index) = &parsed.kind else {
        return Err(Error::invalid("document_json", "it is a manifest, not an index"));
    };
    let session = Session::begin(store, "an index", GRACE).await?;
    let lease = &session.lease().id;
    for entry in &index.manifests {
        check(store, &entry.descriptor, lease).await?;
    }
    let descriptor = parsed.descriptor;
    document::put_own(store, parsed.bytes, &descriptor.media_type, lease, Durability::Full).await?;
    store.catalog.replace_name(name, expected, &descriptor.digest).await?;
    session.end().await?;
    Ok(descriptor)
}

/// Holds what an entry points at; refuses one that says something else of it than the store knows.
async fn check(store: &Arc<Store>, entry: &Descriptor, lease: &LeaseId) -> Result<()> {
    let digest = entry.digest;
    if !media_type::is_index(&entry.media_type) && !media_type::is_manifest(&entry.media_type) {
        let is_known = store.catalog.hold_blob(&digest, lease).await?.is_some()
            || remote::elsewhere(store, &digest).await?.is_some();
        return if is_known { Ok(()) } else { Err(Error::BlobNotFound { digest }) };
    }
    let row = store.catalog.hold_document(&digest, lease).await?;
    let row = row.ok_or_else(|| Error::DocumentNotFound { reference: digest.to_string() })?;
    if (row.size, row.media_type.as_str()) != (entry.size, entry.media_type.as_str()) {
        let problem = format!("its entry {digest} has another size or media type than that document");
        return Err(Error::invalid("document_json", problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
