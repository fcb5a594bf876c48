//! The side that connects.

use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Error, init_crypto,
    pems::{Certificates, Files, Source},
    server::HTTP2,
};

/// What a client shows and whom it believes. Files are read at every connection: a channel that connects again shows what was
/// renewed since.
#[derive(Clone)]
pub struct ClientTls {
    source: Source,
    server_name: Option<String>,
}

impl ClientTls {
    /// From three files, which can be used now.
    pub fn load(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, Error> {
        let tls = Self { source: Source::Files(Files::new(authority, certificate, key)), server_name: None };
        tls.config()?;
        Ok(tls)
    }

    /// From PEM texts.
    pub fn from_pem(authority: impl Into<Vec<u8>>, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        let (authority, certificate, key) = (authority.into(), certificate.into(), key.into());
        Self { source: Source::Texts { authority, certificate, key }, server_name: None }
    }

    /// Expects this name in the server's certificate instead of the host that is dialled.
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The name that a server at this host must have in its certificate.
    pub(crate) fn name(&self, host: &str) -> Result<ServerName<'static>, Error> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let found = ServerName::try_from(name.to_owned());
        found.map_err(|source| Error::Name { name: name.to_owned(), source })
    }

    /// Shakes hands as a client, with what is in the files now.
    pub(crate) async fn connect<IO>(
        &self,
        name: ServerName<'static>,
        io: IO,
    ) -> Result<TlsStream<IO>, Box<dyn std::error::Error + Send + Sync>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let tls = self.clone();
        let config = tokio::task::spawn_blocking(move || tls.config()).await??;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, io).await?)
    }

    fn config(&self) -> Result<ClientConfig, Error> {
        init_crypto();
        let Certificates { authorities, chain, key, place } = self.source.read()?;
        let roots = authorities.map_or_else(RootCertStore::empty, |authorities| authorities.roots);
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = builder.with_client_auth_cert(chain, key).map_err(Certificates::refused(place))?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(config)
    }
}
