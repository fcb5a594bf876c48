//! Manifests and indexes: kept byte for byte, refused where what they name is not in their repository.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde_json::Value;
use strata_image::{Document, Kind};
use strata_types::{Digest, Reference as ImageName};

use super::name::{Name, Repository, Tag};
use super::route::{Query, Reference};
use super::upstream::Upstream;
use super::{Fault, Registry, answer, blobs, export, namespace_query, text};
use crate::catalog::{DocumentKind, DocumentRow, Durability, NewDocument};
use crate::lease::{GRACE, Session};
use crate::{Error, blob, document};

/// Bytes of the largest manifest that is taken: the least that the specification asks for.
pub(super) const LARGEST: u64 = 4 << 20;
/// Tags that one request may set.
const TAGS: usize = 64;

/// The store's name for a tag of a repository.
fn image_name(repository: &Repository, tag: &Tag) -> Result<ImageName, Fault> {
    let full = repository.with_tag(tag);
    ImageName::parse(&full).map_err(|_| Fault::NameInvalid { name: full })
}

/// Finds a document that a repository has, and the digest that its client calls it by.
async fn find(
    registry: &Arc<Registry>,
    repository: &Repository,
    reference: &Reference,
) -> Result<Option<(DocumentRow, Name)>, Fault> {
    let catalog = &registry.store.catalog;
    match reference {
        Reference::Neither(_) => Ok(None),
        Reference::Tag(tag) => {
            let named = catalog.target(&image_name(repository, tag)?).await?;
            // Whoever made an image here means that one; of all else the registry that it is of knows best.
            let is_ours = named.as_ref().is_some_and(|row| row.is_made_here);
            let there = match Upstream::of(registry, repository)? {
                Some(upstream) if !is_ours => match upstream.tag(tag).await {
                    // What a name leads to here is better than nothing.
                    Err(Fault::Upstream(_)) if named.is_some() => None,
                    other => other?,
                },
                _ => None,
            };
            let Some(row) = there.or(named) else { return Ok(None) };
            let row = export::portable(registry, repository, row).await?;
            let name = Name::from(row.digest);
            Ok(Some((row, name)))
        }
        Reference::Digest(name) => {
            let found = by_digest(registry, repository, name).await?;
            Ok(found.map(|row| (row, name.clone())))
        }
    }
}

/// The digest by which the store knows what a repository has under this name.
pub(super) async fn digest_of(
    registry: &Registry,
    repository: &Repository,
    name: &Name,
) -> Result<Option<Digest>, Fault> {
    match name.sha256() {
        Some(digest) => Ok(Some(digest)),
        None => {
            let held = registry.store.catalog.repository_blob(repository.store_name(), name.as_str()).await?;
            Ok(held.map(|held| held.digest))
        }
    }
}

async fn by_digest(
    registry: &Arc<Registry>,
    repository: &Repository,
    name: &Name,
) -> Result<Option<DocumentRow>, Fault> {
    let (catalog, within) = (&registry.store.catalog, repository.store_name());
    let Some(digest) = digest_of(registry, repository, name).await? else { return Ok(None) };
    if catalog.is_in_repository(within, &digest).await? {
        match catalog.document(&digest).await {
            // Its layers have no blobs; what has is found by the name.
            Ok(row) if row.is_made_here && row.kind == DocumentKind::Manifest => return Ok(None),
            Ok(row) => return Ok(Some(row)),
            Err(Error::DocumentNotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match Upstream::of(registry, repository)? {
        Some(upstream) => upstream.digest(&digest).await,
        None => Ok(None),
    }
}

fn unknown(reference: &Reference) -> Fault {
    let reference = match reference {
        Reference::Tag(tag) => tag.as_str().to_owned(),
        Reference::Digest(name) => name.to_string(),
        Reference::Neither(text) => text.clone(),
    };
    Fault::ManifestUnknown { reference }
}

/// GET and HEAD.
pub(super) async fn get(
    registry: &Arc<Registry>,
    method: &Method,
    headers: &HeaderMap,
    repository: &Repository,
    reference: &Reference,
) -> Result<Response<Body>, Fault> {
    let (row, name) = find(registry, repository, reference).await?.ok_or_else(|| unknown(reference))?;
    let etag = format!("\"{name}\"");
    let length = row.size.to_string();
    let fields = [
        ("content-type", row.media_type.as_str()),
        ("content-length", &length),
        ("docker-content-digest", name.as_str()),
        ("etag", &etag),
    ];
    if text(headers, header::IF_NONE_MATCH).is_some_and(|known| blobs::is_listed(known, &etag)) {
        return Ok(answer(StatusCode::NOT_MODIFIED, &fields[2..]));
    }
    let mut response = answer(StatusCode::OK, &fields);
    if method == Method::GET {
        let (_, bytes) = document::read(&registry.store, &row.digest).await?;
        *response.body_mut() = Body::from(bytes);
    }
    Ok(response)
}

/// What a document says, with the names that its repository's content has in the store.
struct Read {
    document: Document,
    /// The subject, as the document has it.
    subject: Option<Name>,
}

/// PUT.
pub(super) async fn put(
    registry: &Arc<Registry>,
    repository: &Repository,
    reference: &Reference,
    query: &Query,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Fault> {
    let bytes = read_body(headers, body).await?;
    let invalid = |problem: &str| Fault::ManifestInvalid { problem: problem.to_owned() };
    let tag_of = |text: &str| Tag::parse(text).ok_or_else(|| invalid("a tag of the query is none"));
    let (name, tags) = match reference {
        Reference::Neither(_) => return Err(invalid("what follows \"manifests/\" is neither a tag nor a digest")),
        Reference::Tag(tag) => (Name::from(blob::digest(&bytes)), vec![tag.clone()]),
        Reference::Digest(name) => {
            let actual = name.of_same_kind(&bytes);
            if actual != *name {
                return Err(Fault::DigestMismatch { expected: name.to_string(), actual: actual.to_string() });
            }
            (name.clone(), query.all("tag").map(tag_of).collect::<Result<_, _>>()?)
        }
    };
    if tags.len() > TAGS {
        return Err(invalid("one request sets at most 64 tags"));
    }
    let declared = text(headers, header::CONTENT_TYPE).unwrap_or_default();
    let declared = declared.split(';').next().unwrap_or_default().trim();
    let read = read(registry, repository, &bytes, declared).await?;
    check_content(registry, repository, &read.document).await?;
    // One that cannot be listed is not acknowledged: the client keeps its list itself then.
    let subject = read.subject.clone().filter(|_| has_subject(&read.document));
    store(registry, repository, &name, &tags, read, bytes).await?;

    let location = format!("/v2/{}/manifests/{name}{}", repository.path(), namespace_query(repository));
    let mut response =
        answer(StatusCode::CREATED, &[("location", &location), ("docker-content-digest", name.as_str())]);
    let mut add = |field: &'static str, value: &str| {
        // Digests and tags are visible ASCII.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().append(field, value);
        }
    };
    if let Some(subject) = subject {
        add("oci-subject", subject.as_str());
    }
    if matches!(reference, Reference::Digest(_)) {
        tags.iter().for_each(|tag| add("oci-tag", tag.as_str()));
    }
    Ok(response)
}

fn has_subject(document: &Document) -> bool {
    match &document.kind {
        Kind::Manifest(manifest) => manifest.subject.is_some(),
        Kind::Index(index) => index.subject.is_some(),
    }
}

async fn read_body(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Fault> {
    let too_large = Fault::ManifestTooLarge { limit: LARGEST };
    let length: Option<u64> = text(headers, header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    if length.is_some_and(|length| length > LARGEST) {
        return Err(too_large);
    }
    let silence = std::time::Duration::from_secs(60);
    let read = tokio::time::timeout(silence, axum::body::to_bytes(body, LARGEST as usize)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        // What is longer than it may be, and what broke off, look alike here; a length was announced for the latter.
        Ok(Err(_)) if length.is_none() => Err(too_large),
        Ok(Err(error)) => Err(Fault::BodyLost { problem: error.to_string() }),
        Err(_) => Err(Fault::BodyLost { problem: "it did not come within a minute".to_owned() }),
    }
}

/// Parses a document strictly. SHA-512 digests in it are replaced for that by those of the store, as far as the
/// repository has what they name.
async fn read(registry: &Registry, repository: &Repository, bytes: &[u8], declared: &str) -> Result<Read, Fault> {
    let invalid = |problem: String| Fault::ManifestInvalid { problem };
    let parse = |bytes: Vec<u8>| {
        Document::parse(bytes, declared, &strata_image::Limits::default())
            .map_err(|error| invalid(strata_rpc::fault::chain(&error)))
    };
    let is_translated = bytes.windows(7).any(|window| window == b"sha512:");
    if !is_translated {
        let document = parse(bytes.to_vec())?;
        let subject = match &document.kind {
            Kind::Manifest(manifest) => &manifest.subject,
            Kind::Index(index) => &index.subject,
        };
        let subject = subject.as_ref().map(|subject| Name::from(subject.descriptor.digest));
        return Ok(Read { document, subject });
    }
    let mut json: Value = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    let subject = json.get("subject").and_then(|subject| subject.get("digest")).and_then(Value::as_str);
    let subject = subject.map(Name::parse).transpose()?;
    let (mut missing, mut known) = (Vec::new(), BTreeMap::new());
    for name in names_in(&json)? {
        match registry.store.catalog.repository_blob(repository.store_name(), name.as_str()).await? {
            Some(held) => drop(known.insert(name.to_string(), held.digest)),
            None if Some(&name) == subject.as_ref() => {}
            None => missing.push(name.to_string()),
        }
    }
    if !missing.is_empty() {
        return Err(Fault::ManifestBlobUnknown { missing });
    }
    // A subject that is not here cannot be listed by a digest that the store does not know; the client is told so by
    // the absence of OCI-Subject, and keeps its list itself.
    if subject.as_ref().is_some_and(|name| name.sha256().is_none() && !known.contains_key(name.as_str()))
        && let Some(fields) = json.as_object_mut()
    {
        fields.remove("subject");
    }
    for descriptor in descriptors(&mut json) {
        let digest = descriptor.get("digest").and_then(Value::as_str).and_then(|digest| known.get(digest));
        if let Some(digest) = digest.map(Digest::to_string) {
            descriptor["digest"] = digest.into();
        }
    }
    let mut document = parse(serde_json::to_vec(&json).map_err(|error| invalid(error.to_string()))?)?;
    document.descriptor.digest = blob::digest(bytes);
    document.descriptor.size = bytes.len() as u64;
    Ok(Read { document, subject })
}

/// The descriptors of a document, wherever the specification has one.
fn descriptors(json: &mut Value) -> Vec<&mut Value> {
    let Some(fields) = json.as_object_mut() else { return Vec::new() };
    let mut found = Vec::new();
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("config" | "subject", value) => found.push(value),
            ("layers" | "manifests", Value::Array(values)) => found.extend(values),
            _ => {}
        }
    }
    found
}

/// The SHA-512 digests in a document.
fn names_in(json: &Value) -> Result<Vec<Name>, Fault> {
    let mut copy = json.clone();
    let mut names = Vec::new();
    for descriptor in descriptors(&mut copy) {
        let digest = descriptor.get("digest").and_then(Value::as_str);
        if let Some(digest) = digest.filter(|digest| digest.starts_with("sha512:")) {
            names.push(Name::parse(digest)?);
        }
    }
    Ok(names)
}

/// Refuses a document whose content is not in the repository, or has another size there. Layers that are fetched
/// elsewhere need not be; nothing need where the configuration says so.
async fn check_content(registry: &Registry, repository: &Repository, document: &Document) -> Result<(), Fault> {
    let entries: Vec<_> = match &document.kind {
        Kind::Manifest(manifest) => std::iter::once(&manifest.config).chain(&manifest.layers).collect(),
        Kind::Index(index) => index.manifests.iter().collect(),
    };
    let mut missing = Vec::new();
    for entry in entries.into_iter().filter(|entry| !entry.is_foreign()) {
        let name = Name::from(entry.descriptor.digest);
        // By whatever name it was pushed.
        let digest = &entry.descriptor.digest;
        match blobs::find_stored(registry, repository, digest).await? {
            // What a pull through it says is there need not have been fetched.
            None if registry.settings.accept_sparse => {}
            None if blobs::bring(registry, repository, digest).await? => {}
            None => missing.push(name.to_string()),
            Some(held) if held.size != entry.descriptor.size => {
                let problem = format!("{name} has {} bytes, not {}", held.size, entry.descriptor.size);
                return Err(Fault::ManifestInvalid { problem });
            }
            Some(_) => {}
        }
    }
    missing.dedup();
    if missing.is_empty() { Ok(()) } else { Err(Fault::ManifestBlobUnknown { missing }) }
}

/// Stores a document, then gives it to its repository and names it: last what others see.
async fn store(
    registry: &Registry,
    repository: &Repository,
    name: &Name,
    tags: &[Tag],
    read: Read,
    bytes: Vec<u8>,
) -> Result<(), Fault> {
    let (store, within) = (&registry.store, repository.store_name());
    let digest = read.document.descriptor.digest;
    let document = read.document;
    let new = NewDocument::from(&document);
    let session = Session::begin(store, "a push to the registry", GRACE).await?;
    let lease = session.lease().id.clone();
    let stored = async {
        blob::put(store, bytes, &lease, Durability::Full).await?;
        store.catalog.put_document(new, &lease, Durability::Full).await?;
        store.catalog.keep_in_repository(within, &digest).await?;
        // What was there a moment ago may have been deleted since; from here on it is needed, and stays.
        if let Err(fault) = check_content(registry, repository, &document).await {
            store.catalog.delete_from_repository(within, &digest).await?;
            return Err(fault);
        }
        if name.sha256().is_none() {
            store.catalog.add_repository_blob(within, name.as_str(), &digest).await?;
        }
        for tag in tags {
            store.catalog.set_name(&image_name(repository, tag)?, &digest).await?;
        }
        Ok::<_, Fault>(())
    }
    .await;
    session.end().await?;
    stored
}

/// DELETE: a tag alone, or a document with all tags that lead to it.
pub(super) async fn delete(
    registry: &Arc<Registry>,
    repository: &Repository,
    reference: &Reference,
) -> Result<Response<Body>, Fault> {
    let (catalog, within) = (&registry.store.catalog, repository.store_name());
    let is_gone = match reference {
        Reference::Neither(_) => false,
        Reference::Tag(tag) => catalog.remove_name(&image_name(repository, tag)?).await?,
        Reference::Digest(name) => {
            let held = digest_of(registry, repository, name).await?;
            let is_there = match held {
                Some(digest) => catalog.is_in_repository(within, &digest).await?,
                None => false,
            };
            let Some(digest) = held.filter(|_| is_there) else { return Err(unknown(reference)) };
            if let Some(above) = catalog.needed_in_repository(within, &digest).await? {
                return Err(Fault::BlobNeeded { digest: name.to_string(), manifest: above.to_string() });
            }
            let is_gone = catalog.delete_from_repository(within, &digest).await?;
            catalog.remove_repository_blob(within, &digest).await?;
            is_gone
        }
    };
    if !is_gone {
        return Err(unknown(reference));
    }
    registry.store.collector.wake();
    Ok(answer(StatusCode::ACCEPTED, &[]))
}
