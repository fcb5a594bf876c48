//! Ports of containers, and where on the host they are published: what `--expose` and `-p` say.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Invalid;

const RANGE_RULE: &str = "a port is a number from 1 to 65535, a range two of them: \"8000-8010\"";

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// Its number: IPPROTO_TCP and its like.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_it = |protocol: &Self| text.eq_ignore_ascii_case(protocol.as_str());
        let found = [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(is_it);
        found.ok_or_else(|| Invalid::new("protocol", text, "tcp, udp and sctp have ports"))
    }
}

/// A port of a container, "80/tcp". Without a protocol it is TCP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Port {
    /// Its number, not 0.
    pub number: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl Port {
    /// Parses what `--expose` says, "80", "80/udp", "80-90/tcp": one port, or several.
    pub fn parse_range(text: &str) -> Result<Vec<Self>, Invalid> {
        let (numbers, protocol) = split_protocol(text)?;
        let range: PortRange = numbers.parse()?;
        Ok(range.numbers().map(|number| Self { number, protocol }).collect())
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl FromStr for Port {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (numbers, protocol) = split_protocol(text)?;
        Ok(Self { number: number(numbers)?, protocol })
    }
}

impl TryFrom<String> for Port {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Port> for String {
    fn from(port: Port) -> Self {
        port.to_string()
    }
}

/// Ports one after the other, "8000-8010", or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// The first, not 0.
    pub first: u16,
    /// The last, not below the first.
    pub last: u16,
}

impl PortRange {
    /// A single port.
    pub fn of(number: u16) -> Self {
        Self { first: number, last: number }
    }

    /// Its ports.
    pub fn numbers(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }

    /// How many there are.
    pub fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl FromStr for PortRange {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self { first: number(first)?, last: number(last)? };
        match range.first <= range.last {
            true => Ok(range),
            false => Err(Invalid::new("port range", text, "its first port is above its last one")),
        }
    }
}

/// A port of a container, and where on the host it shall be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortBinding {
    /// The port of the container.
    pub port: Port,
    /// Address of the host. Absent: as the network, else the runtime, is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Ports of the host: the first of them that is free. Absent: a free one is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<PortRange>,
}

impl PortBinding {
    /// Parses what `-p` says: `[address:][port[-port]:]port[-port][/protocol]`, with an IPv6 address in brackets; or
    /// `target=80,published=8080,protocol=tcp`. Two ranges are as many bindings as they have ports; a range of the
    /// host for a single port of the container is one binding.
    pub fn parse(text: &str) -> Result<Vec<Self>, Invalid> {
        if text.contains('=') {
            return Self::parse_keys(text);
        }
        let (all, protocol) = split_protocol(text)?;
        let (address, ports) = split_address(text, all)?;
        let (host, container) = match ports.rsplit_once(':') {
            Some((host, container)) => (host, container),
            None => ("", ports),
        };
        Self::of_ranges(text, address, host, container, protocol)
    }

    fn parse_keys(text: &str) -> Result<Vec<Self>, Invalid> {
        let wrong = |rule| Invalid::new("port", text, rule);
        let (mut host, mut container, mut protocol) = ("", "", Protocol::Tcp);
        for pair in text.split(',') {
            match pair.split_once('=').ok_or_else(|| wrong("a key has no value"))? {
                ("target", value) => container = value,
                ("published", value) => host = value,
                ("protocol", value) => protocol = value.parse()?,
                // There is one way only.
                ("mode", "host" | "ingress") => {}
                _ => return Err(wrong("the keys are target, published, protocol and mode")),
            }
        }
        Self::of_ranges(text, None, host, container, protocol)
    }

    fn of_ranges(
        text: &str,
        address: Option<IpAddr>,
        host: &str,
        container: &str,
        protocol: Protocol,
    ) -> Result<Vec<Self>, Invalid> {
        let container: PortRange = container.parse().map_err(|_| Invalid::new("port", text, RANGE_RULE))?;
        let host = match host {
            "" | "0" => None,
            host => Some(host.parse::<PortRange>().map_err(|_| Invalid::new("port", text, RANGE_RULE))?),
        };
        let binding = |number, host| Self { port: Port { number, protocol }, address, host };
        match host {
            None => Ok(container.numbers().map(|number| binding(number, None)).collect()),
            Some(host) if container.count() == 1 => Ok(vec![binding(container.first, Some(host))]),
            Some(host) if container.count() == host.count() => {
                let pairs = container.numbers().zip(host.numbers());
                Ok(pairs.map(|(number, host)| binding(number, Some(PortRange::of(host)))).collect())
            }
            Some(_) => Err(Invalid::new("port", text, "its two ranges have different lengths")),
        }
    }
}

impl fmt::Display for PortBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(address) => write!(f, "{address}:")?,
            None => {}
        }
        match self.host {
            Some(host) => write!(f, "{host}:")?,
            None if self.address.is_some() => f.write_str(":")?,
            None => {}
        }
        write!(f, "{}", self.port)
    }
}

fn number(text: &str) -> Result<u16, Invalid> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| is_number && *number != 0);
    number.ok_or_else(|| Invalid::new("port", text, RANGE_RULE))
}

/// What is before "/tcp", and the protocol.
fn split_protocol(text: &str) -> Result<(&str, Protocol), Invalid> {
    match text.split_once('/') {
        Some((ports, protocol)) => Ok((ports, protocol.parse()?)),
        None => Ok((text, Protocol::Tcp)),
    }
}

/// The address before the ports, if there is one.
fn split_address<'a>(text: &str, all: &'a str) -> Result<(Option<IpAddr>, &'a str), Invalid> {
    let wrong = |rule| Invalid::new("port", text, rule);
    let none = "what is before the ports is no address";
    if let Some(rest) = all.strip_prefix('[') {
        let (address, ports) = rest.split_once("]:").ok_or_else(|| wrong("a \"]:\" is missing"))?;
        let address = address.parse().ok().filter(IpAddr::is_ipv6).ok_or_else(|| wrong(none))?;
        return match ports.matches(':').count() {
            1 => Ok((Some(address), ports)),
            _ => Err(wrong("after an address there are two ports, and the first may be empty")),
        };
    }
    match all.matches(':').count() {
        0 | 1 => Ok((None, all)),
        2 => {
            let (address, ports) = all.split_once(':').expect("it has two");
            // ":80:80" has none.
            let address = match address {
                "" => None,
                text => Some(text.parse().map_err(|_| wrong(none))?),
            };
            Ok((address, ports))
        }
        _ => Err(wrong("an address of IPv6 is in brackets, \"[::1]:8080:80\"")),
    }
}

#[cfg(test)]
mod tests;
