//! The `registries` table of the configuration that builder, store and ctl share: strata.toml beside their own files.
//!
//! ```toml
//! [registries]
//! transfers = 6
//!
//! [registries.host."docker.io"]
//! mirrors = ["mirror.example:5000", "https://cache.example/hub"]
//!
//! [registries.host."registry.example"]
//! ca = ["/etc/strata/registry-ca.pem"]
//! compression = "zstd"
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use strata_types::Invalid;

use crate::{Host, backoff::Backoff};

/// The configuration file that builder, store and ctl share, strata.toml.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shared {
    /// Registries.
    pub registries: Registries,
    /// Who may do what: read by what opens the doors of services.
    pub access: serde::de::IgnoredAny,
    /// Where traces go: read by what sends them.
    pub traces: serde::de::IgnoredAny,
}

/// Settings for all registries; every one has a default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registries {
    /// Blobs that are fetched from, or sent to, one host at a time.
    pub transfers: usize,
    /// How often a request is tried in all before it fails.
    pub attempts: u32,
    /// The first wait between two tries, in milliseconds; each further one is twice as long, up to 20 seconds.
    pub backoff_milliseconds: u64,
    /// Seconds without a byte after which a connection counts as lost.
    pub idle_seconds: u64,
    /// Directories in Docker's layout: one directory per "host[:port]", with *.crt (authorities), and *.cert and *.key
    /// (what we show).
    pub certificates: Vec<PathBuf>,
    /// Proxies; where none is set, those of HTTP_PROXY, HTTPS_PROXY and NO_PROXY in the environment.
    pub proxy: ProxySettings,
    /// Settings of registries by host.
    pub host: BTreeMap<Host, HostSettings>,
    /// Settings of registries that have none of their own.
    pub any: HostSettings,
}

/// Settings of one registry.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostSettings {
    /// Where to look first, in this order. A mirror's certificates and credentials are those of its own host.
    pub mirrors: Vec<Location>,
    /// Do not ask the registry itself when no mirror has what is wanted.
    pub mirrors_only: bool,
    /// Our own registry server answers for this registry too, and keeps what it fetched.
    pub pull_through: bool,
    /// Speak http instead of https. Unset: only to this machine, and only where no certificates are set.
    pub plain_http: Option<bool>,
    /// PEM files of authorities that are trusted besides the system's.
    pub ca: Vec<PathBuf>,
    /// PEM file of the certificate that we show.
    pub client_certificate: Option<PathBuf>,
    /// PEM file of its key.
    pub client_key: Option<PathBuf>,
    /// Hosts that may get this registry's credentials in exchange for a token, besides the registry itself.
    pub token_realms: Vec<Host>,
    /// How layers are compressed that are pushed here. Unset: as they are, or gzip.
    pub compression: Option<Compression>,
    /// Bytes of one request of an upload. Unset: a blob goes in one request.
    pub chunk_bytes: Option<u64>,
}

/// How a layer is compressed for a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip: every client reads it.
    Gzip,
    /// zstd: smaller and faster; clients since about 2020 read it.
    Zstd,
    /// None.
    None,
}

/// Proxies for requests.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxySettings {
    /// URL of the proxy for http.
    pub http: Option<String>,
    /// URL of the proxy for https.
    pub https: Option<String>,
    /// Hosts, domains and networks that are reached without it, as in NO_PROXY.
    pub no_proxy: Vec<String>,
}

// A proxy's URL may hold a password.
impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxySettings")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// Where a mirror is: "[http://|https://]host[:port][/prefix]". Repositories are looked for below the prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Location {
    /// The scheme, where one is written. `http://` counts as leave to speak it.
    pub scheme: Option<Scheme>,
    /// The mirror's host.
    pub host: Host,
    /// Empty, or a path without slashes at its ends.
    pub prefix: String,
}

/// How a registry is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As a URL begins with it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Location {
    /// Parses a mirror.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(_) => return Err(Invalid::new("mirror", text, "the scheme must be http or https")),
            None => (None, text),
        };
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/').to_owned();
        let is_plain = |part: &str| {
            let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
            !part.is_empty() && part.bytes().all(known) && part.bytes().any(|b| b != b'.')
        };
        if !prefix.is_empty() && !prefix.split('/').all(is_plain) {
            return Err(Invalid::new("mirror", text, "the path must look like the start of a repository name"));
        }
        Ok(Self { scheme, host: Host::parse(host)?, prefix })
    }
}

impl TryFrom<String> for Location {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<Location> for String {
    fn from(location: Location) -> Self {
        let scheme = location.scheme.map(|scheme| format!("{}://", scheme.as_str())).unwrap_or_default();
        let slash = if location.prefix.is_empty() { "" } else { "/" };
        format!("{scheme}{}{slash}{}", location.host, location.prefix)
    }
}

impl Default for Registries {
    fn default() -> Self {
        Self {
            transfers: 6,
            attempts: 6,
            backoff_milliseconds: 250,
            idle_seconds: 60,
            certificates: vec!["/etc/strata/certs.d".into(), "/etc/docker/certs.d".into()],
            proxy: ProxySettings::default(),
            host: BTreeMap::new(),
            any: HostSettings::default(),
        }
    }
}

impl Registries {
    /// The settings of a registry: its own, else those for any.
    pub fn settings(&self, host: &Host) -> &HostSettings {
        self.host.get(host).unwrap_or(&self.any)
    }

    /// The hosts that may be asked for a repository of `host`: its mirrors, then itself. All of them may want credentials.
    pub fn hosts(&self, host: &Host) -> Vec<Host> {
        let mirrors = self.settings(host).mirrors.iter().map(|mirror| mirror.host.clone());
        let mut hosts: Vec<Host> = mirrors.chain([host.clone()]).collect();
        let mut seen = BTreeSet::new();
        hosts.retain(|host| seen.insert(host.clone()));
        hosts
    }

    /// How long a connection may be silent.
    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds.max(1))
    }

    /// The waits between tries.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.attempts, Duration::from_millis(self.backoff_milliseconds))
    }

    /// The certificates directories of a host that exist.
    pub(crate) fn certificate_directories(&self, host: &Host) -> Vec<PathBuf> {
        self.certificates.iter().map(|root| root.join(host.as_str())).filter(|dir| dir.is_dir()).collect()
    }

    /// How a registry is spoken to where nothing else says so: https, but http to this machine when no certificate
    /// is set for it.
    pub(crate) fn scheme(&self, host: &Host) -> Scheme {
        let settings = self.settings(host);
        let has_certificates = || !settings.ca.is_empty() || !self.certificate_directories(host).is_empty();
        match settings.plain_http {
            Some(true) => Scheme::Http,
            Some(false) => Scheme::Https,
            None if host.is_loopback() && !has_certificates() => Scheme::Http,
            None => Scheme::Https,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Registries, toml::de::Error> {
        toml::from_str(text)
    }

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn a_table_of_mirrors_is_read() {
        let registries = parse(
            r#"
            transfers = 3
            [host."docker.io"]
            mirrors = ["mirror.example:5000", "http://cache.example/hub/"]
            mirrors_only = true
            [host."registry.example"]
            compression = "zstd"
            [any]
            mirrors = ["all.example/any"]
            "#,
        )
        .unwrap();

        let hub = registries.settings(&host("index.docker.io"));

        assert_eq!(
            hub.mirrors[1],
            Location { scheme: Some(Scheme::Http), host: host("cache.example"), prefix: "hub".into() }
        );
        assert_eq!(hub.mirrors[0].scheme, None);
        assert!(hub.mirrors_only);
        assert_eq!(registries.settings(&host("registry.example")).compression, Some(Compression::Zstd));
        assert!(
            registries.settings(&host("registry.example")).mirrors.is_empty(),
            "own settings replace those for any"
        );
        assert_eq!(registries.settings(&host("quay.io")).mirrors[0].prefix, "any");
        assert_eq!((registries.transfers, registries.attempts), (3, 6));
    }

    #[test]
    fn what_is_unknown_or_malformed_is_refused() {
        for bad in [
            "transfer = 3",
            "[host.\"docker.io\"]\nmirror = []",
            "[host.\"https://docker.io\"]\nmirrors = []",
            "[any]\nmirrors = [\"ftp://x.example\"]",
            "[any]\nmirrors = [\"user@x.example\"]",
            "[any]\nmirrors = [\"x.example/../y\"]",
            "[any]\nmirrors = [\"x.example/a//b\"]",
            "[any]\nmirrors = [\"x.example/a?b\"]",
            "[any]\ncompression = \"lz4\"",
        ] {
            assert!(parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    /// CVE-2021-41092 and others, row 121, and row 122: http is for exactly the host that was named.
    #[test]
    fn http_is_for_this_machine_or_by_leave() {
        let certificates = tempfile::tempdir().unwrap();
        std::fs::create_dir(certificates.path().join("localhost:5001")).unwrap();
        let mut registries =
            parse("[host.\"open.example\"]\nplain_http = true\n[host.\"127.0.0.1:1\"]\nplain_http = false").unwrap();
        registries.certificates = vec![certificates.path().to_owned()];

        for (name, scheme) in [
            ("localhost:5000", Scheme::Http),
            ("localhost:5001", Scheme::Https),
            ("127.0.0.1:1", Scheme::Https),
            ("open.example", Scheme::Http),
            ("open.example:5000", Scheme::Https),
            ("localhost.evil.test:5000", Scheme::Https),
            ("docker.io", Scheme::Https),
        ] {
            assert_eq!(registries.scheme(&host(name)), scheme, "{name}");
        }
    }

    #[test]
    fn a_mirror_survives_its_text() {
        for text in ["mirror.example:5000", "http://cache.example/hub/two", "https://[::1]:5000"] {
            assert_eq!(String::from(Location::parse(text).unwrap()), text);
        }
    }
}
