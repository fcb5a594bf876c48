//! Where figures are served.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

/// An address and a port of this host; a port alone is on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(SocketAddr);

/// A text that is no address.
#[derive(Debug, Clone, thiserror::Error)]
#[error("invalid address {text:?} for metrics: it must be ADDRESS:PORT, such as 127.0.0.1:9464, or a port on loopback")]
pub struct Invalid {
    text: String,
}

impl Address {
    /// Of the socket.
    pub fn socket(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for Address {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let port = || text.parse().ok().map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        let found = text.parse().ok().or_else(port);
        found.map(Self).ok_or_else(|| Invalid { text: text.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_loopback() {
        let shown = |text: &str| text.parse::<Address>().map(|address| address.to_string()).map_err(drop);
        assert_eq!(shown("9464"), Ok("127.0.0.1:9464".to_owned()));
        assert_eq!(shown("0.0.0.0:9464"), Ok("0.0.0.0:9464".to_owned()));
        assert_eq!(shown("[::1]:0"), Ok("[::1]:0".to_owned()));
        // To Go it means every address of the host: nobody shall open a door that he does not mean to.
        for text in ["", ":9464", "localhost:9464", "127.0.0.1", "65536", "unix:/x"] {
            assert_eq!(shown(text), Err(()), "{text:?}");
        }
    }
}
