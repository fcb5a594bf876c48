//! Certificates: trusted and shown by setting only, and http is no way around them.

use std::{path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use strata_registry::{Kind, Progress};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
};

use crate::{anonymous, chain, fetch, layer, model::Model, repository, sample, server::Server};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server for these names that takes clients with a certificate of ours alone, if it is said so.
    fn acceptor(&self, name: &str, asks_clients: bool) -> TlsAcceptor {
        self.acceptor_of(name, None, asks_clients)
    }

    /// The same with a certificate that is valid between these years alone.
    fn acceptor_of(&self, name: &str, years: Option<(i32, i32)>, asks_clients: bool) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if let Some((from, to)) = years {
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        }
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = match asks_clients {
            true => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
            false => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    fn write(&self, path: &Path) {
        std::fs::write(path, self.0.pem()).unwrap();
    }

    /// Writes a certificate of a client and its key.
    fn write_client(&self, certificate: &Path, key: &Path) {
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a client");
        std::fs::write(certificate, params.signed_by(&pair, &self.0).unwrap().pem()).unwrap();
        std::fs::write(key, pair.serialize_pem()).unwrap();
    }
}

async fn server(authority: &Authority, name: &str, asks_clients: bool) -> Server {
    let model = Model::with_blobs(&[&sample(1_000)]);
    Server::start_tls(move |seen| model.reply(seen), Some(authority.acceptor(name, asks_clients))).await
}

/// CVE-2025-6032, row 121.
#[tokio::test]
async fn an_authority_is_trusted_by_setting_and_for_its_host_alone() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let authority = Authority::new();
    authority.write(&ca);
    let (trusted, other) = (server(&authority, "127.0.0.1", false).await, server(&authority, "127.0.0.1", false).await);
    let bytes = sample(1_000);
    let stranger = dir.path().join("stranger.pem");
    Authority::new().write(&stranger);
    let table =
        format!("[host.\"{}\"]\nca = [{ca:?}]\n[host.\"{}\"]\nca = [{stranger:?}]", trusted.host(), other.host());

    let good = fetch(&repository(&trusted.host(), &table, anonymous()), &layer(&bytes), Progress::new()).await;
    let bad = fetch(&repository(&other.host(), &table, anonymous()), &layer(&bytes), Progress::new()).await;

    assert_eq!(good.unwrap(), bytes);
    let error = bad.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    assert!(chain(&error).contains("certificate"), "{}", chain(&error));
    assert_eq!(other.seen().len(), 0);
}

/// CVE-2025-6032, row 121.
#[tokio::test]
async fn a_certificate_of_another_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let authority = Authority::new();
    authority.write(&ca);
    let server = server(&authority, "other.test", false).await;
    let table = format!("[host.\"{}\"]\nca = [{ca:?}]", server.host());

    let error = fetch(&repository(&server.host(), &table, anonymous()), &layer(&sample(1_000)), Progress::new()).await;

    assert_eq!(error.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(server.seen().len(), 0);
}

/// CVE-2025-6032, row 121: of an authority that is trusted, and expired or not valid yet.
#[tokio::test]
async fn a_certificate_that_is_not_valid_now_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let authority = Authority::new();
    authority.write(&ca);
    for (from, to) in [(2001, 2002), (2901, 2902)] {
        let acceptor = authority.acceptor_of("127.0.0.1", Some((from, to)), false);
        let model = Model::with_blobs(&[&sample(1_000)]);
        let server = Server::start_tls(move |seen| model.reply(seen), Some(acceptor)).await;
        let table = format!("[host.\"{}\"]\nca = [{ca:?}]", server.host());
        let repository = repository(&server.host(), &table, anonymous());

        let error = fetch(&repository, &layer(&sample(1_000)), Progress::new()).await.unwrap_err();

        assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
        assert!(chain(&error).contains("certificate"), "{}", chain(&error));
        assert_eq!(server.seen().len(), 0);
    }
}

#[tokio::test]
async fn the_directory_of_a_host_holds_what_is_trusted_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = server(&authority, "127.0.0.1", true).await;
    let own = dir.path().join(server.host());
    std::fs::create_dir(&own).unwrap();
    authority.write(&own.join("ca.crt"));
    let bytes = sample(1_000);
    let mut registries = crate::settings("attempts = 1");
    registries.certificates = vec![dir.path().to_owned()];
    let client = |registries| strata_registry::Client::new(registries, anonymous()).unwrap();
    let reference = strata_types::Reference::parse(&format!("{}/a/b", server.host())).unwrap();

    let nameless = client(registries.clone()).repository(&reference).unwrap();
    fetch(&nameless, &layer(&bytes), Progress::new()).await.unwrap_err();
    assert_eq!(server.seen().len(), 0);

    authority.write_client(&own.join("client.cert"), &own.join("client.key"));
    let named = client(registries).repository(&reference).unwrap();
    assert_eq!(fetch(&named, &layer(&bytes), Progress::new()).await.unwrap(), bytes);
}

/// CVE-2014-5277, row 121.
#[tokio::test]
async fn https_that_fails_is_not_followed_by_http() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    Authority::new().write(&ca);
    let server = Model::with_blobs(&[&sample(1_000)]).serve().await;
    let table = format!("attempts = 2\n[host.\"{}\"]\nca = [{ca:?}]", server.host());
    let repository = repository(&server.host(), &table, anonymous());

    let error = fetch(&repository, &layer(&sample(1_000)), Progress::new()).await.unwrap_err();

    assert_eq!(server.seen().len(), 0);
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    assert!(chain(&error).contains(&server.host()), "{}", chain(&error));
}

#[tokio::test]
async fn a_host_that_answers_in_the_clear_is_told_from_one_that_does_not() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut client, _) = listener.accept().unwrap();
        let _hello = client.read(&mut [0; 4096]).unwrap();
        client.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
        // Until the client has seen enough: what is closed with bytes unread is reset.
        let _end = client.read_to_end(&mut Vec::new());
    });
    let table = format!("attempts = 1\n[host.\"{host}\"]\nplain_http = false");

    let error = fetch(&repository(&host, &table, anonymous()), &layer(&sample(1)), Progress::new()).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    let said = chain(&error);
    assert!(said.contains(&host) && said.contains("plain_http = true"), "{said}");
    answering.join().unwrap();
}

#[tokio::test]
async fn a_missing_certificate_file_is_named() {
    let table = "[host.\"127.0.0.1:1\"]\nca = [\"/nonexistent/ca.pem\"]";

    let error =
        fetch(&repository("127.0.0.1:1", table, anonymous()), &layer(&sample(1)), Progress::new()).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Local);
    assert!(chain(&error).contains("/nonexistent/ca.pem"), "{}", chain(&error));
}
