//! `ctl tls init`: a certificate authority, a pair for services and a pair for a client, as PEM files in one directory.
//! All of them are made in memory, written beside their places, and then put there: whole, or none.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose as Purpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustix::fs::RenameFlags;

use crate::args::TlsInit;
use crate::error::{Error, Result};

const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key";
const SERVER: &str = "server.pem";
const SERVER_KEY: &str = "server.key";
const CLIENT: &str = "client.pem";
const CLIENT_KEY: &str = "client.key";

/// Clocks of hosts differ: certificates are valid from so long ago.
const SKEW: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Makes the files and says how to use them.
pub fn init(args: &TlsInit) -> Result<()> {
    let hosts = args.host.iter().map(|text| host(text)).collect::<Result<Vec<_>>>()?;
    if args.days == 0 {
        return Err(Error::usage("--days must be at least 1"));
    }
    refuse_existing(&args.directory)?;
    let validity = Validity::from_now(args.days)?;
    let files = make(hosts, &validity).map_err(|error| Error::new(format!("cannot make certificates: {error}")))?;
    place(&args.directory, &files)?;
    print!("{}", guide(args, &validity));
    Ok(())
}

/// From when until when, since 1970.
struct Validity {
    from: Duration,
    until: Duration,
}

impl Validity {
    fn from_now(days: u16) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_err(|_| Error::new("the clock of this host is before 1970"))?;
        Ok(Self { from: now.saturating_sub(SKEW), until: now + DAY * u32::from(days) })
    }
}

/// A name or an address that a service is dialled by.
fn host(text: &str) -> Result<SanType> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let is_label = |label: &str| {
        let fits = (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
        fits && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let name = Ia5String::try_from(text).ok().filter(|_| text.len() <= 253 && text.split('.').all(is_label));
    name.map(SanType::DnsName).ok_or_else(|| {
        Error::usage(format!("--host {text:?} is neither a host name nor an IP address"))
            .hint("give what clients dial, without a port: --host node-1 --host 10.0.0.1 --host fd00::1")
    })
}

/// A file to be: its name, text, and whether it is for its owner only.
struct Pem {
    name: &'static str,
    text: String,
    mode: u32,
}

fn make(hosts: Vec<SanType>, validity: &Validity) -> Result<[Pem; 6], rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = parameters("", validity);
    // Several authorities of one person must not have one name: a verifier looks them up by it.
    let id: String = params.key_identifier(&key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("Strata CA {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = key.serialize_pem();
    let authority = CertifiedIssuer::self_signed(params, key)?;

    let sign = |name: &str, hosts: Vec<SanType>, purposes: Vec<Purpose>| {
        let mut params = parameters(name, validity);
        params.subject_alt_names = hosts;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes;
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?.pem();
        Ok::<_, rcgen::Error>((certificate, key.serialize_pem()))
    };
    // Builder and runtime are clients of other services.
    let (server, server_key) = sign("strata-service", hosts, vec![Purpose::ServerAuth, Purpose::ClientAuth])?;
    let (client, client_key) = sign("strata-client", vec![], vec![Purpose::ClientAuth])?;
    Ok([
        Pem { name: AUTHORITY, text: authority.pem(), mode: 0o644 },
        Pem { name: AUTHORITY_KEY, text: authority_key, mode: 0o600 },
        Pem { name: SERVER, text: server, mode: 0o644 },
        Pem { name: SERVER_KEY, text: server_key, mode: 0o600 },
        Pem { name: CLIENT, text: client, mode: 0o644 },
        Pem { name: CLIENT_KEY, text: client_key, mode: 0o600 },
    ])
}

fn parameters(name: &str, validity: &Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Strata");
    if !name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + validity.from;
    params.not_after = epoch + validity.until;
    params
}

/// Names what is there already: a lost authority key cannot be made again.
fn refuse_existing(dir: &Path) -> Result<()> {
    let names = [AUTHORITY, AUTHORITY_KEY, SERVER, SERVER_KEY, CLIENT, CLIENT_KEY];
    let there: Vec<_> = names.into_iter().filter(|name| fs::symlink_metadata(dir.join(name)).is_ok()).collect();
    if there.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("{} exists already in {}", there.join(", "), dir.display()))
        .hint("nothing was changed; choose another directory, or remove these files if nothing uses them"))
}

fn cannot(what: &str, path: &Path, error: impl std::fmt::Display) -> Error {
    Error::new(format!("cannot {what} {}: {error}", path.display()))
}

/// Puts all files into the directory, or none.
fn place(dir: &Path, files: &[Pem]) -> Result<()> {
    let mut made = Made::default();
    if !dir.is_dir() {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir).map_err(|error| cannot("create", dir, error))?;
        made.dir = Some(dir.to_owned());
    }
    let stage = dir.join(format!(".tls-init.{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&stage).map_err(|error| cannot("create", &stage, error))?;
    made.stage = Some(stage.clone());
    for file in files {
        let path = stage.join(file.name);
        write(&path, file).map_err(|error| cannot("write", &path, error))?;
    }
    for file in files {
        let (from, to) = (stage.join(file.name), dir.join(file.name));
        let here = rustix::fs::CWD;
        rustix::fs::renameat_with(here, &from, here, &to, RenameFlags::NOREPLACE)
            .map_err(|error| cannot("create", &to, io::Error::from(error)))?;
        made.files.push(to);
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| cannot("write", dir, error))?;
    made.keep();
    Ok(())
}

fn write(path: &Path, pem: &Pem) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(pem.mode).open(path)?;
    file.write_all(pem.text.as_bytes())?;
    file.sync_all()
}

/// What was made so far; dropping it takes everything away again.
#[derive(Default)]
struct Made {
    dir: Option<PathBuf>,
    stage: Option<PathBuf>,
    files: Vec<PathBuf>,
}

impl Made {
    fn keep(mut self) {
        self.files.clear();
        self.dir = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // Errors: the first one is told, and what cannot be removed is named by the next `tls init`.
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        if let Some(stage) = &self.stage {
            let _ = fs::remove_dir_all(stage);
        }
        if let Some(dir) = &self.dir {
            let _ = fs::remove_dir(dir);
        }
    }
}

fn guide(args: &TlsInit, validity: &Validity) -> String {
    let dir = std::path::absolute(&args.directory).unwrap_or_else(|_| args.directory.clone());
    let dir = dir.display();
    let until = jiff::Timestamp::from_second(i64::try_from(validity.until.as_secs()).unwrap_or(i64::MAX));
    let until = until.map(|time| time.to_string()).unwrap_or_else(|_| "its end".to_owned());
    let first = &args.host[0];
    let dialled = if first.contains(':') { format!("[{first}]") } else { first.clone() };
    format!(
        "\
Made in {dir}, valid until {until}:
  ca.pem      the certificate authority: services and clients let in whom it signed
  ca.key      its private key: only to sign further certificates, keep it off the services' hosts
  server.pem  for services on {hosts}; with server.key
  client.pem  for ctl and other clients; with client.key

On each host, with ca.pem, server.pem and server.key there (strata-builder and strata-runtime likewise):
  strata-store --listen tcp:{dialled}:7001 --tls-ca ca.pem --tls-cert server.pem --tls-key server.key

Services that are clients of others over TCP name the same files in their --config:
  [tls]
  ca = \"ca.pem\"
  cert = \"server.pem\"
  key = \"server.key\"

Here:
  ctl context create NAME --store tcp:{dialled}:7001 --builder tcp:{dialled}:7003 --runtime tcp:{dialled}:7002 \\
    --tls-ca {dir}/ca.pem --tls-cert {dir}/client.pem --tls-key {dir}/client.key
",
        hosts = args.host.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

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

        assert_eq!(names(&dir), ["ca.key", "ca.pem", "client.key", "client.pem", "server.key", "server.pem"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        for key in [AUTHORITY_KEY, SERVER_KEY, CLIENT_KEY] {
            assert_eq!(mode(&dir.join(key)), 0o600, "{key}");
        }
    }

    #[test]
    fn what_exists_is_named_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        for name in [AUTHORITY_KEY, CLIENT] {
            fs::write(dir.path().join(name), "precious").unwrap();
        }

        let error = init(&args(dir.path(), &["h"])).unwrap_err();

        assert!(error.message.contains("ca.key, client.pem"), "{}", error.message);
        assert_eq!(names(dir.path()), [AUTHORITY_KEY, CLIENT]);
        assert_eq!(fs::read_to_string(dir.path().join(CLIENT)).unwrap(), "precious");
    }

    #[test]
    fn a_file_that_comes_between_is_not_replaced_and_the_rest_is_taken_back() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("tls");
        fs::create_dir(&dir).unwrap();
        let files = make(vec![], &Validity::from_now(1).unwrap()).unwrap();
        fs::write(dir.join(CLIENT_KEY), "precious").unwrap();

        place(&dir, &files).unwrap_err();

        assert_eq!(names(&dir), [CLIENT_KEY]);
        assert_eq!(fs::read_to_string(dir.join(CLIENT_KEY)).unwrap(), "precious");
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
    fn handshake(server_dir: &Path, client_dir: &Path, pair: (&str, &str), dialled: &str) -> Result<(), String> {
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
            .with_single_cert(certificates(&server_dir.join(SERVER)), key(server_dir.join(SERVER_KEY)))
            .unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(client_dir))
            .with_client_auth_cert(certificates(&client_dir.join(pair.0)), key(client_dir.join(pair.1)))
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
            for pair in [(CLIENT, CLIENT_KEY), (SERVER, SERVER_KEY)] {
                handshake(dir.path(), dir.path(), pair, dialled).unwrap();
            }
        }
        handshake(dir.path(), dir.path(), (CLIENT, CLIENT_KEY), "node-2").unwrap_err();
    }

    #[test]
    fn two_authorities_do_not_let_in_each_others_clients() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&ours, &theirs] {
            init(&args(dir.path(), &["h"])).unwrap();
        }
        // Their client believes our authority, so that the server's refusal is what decides.
        fs::copy(ours.path().join(AUTHORITY), theirs.path().join(AUTHORITY)).unwrap();

        handshake(ours.path(), ours.path(), (CLIENT, CLIENT_KEY), "h").unwrap();
        handshake(ours.path(), theirs.path(), (CLIENT, CLIENT_KEY), "h").unwrap_err();
    }
}
