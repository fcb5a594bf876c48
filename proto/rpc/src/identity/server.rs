//! The side that is connected to. Its files may be renewed while it serves: each connection gets what they hold when it comes,
//! and one that is there goes on as it began.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{ServerConfig, server::WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Error, init_crypto,
    pems::{Authorities, Certificates, Files, Marks, Source},
};
use crate::fault::chain;

/// The protocol of gRPC, as TLS names it: RFC 9113, 3.1.
pub(super) const HTTP2: &[u8] = b"h2";

/// Whether clients need a certificate, where there is an authority for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Who shows none is refused.
    MustShow,
    /// Who shows none is told apart by other means.
    MayShow,
}

/// What a server shows and whom it lets in.
#[derive(Clone)]
pub struct ServerTls(Arc<Shared>);

struct Shared {
    source: Source,
    clients: Clients,
    protocols: Vec<Vec<u8>>,
    current: Mutex<Current>,
}

/// What new connections get, and of which files it is.
struct Current {
    config: Arc<ServerConfig>,
    marks: Marks,
}

impl ServerTls {
    /// Lets in the holders of a valid certificate of the authority, to speak gRPC.
    pub fn load(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, Error> {
        Self::new(Source::Files(Files::new(authority, certificate, key)), Clients::MustShow, &[HTTP2])
    }

    /// The same, from PEM texts.
    pub fn from_pem(
        authority: impl Into<Vec<u8>>,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Result<Self, Error> {
        let (authority, certificate, key) = (authority.into(), certificate.into(), key.into());
        Self::new(Source::Texts { authority, certificate, key }, Clients::MustShow, &[HTTP2])
    }

    /// From files, for these protocols of TLS's names.
    pub fn of(files: Files, clients: Clients, protocols: &[&[u8]]) -> Result<Self, Error> {
        Self::new(Source::Files(files), clients, protocols)
    }

    fn new(source: Source, clients: Clients, protocols: &[&[u8]]) -> Result<Self, Error> {
        let protocols: Vec<_> = protocols.iter().map(|name| name.to_vec()).collect();
        // Looked at first: what changes while it is read is read again.
        let marks = source.marks();
        let config = Arc::new(config(&source, clients, &protocols)?);
        Ok(Self(Arc::new(Shared { source, clients, protocols, current: Mutex::new(Current { config, marks }) })))
    }

    /// Shakes hands as a server, with what is in the files now; with what was before, where that cannot be used.
    pub async fn accept<IO>(&self, io: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let shared = self.0.clone();
        let config = tokio::task::spawn_blocking(move || shared.current()).await.map_err(io::Error::other)?;
        TlsAcceptor::from(config).accept(io).await
    }

    /// Reads the files again, whether they have changed or not, and logs how that went.
    pub fn renew(&self) {
        let mut current = self.0.lock();
        current.marks = self.0.source.marks();
        self.0.read_into(&mut current);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Arc<ServerConfig> {
        let mut current = self.lock();
        let marks = self.source.marks();
        if marks != current.marks {
            // A state that cannot be used is told of once.
            current.marks = marks;
            self.read_into(&mut current);
        }
        current.config.clone()
    }

    fn read_into(&self, current: &mut Current) {
        match config(&self.source, self.clients, &self.protocols) {
            Ok(config) => {
                current.config = Arc::new(config);
                tracing::info!("the certificates were read again: new connections get them");
            }
            Err(error) => {
                tracing::error!("the certificates are not renewed, those from before stay: {}", chain(&error));
            }
        }
    }
}

fn config(source: &Source, clients: Clients, protocols: &[Vec<u8>]) -> Result<ServerConfig, Error> {
    init_crypto();
    let Certificates { authorities, chain, key, place } = source.read()?;
    let builder = ServerConfig::builder();
    let builder = match authorities {
        None => builder.with_no_client_auth(),
        Some(Authorities { roots, place }) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots));
            let verifier = match clients {
                Clients::MustShow => verifier,
                Clients::MayShow => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|source| Error::Verifier { place, source })?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(Certificates::refused(place))?;
    config.alpn_protocols = protocols.to_vec();
    Ok(config)
}
