//! Where a service listens, and channels to it.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint as Target, Uri};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{ServiceExt, service_fn};

use crate::{
    identity::{self, ClientTls},
    socket,
};

/// HTTP/2 window of one stream: two 4 MiB messages in flight.
pub(crate) const STREAM_WINDOW: u32 = 8 << 20;
/// HTTP/2 window of one connection.
pub(crate) const CONNECTION_WINDOW: u32 = 32 << 20;
/// Largest HTTP/2 frame: one chunk and its envelope fit.
pub(crate) const FRAME: u32 = 512 << 10;

/// An endpoint that cannot be read or reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is neither form.
    #[error("invalid endpoint {text:?}: it must be unix:PATH with an absolute path, or tcp:HOST:PORT")]
    Invalid {
        /// The text.
        text: String,
    },
    /// TCP is never used without certificates.
    #[error("{endpoint} needs client certificates")]
    NeedsTls {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// No certificate can be asked of it.
    #[error("cannot connect with certificates to {endpoint}")]
    Tls {
        /// The endpoint.
        endpoint: Endpoint,
        /// Why.
        source: Box<identity::Error>,
    },
    /// Nobody answers.
    #[error("cannot connect to {endpoint}")]
    Connect {
        /// The endpoint.
        endpoint: Endpoint,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A Unix socket on this host.
    Unix(PathBuf),
    /// A TCP port, always with mutual TLS.
    Tcp {
        /// Host name or address; an IPv6 address without brackets.
        host: String,
        /// Port.
        port: u16,
    },
}

impl Endpoint {
    /// Parses "unix:/path" or "tcp:HOST:PORT".
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Invalid { text: text.to_owned() };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() && path.file_name().is_some() {
                Ok(Self::Unix(path))
            } else {
                Err(invalid())
            };
        }
        let (host, port) = text.strip_prefix("tcp:").and_then(|rest| rest.rsplit_once(':')).ok_or_else(invalid)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => {
                let inner = inner.strip_suffix(']').ok_or_else(invalid)?;
                inner.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?;
                inner
            }
            None => host,
        };
        let v6 = host.contains(':') && text.contains('[');
        let name = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-' || b == b'_';
        if host.is_empty() || !(v6 || host.bytes().all(name)) {
            return Err(invalid());
        }
        Ok(Self::Tcp { host: host.to_owned(), port: port.parse().map_err(|_| invalid())? })
    }

    fn authority(host: &str, port: u16) -> String {
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } => write!(f, "tcp:{}", Self::authority(host, *port)),
        }
    }
}

impl FromStr for Endpoint {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// A channel that connects at its first call, and again when the connection is lost.
pub fn connect(endpoint: &Endpoint, tls: Option<&ClientTls>) -> Result<Channel, Error> {
    match endpoint {
        Endpoint::Unix(path) => {
            let path = path.clone();
            Ok(local_target().connect_with_connector_lazy(service_fn(move |_: Uri| {
                let path = path.clone();
                async move { socket::dial(&path).await.map(TokioIo::new) }
            })))
        }
        Endpoint::Tcp { host, port } => {
            let (target, dial) = remote_target(endpoint, host, *port, tls)?;
            Ok(target.connect_with_connector_lazy(service_fn(move |uri| dial.clone().dial(uri))))
        }
    }
}

/// A channel that is connected now, or an error that says why not.
pub async fn connect_eager(endpoint: &Endpoint, tls: Option<&ClientTls>) -> Result<Channel, Error> {
    let connected = match endpoint {
        Endpoint::Unix(path) => {
            let path = path.clone();
            local_target()
                .connect_with_connector(service_fn(move |_: Uri| {
                    let path = path.clone();
                    async move { socket::dial(&path).await.map(TokioIo::new) }
                }))
                .await
        }
        Endpoint::Tcp { host, port } => {
            let (target, dial) = remote_target(endpoint, host, *port, tls)?;
            target.connect_with_connector(service_fn(move |uri| dial.clone().dial(uri))).await
        }
    };
    connected.map_err(|source| Error::Connect { endpoint: endpoint.clone(), source })
}

/// A channel over a stream that the caller makes; made again when it is lost. A stream tells nothing of who is at its end:
/// the service has answered when this returns.
pub async fn connect_through<F, Fut, S>(dial: F) -> Result<Channel, tonic::Status>
where
    F: Fn() -> Fut + Send + 'static,
    Fut: Future<Output = std::io::Result<S>> + Send + 'static,
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let connector = service_fn(move |_: Uri| {
        let stream = dial();
        async move { stream.await.map(TokioIo::new) }
    });
    // Beyond a slow line there may be a service that starts first.
    let target = local_target().connect_timeout(Duration::from_secs(90));
    let connected = target.connect_with_connector(connector).await;
    let channel = connected.map_err(|error| tonic::Status::unavailable(crate::fault::chain(&error)))?;
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await?;
    Ok(channel)
}

fn tuned(target: Target) -> Target {
    target
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .connect_timeout(Duration::from_secs(10))
}

/// Settings of a channel over a Unix socket; the connector knows the path.
pub(crate) fn local_target() -> Target {
    tuned(Target::from_static("http://localhost"))
}

fn remote_target(
    endpoint: &Endpoint,
    host: &str,
    port: u16,
    tls: Option<&ClientTls>,
) -> Result<(Target, Remote), Error> {
    let tls = tls.ok_or_else(|| Error::NeedsTls { endpoint: endpoint.clone() })?.clone();
    let name = tls.name(host).map_err(|source| Error::Tls { endpoint: endpoint.clone(), source: Box::new(source) })?;
    let authority = Endpoint::authority(host, port);
    let invalid = || Error::Invalid { text: endpoint.to_string() };
    let origin: Uri = format!("https://{authority}").parse().map_err(|_| invalid())?;
    // "http": the handshake is ours, so that it shows what the files hold when it is made.
    let target = Target::from_shared(format!("http://{authority}")).map_err(|_| invalid())?.origin(origin);
    let target =
        tuned(target).http2_keep_alive_interval(Duration::from_secs(20)).keep_alive_timeout(Duration::from_secs(10));
    Ok((target, Remote { tls, name }))
}

/// How a service on TCP is reached.
#[derive(Clone)]
struct Remote {
    tls: ClientTls,
    name: ServerName<'static>,
}

impl Remote {
    async fn dial(
        self,
        address: Uri,
    ) -> Result<TokioIo<TlsStream<TcpStream>>, Box<dyn std::error::Error + Send + Sync>> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let stream = connector.oneshot(address).await?.into_inner();
        self.tls.connect(self.name, stream).await.map(TokioIo::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_survive_their_text() {
        for text in ["unix:/run/strata/store.sock", "tcp:node-1:7000", "tcp:10.0.0.1:1", "tcp:[::1]:7000"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        for bad in [
            "",
            "unix:",
            "unix:x",
            "unix:/",
            "tcp:",
            "tcp:host",
            "tcp::1",
            "tcp:h:x",
            "tcp:h:70000",
            "tcp:::1:7",
            "tcp:[x]:1",
            "http://x",
            "tcp:a b:1",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn tcp_without_certificates_is_refused() {
        let endpoint = Endpoint::parse("tcp:localhost:1").unwrap();
        assert!(matches!(connect(&endpoint, None), Err(Error::NeedsTls { .. })));
    }
}
