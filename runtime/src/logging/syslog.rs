//! Options of the driver `syslog`: where, as what, and in which form.

use std::{
    fmt, io,
    net::ToSocketAddrs,
    path::{Path, PathBuf},
};

use strata_init::plan::{ReceiverAddress, SyslogLayout};

use super::{Reach, options::Options};

/// The option with the address.
pub const ADDRESS: &str = "syslog-address";

/// The port of syslog.
const PORT: u16 = 514;

/// Where a host's own syslog listens.
const OWN: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// Facilities in the order of their numbers: syslog(3), RFC 5424 6.2.1.
const FACILITIES: [&str; 24] = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "security",
    "console",
    "solaris-cron",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];

/// What the options come to.
#[derive(Debug)]
pub struct Syslog {
    pub address: Address,
    pub facility: u8,
    pub layout: SyslogLayout,
}

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The host's own.
    Own,
    /// A Unix socket of streams.
    Stream(PathBuf),
    /// A Unix socket of datagrams.
    Datagrams(PathBuf),
    /// A port.
    Udp(String, u16),
    /// A port.
    Tcp(String, u16),
}

impl Syslog {
    pub fn of(options: &Options<'_>) -> Result<Self, String> {
        Ok(Self {
            address: options.get(ADDRESS).map_or(Ok(Address::Own), Address::parse)?,
            facility: options.get("syslog-facility").map_or(Ok(3), facility)?,
            layout: options.get("syslog-format").map_or(Ok(SyslogLayout::Unix), layout)?,
        })
    }
}

/// By its name, or its number.
fn facility(text: &str) -> Result<u8, String> {
    let number = FACILITIES.iter().position(|name| *name == text).or_else(|| text.parse().ok());
    match number.and_then(|number| u8::try_from(number).ok()) {
        Some(number @ 0..24) => Ok(number),
        _ => Err(format!("syslog-facility={text:?} is none: there are {}", FACILITIES.join(", "))),
    }
}

fn layout(text: &str) -> Result<SyslogLayout, String> {
    match text {
        "rfc3164" => Ok(SyslogLayout::Rfc3164),
        "rfc5424" => Ok(SyslogLayout::Rfc5424),
        "rfc5424micro" => Ok(SyslogLayout::Rfc5424Micro),
        _ => Err(format!("syslog-format={text:?} is none: there are rfc3164, rfc5424, rfc5424micro")),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("the syslog of the host"),
            Self::Stream(path) => write!(f, "unix://{}", path.display()),
            Self::Datagrams(path) => write!(f, "unixgram://{}", path.display()),
            Self::Udp(host, port) => write!(f, "udp://{host}:{port}"),
            Self::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
        }
    }
}

impl Address {
    /// Parses "udp://host:port" and its like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("{ADDRESS}={text:?} {why}: tcp://HOST[:PORT], udp://HOST[:PORT], unix:///PATH or unixgram:///PATH")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("is no address"))?;
        let path = || match Path::new(rest) {
            path if path.is_absolute() && !rest.contains('\0') && rest.len() < 108 => Ok(path.to_owned()),
            _ => Err(wrong("has no absolute path that a socket can have")),
        };
        match scheme {
            "unix" => path().map(Self::Stream),
            "unixgram" => path().map(Self::Datagrams),
            "udp" => port(rest).map(|(host, port)| Self::Udp(host, port)).ok_or_else(|| wrong("has no host and port")),
            "tcp" => port(rest).map(|(host, port)| Self::Tcp(host, port)).ok_or_else(|| wrong("has no host and port")),
            "tcp+tls" => Err(format!(
                "{ADDRESS}={text:?}: logs are not sent over TLS. Send them to a server of syslog on this host, which can pass \
                 them on"
            )),
            _ => Err(wrong("has a scheme that is none of these")),
        }
    }

    /// The place of the host that it leads to, but for what is there for everybody.
    pub fn reach(&self) -> Option<Reach> {
        match self {
            Self::Own => None,
            Self::Stream(path) | Self::Datagrams(path) => Some(Reach::Socket(path.clone())),
            Self::Udp(host, port) | Self::Tcp(host, port) => Some(Reach::Network(format!("{host}:{port}"))),
        }
    }

    /// Looks names up: a monitor does not.
    pub fn resolve(&self) -> io::Result<ReceiverAddress> {
        match self {
            Self::Own => Ok(own()),
            Self::Stream(path) => Ok(ReceiverAddress::Stream { path: path.clone() }),
            Self::Datagrams(path) => Ok(ReceiverAddress::Datagrams { path: path.clone() }),
            Self::Udp(host, port) => look_up(host, *port).map(|address| ReceiverAddress::Udp { address }),
            Self::Tcp(host, port) => look_up(host, *port).map(|address| ReceiverAddress::Tcp { address }),
        }
    }
}

/// Where the host's own listens; the usual place, where nothing does.
fn own() -> ReceiverAddress {
    let there = OWN.into_iter().find(|path| Path::new(path).exists());
    ReceiverAddress::Datagrams { path: there.unwrap_or(OWN[0]).into() }
}

fn look_up(host: &str, port: u16) -> io::Result<String> {
    let first = (host, port).to_socket_addrs()?.next();
    first.map(|address| address.to_string()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// "host:port", "[::1]:port", with either left out.
fn port(text: &str) -> Option<(String, u16)> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_' | ':');
    if !host.chars().all(is_name) || text.is_empty() {
        return None;
    }
    let host = if host.is_empty() { "localhost" } else { host };
    let port = port.map_or(Some(PORT), |port| port.parse().ok()).filter(|port| *port != 0)?;
    Some((host.to_owned(), port))
}
