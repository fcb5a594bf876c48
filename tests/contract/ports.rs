//! Ports of the host that lead to containers.

use strata_proto::runtime::v1::*;
use tonic::{Code, transport::Channel};

use crate::{
    containers::{create, get, guest, import_guest, remove, start},
    faults::{malformed, refused},
    node::{Node, RUNNING},
};

over_both! { RUNNING;
    ports_are_published_while_a_container_runs,
    ports_of_a_running_container_are_published_and_closed,
    malformed_ports_name_the_field,
    a_port_that_cannot_be_had_is_refused_by_its_reason,
}

fn networks(node: &Node) -> network_service_client::NetworkServiceClient<Channel> {
    network_service_client::NetworkServiceClient::new(node.channel("runtime"))
}

/// A network with a subnet that no other test has: tests of one process run side by side on one host.
async fn network(node: &Node) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let subnet = format!("10.{}.{}.0/24", 200 + std::process::id() % 50, number % 256);
    let pools = vec![NetworkPool { subnet, ..Default::default() }];
    let spec = Some(NetworkSpec { name: "ports".into(), pools, ..Default::default() });
    networks(node).create_network(CreateNetworkRequest { spec }).await.unwrap();
    "ports".into()
}

async fn end(node: &Node, containers: &[&str]) {
    for container in containers {
        remove(node, container).await;
    }
    let request = DeleteNetworkRequest { network: "ports".into(), allow_missing: false };
    networks(node).delete_network(request).await.unwrap();
}

fn port(number: u32, protocol: PortProtocol) -> Port {
    Port { number, protocol: protocol.into() }
}

/// A free port of 127.0.0.1 that leads to one of a container.
fn binding(number: u32) -> PortBinding {
    PortBinding {
        port: Some(port(number, PortProtocol::Tcp)),
        host_address: "127.0.0.1".into(),
        first_host_port: 0,
        last_host_port: 0,
    }
}

fn spec(network: &str, port_bindings: Vec<PortBinding>) -> ContainerSpec {
    let networks = vec![NetworkAttachment { network: network.into(), ..Default::default() }];
    ContainerSpec { network: NetworkMode::Networks.into(), networks, port_bindings, ..guest(&["sleep", "300"]) }
}

async fn ports_are_published_while_a_container_runs(node: &Node) {
    import_guest(node).await;
    let network = network(node).await;
    let exposed_ports = vec![port(80, PortProtocol::Tcp), port(53, PortProtocol::Udp)];
    let wish = ContainerSpec { exposed_ports: exposed_ports.clone(), ..spec(&network, vec![binding(80)]) };
    let container = create(node, wish).await.unwrap();
    let made = container.spec.unwrap();
    assert_eq!(made.port_bindings, [binding(80)]);
    assert_eq!(made.exposed_ports, [port(53, PortProtocol::Udp), port(80, PortProtocol::Tcp)]);
    assert!(container.published_ports.is_empty());

    let running = start(node, &container.id).await.unwrap();

    let [published] = running.published_ports.as_slice() else { panic!("{:?}", running.published_ports) };
    assert_eq!((published.port, published.host_address.as_str()), (Some(port(80, PortProtocol::Tcp)), "127.0.0.1"));
    assert!(published.host_port > 0);
    assert_eq!(get(node, &container.id).await.unwrap().published_ports, running.published_ports);
    end(node, &[&container.id]).await;
}

async fn ports_of_a_running_container_are_published_and_closed(node: &Node) {
    import_guest(node).await;
    let network = network(node).await;
    let container = create(node, spec(&network, vec![])).await.unwrap();
    let publish = |bindings| PublishPortsRequest { container: container.id.clone(), bindings };
    let unpublish = |bindings| UnpublishPortsRequest { container: container.id.clone(), bindings };
    let early = networks(node).publish_ports(publish(vec![binding(79)])).await.unwrap().into_inner();
    assert!(early.published_ports.is_empty());
    let running = start(node, &container.id).await.unwrap();
    assert_eq!(running.published_ports.len(), 1);

    let more = networks(node).publish_ports(publish(vec![binding(80), binding(81)])).await.unwrap().into_inner();

    assert_eq!(more.published_ports.len(), 2);
    let now = get(node, &container.id).await.unwrap();
    assert_eq!(now.published_ports, [running.published_ports.clone(), more.published_ports.clone()].concat());
    assert_eq!(now.spec.unwrap().port_bindings, [binding(79), binding(80), binding(81)]);
    // As it is seen, with the port that was chosen.
    let seen = PortBinding { first_host_port: more.published_ports[0].host_port, ..binding(80) };
    let both = networks(node).unpublish_ports(unpublish(vec![seen.clone(), binding(82)])).await;
    refused(both, Code::FailedPrecondition, "FAULT_PORT_NOT_PUBLISHED");
    assert_eq!(get(node, &container.id).await.unwrap().published_ports.len(), 3, "all of them or none");
    let closed = networks(node).unpublish_ports(unpublish(vec![seen])).await.unwrap().into_inner();
    assert_eq!(closed.closed_ports, more.published_ports[..1]);
    let now = get(node, &container.id).await.unwrap();
    assert_eq!(now.spec.unwrap().port_bindings, [binding(79), binding(81)]);
    malformed(networks(node).publish_ports(publish(vec![PortBinding::default()])).await, "bindings");
    malformed(networks(node).unpublish_ports(unpublish(vec![])).await, "bindings");
    let nobody = PublishPortsRequest { container: "nobody".into(), bindings: vec![binding(80)] };
    refused(networks(node).publish_ports(nobody).await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND");
    end(node, &[&container.id]).await;
    let alone = create(node, guest(&["noop"])).await.unwrap();
    let wrong = PublishPortsRequest { container: alone.id.clone(), bindings: vec![binding(80)] };
    refused(networks(node).publish_ports(wrong).await, Code::FailedPrecondition, "FAULT_NETWORK_MODE");
    remove(node, &alone.id).await;
}

async fn malformed_ports_name_the_field(node: &Node) {
    import_guest(node).await;
    let wrong = |change: fn(&mut PortBinding)| {
        let mut binding = binding(80);
        change(&mut binding);
        spec("bridge", vec![binding])
    };
    for (field, wish) in [
        ("spec.port_bindings", wrong(|one| one.port = None)),
        ("spec.port_bindings", wrong(|one| one.port = Some(port(0, PortProtocol::Tcp)))),
        ("spec.port_bindings", wrong(|one| one.port = Some(Port { number: 80, protocol: 99 }))),
        ("spec.port_bindings", wrong(|one| one.host_address = "localhost".into())),
        ("spec.port_bindings", wrong(|one| one.first_host_port = 65536)),
        ("spec.port_bindings", wrong(|one| one.last_host_port = 80)),
        ("spec.port_bindings", spec("bridge", vec![binding(80); 4097])),
        ("spec.exposed_ports", ContainerSpec { exposed_ports: vec![Port::default()], ..guest(&["noop"]) }),
        // The node's default is no network.
        ("spec.port_bindings", ContainerSpec { port_bindings: vec![binding(80)], ..guest(&["noop"]) }),
    ] {
        malformed(create(node, wish).await, field);
    }
}

async fn a_port_that_cannot_be_had_is_refused_by_its_reason(node: &Node) {
    import_guest(node).await;
    let network = network(node).await;
    let first = create(node, spec(&network, vec![binding(80)])).await.unwrap();
    let taken = start(node, &first.id).await.unwrap().published_ports[0].host_port;
    let mine = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let own = u32::from(mine.local_addr().unwrap().port());
    let at =
        |address: &str, number| PortBinding { host_address: address.into(), first_host_port: number, ..binding(80) };
    for (binding, reason, key, value) in [
        (at("127.0.0.1", taken), "FAULT_PORT_IN_USE", "holder", format!("container {}", first.name)),
        (at("127.0.0.1", own), "FAULT_PORT_IN_USE", "port", format!("{own}/tcp")),
        (at("192.0.2.77", 80), "FAULT_PORT_ADDRESS", "address", "192.0.2.77".into()),
    ] {
        let container = create(node, spec(&network, vec![binding])).await.unwrap();
        refused(start(node, &container.id).await, Code::FailedPrecondition, reason).fact(key, &value);
        remove(node, &container.id).await;
    }
    end(node, &[&first.id]).await;
}
