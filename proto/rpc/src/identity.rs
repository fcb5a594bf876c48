//! Who is who: certificates of this process from PEM files, which are read again when they change, and the peer of a request.

mod client;
mod pems;
mod server;

use std::{io, path::PathBuf};

pub use client::ClientTls;
pub use pems::Files;
use rustls::pki_types::CertificateDer;
pub use server::{Clients, ServerTls};
use tonic::{
    Extensions, Request,
    transport::server::{TcpConnectInfo, TlsConnectInfo, UdsConnectInfo},
};

/// Certificates, a key or an authority that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {what} {path}", path = path.display())]
    Read {
        /// Which.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was read is no PEM of its kind.
    #[error("cannot use {what} {place}")]
    Pem {
        /// Which.
        what: &'static str,
        /// Its file.
        place: String,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// TLS does not take it: a key of another certificate, say.
    #[error("cannot use {what} {place}")]
    Refused {
        /// Which.
        what: &'static str,
        /// Its file.
        place: String,
        /// Why.
        source: rustls::Error,
    },
    /// Nobody can be let in by the authority.
    #[error("cannot let clients in by the certificate authority {place}")]
    Verifier {
        /// Its file.
        place: String,
        /// Why.
        source: rustls::server::VerifierBuilderError,
    },
    /// No certificate can carry the name.
    #[error("no certificate is valid for a host {name:?}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        source: rustls::pki_types::InvalidDnsNameError,
    },
}

/// Chooses the one TLS provider of the process. Call it first in `main`; calling it again does nothing.
pub fn init_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
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
