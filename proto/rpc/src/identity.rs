//! Who is who: certificates of this process from PEM files, and the peer of a request.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustls::pki_types::CertificateDer;
use tonic::{
    Extensions, Request,
    transport::{
        Certificate, ClientTlsConfig, Identity, ServerTlsConfig,
        server::{TcpConnectInfo, TlsConnectInfo, UdsConnectInfo},
    },
};

/// A certificate, key or authority that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what} {path}", path = path.display())]
pub struct Error {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Chooses the one TLS provider of the process. Call it first in `main`; calling it again does nothing.
pub fn init_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The PEM files of one side.
#[derive(Clone)]
struct Pems {
    authority: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pems {
    fn load(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, Error> {
        let read = |what, path: &Path| fs::read(path).map_err(|source| Error { what, path: path.into(), source });
        Ok(Self {
            authority: read("certificate authority", authority)?,
            certificate: read("certificate", certificate)?,
            key: read("private key", key)?,
        })
    }
}

/// What a client shows and whom it believes.
#[derive(Clone)]
pub struct ClientTls {
    pems: Pems,
    server_name: Option<String>,
}

impl ClientTls {
    /// Reads the three files.
    pub fn load(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, Error> {
        Ok(Self { pems: Pems::load(authority, certificate, key)?, server_name: None })
    }

    /// From PEM texts.
    pub fn from_pem(authority: impl Into<Vec<u8>>, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        let pems = Pems { authority: authority.into(), certificate: certificate.into(), key: key.into() };
        Self { pems, server_name: None }
    }

    /// Expects this name in the server's certificate instead of the host that is dialled.
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    pub(crate) fn config(&self, host: &str) -> ClientTlsConfig {
        let name = self.server_name.as_deref().unwrap_or(host);
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.pems.authority))
            .identity(Identity::from_pem(&self.pems.certificate, &self.pems.key))
            .domain_name(name)
            .assume_http2(true)
    }
}

/// What a server shows and whom it lets in: holders of a valid certificate of the authority.
#[derive(Clone)]
pub struct ServerTls {
    pems: Pems,
}

impl ServerTls {
    /// Reads the three files.
    pub fn load(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, Error> {
        Ok(Self { pems: Pems::load(authority, certificate, key)? })
    }

    /// From PEM texts.
    pub fn from_pem(authority: impl Into<Vec<u8>>, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self { pems: Pems { authority: authority.into(), certificate: certificate.into(), key: key.into() } }
    }

    pub(crate) fn config(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.pems.certificate, &self.pems.key))
            .client_ca_root(Certificate::from_pem(&self.pems.authority))
            .client_auth_optional(false)
            .timeout(std::time::Duration::from_secs(10))
    }
}

/// The other side of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A process on this host, over a Unix socket.
    Local {
        /// Its user.
        uid: u32,
        /// Its process id, as far as the kernel tells it.
        pid: Option<i32>,
    },
    /// A holder of a certificate, over mutual TLS.
    Remote {
        /// The alternative names of the certificate's subject: its URIs as they are, then `dns:NAME`.
        names: Vec<String>,
    },
}

impl Peer {
    /// The peer of this request; `None` where the request came over neither.
    pub fn of<T>(request: &Request<T>) -> Option<Self> {
        Self::within(request.extensions())
    }

    /// The same, of a request that is not decoded yet.
    pub(crate) fn within(extensions: &Extensions) -> Option<Self> {
        if let Some(info) = extensions.get::<UdsConnectInfo>() {
            let cred = info.peer_cred?;
            return Some(Self::Local { uid: cred.uid(), pid: cred.pid() });
        }
        let certificates = extensions.get::<TlsConnectInfo<TcpConnectInfo>>()?.peer_certs()?;
        Some(Self::Remote { names: names(certificates.first()?) })
    }
}

/// The alternative names of a certificate that TLS has checked. None of one that cannot be read.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    let hosts = certificate.valid_dns_names().map(|name| format!("dns:{name}"));
    certificate.valid_uri_names().map(str::to_owned).chain(hosts).collect()
}

/// Common name of the subject of a DER certificate.
pub fn common_name(der: &[u8]) -> Option<String> {
    const SEQUENCE: u8 = 0x30;
    const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
    let (_, certificate, _) = element(der)?;
    let (_, mut body, _) = element(certificate)?;
    if body.first()? == &0xa0 {
        body = element(body)?.2;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        body = element(body)?.2;
    }
    let (tag, mut subject, _) = element(body)?;
    if tag != SEQUENCE {
        return None;
    }
    while let Some((_, set, rest)) = element(subject) {
        let (_, attribute, _) = element(set)?;
        let (_, oid, value) = element(attribute)?;
        if oid == COMMON_NAME {
            return String::from_utf8(element(value)?.1.to_vec()).ok();
        }
        subject = rest;
    }
    None
}

/// One DER element: tag, content, what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (short as usize, rest),
        long => {
            let count = (long & 0x7f) as usize;
            if count == 0 || count > 3 {
                return None;
            }
            let (digits, rest) = rest.split_at_checked(count)?;
            (digits.iter().fold(0, |n, d| n << 8 | *d as usize), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_peer_has_the_alternative_names_of_its_certificate_and_damage_is_no_panic() {
        let issuer = CertificateParams::new(vec!["issuer".to_owned()]).unwrap();
        let authority = CertifiedIssuer::self_signed(issuer, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["host".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://strata/viewer/bob".try_into().unwrap()));
        params.distinguished_name.push(rcgen::DnType::CommonName, "spiffe://strata/admin/x");
        let signed = params.signed_by(&KeyPair::generate().unwrap(), &authority).unwrap();

        assert_eq!(names(signed.der()), ["spiffe://strata/viewer/bob", "dns:host"]);
        for end in 0..signed.der().len() {
            names(&CertificateDer::from(&signed.der()[..end]));
        }
    }

    #[test]
    fn the_common_name_is_the_subjects_and_damage_is_no_panic() {
        let mut issuer = rcgen::CertificateParams::new(vec![]).unwrap();
        issuer.distinguished_name.push(rcgen::DnType::CommonName, "the authority");
        let authority = rcgen::CertifiedIssuer::self_signed(issuer, rcgen::KeyPair::generate().unwrap()).unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["h".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "o");
        params.distinguished_name.push(rcgen::DnType::CommonName, "alice");
        let der = params.signed_by(&rcgen::KeyPair::generate().unwrap(), &authority).unwrap().der().to_vec();
        assert_eq!(common_name(&der).as_deref(), Some("alice"));
        for end in 0..der.len().min(300) {
            let _ = common_name(&der[..end]);
        }
    }
}
