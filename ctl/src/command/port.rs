//! `ctl port`; and ports of containers as people type and see them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};
use strata_proto::runtime::v1 as pb;
use strata_types::{Port, PortBinding, Protocol};

use crate::args::{self, ContainerPorts, Publish, Unpublish};
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render;

/// A port of the host that leads to one of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Published {
    port: Port,
    host: SocketAddr,
}

/// Prints where the ports of a container are reached, or one of them.
pub async fn run(platform: &Platform, args: &args::Port) -> Result<u8> {
    let request = pb::GetContainerRequest { container: args.container.clone() };
    let reply = platform.containers().await?.all.get_container(request).await?.into_inner();
    let container = reply.container.ok_or_else(|| super::incomplete("a container"))?;
    let all = published(&container);
    let Some(text) = &args.port else {
        all.iter().try_for_each(|one| render::line(format!("{} -> {}", one.port, one.host)))?;
        return Ok(0);
    };
    let port: Port = text.parse().map_err(|invalid: strata_types::Invalid| Error::usage(invalid.to_string()))?;
    let own: Vec<&Published> = all.iter().filter(|one| one.port == port).collect();
    if own.is_empty() {
        return Err(Error::new(format!("port {port} of {} is not published", args.container)));
    }
    own.iter().try_for_each(|one| render::line(one.host))?;
    Ok(0)
}

/// Publishes ports of a container, and prints where they are reached now; or closes them.
pub async fn publish(platform: &Platform, args: &Publish) -> Result<u8> {
    if args.rm {
        return close(platform, &args.container, &args.ports).await;
    }
    let request = pb::PublishPortsRequest { container: args.container.clone(), bindings: bindings(&args.ports)? };
    let reply = platform.networks().await?.publish_ports(request).await?.into_inner();
    let container = pb::Container { published_ports: reply.published_ports, ..Default::default() };
    published(&container).iter().try_for_each(|one| render::line(format!("{} -> {}", one.port, one.host)))?;
    Ok(0)
}

/// Closes published ports of a container.
pub async fn unpublish(platform: &Platform, args: &Unpublish) -> Result<u8> {
    close(platform, &args.container, &args.ports).await
}

async fn close(platform: &Platform, container: &str, ports: &[String]) -> Result<u8> {
    let request = pb::UnpublishPortsRequest { container: container.to_owned(), bindings: bindings(ports)? };
    platform.networks().await?.unpublish_ports(request).await?;
    Ok(0)
}

/// Puts what the flags say into a spec.
pub fn of_container(args: &ContainerPorts, spec: &mut pb::ContainerSpec) -> Result<()> {
    let wrong = |invalid: strata_types::Invalid| Error::usage(invalid.to_string());
    spec.port_bindings = bindings(&args.publish)?;
    for text in &args.expose {
        spec.exposed_ports.extend(Port::parse_range(text).map_err(wrong)?.iter().map(wire_port));
    }
    spec.publishes_all_ports = args.publish_all;
    Ok(())
}

/// What shall be published.
pub fn bindings(texts: &[String]) -> Result<Vec<pb::PortBinding>> {
    let mut bindings = Vec::new();
    for text in texts {
        let parsed = PortBinding::parse(text).map_err(|invalid| Error::usage(invalid.to_string()))?;
        bindings.extend(parsed.iter().map(wire_binding));
    }
    Ok(bindings)
}

fn wire_port(port: &Port) -> pb::Port {
    let protocol = match port.protocol {
        Protocol::Tcp => pb::PortProtocol::Tcp,
        Protocol::Udp => pb::PortProtocol::Udp,
        Protocol::Sctp => pb::PortProtocol::Sctp,
    };
    pb::Port { number: port.number.into(), protocol: protocol.into() }
}

fn wire_binding(binding: &PortBinding) -> pb::PortBinding {
    let range = binding.host.filter(|range| range.first != range.last);
    pb::PortBinding {
        port: Some(wire_port(&binding.port)),
        host_address: binding.address.map_or_else(String::new, |address| address.to_string()),
        first_host_port: binding.host.map_or(0, |range| range.first.into()),
        last_host_port: range.map_or(0, |range| range.last.into()),
    }
}

/// None: a later version of the runtime has something that this one does not know.
fn port(message: Option<&pb::Port>) -> Option<Port> {
    let message = message?;
    let protocol = match message.protocol() {
        pb::PortProtocol::Unspecified | pb::PortProtocol::Tcp => Protocol::Tcp,
        pb::PortProtocol::Udp => Protocol::Udp,
        pb::PortProtocol::Sctp => Protocol::Sctp,
    };
    Some(Port { number: u16::try_from(message.number).ok()?, protocol })
}

/// Ports by number, then protocol, then address: those of IPv4 first.
fn published(container: &pb::Container) -> Vec<Published> {
    let one = |message: &pb::PublishedPort| {
        let address: IpAddr = message.host_address.parse().ok()?;
        let host = SocketAddr::new(address, u16::try_from(message.host_port).ok()?);
        Some(Published { port: port(message.port.as_ref())?, host })
    };
    let mut all: Vec<Published> = container.published_ports.iter().filter_map(one).collect();
    all.sort_unstable();
    all
}

/// Ports that a container is said to listen on: those that shall be published, too.
pub fn exposed(spec: &pb::ContainerSpec) -> Vec<Port> {
    let bound = spec.port_bindings.iter().filter_map(|binding| port(binding.port.as_ref()));
    let mut all: Vec<Port> = spec.exposed_ports.iter().filter_map(|one| port(Some(one))).chain(bound).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Ports of a container that shall be reached from the host, or are.
pub fn bound(container: &pb::Container) -> Vec<Port> {
    let bindings = container.spec.iter().flat_map(|spec| &spec.port_bindings);
    let bindings = bindings.filter_map(|binding| port(binding.port.as_ref()));
    bindings.chain(published(container).into_iter().map(|one| one.port)).collect()
}

/// The column PORTS: "0.0.0.0:8080-8082->80-82/tcp, [::]:8080-8082->80-82/tcp, 90/udp".
pub fn column(container: &pb::Container) -> String {
    if !super::ps::is_up(container) {
        return String::new();
    }
    let all = published(container);
    let spec = container.spec.clone().unwrap_or_default();
    let is_open = |port: &Port| !all.iter().any(|one| one.port == *port);
    let mut ranges: Vec<Range> = Vec::new();
    for one in &all {
        add(&mut ranges, one.port, Some(one.host));
    }
    for port in exposed(&spec).into_iter().filter(is_open) {
        add(&mut ranges, port, None);
    }
    ranges.sort_by_key(|range| (range.first.number, range.first.protocol));
    ranges.iter().map(Range::to_string).collect::<Vec<_>>().join(", ")
}

/// Ports one after the other, that lead from ports one after the other.
struct Range {
    first: Port,
    last: u16,
    host: Option<SocketAddr>,
}

fn add(ranges: &mut Vec<Range>, port: Port, host: Option<SocketAddr>) {
    let follows = |range: &&mut Range| {
        let distance = port.number.wrapping_sub(range.first.number);
        let host_follows = match (range.host, host) {
            (Some(one), Some(two)) => one.ip() == two.ip() && one.port().checked_add(distance) == Some(two.port()),
            (one, two) => one == two,
        };
        range.first.protocol == port.protocol && range.last.checked_add(1) == Some(port.number) && host_follows
    };
    match ranges.iter_mut().find(follows) {
        Some(range) => range.last = port.number,
        None => ranges.push(Range { first: port, last: port.number, host }),
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, last) = (self.first.number, self.last);
        let numbers = |first: u16, last: u16| if first == last { String::new() } else { format!("-{last}") };
        if let Some(host) = self.host {
            write!(f, "{host}{}->", numbers(host.port(), host.port() + (last - first)))?;
        }
        write!(f, "{first}{}/{}", numbers(first, last), self.first.protocol)
    }
}

/// Docker's `HostConfig.PortBindings`: what was asked for.
pub fn asked(spec: &pb::ContainerSpec) -> Value {
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for binding in &spec.port_bindings {
        let Some(port) = port(binding.port.as_ref()) else { continue };
        let host = match (binding.first_host_port, binding.last_host_port) {
            (0, _) => String::new(),
            (first, 0) => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        all.entry(port.to_string()).or_default().push(json!({"HostIp": binding.host_address, "HostPort": host}));
    }
    json!(all)
}

/// Docker's `Config.ExposedPorts`.
pub fn exposed_keys(spec: &pb::ContainerSpec) -> Value {
    let keys: Map<String, Value> = exposed(spec).iter().map(|port| (port.to_string(), json!({}))).collect();
    if keys.is_empty() { Value::Null } else { Value::Object(keys) }
}

/// Docker's `NetworkSettings.Ports`: what is published now, and what is exposed only.
pub fn settings(container: &pb::Container) -> Value {
    if !super::ps::is_up(container) {
        return json!({});
    }
    let mut all: BTreeMap<String, Option<Vec<Value>>> = BTreeMap::new();
    for port in exposed(&container.spec.clone().unwrap_or_default()) {
        all.insert(port.to_string(), None);
    }
    for one in published(container) {
        let value = json!({"HostIp": one.host.ip().to_string(), "HostPort": one.host.port().to_string()});
        all.entry(one.port.to_string()).or_default().get_or_insert_default().push(value);
    }
    json!(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(publish: &[&str], expose: &[&str], hosts: &[(&str, &str)]) -> pb::Container {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let args = ContainerPorts { publish: texts(publish), publish_all: false, expose: texts(expose) };
        let mut spec = pb::ContainerSpec::default();
        of_container(&args, &mut spec).unwrap();
        let published = |(host, port): &(&str, &str)| {
            let host: SocketAddr = host.parse().unwrap();
            pb::PublishedPort {
                port: Some(wire_port(&port.parse().unwrap())),
                host_address: host.ip().to_string(),
                host_port: host.port().into(),
            }
        };
        pb::Container {
            spec: Some(spec),
            state: pb::ContainerState::Running.into(),
            published_ports: hosts.iter().map(published).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn the_column_is_as_dockers() {
        for (publish, expose, hosts, expected) in [
            (&[][..], &[][..], &[][..], ""),
            (&[], &["80", "90-92/udp", "443"], &[], "80/tcp, 90-92/udp, 443/tcp"),
            (
                &["8080:80"],
                &["80", "443"],
                &[("[::]:8080", "80/tcp"), ("0.0.0.0:8080", "80/tcp")],
                "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 443/tcp",
            ),
            (
                &["8080-8082:80-82"],
                &[],
                &[
                    ("0.0.0.0:8080", "80/tcp"),
                    ("[::]:8080", "80/tcp"),
                    ("0.0.0.0:8081", "81/tcp"),
                    ("[::]:8081", "81/tcp"),
                    ("0.0.0.0:8082", "82/tcp"),
                    ("[::]:8082", "82/tcp"),
                ],
                "0.0.0.0:8080-8082->80-82/tcp, [::]:8080-8082->80-82/tcp",
            ),
            (
                &["8080:80", "127.0.0.1:81:81", "53:53/udp"],
                &[],
                &[("0.0.0.0:8080", "80/tcp"), ("127.0.0.1:81", "81/tcp"), ("0.0.0.0:53", "53/udp")],
                "0.0.0.0:53->53/udp, 0.0.0.0:8080->80/tcp, 127.0.0.1:81->81/tcp",
            ),
        ] {
            assert_eq!(column(&container(publish, expose, hosts)), expected);
        }
        let stopped = pb::Container { state: pb::ContainerState::Exited.into(), ..container(&[], &["80"], &[]) };
        assert_eq!(column(&stopped), "");
    }

    #[test]
    fn inspect_shows_what_was_asked_for_and_what_there_is() {
        let one = container(&["127.0.0.1:8000-8010:80", "53/udp"], &["90"], &[("127.0.0.1:8001", "80/tcp")]);
        let spec = one.spec.as_ref().unwrap();
        assert_eq!(
            asked(spec),
            json!({
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000-8010"}],
                "53/udp": [{"HostIp": "", "HostPort": ""}],
            })
        );
        assert_eq!(exposed_keys(spec), json!({"53/udp": {}, "80/tcp": {}, "90/tcp": {}}));
        assert_eq!(
            settings(&one),
            json!({"53/udp": null, "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8001"}], "90/tcp": null})
        );
    }

    #[test]
    fn what_is_no_port_is_a_mistake_of_usage() {
        let args = |publish: &str, expose: &str| {
            let texts = |text: &str| (!text.is_empty()).then(|| text.to_owned()).into_iter().collect();
            ContainerPorts { publish: texts(publish), publish_all: false, expose: texts(expose) }
        };
        for args in [args("80:", ""), args("a:80", ""), args("", "80:80"), args("", "0")] {
            let error = of_container(&args, &mut pb::ContainerSpec::default()).unwrap_err();
            assert_eq!(error.code, 125, "{args:?}: {}", error.message);
        }
    }
}
