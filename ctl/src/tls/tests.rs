use super::*;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn args(directory: &Path, hosts: &[&str]) -> TlsInit {
    TlsInit { directory: directory.to_owned(), host: hosts.iter().map(|&host| host.to_owned()).collect(), days: 30 }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn keys_are_for_their_owner_only_and_nothing_else_is_left() {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("deep/tls");

    init(&args(&dir, &["node-1", "10.0.0.1", "fd00::1"])).unwrap();

    let mut wanted: Vec<String> = ["ca", "store", "builder", "runtime", "client"]
        .iter()
        .flat_map(|name| [format!("{name}.key"), format!("{name}.pem")])
        .collect();
    wanted.sort();
    assert_eq!(names(&dir), wanted);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for name in wanted {
        let expected = if name.ends_with(".key") { 0o600 } else { 0o644 };
        assert_eq!(mode(&dir.join(&name)), expected, "{name}");
    }
}

#[test]
fn what_exists_is_named_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    for name in [AUTHORITY_KEY, "client.pem"] {
        fs::write(dir.path().join(name), "precious").unwrap();
    }

    let error = init(&args(dir.path(), &["h"])).unwrap_err();

    assert!(error.message.contains("ca.key, client.pem"), "{}", error.message);
    assert_eq!(names(dir.path()), [AUTHORITY_KEY, "client.pem"]);
    assert_eq!(fs::read_to_string(dir.path().join("client.pem")).unwrap(), "precious");
}

#[test]
fn a_file_that_comes_between_is_not_replaced_and_the_rest_is_taken_back() {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("tls");
    fs::create_dir(&dir).unwrap();
    let files = make(&[], &Validity::from_now(1).unwrap()).unwrap();
    fs::write(dir.join("client.key"), "precious").unwrap();

    place(&dir, &files).unwrap_err();

    assert_eq!(names(&dir), ["client.key"]);
    assert_eq!(fs::read_to_string(dir.join("client.key")).unwrap(), "precious");
}

#[test]
fn hosts_are_names_or_addresses_without_ports() {
    let top = tempfile::tempdir().unwrap();
    for bad in ["", "node:7000", "a b", "-x", "x-", "a..b", ".", "https://x", "ü", &"a".repeat(64)] {
        let error = init(&args(&top.path().join("tls"), &["good", bad])).unwrap_err();

        assert!(error.message.contains(&format!("{bad:?}")), "{bad:?}: {}", error.message);
    }
    assert!(names(top.path()).is_empty(), "a refusal leaves nothing");
}

#[test]
fn no_days_are_refused() {
    let top = tempfile::tempdir().unwrap();
    let none = TlsInit { days: 0, ..args(&top.path().join("tls"), &["h"]) };

    assert!(init(&none).unwrap_err().message.contains("--days"));
}

/// A handshake in memory, both sides checking the other.
fn handshake(server_dir: &Path, client_dir: &Path, who: &str, dialled: &str) -> Result<(), String> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    use std::sync::Arc;
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let certificates = |path: &Path| vec![CertificateDer::from_pem_file(path).unwrap()];
    let roots = |dir: &Path| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(dir.join(AUTHORITY)).unwrap()).unwrap();
        Arc::new(roots)
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = |path: PathBuf| PrivateKeyDer::from_pem_file(path).unwrap();
    let clients =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots(server_dir), provider.clone()).build();
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.unwrap())
        .with_single_cert(certificates(&server_dir.join("store.pem")), key(server_dir.join("store.key")))
        .unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(client_dir))
        .with_client_auth_cert(
            certificates(&client_dir.join(format!("{who}.pem"))),
            key(client_dir.join(format!("{who}.key"))),
        )
        .unwrap();
    let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
    let name = dialled.to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = vec![];
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets().map_err(|error| text(&error))?;
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets().map_err(|error| text(&error))?;
    }
    Ok(())
}

#[test]
fn both_pairs_are_clients_and_the_server_is_known_by_every_host() {
    let dir = tempfile::tempdir().unwrap();
    init(&args(dir.path(), &["node-1", "10.0.0.1", "fd00::1"])).unwrap();

    for dialled in ["node-1", "10.0.0.1", "fd00::1"] {
        for who in ["client", "store", "builder", "runtime"] {
            handshake(dir.path(), dir.path(), who, dialled).unwrap();
        }
    }
    handshake(dir.path(), dir.path(), "client", "node-2").unwrap_err();
}

#[test]
fn two_authorities_do_not_let_in_each_others_clients() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&ours, &theirs] {
        init(&args(dir.path(), &["h"])).unwrap();
    }
    // Their client believes our authority, so that the server's refusal is what decides.
    fs::copy(ours.path().join(AUTHORITY), theirs.path().join(AUTHORITY)).unwrap();

    handshake(ours.path(), ours.path(), "client", "h").unwrap();
    handshake(ours.path(), theirs.path(), "client", "h").unwrap_err();
}

#[test]
fn a_pair_that_is_issued_later_is_let_in_and_carries_its_role() {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("tls");
    let wanted = |name: &str, hosts: &[&str]| TlsIssue {
        directory: dir.clone(),
        name: name.to_owned(),
        role: Role::Viewer,
        host: hosts.iter().map(|&host| host.to_owned()).collect(),
        days: 2,
    };
    assert!(issue(&wanted("bob", &[])).unwrap_err().message.contains("ca.pem"), "without an authority");
    init(&args(&dir, &["h"])).unwrap();

    issue(&wanted("bob", &[])).unwrap();

    handshake(&dir, &dir, "bob", "h").unwrap();
    let pem = fs::read_to_string(dir.join("bob.pem")).unwrap();
    let der = pem_rfc(&pem);
    assert!(der.windows(25).any(|window| window == b"spiffe://strata/viewer/bo"), "its role is in it");
    let before = names(&dir);
    for bad in ["bob", "", ".", "a/b", "../x", "ä", "ca"] {
        assert!(issue(&wanted(bad, &[])).is_err(), "{bad:?}");
    }
    assert!(issue(&wanted("eve", &["a b"])).is_err());
    assert_eq!(names(&dir), before, "a refusal leaves nothing");
}

/// The bytes of the first certificate of a text.
fn pem_rfc(text: &str) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(text.as_bytes()).unwrap().to_vec()
}
