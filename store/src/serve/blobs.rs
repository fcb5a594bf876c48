//! Blobs: looked for in a repository, served whole or in part, pushed, mounted and deleted.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use strata_rpc::fault::chain;
use strata_types::Digest;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::config::Permission;
use super::fault::progress;
use super::identity::Caller;
use super::name::{Name, Repository};
use super::range::{self, Wanted};
use super::route::Query;
use super::uploads::Upload;
use super::upstream::{Coming, Upstream, refused};
use super::{Fault, Registry, answer, text};
use crate::catalog::{BlobRow, HeldBlob, blocking};
use crate::lease::{GRACE, Session};
use crate::remote::{self, Identity};
use crate::{Error, blob};

/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;

/// Finds a blob that a repository has: pushed there, or needed by a document of it.
pub(super) async fn find(registry: &Registry, repository: &Repository, name: &Name) -> Result<Option<HeldBlob>, Fault> {
    let (catalog, within) = (&registry.store.catalog, repository.store_name());
    if let Some(held) = catalog.repository_blob(within, name.as_str()).await? {
        return Ok(Some(held));
    }
    match name.sha256() {
        Some(digest) => find_stored(registry, repository, &digest).await,
        None => Ok(None),
    }
}

/// Finds a blob by the store's digest, whatever a repository calls it.
pub(super) async fn find_stored(
    registry: &Registry,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<HeldBlob>, Fault> {
    let (catalog, within) = (&registry.store.catalog, repository.store_name());
    let size = match catalog.blob(digest).await {
        Err(Error::BlobNotFound { .. }) => match remote::elsewhere(&registry.store, digest).await? {
            Some(form) => form.descriptor.size,
            None => return Ok(None),
        },
        other => other?.size,
    };
    let is_there =
        catalog.is_blob_of_repository(within, digest).await? || catalog.is_in_repository(within, digest).await?;
    Ok(is_there.then_some(HeldBlob { digest: *digest, size }))
}

/// GET and HEAD.
pub(super) async fn get(
    registry: &Registry,
    method: &Method,
    headers: &HeaderMap,
    repository: &Repository,
    name: &Name,
) -> Result<Response<Body>, Fault> {
    let unknown = || Fault::BlobUnknown { digest: name.to_string() };
    let (size, content) = match find(registry, repository, name).await? {
        Some(held) => {
            let opened = match blob::open(&registry.store, &held.digest).await {
                Err(Error::BlobNotFound { .. })
                    if remote::elsewhere(&registry.store, &held.digest).await?.is_some() =>
                {
                    if method == Method::HEAD {
                        return Ok(described(name, Some(held.size)));
                    }
                    again(registry, &held.digest).await
                }
                opened => opened,
            };
            match opened {
                Ok((file, row)) => (row.size, Content::Stored(file, registry.store.paths.blob(&held.digest))),
                // Whoever has the bytes may push them again, which replaces the file.
                Err(error @ (Error::BlobNotFound { .. } | Error::BlobDamaged { .. })) => {
                    tracing::warn!("the registry cannot serve a blob: {}", chain(&error));
                    return Err(unknown());
                }
                Err(error) => return Err(refused(error)),
            }
        }
        None => match through(registry, method, repository, name).await?.ok_or_else(unknown)? {
            Through::Coming(coming) => (coming.size(), Content::Coming(coming)),
            Through::There(held) => return Ok(described(name, Some(held.size))),
        },
    };
    let etag = format!("\"{name}\"");
    let mut response = described(name, None);
    if text(headers, header::IF_NONE_MATCH).is_some_and(|known| is_listed(known, &etag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    // A part of something else is of no use to a client that has the beginning of this.
    let is_same = text(headers, header::IF_RANGE).is_none_or(|known| known == etag);
    let wanted = text(headers, header::RANGE).filter(|_| is_same && method == Method::GET);
    let (start, length) = match range::wanted(wanted, size) {
        Wanted::Whole => (0, size),
        Wanted::Beyond => return Err(Fault::RangeInvalid { size }),
        Wanted::Part { start, end } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes {start}-{end}/{size}"));
            (start, end - start + 1)
        }
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if method == Method::GET && length > 0 {
        *response.body_mut() = match content {
            Content::Stored(file, path) => stored_bytes(file, path, start, length).await?,
            Content::Coming(coming) => Body::from_stream(coming.bytes(start, start + length)),
        };
    }
    Ok(response)
}

/// What every answer says of a blob; with its size it is the whole answer to a HEAD.
fn described(name: &Name, size: Option<u64>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // What has this digest never changes; who may see it may.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    set(fields, header::ETAG, &format!("\"{name}\""));
    set(fields, super::CONTENT_DIGEST, name.as_str());
    if let Some(size) = size {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
    response
}

/// Opens a blob that is fetched again from where it came from: what anybody gets there.
async fn again(registry: &Registry, digest: &Digest) -> Result<(std::fs::File, BlobRow), Error> {
    let session = Session::begin(&registry.store, "a pull from the registry", GRACE).await?;
    let brought = remote::again(&registry.store, digest, &session.lease().id, &Identity::default()).await;
    let opened = match brought {
        Ok(_) => blob::open(&registry.store, digest).await,
        Err(error) => Err(error),
    };
    session.end().await?;
    opened
}

/// Where the bytes of an answer are.
enum Content {
    /// In this file.
    Stored(File, PathBuf),
    /// On their way.
    Coming(Coming),
}

async fn stored_bytes(mut file: File, path: PathBuf, start: u64, length: u64) -> Result<Body, Fault> {
    let file = blocking(move || {
        file.seek(SeekFrom::Start(start)).map_err(|source| Error::io("read", path, source))?;
        Ok::<_, Error>(file)
    })
    .await?;
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(PIECE);
    Ok(Body::from_stream(ReaderStream::with_capacity(file.take(length), PIECE)))
}

/// A blob of another registry for which ours answers.
enum Through {
    /// It comes.
    Coming(Coming),
    /// Only its size was asked for.
    There(HeldBlob),
}

async fn through(
    registry: &Registry,
    method: &Method,
    repository: &Repository,
    name: &Name,
) -> Result<Option<Through>, Fault> {
    let (Some(digest), Some(upstream)) = (name.sha256(), Upstream::of(registry, repository)?) else { return Ok(None) };
    let Some(known) = upstream.known_blob(&digest).await? else { return Ok(None) };
    if method == Method::HEAD {
        return Ok(Some(Through::There(known)));
    }
    match upstream.blob(&digest).await? {
        Some(coming) => Ok(coming.begun().await?.map(Through::Coming)),
        None => Ok(None),
    }
}

/// Brings a blob here that the repository has elsewhere; says whether it is here now.
pub(super) async fn bring(registry: &Registry, repository: &Repository, digest: &Digest) -> Result<bool, Fault> {
    let Some(upstream) = Upstream::of(registry, repository)? else { return Ok(false) };
    if upstream.known_blob(digest).await?.is_none() {
        return Ok(false);
    }
    match upstream.blob(digest).await? {
        Some(coming) => Ok(coming.here().await?.is_some()),
        None => Ok(false),
    }
}

fn set(fields: &mut HeaderMap, name: impl header::IntoHeaderName, value: &str) {
    // Digests and numbers are visible ASCII.
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}

/// Is an entity tag in an If-None-Match header?
pub(super) fn is_listed(known: &str, etag: &str) -> bool {
    known == "*" || known.split(',').any(|one| one.trim().trim_start_matches("W/") == etag)
}

/// DELETE: what a document of the repository needs stays, since the image would be broken.
pub(super) async fn delete(registry: &Registry, repository: &Repository, name: &Name) -> Result<Response<Body>, Fault> {
    let unknown = || Fault::BlobUnknown { digest: name.to_string() };
    let held = find(registry, repository, name).await?.ok_or_else(unknown)?;
    let (catalog, within) = (&registry.store.catalog, repository.store_name());
    if let Some(manifest) = catalog.needed_in_repository(within, &held.digest).await? {
        return Err(Fault::BlobNeeded { digest: name.to_string(), manifest: manifest.to_string() });
    }
    if !catalog.remove_repository_blob(within, &held.digest).await? {
        return Err(unknown());
    }
    registry.store.collector.wake();
    Ok(answer(StatusCode::ACCEPTED, &[]))
}

fn place(repository: &Repository, upload: &Upload) -> String {
    format!("/v2/{}/blobs/uploads/{}{}", repository.path(), upload.id(), super::namespace_query(repository))
}

fn under_way(status: StatusCode, repository: &Repository, upload: &Upload) -> Response<Body> {
    let (location, range) = (place(repository, upload), progress(upload.written()));
    answer(status, &[("location", &location), ("range", &range), ("docker-upload-uuid", upload.id())])
}

fn stored(repository: &Repository, name: &Name) -> Response<Body> {
    let location = format!("/v2/{}/blobs/{name}{}", repository.path(), super::namespace_query(repository));
    answer(StatusCode::CREATED, &[("location", &location), ("docker-content-digest", name.as_str())])
}

/// POST: a mount, a whole blob, or the beginning of an upload.
pub(super) async fn post(
    registry: &Arc<Registry>,
    caller: &Caller,
    repository: &Repository,
    query: &Query,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Fault> {
    let algorithm = query.first("digest-algorithm").filter(|algorithm| !matches!(*algorithm, "sha256" | "sha512"));
    if let Some(algorithm) = algorithm {
        let digest = algorithm.chars().take(100).collect();
        return Err(Fault::DigestInvalid { digest, problem: "this registry knows sha256 and sha512" });
    }
    if let Some(mount) = query.first("mount") {
        let name = Name::parse(mount)?;
        if let Some(mounted) = mount_blob(registry, caller, repository, &name, query.first("from")).await? {
            return Ok(mounted);
        }
    }
    let digest = query.first("digest").map(Name::parse).transpose()?;
    let upload = registry.uploads.begin(&registry.store, repository).await?;
    let Some(digest) = digest else { return Ok(under_way(StatusCode::ACCEPTED, repository, &upload)) };
    if let Err(fault) = append(registry, &upload, headers, body).await {
        registry.uploads.end(&upload).await?;
        return Err(fault);
    }
    registry.uploads.finish(&registry.store, &upload, repository, &digest).await?;
    Ok(stored(repository, &digest))
}

/// Gives a blob of another repository to this one, if the caller may see it there.
async fn mount_blob(
    registry: &Registry,
    caller: &Caller,
    repository: &Repository,
    name: &Name,
    from: Option<&str>,
) -> Result<Option<Response<Body>>, Fault> {
    let found = match from.filter(|from| !from.is_empty()) {
        Some(from) => {
            let from = Repository::parse(from, repository.namespace())?;
            if !caller.may(Permission::Pull, Some(&from)) {
                return Ok(None);
            }
            find(registry, &from, name).await?
        }
        // Whoever may not see everything does not learn that it is somewhere.
        None if caller.may(Permission::Pull, None) => {
            registry.store.catalog.blob_of_any_repository(name.as_str()).await?
        }
        None => None,
    };
    let Some(held) = found else { return Ok(None) };
    let (catalog, within) = (&registry.store.catalog, repository.store_name());
    let is_added = catalog.add_repository_blob(within, name.as_str(), &held.digest).await?;
    Ok(is_added.then(|| stored(repository, name)))
}

/// Appends the body of a request to an upload, in the place that the request says. It goes on when the client is gone:
/// what came is kept.
async fn append(registry: &Arc<Registry>, upload: &Arc<Upload>, headers: &HeaderMap, body: Body) -> Result<(), Fault> {
    let length: Option<u64> = text(headers, header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let mut expected = None;
    if let Some(text) = text(headers, header::CONTENT_RANGE) {
        let malformed = Fault::UploadInvalid { problem: "Content-Range must be FIRST-LAST, in bytes" };
        let (start, size) = range::chunk(text).ok_or(malformed)?;
        if length.is_some_and(|length| length != size) {
            let problem = "Content-Range and Content-Length do not agree".to_owned();
            return Err(Fault::SizeInvalid { problem });
        }
        expected = Some((start, size));
    }
    let (registry, upload) = (Arc::clone(registry), Arc::clone(upload));
    let task = tokio::spawn(async move { registry.uploads.append(&upload, expected, body).await });
    match task.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Fault::BodyLost { problem: "the registry is stopping".to_owned() }),
        },
    }
}

/// Appends a chunk; says where the next one goes when it came out of order.
async fn receive(
    registry: &Arc<Registry>,
    repository: &Repository,
    upload: &Arc<Upload>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(), Fault> {
    append(registry, upload, headers, body).await.map_err(|fault| match fault {
        Fault::OutOfOrder { written, .. } => Fault::OutOfOrder { location: place(repository, upload), written },
        other => other,
    })
}

/// PATCH: the next chunk.
pub(super) async fn patch(
    registry: &Arc<Registry>,
    repository: &Repository,
    id: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Fault> {
    let upload = registry.uploads.find(&registry.store, repository, id).await?;
    receive(registry, repository, &upload, headers, body).await?;
    Ok(under_way(StatusCode::ACCEPTED, repository, &upload))
}

/// PUT: the last chunk, if there is one, and the digest of the whole.
pub(super) async fn put(
    registry: &Arc<Registry>,
    repository: &Repository,
    id: &str,
    query: &Query,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Fault> {
    let upload = registry.uploads.find(&registry.store, repository, id).await?;
    let absent = || Fault::DigestInvalid { digest: String::new(), problem: "the query must have one" };
    let digest = Name::parse(query.first("digest").ok_or_else(absent)?)?;
    receive(registry, repository, &upload, headers, body).await?;
    registry.uploads.finish(&registry.store, &upload, repository, &digest).await?;
    Ok(stored(repository, &digest))
}

/// GET: how far an upload is.
pub(super) async fn status(registry: &Registry, repository: &Repository, id: &str) -> Result<Response<Body>, Fault> {
    let upload = registry.uploads.find(&registry.store, repository, id).await?;
    Ok(under_way(StatusCode::NO_CONTENT, repository, &upload))
}

/// DELETE: an upload is given up.
pub(super) async fn cancel(registry: &Registry, repository: &Repository, id: &str) -> Result<Response<Body>, Fault> {
    let upload = registry.uploads.find(&registry.store, repository, id).await?;
    registry.uploads.end(&upload).await?;
    Ok(answer(StatusCode::NO_CONTENT, &[]))
}
