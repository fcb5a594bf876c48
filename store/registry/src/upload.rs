//! Pushing blobs: what is there already, or in a neighbouring repository, is not sent; the rest goes in one request, or in
//! chunks, and goes on after a failure where the registry says it stands.

mod growing;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use reqwest::{
    Method, Response, Url,
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE},
};
use strata_types::{Descriptor, Digest};

use crate::{
    Repository,
    answer::Codes,
    auth::{Access, Scopes},
    backoff::Backoff,
    endpoint::Endpoint,
    error::{Cause, Error, Item, Result},
    session::{Call, Outgoing, Session, pause, protocol},
};

pub use growing::GrowingSource;

/// Up to this size a blob goes with the request that ends its upload: two requests instead of three.
const SMALL: u64 = 1 << 20;
/// How long an upload that failed may take to be cancelled.
const GOODBYE: Duration = Duration::from_secs(5);

/// Bytes that can be read as often as it takes.
pub trait BlobSource: Send + Sync {
    /// The bytes from `offset` to the end.
    fn open(&self, offset: u64) -> BoxFuture<'_, io::Result<BoxStream<'static, io::Result<Bytes>>>>;
}

impl BlobSource for Bytes {
    fn open(&self, offset: u64) -> BoxFuture<'_, io::Result<BoxStream<'static, io::Result<Bytes>>>> {
        let rest = self.slice(usize::try_from(offset).map_or(self.len(), |offset| offset.min(self.len()))..);
        Box::pin(async move { Ok(stream::iter([Ok(rest)]).boxed()) })
    }
}

/// How a blob got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Present,
    /// It was taken from another repository of the registry.
    Mounted,
    /// It was sent.
    Sent,
}

impl Repository {
    /// Pushes a blob. `mount_from` names a repository of the same registry that has it, where one is known.
    pub async fn push_blob(
        &self,
        descriptor: &Descriptor,
        source: &dyn BlobSource,
        mount_from: Option<&str>,
    ) -> Result<Pushed> {
        let failed = |cause| Error::request("push", self.subject(Item::Blob(descriptor.digest)), cause);
        let _place = self.session.connections.transfer(&self.own.host).await;
        let upload = Upload::new(self, descriptor, source);
        upload.run(mount_from).await.map_err(failed)
    }
}

/// One blob on its way.
struct Upload<'a> {
    repository: &'a Repository,
    session: &'a Session,
    endpoint: &'a Endpoint,
    source: &'a dyn BlobSource,
    digest: Digest,
    size: u64,
    scopes: Scopes,
    /// Where the next request goes; none before the upload began, or after it was lost.
    location: Option<Url>,
    /// What the registry has.
    offset: u64,
    /// The least size of a chunk that it takes.
    least_chunk: u64,
}

impl<'a> Upload<'a> {
    fn new(repository: &'a Repository, descriptor: &Descriptor, source: &'a dyn BlobSource) -> Self {
        let endpoint = &*repository.own;
        Self {
            repository,
            session: &repository.session,
            endpoint,
            source,
            digest: descriptor.digest,
            size: descriptor.size,
            scopes: Scopes::of(&endpoint.repository, Access::Push),
            location: None,
            offset: 0,
            least_chunk: 1,
        }
    }

    async fn run(mut self, mount_from: Option<&str>) -> Result<Pushed, Cause> {
        if self.repository.has(self.digest, Some(self.size)).await? {
            return Ok(Pushed::Present);
        }
        if self.begin(mount_from).await? {
            return Ok(Pushed::Mounted);
        }
        match self.send().await {
            Ok(()) => Ok(Pushed::Sent),
            Err(cause) => {
                self.cancel().await;
                Err(cause)
            }
        }
    }

    /// Begins an upload; answers whether none is needed, as the blob was mounted.
    async fn begin(&mut self, mount_from: Option<&str>) -> Result<bool, Cause> {
        let mut url = self.endpoint.url("blobs/uploads/");
        let mut scopes = self.scopes.clone();
        if let Some(from) = mount_from {
            url.query_pairs_mut().append_pair("mount", &self.digest.to_string()).append_pair("from", from);
            scopes = scopes.and(from, Access::Pull);
        }
        let call = Call::new(self.endpoint, Method::POST, url.clone(), scopes);
        let wanted: &[u16] = if mount_from.is_some() { &[201, 202] } else { &[202] };
        let begun = self.session.fetch(&call, wanted, crate::answer::MOST).await;
        let answer = match begun {
            Ok(answer) => answer,
            // A neighbour that we may not read is no reason to fail: the blob can be sent.
            Err(Cause::Unauthorized { .. } | Cause::Denied { .. } | Cause::NotFound { .. }) if mount_from.is_some() => {
                let call =
                    Call::new(self.endpoint, Method::POST, self.endpoint.url("blobs/uploads/"), self.scopes.clone());
                self.session.fetch(&call, &[202], crate::answer::MOST).await?
            }
            Err(cause) => return Err(cause),
        };
        if answer.status.as_u16() == 201 {
            return Ok(true);
        }
        self.offset = 0;
        self.location = None;
        self.moved(&url, &answer.headers)?;
        if self.location.is_none() {
            return Err(protocol(self.endpoint, "an upload without a Location"));
        }
        let least =
            answer.headers.get("oci-chunk-min-length").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        self.least_chunk = least.unwrap_or(1);
        Ok(false)
    }

    /// Sends until the registry has it all and says so.
    async fn send(&mut self) -> Result<(), Cause> {
        let mut backoff = self.session.connections.registries.backoff();
        let mut best = 0;
        loop {
            match self.advance().await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(cause) => {
                    pause(&mut backoff, cause).await?;
                    if self.recover(&mut backoff).await? {
                        return Ok(());
                    }
                }
            }
            if self.offset > best {
                best = self.offset;
                backoff.reset();
            }
        }
    }

    /// Takes the next step; answers whether it was the last.
    async fn advance(&mut self) -> Result<bool, Cause> {
        let location = self.location.clone().ok_or_else(|| self.lost(Codes::default()))?;
        let is_small = self.offset == 0 && self.size <= SMALL && self.size > 0;
        if is_small || self.offset == self.size {
            return self.end(location).await;
        }
        let chunk = self.session.connections.registries.settings(&self.endpoint.host).chunk_bytes;
        let rest = self.size - self.offset;
        let length = chunk.map_or(rest, |chunk| chunk.max(self.least_chunk).max(1)).min(rest);
        let mut call = Call::new(self.endpoint, Method::PATCH, location.clone(), self.scopes.clone());
        // The whole blob as one stream needs no range, and some registries take it only without.
        if length < self.size {
            let range = format!("{}-{}", self.offset, self.offset + length - 1);
            call.headers.insert(CONTENT_RANGE, HeaderValue::from_str(&range).expect("digits fit in a header"));
        }
        let response = self.stream(&mut call, Some(length)).await?;
        match response.status().as_u16() {
            200..=204 => {}
            404 | 416 => return Err(self.lost(Codes::default())),
            _ => return Err(self.session.refusal(self.endpoint, response).await),
        }
        self.moved(&location, response.headers())?;
        let stands = self.stands_at(response.headers()).filter(|stands| *stands > 0).unwrap_or(self.offset + length);
        if stands <= self.offset {
            // It took nothing, and says that all is well: without this it could go on for ever.
            return Err(self.lost(Codes::default()));
        }
        self.offset = stands;
        self.check_offset()?;
        Ok(false)
    }

    /// Ends the upload, with what is missing of it in the body.
    async fn end(&mut self, mut location: Url) -> Result<bool, Cause> {
        location.query_pairs_mut().append_pair("digest", &self.digest.to_string());
        let mut call = Call::new(self.endpoint, Method::PUT, location, self.scopes.clone());
        let rest = self.size - self.offset;
        let response = if rest == 0 {
            call.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            self.session.once(&call, None).await?
        } else {
            self.stream(&mut call, Some(rest)).await?
        };
        match response.status().as_u16() {
            200..=204 => {}
            404 | 416 => return Err(self.lost(Codes::default())),
            _ => return Err(self.session.refusal(self.endpoint, response).await),
        }
        let named = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        match named.map(Digest::parse) {
            Some(Ok(named)) if named != self.digest => Err(Cause::WrongName {
                host: self.endpoint.host.clone(),
                expected: self.digest,
                named: named.to_string(),
            }),
            _ => Ok(true),
        }
    }

    /// Sends `length` bytes from where the registry stands, or all that come.
    async fn stream(&self, call: &mut Call<'_>, length: Option<u64>) -> Result<Response, Cause> {
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if let Some(length) = length {
            call.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let bytes = self.source.open(self.offset).await.map_err(|source| Cause::Source { source })?;
        let sent = Arc::new(AtomicU64::new(0));
        let broken: Arc<Mutex<Option<io::Error>>> = Arc::default();
        let body = measured(bytes, length, sent.clone(), broken.clone());
        let outgoing = Outgoing { body: reqwest::Body::wrap_stream(body), sent };
        let answer = self.session.once(call, Some(outgoing)).await;
        // What went wrong on this side is the cause, not what became of the connection.
        let own = broken.lock().unwrap_or_else(PoisonError::into_inner).take();
        own.map_or(answer, |source| Err(Cause::Source { source }))
    }

    /// After a failure: finds out where the registry stands, or begins anew. Answers whether it has the blob.
    async fn recover(&mut self, backoff: &mut Backoff) -> Result<bool, Cause> {
        loop {
            let stands = match self.status().await {
                Err(Cause::NotFound { .. } | Cause::UploadLost { .. }) => {
                    // It may have ended well, and only the answer was lost.
                    match self.repository.has(self.digest, Some(self.size)).await {
                        Ok(true) => return Ok(true),
                        Ok(false) => return self.begin(None).await,
                        Err(cause) => Err(cause),
                    }
                }
                other => other,
            };
            match stands {
                Ok(()) => return Ok(false),
                Err(cause) => pause(backoff, cause).await?,
            }
        }
    }

    /// Asks how much the registry has (distribution specification, end-13).
    async fn status(&mut self) -> Result<(), Cause> {
        let location = self.location.clone().ok_or_else(|| self.lost(Codes::default()))?;
        let call = Call::new(self.endpoint, Method::GET, location.clone(), self.scopes.clone());
        let response = self.session.once(&call, None).await?;
        match response.status().as_u16() {
            200 | 202 | 204 => {}
            404 => return Err(self.lost(Codes::default())),
            _ => return Err(self.session.refusal(self.endpoint, response).await),
        }
        self.moved(&location, response.headers())?;
        self.offset = self.stands_at(response.headers()).unwrap_or_default();
        if self.offset == 0 {
            // One byte or none, which nobody can tell: a new upload is sure to have none.
            return Err(self.lost(Codes::default()));
        }
        self.check_offset()
    }

    fn check_offset(&self) -> Result<(), Cause> {
        if self.offset <= self.size {
            return Ok(());
        }
        Err(Cause::WrongLength { host: self.endpoint.host.clone(), expected: self.size, got: self.offset })
    }

    /// How many bytes the registry has: "0-99" is 100. "0-0" is what registries say of none.
    fn stands_at(&self, headers: &HeaderMap) -> Option<u64> {
        let text = headers.get(RANGE)?.to_str().ok()?.trim();
        let (first, last) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
        match (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?) {
            (0, 0) => Some(0),
            (0, last) => last.checked_add(1),
            _ => None,
        }
    }

    /// Follows the Location of an answer.
    fn moved(&mut self, from: &Url, headers: &HeaderMap) -> Result<(), Cause> {
        if let Some(location) = headers.get(LOCATION).and_then(|location| location.to_str().ok()) {
            self.location = Some(self.endpoint.locate(&self.session.connections.registries, from, location)?);
        }
        Ok(())
    }

    fn lost(&self, codes: Codes) -> Cause {
        Cause::UploadLost { host: self.endpoint.host.clone(), codes }
    }

    /// Tells the registry to forget an upload that failed. It would forget it by itself, later.
    async fn cancel(&mut self) {
        let Some(location) = self.location.take() else { return };
        let call = Call::new(self.endpoint, Method::DELETE, location, self.scopes.clone());
        let _ = tokio::time::timeout(GOODBYE, self.session.once(&call, None)).await;
    }
}

/// Exactly `length` bytes of a stream, or all of it, counted as they go; why there are fewer is left in `broken`.
fn measured(
    bytes: BoxStream<'static, io::Result<Bytes>>,
    length: Option<u64>,
    sent: Arc<AtomicU64>,
    broken: Arc<Mutex<Option<io::Error>>>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let fail = move |error: io::Error| {
        let shown = io::Error::from(error.kind());
        *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        Err(shown)
    };
    let next = move |(mut bytes, left): (BoxStream<'static, io::Result<Bytes>>, u64)| {
        let (sent, fail) = (sent.clone(), fail.clone());
        async move {
            if left == 0 {
                return None;
            }
            let chunk = match bytes.next().await {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return Some((fail(error), (bytes, 0))),
                None if length.is_none() => return None,
                None => return Some((fail(io::ErrorKind::UnexpectedEof.into()), (bytes, 0))),
            };
            let taken = left.min(chunk.len() as u64);
            sent.fetch_add(taken, Ordering::Relaxed);
            Some((Ok(chunk.slice(..taken as usize)), (bytes, left - taken)))
        }
    };
    stream::unfold((bytes, length.unwrap_or(u64::MAX)), next).boxed()
}
