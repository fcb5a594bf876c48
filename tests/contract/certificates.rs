//! Certificates of a test: an authority, and pairs signed by it that are good, expired, or of another purpose.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use strata_rpc::identity::ClientTls;

/// A certificate and its key, as PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// An authority of a test's own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub enum Valid {
    /// Now.
    Now,
    /// Only some years ago.
    Before,
    /// Only in some years.
    Later,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key can be made");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("an authority can be made") }
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A pair for a client with a role.
    pub fn with_role(&self, role: &str) -> Pair {
        self.named(
            &[],
            &format!("spiffe://strata/{role}/a-test"),
            vec![ExtendedKeyUsagePurpose::ClientAuth],
            Valid::Now,
        )
    }

    /// A pair for a client of this name, a URI.
    pub fn with_name(&self, name: &str) -> Pair {
        self.named(&[], name, vec![ExtendedKeyUsagePurpose::ClientAuth], Valid::Now)
    }

    fn pair(&self, hosts: &[&str], purposes: Vec<ExtendedKeyUsagePurpose>, valid: Valid) -> Pair {
        self.named(hosts, "spiffe://strata/admin/a-test", purposes, valid)
    }

    fn named(&self, hosts: &[&str], name: &str, purposes: Vec<ExtendedKeyUsagePurpose>, valid: Valid) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names of a test");
        params.distinguished_name.push(DnType::CommonName, "a test");
        params.subject_alt_names.push(SanType::URI(name.try_into().expect("a URI")));
        params.extended_key_usages = purposes;
        let (from, until) = match valid {
            Valid::Now => (2020, 2090),
            Valid::Before => (2018, 2020),
            Valid::Later => (2090, 2092),
        };
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// A pair for a service on this host, which is a client of others too.
    pub fn server(&self) -> Pair {
        let purposes = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.pair(&["127.0.0.1"], purposes, Valid::Now)
    }

    /// A pair for a client.
    pub fn client(&self, valid: Valid) -> Pair {
        self.pair(&[], vec![ExtendedKeyUsagePurpose::ClientAuth], valid)
    }

    /// A pair that may only serve.
    pub fn only_server(&self) -> Pair {
        self.pair(&["127.0.0.1"], vec![ExtendedKeyUsagePurpose::ServerAuth], Valid::Now)
    }

    /// What a client with this pair, which believes this authority, shows.
    pub fn tls(&self, pair: &Pair) -> ClientTls {
        ClientTls::from_pem(self.pem(), pair.certificate.as_str(), pair.key.as_str())
    }
}
