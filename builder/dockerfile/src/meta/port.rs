//! One word of `EXPOSE`: `[[address:]host-port:]port[-port][/protocol]`. What concerns the host is checked and has no
//! effect.

use std::net::IpAddr;

use super::MetaError;

/// The ports that one word exposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port; the first if there is no range.
    pub last: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// An address or host port was written before the port; it has no effect and deserves a warning.
    pub has_host_part: bool,
    /// The protocol was not written in lower case, which deserves a warning.
    pub has_capitals: bool,
}

impl PortRange {
    /// The keys of `ExposedPorts` in an image config: `80/tcp`, one per port.
    pub fn keys(&self) -> impl Iterator<Item = String> + '_ {
        (self.first..=self.last).map(|port| format!("{port}/{}", self.protocol))
    }
}

/// Parses one word, variables expanded.
pub fn parse_port(text: &str) -> Result<PortRange, MetaError> {
    let error = || MetaError::Port { text: text.to_owned() };
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host_port = parts.next().unwrap_or_default();
    let address = parts.next().unwrap_or_default();
    let (ports, written) = container.split_once('/').unwrap_or((container, ""));
    if ports.is_empty() {
        return Err(error());
    }
    let protocol = protocol(text, written)?;
    check_address(text, address)?;
    let (first, last) = range(text, ports)?;
    if !host_port.is_empty() {
        let (host_first, host_last) = range(text, host_port)?;
        if first != last && host_last - host_first != last - first {
            return Err(MetaError::Ranges { text: text.to_owned() });
        }
    }
    let has_host_part = !address.is_empty() || !host_port.is_empty();
    let has_capitals = written != written.to_lowercase();
    Ok(PortRange { first, last, protocol, has_host_part, has_capitals })
}

fn protocol(text: &str, written: &str) -> Result<&'static str, MetaError> {
    let lower = if written.is_empty() { "tcp".to_owned() } else { written.to_lowercase() };
    let known = ["tcp", "udp", "sctp"].into_iter().find(|known| *known == lower);
    known.ok_or_else(|| MetaError::Protocol { text: text.to_owned(), protocol: written.to_owned() })
}

fn check_address(text: &str, address: &str) -> Result<(), MetaError> {
    let plain = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match address.is_empty() || plain.parse::<IpAddr>().is_ok() {
        true => Ok(()),
        false => Err(MetaError::Address { text: text.to_owned(), address: address.to_owned() }),
    }
}

fn range(text: &str, ports: &str) -> Result<(u16, u16), MetaError> {
    // A sign is what Go's ParseInt takes, too.
    let number = |digits: &str| digits.parse::<u16>().map_err(|_| MetaError::Port { text: text.to_owned() });
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (number(first)?, number(last)?);
    match last < first {
        true => Err(MetaError::PortRange { text: text.to_owned() }),
        false => Ok((first, last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        parse_port(text).unwrap_or_else(|error| panic!("{error}")).keys().collect()
    }

    #[test]
    fn ports_have_ranges_and_protocols() {
        let cases: &[(&str, &[&str])] = &[
            ("80", &["80/tcp"]),
            ("0", &["0/tcp"]),
            ("65535", &["65535/tcp"]),
            ("080", &["80/tcp"]),
            ("53/UDP", &["53/udp"]),
            ("80/", &["80/tcp"]),
            ("80-80", &["80/tcp"]),
            ("8000-8002/sctp", &["8000/sctp", "8001/sctp", "8002/sctp"]),
            ("90:80", &["80/tcp"]),
            ("127.0.0.1:90:80/udp", &["80/udp"]),
            ("127.0.0.1::80", &["80/tcp"]),
            ("[::1]:90:80", &["80/tcp"]),
            ("::1:90:80", &["80/tcp"]),
            ("90-99:80", &["80/tcp"]),
            ("90-91:80-81", &["80/tcp", "81/tcp"]),
        ];
        for (text, expected) in cases {
            assert_eq!(keys(text), *expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in
            ["", "x", "65536", "80-", "-80", "-1", "80/tcp/udp", "80/icmp", "9-8", "8 0", "/tcp", "1.5", ":", "a:80"]
        {
            assert!(parse_port(text).is_err(), "{text}");
        }
        assert!(matches!(parse_port("example.org:1:2"), Err(MetaError::Address { .. })));
        assert!(matches!(parse_port("1-3:7-8"), Err(MetaError::Ranges { .. })));
    }

    #[test]
    fn what_deserves_a_warning_is_told() {
        let told = |text: &str| parse_port(text).map(|range| (range.has_host_part, range.has_capitals));
        assert_eq!(told("80/tcp"), Ok((false, false)));
        assert_eq!(told("80/Tcp"), Ok((false, true)));
        assert_eq!(told("8080:80"), Ok((true, false)));
        assert_eq!(told("127.0.0.1:8080:80/UDP"), Ok((true, true)));
    }
}
