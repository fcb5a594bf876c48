//! Image references: Docker's grammar, strict, with Docker's short forms. What is kept is always the full form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Digest, Invalid};

const HUB: &str = "docker.io";
const OFFICIAL: &str = "library";

/// A reference to an image: "debian" is docker.io/library/debian:latest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses a short or full reference. Without tag and digest it means "latest".
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let bad = |rule| Invalid::new("reference", text, rule);
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest =
                    Digest::parse(digest).map_err(|_| bad("after \"@\" comes sha256: and 64 hexadecimal digits"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon after the last slash starts a tag; one before it belongs to a port.
        let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_end..].split_once(':') {
            Some((last, tag)) => (&rest[..name_end + last.len()], Some(tag)),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad(
                "a tag is 1 to 128 letters, digits, \"_\", \".\" and \"-\" that starts with a letter, digit or \"_\"",
            ));
        }
        if is_hex64(name) {
            return Err(bad("64 hexadecimal digits are an id, not a name"));
        }
        let (domain, path) = split_domain(name);
        check_name(&domain, &path).map_err(bad)?;
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Self { domain, path, tag, digest })
    }

    /// The registry, "docker.io".
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry, "library/debian".
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag; absent only where there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The full name without tag and digest: "docker.io/library/debian".
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name as people write it: "debian". The column REPOSITORY of `images`.
    pub fn familiar_name(&self) -> String {
        if self.domain != HUB {
            return self.name();
        }
        if let Some(short) = self.path.strip_prefix("library/")
            && !short.contains('/')
            && !is_hex64(short)
        {
            return short.to_owned();
        }
        match self.path.split_once('/') {
            // Without its domain the first part would be read as one.
            Some((first, _)) if !looks_like_domain(first) && first != OFFICIAL => self.path.clone(),
            _ => self.name(),
        }
    }

    /// As people write it: "debian:latest". Parses back to the same reference.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The same name with another tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, Invalid> {
        if !is_tag(tag) {
            return Err(Invalid::new("tag", tag, "it is 1 to 128 letters, digits, \"_\", \".\" and \"-\""));
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same name by digest alone.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

fn looks_like_domain(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.bytes().any(|b| b.is_ascii_uppercase())
}

fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if looks_like_domain(first) => (first, rest),
        _ => (HUB, name),
    };
    let domain = if domain == "index.docker.io" { HUB } else { domain };
    if domain == HUB && !path.contains('/') {
        return (domain.to_owned(), format!("{OFFICIAL}/{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn check_name(domain: &str, path: &str) -> Result<(), &'static str> {
    if !is_domain(domain) {
        return Err("the part before the first \"/\" is not a host name with an optional port");
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("the repository name must be lower case");
    }
    if !path.split('/').all(is_path_component) {
        return Err(
            "a repository name is made of a-z and 0-9, with single \".\", \"_\", \"__\" or dashes between, and \"/\"",
        );
    }
    if domain.len() + 1 + path.len() > 255 {
        return Err("the name is longer than 255 characters");
    }
    Ok(())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rfind(':') {
        Some(colon) if !domain[colon..].contains(']') => (&domain[..colon], Some(&domain[colon + 1..])),
        _ => (domain, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// [a-z0-9]+ ( ("." | "_" | "__" | "-"+) [a-z0-9]+ )*
fn is_path_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    if !bytes.first().is_some_and(|b| word(*b)) || !bytes.last().is_some_and(|b| word(*b)) {
        return false;
    }
    part.split(|c: char| c.is_ascii() && word(c as u8))
        .filter(|gap| !gap.is_empty())
        .all(|gap| matches!(gap, "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_forms_are_dockers() {
        for (text, full, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("reg:5000/a/b/c:v1", "reg:5000/a/b/c:v1", "reg:5000/a/b/c:v1"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("ghcr.io/x/y_z--q", "ghcr.io/x/y_z--q:latest", "ghcr.io/x/y_z--q:latest"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
        }
    }

    #[test]
    fn a_digest_alone_gets_no_tag() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let reference = Reference::parse(&format!("debian@{digest}")).unwrap();
        assert_eq!((reference.tag(), reference.digest().unwrap().to_string()), (None, digest.clone()));
        assert_eq!(Reference::parse(&format!("debian:12@{digest}")).unwrap().tag(), Some("12"));
    }

    #[test]
    fn texts_outside_the_grammar_are_refused() {
        let hex = "a".repeat(64);
        for bad in [
            "",
            ":",
            "Debian",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "a:",
            "a:-x",
            "a b",
            "a@sha256:12",
            "a@",
            "héllo",
            "a:b:c",
            "host:port/a",
            "ho_st.x/a",
            hex.as_str(),
            "a/B",
            "http://a/b",
            "a\n",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?} was taken");
        }
        assert!(Reference::parse(&format!("x/{}", "a".repeat(255))).is_err());
        assert!(Reference::parse(&format!("a:{}", "t".repeat(129))).is_err());
    }

    fn references() -> impl Strategy<Value = Reference> {
        let domain = prop_oneof![
            Just(String::new()),
            Just("docker.io/".to_owned()),
            Just("localhost/".to_owned()),
            "[a-z]{1,5}(\\.[a-zA-Z0-9]{1,4}){1,2}(:[0-9]{1,5})?/",
        ];
        let path = "(library/|localhost/)?([a-z0-9]{1,4}([._]|__|-{1,3})){0,2}[a-z0-9]{1,4}(/[a-z0-9]{1,4}(\\.[a-z]{1,2})?){0,2}";
        let path = prop_oneof![path, "library/[a-f0-9]{64}"];
        let digest = proptest::option::of(any::<[u8; 32]>());
        // A first part with a dot is read as a domain, which may not have the "_" of a path.
        (domain, path, proptest::option::of("[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,20}"), digest).prop_filter_map(
            "a path that begins like a domain and is none",
            |(domain, path, tag, digest)| {
                let tag = tag.map(|t| format!(":{t}")).unwrap_or_default();
                let digest = digest.map(|d| format!("@{}", Digest::from_sha256_bytes(d))).unwrap_or_default();
                Reference::parse(&format!("{domain}{path}{tag}{digest}")).ok()
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_back_to_the_same(reference in references()) {
            prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
            prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
            }
        }
    }
}
