//! The `[registry]` table of the store's configuration.
//!
//! ```toml
//! [registry]
//! listen = "0.0.0.0:5000"          # or --registry; beyond this machine only with TLS
//! anonymous = "pull"               # what those may who show nothing: "none" (default), "pull" or "push"
//!
//! [registry.tls]                   # unset: the certificates of --tls-ca, --tls-cert and --tls-key
//! certificate = "/etc/strata/registry.pem"
//! key = "/etc/strata/registry-key.pem"
//! client_authority = "/etc/strata/clients.pem"
//!
//! [[registry.token]]               # docker login -u ci; the secret itself is nowhere in this file
//! name = "ci"
//! sha256 = "..."                   # of the secret: openssl rand -hex 32 | tee secret | tr -d '\n' | sha256sum
//! permissions = ["pull", "push"]
//! repositories = ["team/*"]        # default: all
//!
//! [[registry.upstream]]            # who we are at a registry with `pull_through`; what it gives, all who may pull here get
//! host = "docker.io"
//! docker_config = "/etc/strata/hub.json"    # Docker's config.json, with its credential helpers; or
//! # username = "me"
//! # password_file = "/etc/strata/hub-password"
//!
//! [[registry.client]]              # holders of client certificates, by common name; none listed: all may do all
//! common_name = "node-7"
//! permissions = ["pull"]
//! ```

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use strata_registry::Host;

/// Settings of the registry; every one has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where to listen, as "address:port". Unset, and no `--registry`: there is no registry.
    pub listen: Option<String>,
    /// What callers may who show nothing.
    pub anonymous: Anonymous,
    /// Certificates of the registry, where they are not those of the store.
    pub tls: Option<Tls>,
    /// Secrets that clients log in with.
    pub token: Vec<Token>,
    /// Holders of client certificates. Where none is listed, every holder may pull and push, as over gRPC.
    pub client: Vec<Client>,
    /// Credentials for registries that ours answers for, one entry per host.
    pub upstream: Vec<Upstream>,
    /// Further names by which clients on this machine may call a registry without TLS, besides "localhost".
    pub hosts: Vec<String>,
    /// Bytes of the largest blob that is taken.
    pub max_blob_bytes: u64,
    /// Uploads under way at a time.
    pub max_uploads: usize,
    /// Seconds after which an upload that nobody touches is forgotten.
    pub upload_idle_seconds: u64,
    /// Seconds after which a pushed blob that no manifest has named is let go.
    pub unused_blob_seconds: u64,
    /// Takes manifests and indexes though not all that they name is in their repository: for mirrors that have some
    /// platforms only. What is missing is missed by whoever asks for it.
    pub accept_sparse: bool,
    /// Days after which a pushed manifest is let go that no tag leads to, nor anything that a tag leads to; 0: never.
    pub untagged_days: u64,
    /// Connections at a time.
    pub max_connections: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: None,
            anonymous: Anonymous::None,
            tls: None,
            token: Vec::new(),
            client: Vec::new(),
            upstream: Vec::new(),
            hosts: Vec::new(),
            max_blob_bytes: 256 << 30,
            max_uploads: 1000,
            upload_idle_seconds: 3600,
            unused_blob_seconds: 86_400,
            accept_sparse: false,
            untagged_days: 30,
            max_connections: 1024,
        }
    }
}

/// What callers may who show nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    /// Nothing.
    None,
    /// Pull everything.
    Pull,
    /// Pull and push everything.
    Push,
}

/// Certificates of the registry, PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// What we show.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs client certificates; unset: none is asked for.
    pub client_authority: Option<PathBuf>,
}

/// A secret that clients log in with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The user name that goes with it.
    pub name: String,
    /// SHA-256 of the secret, in hexadecimal digits.
    pub sha256: String,
    /// What it permits.
    pub permissions: Vec<Permission>,
    /// Where: paths of repositories, "app" or "team/app"; one that ends in "*" is a beginning. Default: everywhere.
    #[serde(default = "everywhere")]
    pub repositories: Vec<String>,
}

/// What a holder of a client certificate may.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Common name of the certificate's subject.
    pub common_name: String,
    /// What it permits.
    pub permissions: Vec<Permission>,
    /// Where, as of a token.
    #[serde(default = "everywhere")]
    pub repositories: Vec<String>,
}

/// Where the credentials for a registry are.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Entry")]
pub struct Upstream {
    /// The registry.
    pub host: Host,
    /// Where they are.
    pub credentials: Place,
}

/// A place for credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Docker's config.json, or the programs that it names.
    DockerConfig(PathBuf),
    /// A file whose first line is the password.
    PasswordFile {
        /// The user.
        username: String,
        /// The file.
        path: PathBuf,
    },
}

/// An [`Upstream`] as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    host: Host,
    docker_config: Option<PathBuf>,
    username: Option<String>,
    password_file: Option<PathBuf>,
}

impl TryFrom<Entry> for Upstream {
    type Error = &'static str;

    fn try_from(entry: Entry) -> Result<Self, Self::Error> {
        let credentials = match (entry.docker_config, entry.username, entry.password_file) {
            (Some(path), None, None) => Place::DockerConfig(path),
            (None, Some(username), Some(path)) => Place::PasswordFile { username, path },
            _ => return Err("registry.upstream needs docker_config, or username and password_file"),
        };
        Ok(Self { host: entry.host, credentials })
    }
}

/// What a caller may do: VIEW and PUSH of the store's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Read manifests, blobs and lists.
    Pull,
    /// Write and delete them.
    Push,
}

fn everywhere() -> Vec<String> {
    vec!["*".to_owned()]
}

/// What uploads are held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of one blob.
    pub blob_bytes: u64,
    /// Uploads at a time.
    pub uploads: usize,
    /// How long one may be left alone.
    pub upload_idle: Duration,
}

impl Settings {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            blob_bytes: self.max_blob_bytes,
            uploads: self.max_uploads,
            upload_idle: Duration::from_secs(self.upload_idle_seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_are_pointed_at_in_one_way() {
        let parse = |mut entry: serde_json::Value| {
            entry["host"] = "docker.io".into();
            serde_json::from_value::<Upstream>(entry)
        };

        let config = parse(json!({"docker_config": "/a"})).unwrap().credentials;
        assert_eq!(config, Place::DockerConfig("/a".into()));
        let file = parse(json!({"username": "me", "password_file": "/b"})).unwrap().credentials;
        assert_eq!(file, Place::PasswordFile { username: "me".to_owned(), path: "/b".into() });
        for wrong in [
            json!({}),
            json!({"username": "me"}),
            json!({"password_file": "/b"}),
            json!({"docker_config": "/a", "username": "me"}),
            json!({"username": "me", "password": "x"}),
        ] {
            assert!(parse(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
