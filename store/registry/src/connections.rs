//! Connections to hosts: with which certificates, through which proxy, how many transfers at a time, and for how long
//! silence is borne. HTTP/1.1 only: layers that are fetched side by side then have a TCP connection each.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Certificate, Client, Identity, Proxy, RequestBuilder, Response, Url, redirect::Policy};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{Host, Registries, error::Cause, proxy};

const CONNECT: Duration = Duration::from_secs(20);
/// A document (never a blob) may take this many times the bearable silence.
const DOCUMENT: u32 = 5;
/// Hosts whose clients and queues are kept.
const MOST_HOSTS: usize = 1024;

/// Clients by host.
pub(crate) struct Connections {
    pub(crate) registries: Arc<Registries>,
    proxies: Vec<Proxy>,
    clients: Mutex<HashMap<Trust, Client>>,
    transfers: Mutex<HashMap<Host, Arc<Semaphore>>>,
}

// The proxies of a client may hold passwords.
impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

/// Whose certificates a client trusts and shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Trust {
    /// None: it speaks http.
    Plain,
    /// The system's.
    System,
    /// The system's and those of one host.
    Own(Host),
}

impl Connections {
    pub(crate) fn new(registries: Arc<Registries>) -> Result<Self, Cause> {
        let proxies = proxy::proxies(&registries.proxy, proxy::environment)?;
        Ok(Self { registries, proxies, clients: Mutex::default(), transfers: Mutex::default() })
    }

    /// The client for a URL of a host.
    pub(crate) fn client(&self, host: &Host, url: &Url) -> Result<Client, Cause> {
        let files = TlsFiles::of(&self.registries, host);
        let trust = match url.scheme() {
            "http" => Trust::Plain,
            _ if files.is_empty() => Trust::System,
            _ => Trust::Own(host.clone()),
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&trust) {
            return Ok(client.clone());
        }
        let mut builder = Client::builder()
            .user_agent(concat!("strata/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(30));
        for proxy in &self.proxies {
            builder = builder.proxy(proxy.clone());
        }
        builder = match trust {
            // Works on a machine without any certificates too.
            Trust::Plain => builder.tls_certs_only([]),
            Trust::System => builder,
            Trust::Own(_) => files.apply(host, builder)?,
        };
        let setting = || format!("the certificates for {host}; has this machine any (the package ca-certificates)?");
        let failed = |source: reqwest::Error| Cause::Setting { setting: setting(), source: source.without_url() };
        let client = builder.build().map_err(failed)?;
        if clients.len() >= MOST_HOSTS {
            clients.clear();
        }
        clients.insert(trust, client.clone());
        Ok(client)
    }

    /// Waits for a place among the transfers of a host, and holds it.
    pub(crate) async fn transfer(&self, host: &Host) -> OwnedSemaphorePermit {
        let places = {
            let mut transfers = self.transfers.lock().unwrap_or_else(PoisonError::into_inner);
            if transfers.len() >= MOST_HOSTS {
                transfers.retain(|_, places| Arc::strong_count(places) > 1);
            }
            let new = || Arc::new(Semaphore::new(self.registries.transfers.max(1)));
            transfers.entry(host.clone()).or_insert_with(new).clone()
        };
        places.acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn head(&self, host: &Host, request: RequestBuilder) -> Result<Response, Cause> {
        let answer = timeout(self.registries.idle(), request.send()).await.map_err(|_| self.stalled(host))?;
        answer.map_err(|error| broken(host, error))
    }

    /// As [`Self::head`] for a body that is sent as a stream, which counts its bytes in `sent`: as long as it moves,
    /// nobody is silent.
    pub(crate) async fn head_of_stream(
        &self,
        host: &Host,
        request: RequestBuilder,
        sent: &AtomicU64,
    ) -> Result<Response, Cause> {
        let mut answer = std::pin::pin!(request.send());
        loop {
            let before = sent.load(Ordering::Relaxed);
            match timeout(self.registries.idle(), &mut answer).await {
                Ok(answer) => return answer.map_err(|error| broken(host, error)),
                Err(_) if sent.load(Ordering::Relaxed) == before => return Err(self.stalled(host)),
                Err(_) => {}
            }
        }
    }

    /// The next bytes of a body.
    pub(crate) async fn chunk(&self, host: &Host, response: &mut Response) -> Result<Option<Bytes>, Cause> {
        let chunk = timeout(self.registries.idle(), response.chunk()).await.map_err(|_| self.stalled(host))?;
        chunk.map_err(|error| broken(host, error))
    }

    /// A whole body of at most `most` bytes.
    pub(crate) async fn body(&self, host: &Host, response: &mut Response, most: usize) -> Result<Vec<u8>, Cause> {
        let too_large = || Cause::TooLarge { host: host.clone(), limit: most };
        if response.content_length().is_some_and(|length| length > most as u64) {
            return Err(too_large());
        }
        let read = async {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk(host, response).await? {
                if body.len() + chunk.len() > most {
                    return Err(too_large());
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        };
        timeout(self.registries.idle() * DOCUMENT, read).await.unwrap_or_else(|_| Err(self.stalled(host)))
    }

    fn stalled(&self, host: &Host) -> Cause {
        Cause::Stalled { host: host.clone(), silence: self.registries.idle() }
    }
}

/// A failed request, without its URL: its query may hold a signature.
fn broken(host: &Host, error: reqwest::Error) -> Cause {
    let host = host.clone();
    let is_connect = error.is_connect() || error.is_builder();
    let source = error.without_url();
    if is_connect && crate::error::is_in_the_clear(&source) {
        return Cause::PlainHttp { host };
    }
    if is_connect { Cause::Connect { host, source } } else { Cause::Lost { host, source } }
}

/// The certificates that are set for one host.
struct TlsFiles {
    authorities: Vec<PathBuf>,
    /// Certificate and key.
    shown: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    fn of(registries: &Registries, host: &Host) -> Self {
        let mut authorities = registries.settings(host).ca.clone();
        // What we show is for a host that was named, not for any.
        let own = registries.host.get(host);
        let mut shown = own.and_then(|own| own.client_certificate.clone().zip(own.client_key.clone()));
        for dir in registries.certificate_directories(host) {
            for path in files(&dir) {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => authorities.push(path),
                    Some("cert") if shown.is_none() => shown = Some((path.clone(), path.with_extension("key"))),
                    _ => {}
                }
            }
        }
        Self { authorities, shown }
    }

    fn is_empty(&self) -> bool {
        self.authorities.is_empty() && self.shown.is_none()
    }

    fn apply(&self, host: &Host, mut builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder, Cause> {
        let failed = |what: &Path| {
            let setting = format!("{} for {host}", what.display());
            move |source: reqwest::Error| Cause::Setting { setting, source: source.without_url() }
        };
        let mut trusted = Vec::new();
        for path in &self.authorities {
            trusted.extend(Certificate::from_pem_bundle(&read(path)?).map_err(failed(path))?);
        }
        builder = builder.tls_certs_merge(trusted);
        if let Some((certificate, key)) = &self.shown {
            let mut pem = read(certificate)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
            builder = builder.identity(Identity::from_pem(&pem).map_err(failed(certificate))?);
        }
        Ok(builder)
    }
}

/// The files of a directory in the order of their names; one that cannot be read has none.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

fn read(path: &Path) -> Result<Vec<u8>, Cause> {
    fs::read(path).map_err(|source| Cause::File { path: path.to_owned(), source })
}
