//! Names of registries as people write them: "docker.io", "registry.example:5000", "[::1]:5000".
//!
//! Everything that belongs to one registry (settings, certificates, credentials, tokens) is kept under its [`Host`], and
//! two hosts are the same only if their texts are.

use std::{fmt, net::IpAddr, str::FromStr};

use reqwest::Url;
use serde::{Deserialize, Serialize};
use strata_types::{Invalid, Reference};

/// The name of Docker Hub in references.
pub(crate) const HUB: &str = "docker.io";
/// Other names of Docker Hub: in old references, and of the host that serves its API.
const HUB_ALIASES: [&str; 2] = [HUB_INDEX, HUB_API];
/// The host that searches Docker Hub.
const HUB_INDEX: &str = "index.docker.io";
/// The host that serves the API of Docker Hub.
pub(crate) const HUB_API: &str = "registry-1.docker.io";

/// A registry: a host name or address with an optional port, in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(String);

impl Host {
    /// Parses "name", "name:port", "address:port" or "[address]:port".
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let lower = text.to_ascii_lowercase();
        // The grammar of references knows what a host is; what has no dot and no port is one here all the same.
        let probe = if lower.contains(['.', ':']) || lower == "localhost" {
            Reference::parse(&format!("{lower}/x"))
        } else {
            Reference::parse(&format!("{lower}:1/x"))
        };
        let rule = "it is a host name or address with an optional port, such as \"registry.example:5000\"";
        let is_host = probe.is_ok_and(|reference| reference.path() == "x" || reference.path() == "library/x");
        if !is_host || lower.contains(['/', '@']) {
            return Err(Invalid::new("registry", text, rule));
        }
        let host = Self(if HUB_ALIASES.contains(&lower.as_str()) { HUB.to_owned() } else { lower });
        if host.0.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']') && port.parse::<u16>().is_err()) {
            return Err(Invalid::new("registry", text, "the port is not between 0 and 65535"));
        }
        Ok(host)
    }

    /// The registry of a reference.
    pub fn of(reference: &Reference) -> Self {
        let lower = reference.domain().to_ascii_lowercase();
        Self(if HUB_ALIASES.contains(&lower.as_str()) { HUB.to_owned() } else { lower })
    }

    /// The host that a URL names, with its port where that is not the scheme's own.
    pub(crate) fn of_url(url: &Url) -> Option<Self> {
        let name = url.host_str()?.to_ascii_lowercase();
        Some(Self(match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name,
        }))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name or address alone, without port and brackets.
    pub fn name(&self) -> &str {
        let without_port = match self.0.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => name,
            _ => &self.0,
        };
        without_port.trim_start_matches('[').trim_end_matches(']')
    }

    /// Is this Docker Hub?
    pub fn is_hub(&self) -> bool {
        self.0 == HUB
    }

    /// Is it this machine? Exactly "localhost" or a loopback address: "localhost.evil.test" is somebody else's.
    pub fn is_loopback(&self) -> bool {
        self.name() == "localhost" || self.name().parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Host and port as a URL has them: Docker Hub's API is served by another host than its name says.
    pub(crate) fn authority(&self) -> &str {
        if self.is_hub() { HUB_API } else { &self.0 }
    }

    /// The same where repositories are looked for.
    pub(crate) fn index_authority(&self) -> &str {
        if self.is_hub() { HUB_INDEX } else { &self.0 }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Host {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Host {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_has_one_name() {
        for text in ["docker.io", "index.docker.io", "registry-1.docker.io", "Docker.IO"] {
            let host = Host::parse(text).unwrap();
            assert!(host.is_hub(), "{text}");
            assert_eq!((host.as_str(), host.authority()), ("docker.io", "registry-1.docker.io"));
        }
        assert!(Host::of(&Reference::parse("debian").unwrap()).is_hub());
    }

    /// Row 122: compared whole, never by how a name begins.
    #[test]
    fn only_this_machine_is_loopback() {
        for (text, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("localhost.evil.test", false),
            ("localhost.evil.test:5000", false),
            ("127.0.0.1.evil.test", false),
            ("notlocalhost:1", false),
            ("10.0.0.1:5000", false),
            ("[::2]:5000", false),
            ("127.1:5000", false),
            ("0x7f.0.0.1:5000", false),
            ("2130706433:5000", false),
        ] {
            assert_eq!(Host::parse(text).unwrap().is_loopback(), expected, "{text}");
        }
    }

    #[test]
    fn name_and_port_come_apart() {
        for (text, name) in
            [("reg:5000", "reg"), ("reg.example", "reg.example"), ("[::1]:5000", "::1"), ("[::1]", "::1")]
        {
            assert_eq!(Host::parse(text).unwrap().name(), name, "{text}");
        }
        assert_eq!(Host::parse("plainname").unwrap().as_str(), "plainname");
    }

    /// Row 122: users, dots at the end, and letters that only look like these.
    #[test]
    fn texts_that_are_no_host_are_refused() {
        for bad in [
            "",
            "a/b",
            "https://a",
            "user@host",
            "a b",
            "a:port",
            "a:70000",
            "-a.b",
            "a..b",
            "localhost.",
            "a@b.example",
            "localhost@evil.test",
            "l\u{43e}calhost:5000",
            "\u{ff11}27.0.0.1:5000",
            "localhost\\evil.test",
            "a.b:1:2",
            "*",
        ] {
            assert!(Host::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
