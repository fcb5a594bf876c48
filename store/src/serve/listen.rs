//! The door of the registry: a TCP port, with TLS or, on loopback alone, without; one task for each connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use strata_rpc::Drain;
use strata_rpc::identity::{self, Clients, Files, ServerTls};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::util::MapRequest;

use super::local;

/// How long a client may take for its handshake, and to answer whether it is still there.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a connection waits for the next request. Clients that hash between two requests keep theirs.
const PAUSE: Duration = Duration::from_secs(90);

/// Why the registry cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("cannot serve the registry on {text:?}: it must be ADDRESS:PORT, such as 127.0.0.1:5000")]
    Address {
        /// What was given.
        text: String,
    },
    /// The address cannot be bound.
    #[error("cannot serve the registry on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Anybody could listen in, and take secrets.
    #[error(
        "the registry serves {address} only with TLS: set registry.tls in the configuration, or --tls-ca, --tls-cert \
         and --tls-key; without, use a loopback address"
    )]
    NeedsTls {
        /// The address.
        address: SocketAddr,
    },
    /// Its certificates cannot be used.
    #[error("cannot use the certificates of the registry")]
    Certificates {
        /// Why.
        source: identity::Error,
    },
}

/// What is known of the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// Our own end.
    pub local: SocketAddr,
    /// Nobody can listen in.
    pub is_tls: bool,
    /// Common name of the client certificate.
    pub common_name: Option<String>,
    /// It comes, without TLS, from a process of our own user, or of root, on this machine.
    pub is_ours: bool,
}

/// A bound door.
pub(super) struct Door {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<ServerTls>,
    places: Arc<Semaphore>,
}

impl Door {
    /// Binds.
    pub async fn open(text: &str, certificates: Option<Files>, places: usize) -> Result<Self, Error> {
        let invalid = || Error::Address { text: text.to_owned() };
        let mut found = tokio::net::lookup_host(text).await.map_err(|_| invalid())?;
        let address = found.next().ok_or_else(invalid)?;
        let tls = certificates.map(tls_of).transpose()?;
        if tls.is_none() && !local::is_loopback(address) {
            return Err(Error::NeedsTls { address });
        }
        let failed = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls, places: Arc::new(Semaphore::new(places)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Is it TLS?
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until the drain begins; connections end with the request they are in.
    pub async fn serve(self, routes: Router, drain: Drain) {
        loop {
            // Further clients wait in the kernel's queue.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = drain.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Too many open files, mostly: that passes.
                    tracing::warn!("the registry cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (routes, tls, own_drain) = (routes.clone(), self.tls.clone(), drain.clone());
            drain.spawn(async move {
                let _place = place;
                // A client that goes away is no event here.
                if let Err(error) = welcome(stream, peer, tls, routes, own_drain).await {
                    tracing::debug!("a connection of {peer} to the registry ended: {error}");
                }
            });
        }
    }
}

type Ended = Box<dyn std::error::Error + Send + std::marker::Sync>;

async fn welcome(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<ServerTls>,
    routes: Router,
    drain: Drain,
) -> Result<(), Ended> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let Some(tls) = tls else {
        let is_ours = tokio::task::spawn_blocking(move || local::is_ours(peer, local)).await?;
        let connection = Connection { local, is_tls: false, common_name: None, is_ours };
        return converse(stream, connection, routes, drain).await;
    };
    let stream = tokio::time::timeout(PATIENCE, tls.accept(stream)).await??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    // One without a name is somebody whom no list can name.
    let common_name = certificate.map(|der| identity::common_name(der).unwrap_or_default());
    let connection = Connection { local, is_tls: true, common_name, is_ours: false };
    converse(stream, connection, routes, drain).await
}

async fn converse<S>(stream: S, connection: Connection, routes: Router, drain: Drain) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let known = move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(connection.clone());
        request.map(Body::new)
    };
    let service = TowerToHyperService::new(MapRequest::new(routes, known));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PAUSE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(64).keep_alive_interval(PATIENCE);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => return ended,
        () = drain.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    serving.await
}

fn tls_of(files: Files) -> Result<ServerTls, Error> {
    // Who has no certificate may have a secret.
    let tls = ServerTls::of(files, Clients::MayShow, &[b"h2".as_slice(), b"http/1.1"]);
    tls.map_err(|source| Error::Certificates { source })
}
