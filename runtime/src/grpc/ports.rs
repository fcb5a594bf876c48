//! Ports from the wire and back. What comes in is checked here, once.

use std::net::IpAddr;

use strata_net::Published;
use strata_proto::runtime::v1 as wire;
use strata_types::{Port, PortBinding, PortRange, Protocol};

use crate::{error::Error, spec::Ports};

/// The most ports of one container: each is a socket or two, and an element of a map.
const MOST: usize = 4096;

/// Takes the ports out of a spec.
pub fn ports(spec: &mut wire::ContainerSpec) -> Result<Ports, Error> {
    let exposed = std::mem::take(&mut spec.exposed_ports);
    if exposed.len() > MOST {
        return Err(Error::argument("spec.exposed_ports", format!("there are more than {MOST}")));
    }
    let mut exposed: Vec<Port> =
        exposed.into_iter().map(|one| port("spec.exposed_ports", Some(one))).collect::<Result<_, _>>()?;
    exposed.sort_unstable();
    exposed.dedup();
    let bindings = bindings("spec.port_bindings", std::mem::take(&mut spec.port_bindings))?;
    Ok(Ports { bindings, exposed, publishes_all: spec.publishes_all_ports })
}

/// Parses what shall be published; what is said twice is said once.
pub fn bindings(field: &'static str, messages: Vec<wire::PortBinding>) -> Result<Vec<PortBinding>, Error> {
    if messages.len() > MOST {
        return Err(Error::argument(field, format!("there are more than {MOST}")));
    }
    let mut bindings = Vec::new();
    for message in messages {
        let binding = binding(field, message)?;
        // Two that leave the host's port open are two ports.
        if binding.host.is_none() || !bindings.contains(&binding) {
            bindings.push(binding);
        }
    }
    Ok(bindings)
}

/// The same, one at least.
pub fn some_bindings(field: &'static str, messages: Vec<wire::PortBinding>) -> Result<Vec<PortBinding>, Error> {
    if messages.is_empty() { Err(Error::argument(field, "there is none")) } else { bindings(field, messages) }
}

fn binding(field: &'static str, message: wire::PortBinding) -> Result<PortBinding, Error> {
    let wrong = |problem: String| Error::argument(field, problem);
    let port = port(field, message.port)?;
    let address = match message.host_address.as_str() {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| wrong(format!("{text:?} is no address")))?),
    };
    if address.is_some_and(|address| address.is_multicast() || is_link_local(address)) {
        return Err(wrong(format!("{} is no address to publish ports on", message.host_address)));
    }
    let host = match (message.first_host_port, message.last_host_port) {
        (0, 0) => None,
        (first, 0) => Some(PortRange::of(number(field, first)?)),
        (first, last) if first <= last => Some(PortRange { first: number(field, first)?, last: number(field, last)? }),
        (first, last) => return Err(wrong(format!("the first port, {first}, is above the last one, {last}"))),
    };
    Ok(PortBinding { port, address, host })
}

/// Such an address means something beside the name of an interface only.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn port(field: &'static str, message: Option<wire::Port>) -> Result<Port, Error> {
    let message = message.ok_or_else(|| Error::argument(field, "the port of a container is missing"))?;
    let protocol = match wire::PortProtocol::try_from(message.protocol) {
        Ok(wire::PortProtocol::Unspecified | wire::PortProtocol::Tcp) => Protocol::Tcp,
        Ok(wire::PortProtocol::Udp) => Protocol::Udp,
        Ok(wire::PortProtocol::Sctp) => Protocol::Sctp,
        Err(_) => return Err(Error::argument(field, format!("there is no protocol {}", message.protocol))),
    };
    Ok(Port { number: number(field, message.number)?, protocol })
}

fn number(field: &'static str, number: u32) -> Result<u16, Error> {
    let found = u16::try_from(number).ok().filter(|number| *number != 0);
    found.ok_or_else(|| Error::argument(field, format!("{number} is no port: they go from 1 to 65535")))
}

/// A port as the wire shows it.
pub fn wire_port(port: &Port) -> wire::Port {
    let protocol = match port.protocol {
        Protocol::Tcp => wire::PortProtocol::Tcp,
        Protocol::Udp => wire::PortProtocol::Udp,
        Protocol::Sctp => wire::PortProtocol::Sctp,
    };
    wire::Port { number: port.number.into(), protocol: protocol.into() }
}

/// What shall be published, as the wire shows it.
pub fn wire_binding(binding: &PortBinding) -> wire::PortBinding {
    let range = binding.host.filter(|range| range.first != range.last);
    wire::PortBinding {
        port: Some(wire_port(&binding.port)),
        host_address: binding.address.map_or_else(String::new, |address| address.to_string()),
        first_host_port: binding.host.map_or(0, |range| range.first.into()),
        last_host_port: range.map_or(0, |range| range.last.into()),
    }
}

/// What is published, as the wire shows it.
pub fn wire_published(published: &Published) -> wire::PublishedPort {
    wire::PublishedPort {
        port: Some(wire_port(&published.port)),
        host_address: published.address.to_string(),
        host_port: published.host_port.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(change: impl FnOnce(&mut wire::PortBinding)) -> wire::PortBinding {
        let port = Some(wire::Port { number: 80, protocol: wire::PortProtocol::Udp.into() });
        let mut message =
            wire::PortBinding { port, host_address: "127.0.0.1".into(), first_host_port: 8000, last_host_port: 8010 };
        change(&mut message);
        message
    }

    #[test]
    fn a_binding_is_shown_as_it_came() {
        for message in [
            message(|_| {}),
            message(|message| message.last_host_port = 0),
            message(|message| (message.first_host_port, message.last_host_port) = (0, 0)),
            message(|message| message.host_address = "::1".into()),
            message(|message| message.host_address.clear()),
        ] {
            assert_eq!(wire_binding(&binding("x", message.clone()).unwrap()), message);
        }
    }

    #[test]
    fn what_is_no_port_or_address_is_refused() {
        for wrong in [
            message(|message| message.port = None),
            message(|message| message.port = Some(wire::Port { number: 0, protocol: 0 })),
            message(|message| message.port = Some(wire::Port { number: 65536, protocol: 0 })),
            message(|message| message.port = Some(wire::Port { number: 80, protocol: 9 })),
            message(|message| message.host_address = "localhost".into()),
            message(|message| message.host_address = "224.0.0.1".into()),
            message(|message| message.host_address = "fe80::1".into()),
            message(|message| message.first_host_port = 0),
            message(|message| message.first_host_port = 8011),
            message(|message| message.last_host_port = 65536),
        ] {
            assert!(binding("x", wrong.clone()).is_err(), "{wrong:?}");
        }
        assert!(bindings("x", vec![message(|_| {}); MOST + 1]).is_err());
    }

    #[test]
    fn what_is_said_twice_is_published_once() {
        let fixed = message(|message| message.last_host_port = 0);
        let open = message(|message| (message.first_host_port, message.last_host_port) = (0, 0));
        let all = bindings("x", vec![fixed.clone(), fixed, open.clone(), open]).unwrap();
        assert_eq!(all.len(), 3);
    }
}
