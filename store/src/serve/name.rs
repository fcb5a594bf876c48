//! What requests name: repositories, tags, digests. Parsed at the edge, so that nothing below sees raw text.
//!
//! A repository of this registry is a name of the store. Its path is read as people write names: `app` is
//! `docker.io/library/app`, `me/app` is `docker.io/me/app`, and a first part that looks like a host is one:
//! `ghcr.io/me/app` is that name. So `ctl build -t app` is pulled as `ADDR/app`, a client's `push ADDR/app` is run
//! with `ctl run app`, and the registry serves as a mirror of any other without a table. Names under a host with a
//! port do not fit into a path; `?ns=HOST:PORT` reaches them, as containerd asks mirrors.

use std::fmt;

use sha2::{Digest as _, Sha256, Sha512};
use strata_types::{Digest, Reference};

use super::Fault;

/// A repository: as it was asked for, and as the store calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repository {
    path: String,
    store_name: String,
    namespace: Option<String>,
}

impl Repository {
    /// Parses the path of a repository; `namespace` is the host it is asked for, if the client said so.
    pub fn parse(path: &str, namespace: Option<&str>) -> Result<Self, Fault> {
        let invalid = || Fault::NameInvalid { name: path.chars().take(300).collect() };
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte);
        if path.is_empty() || !path.bytes().all(fits) {
            return Err(invalid());
        }
        let text = match namespace {
            // The path is whole then: "library/debian" of "docker.io".
            Some(host) if host != "docker.io" && !host.contains(['/', '@']) && looks_like_host(host) => {
                format!("{host}/{path}")
            }
            Some("docker.io") => format!("docker.io/{path}"),
            Some(_) => return Err(invalid()),
            // 64 hexadecimal digits would be an id.
            None if !path.contains('/') => format!("docker.io/library/{path}"),
            None => path.to_owned(),
        };
        // A first part such as "a_b.c" looks like a host and cannot be one.
        let reference = Reference::parse(&text)
            .or_else(|_| Reference::parse(&format!("docker.io/{text}")))
            .map_err(|_| invalid())?;
        let namespace = namespace.map(str::to_owned);
        Ok(Self { path: path.to_owned(), store_name: reference.name(), namespace })
    }

    /// As it was asked for: what answers repeat.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// As the store calls it: host and path, "docker.io/library/app".
    pub fn store_name(&self) -> &str {
        &self.store_name
    }

    /// The host that the client asked for, if it did.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The store's name for a tag: "docker.io/library/app:v1".
    pub fn with_tag(&self, tag: &Tag) -> String {
        format!("{}:{}", self.store_name, tag.0)
    }
}

/// The path under which a name of the store is pulled from here; none for hosts that do not fit into a path.
pub(super) fn path_of(store_name: &str) -> Option<String> {
    let familiar = Reference::parse(store_name).ok()?.familiar_name();
    (!familiar.contains(':') && Repository::parse(&familiar, None).is_ok()).then_some(familiar)
}

fn looks_like_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':'])
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag(String);

impl Tag {
    /// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
    pub fn parse(text: &str) -> Option<Self> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_tag = (1..=128).contains(&text.len())
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
        is_tag.then(|| Self(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A digest as clients name content: SHA-256, which is the store's own, or SHA-512, which the registry translates.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name(String);

impl Name {
    /// Parses "sha256:" with 64 or "sha512:" with 128 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let shown = || text.chars().take(150).collect::<String>();
        let invalid = |problem| Fault::DigestInvalid { digest: shown(), problem };
        let Some((algorithm, hex)) = text.split_once(':') else { return Err(invalid("it has no algorithm")) };
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return Err(invalid("this registry knows sha256 and sha512")),
        };
        if hex.len() != length || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(invalid("it has not the right number of lower-case hexadecimal digits"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same as the store has it; none for SHA-512.
    pub fn sha256(&self) -> Option<Digest> {
        Digest::parse(&self.0).ok()
    }

    /// The name of these bytes in the same algorithm.
    pub fn of_same_kind(&self, bytes: &[u8]) -> Self {
        match self.sha256() {
            Some(_) => Self(format!("sha256:{}", hex::encode(Sha256::digest(bytes)))),
            None => Self::from_sha512(&Sha512::digest(bytes)),
        }
    }

    /// From what a SHA-512 hasher gives.
    pub fn from_sha512(bytes: &[u8]) -> Self {
        Self(format!("sha512:{}", hex::encode(bytes)))
    }
}

impl From<Digest> for Name {
    fn from(digest: Digest) -> Self {
        Self(digest.to_string())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_name_of_the_store_as_people_write_it() {
        for (path, namespace, name) in [
            ("app", None, "docker.io/library/app"),
            ("library/app", None, "docker.io/library/app"),
            ("me/app", None, "docker.io/me/app"),
            ("ghcr.io/me/app", None, "ghcr.io/me/app"),
            ("localhost/app", None, "localhost/app"),
            ("my.app", None, "docker.io/library/my.app"),
            ("my_team.x/app", None, "docker.io/my_team.x/app"),
            ("library/debian", Some("docker.io"), "docker.io/library/debian"),
            ("me/app", Some("registry.example:5000"), "registry.example:5000/me/app"),
        ] {
            let repository = Repository::parse(path, namespace).unwrap();
            assert_eq!((repository.store_name(), repository.path()), (name, path));
        }
        let hex = "ab".repeat(32);
        assert_eq!(Repository::parse(&hex, None).unwrap().store_name(), format!("docker.io/library/{hex}"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(250);
        for path in ["", "App", "a//b", "/a", "a/", "a..b", "..", "a/../b", "a:b", "a@b", "a b", "é", &long] {
            assert!(Repository::parse(path, None).is_err(), "{path:?}");
        }
        for namespace in ["", "x", "a/b", "evil@host.example", "host.example/../.."] {
            assert!(Repository::parse("app", Some(namespace)).is_err(), "{namespace:?}");
        }
    }

    #[test]
    fn the_path_of_a_name_leads_back_to_it() {
        let hex = "ab".repeat(32);
        for name in ["docker.io/library/app", "docker.io/me/app", "ghcr.io/me/app", "docker.io/a.b/c", "localhost/x"] {
            let path = path_of(name).unwrap();
            assert_eq!(Repository::parse(&path, None).unwrap().store_name(), name);
        }
        assert_eq!(path_of("registry.example:5000/app"), None);
        let path = path_of(&format!("docker.io/library/{hex}")).unwrap();
        assert_eq!(Repository::parse(&path, None).unwrap().store_name(), format!("docker.io/library/{hex}"));
    }

    #[test]
    fn digests_are_sha256_and_sha512_in_lower_case() {
        let (short, long) = ("ab".repeat(32), "cd".repeat(64));
        assert!(Name::parse(&format!("sha256:{short}")).unwrap().sha256().is_some());
        assert!(Name::parse(&format!("sha512:{long}")).unwrap().sha256().is_none());
        for text in [
            short.clone(),
            format!("sha256:{long}"),
            format!("sha512:{short}"),
            format!("md5:{short}"),
            format!("sha256:{}", short.to_uppercase()),
            "sha256:../../../etc/passwd".to_owned(),
            String::new(),
        ] {
            assert!(Name::parse(&text).is_err(), "{text}");
        }
    }
}
