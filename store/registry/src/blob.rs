//! Blobs: streamed, hashed as they come, continued by range after a cut, from the next source if need be.

use std::fmt;

use bytes::Bytes;
use reqwest::{
    Method, Response,
    header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE},
};
use sha2::{Digest as _, Sha256};
use strata_types::{Descriptor, Digest};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    Host, Repository,
    auth::{Access, Scopes},
    backoff::Backoff,
    endpoint::Endpoint,
    error::{Cause, Error, Item, Result},
    session::{Call, pause, protocol},
};

/// After this many bytes a connection has been of use, and the count of tries starts anew.
const PROGRESS: u64 = 256 * 1024;

/// How far a blob has come: its bytes so far, hashed. Feed it what an interrupted transfer left behind to continue there.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    hasher: Sha256,
    bytes: u64,
}

impl Progress {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// As far as this: the hash over so many bytes, which the caller has.
    pub fn resumed(hasher: Sha256, bytes: u64) -> Self {
        Self { hasher, bytes }
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn digest(&self) -> Digest {
        Digest::from_sha256_bytes(self.hasher.clone().finalize().into())
    }
}

/// A blob on its way. [`Self::next`] gives its bytes in order; only when it gave None are they known to be the right ones.
#[derive(Debug)]
pub struct BlobReader {
    repository: Repository,
    digest: Digest,
    size: u64,
    progress: Progress,
    /// The source that is read, and those that gave bytes.
    source: usize,
    used: Vec<usize>,
    body: Option<Body>,
    etag: Option<HeaderValue>,
    backoff: Backoff,
    /// Where the count of tries last started.
    mark: u64,
    failures: Vec<(Host, Cause)>,
    is_done: bool,
}

struct Body {
    response: Response,
    /// Bytes that come again and are known already: the source does not do ranges.
    known: u64,
    _place: OwnedSemaphorePermit,
}

// The URL of a response may hold a signature.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Repository {
    /// Starts to fetch a blob of known digest and size. `progress` is what is there of it already.
    ///
    /// Wrong bytes are an error at the end; their source is not asked for them again, so that starting anew may help.
    pub fn blob(&self, descriptor: &Descriptor, progress: Progress) -> BlobReader {
        let source = (0..self.sources.len()).find(|source| self.trusts(*source, descriptor.digest)).unwrap_or_default();
        BlobReader {
            repository: self.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            mark: progress.bytes,
            progress,
            source,
            used: Vec::new(),
            body: None,
            etag: None,
            backoff: self.session.connections.registries.backoff(),
            failures: Vec::new(),
            is_done: false,
        }
    }

    /// Is a blob there? Asks the registry itself, as a push does.
    pub async fn has_blob(&self, digest: Digest) -> Result<bool> {
        let failed = |cause| Error::request("look for", self.subject(Item::Blob(digest)), cause);
        self.has(digest, None).await.map_err(failed)
    }

    /// Is a blob there, and of this size where the registry tells?
    pub(crate) async fn has(&self, digest: Digest, size: Option<u64>) -> Result<bool, Cause> {
        let scopes = Scopes::of(&self.own.repository, if size.is_some() { Access::Push } else { Access::Pull });
        let call = Call::new(&self.own, Method::HEAD, self.own.url(&format!("blobs/{digest}")), scopes);
        let answer = match self.session.fetch(&call, &[200], 0).await {
            Ok(answer) => answer,
            Err(Cause::NotFound { .. }) => return Ok(false),
            Err(cause) => return Err(cause),
        };
        let stated = number(&answer.headers, CONTENT_LENGTH.as_str());
        match stated.zip(size) {
            Some((got, expected)) if got != expected => {
                Err(Cause::WrongLength { host: self.own.host.clone(), expected, got })
            }
            _ => Ok(true),
        }
    }

    /// Removes a blob.
    pub async fn delete_blob(&self, digest: Digest) -> Result<()> {
        let failed = |cause| Error::request("delete", self.subject(Item::Blob(digest)), cause);
        let scopes = Scopes::of(&self.own.repository, Access::Delete);
        let call = Call::new(&self.own, Method::DELETE, self.own.url(&format!("blobs/{digest}")), scopes);
        self.session.fetch(&call, &[200, 202], crate::answer::MOST).await.map_err(failed)?;
        Ok(())
    }
}

impl BlobReader {
    /// The digest that the bytes must have.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes of how many are there.
    pub fn position(&self) -> (u64, u64) {
        (self.progress.bytes, self.size)
    }

    /// The next bytes; None after the last, once digest and size are verified. A call that is dropped loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.is_done {
                return Ok(None);
            }
            if self.progress.bytes > self.size {
                let (host, got) = (self.endpoint().host.clone(), self.progress.bytes);
                return Err(self.fail(Cause::WrongLength { host, expected: self.size, got }));
            }
            if self.progress.bytes == self.size {
                self.finish()?;
                continue;
            }
            match self.read().await {
                Ok(Some(bytes)) => {
                    self.progress.update(&bytes);
                    return Ok(Some(bytes));
                }
                Ok(None) => {}
                Err(cause) => self.recover(cause).await?,
            }
        }
    }

    fn endpoint(&self) -> &Endpoint {
        &self.repository.sources[self.source]
    }

    fn fail(&self, cause: Cause) -> Error {
        Error::request("fetch", self.repository.subject(Item::Blob(self.digest)), cause)
    }

    /// Some new bytes, or none yet.
    async fn read(&mut self) -> Result<Option<Bytes>, Cause> {
        if self.body.is_none() {
            self.body = Some(self.open().await?);
        }
        let host = self.endpoint().host.clone();
        let connections = self.repository.session.connections.clone();
        let body = self.body.as_mut().expect("the lines above opened it");
        let Some(mut bytes) = connections.chunk(&host, &mut body.response).await? else {
            return Err(Cause::Cut { host, expected: self.size, got: self.progress.bytes });
        };
        let again = body.known.min(bytes.len() as u64);
        body.known -= again;
        let _ = bytes.split_to(again as usize);
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() as u64 > self.size - self.progress.bytes {
            let got = self.progress.bytes + bytes.len() as u64;
            return Err(Cause::WrongLength { host, expected: self.size, got });
        }
        if !self.used.contains(&self.source) {
            self.used.push(self.source);
        }
        Ok(Some(bytes))
    }

    /// Asks the current source for what is missing.
    async fn open(&mut self) -> Result<Body, Cause> {
        let session = self.repository.session.clone();
        let repository = self.repository.clone();
        let endpoint = &repository.sources[self.source];
        let place = session.connections.transfer(&endpoint.host).await;
        let scopes = Scopes::of(&endpoint.repository, Access::Pull);
        let mut call = Call::new(endpoint, Method::GET, endpoint.url(&format!("blobs/{}", self.digest)), scopes);
        let offset = self.progress.bytes;
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-")).expect("digits fit in a header");
            call.headers.insert(RANGE, range);
            if let Some(etag) = &self.etag {
                call.headers.insert(IF_RANGE, etag.clone());
            }
        }
        let response = session.once(&call, None).await?;
        let known = match response.status().as_u16() {
            200 => offset,
            206 if offset > 0 => {
                check_range(endpoint, response.headers(), offset, self.size)?;
                0
            }
            206 => return Err(protocol(endpoint, "it sends a part of what was asked for whole")),
            _ => return Err(session.refusal(endpoint, response).await),
        };
        let missing = self.size - offset + known;
        if let Some(got) = number(response.headers(), CONTENT_LENGTH.as_str())
            && got != missing
        {
            let got = got + offset - known;
            return Err(Cause::WrongLength { host: endpoint.host.clone(), expected: self.size, got });
        }
        let is_strong = |etag: &&HeaderValue| !etag.as_bytes().starts_with(b"W/");
        self.etag = response.headers().get(ETAG).filter(is_strong).cloned();
        Ok(Body { response, known, _place: place })
    }

    /// After a failure: the same source again, or the next one, or the end.
    async fn recover(&mut self, cause: Cause) -> Result<()> {
        self.body = None;
        if self.progress.bytes >= self.mark + PROGRESS {
            self.mark = self.progress.bytes;
            self.backoff.reset();
        }
        let Err(cause) = pause(&mut self.backoff, cause).await else { return Ok(()) };
        self.failures.push((self.endpoint().host.clone(), cause));
        let next =
            (self.source + 1..self.repository.sources.len()).find(|next| self.repository.trusts(*next, self.digest));
        match next {
            Some(next) => {
                self.source = next;
                self.etag = None;
                self.mark = self.progress.bytes;
                self.backoff = self.repository.session.connections.registries.backoff();
                Ok(())
            }
            None => {
                let subject = self.repository.subject(Item::Blob(self.digest));
                Err(Error::sources("fetch", subject, std::mem::take(&mut self.failures)))
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.body = None;
        let got = self.progress.digest();
        if got != self.digest {
            for source in &self.used {
                self.repository.distrust(*source, self.digest);
            }
            let host = self.endpoint().host.clone();
            return Err(self.fail(Cause::WrongDigest { host, expected: self.digest, got }));
        }
        self.is_done = true;
        Ok(())
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// A part must be the one that was asked for: "bytes 5-9/10".
fn check_range(endpoint: &Endpoint, headers: &HeaderMap, offset: u64, size: u64) -> Result<(), Cause> {
    let text = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parse = || {
        let (range, all) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, all.parse::<u64>().ok()))
    };
    match parse() {
        Some((first, _, Some(all))) if all != size && first == offset => {
            Err(Cause::WrongLength { host: endpoint.host.clone(), expected: size, got: all })
        }
        Some((first, last, _)) if first == offset && last.checked_add(1) == Some(size) => Ok(()),
        _ => Err(protocol(endpoint, "it sends another part than was asked for")),
    }
}
