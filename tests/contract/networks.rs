//! NetworkService.

use strata_proto::runtime::v1::{exit_status::Kind, network_service_client::NetworkServiceClient, *};
use tonic::{Code, transport::Channel};

use crate::{
    containers::{create, end, get, guest, import_guest, remove, start},
    faults::{malformed, refused},
    node::{Node, RUNNING},
};

over_both! { RUNNING;
    a_network_is_made_found_listed_and_removed,
    a_container_is_connected_and_disconnected,
    a_container_has_the_network_of_another_one,
    how_names_lead_to_addresses_is_kept_and_done,
    malformed_networks_name_the_field,
    what_cannot_be_is_refused_by_its_reason,
}

fn client(node: &Node) -> NetworkServiceClient<Channel> {
    NetworkServiceClient::new(node.channel("runtime"))
}

/// A subnet that no other test has: tests of one process run side by side on one host.
fn subnet() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("10.{}.{}.0/24", 100 + std::process::id() % 100, number % 256)
}

fn spec(name: &str) -> NetworkSpec {
    let pools = vec![NetworkPool { subnet: subnet(), ..Default::default() }];
    NetworkSpec { name: name.into(), pools, ..Default::default() }
}

async fn make(node: &Node, spec: NetworkSpec) -> Result<Network, tonic::Status> {
    let reply = client(node).create_network(CreateNetworkRequest { spec: Some(spec) }).await?;
    Ok(reply.into_inner().network.unwrap())
}

async fn delete(node: &Node, network: &str) -> Result<String, tonic::Status> {
    let request = DeleteNetworkRequest { network: network.into(), allow_missing: false };
    Ok(client(node).delete_network(request).await?.into_inner().id)
}

async fn a_network_is_made_found_listed_and_removed(node: &Node) {
    let made = make(node, spec("one")).await.unwrap();
    let chosen = made.spec.clone().unwrap();
    assert!(chosen.mtu > 0 && chosen.interface.starts_with("st-") && !chosen.pools[0].gateway.is_empty(), "{made:?}");
    make(node, spec("two")).await.unwrap();

    for name in ["one", &made.id, &made.id[..12]] {
        let request = GetNetworkRequest { network: name.into() };
        assert_eq!(client(node).get_network(request).await.unwrap().into_inner().network.unwrap(), made, "{name}");
    }
    let (mut names, mut page_token) = (vec![], String::new());
    loop {
        let request = ListNetworksRequest { page_size: 1, page_token };
        let page = client(node).list_networks(request).await.unwrap().into_inner();
        names.extend(page.networks.into_iter().map(|network| network.spec.unwrap().name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    names.sort();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(delete(node, "one").await.unwrap(), made.id);
    refused(delete(node, "one").await, Code::NotFound, "FAULT_NETWORK_NOT_FOUND").resource("network", "one");
    let absent = DeleteNetworkRequest { network: "one".into(), allow_missing: true };
    assert_eq!(client(node).delete_network(absent).await.unwrap().into_inner().id, "");
    let pruned = client(node).prune_networks(PruneNetworksRequest::default()).await.unwrap().into_inner();
    assert_eq!(pruned.deleted, ["two"]);
}

async fn a_container_is_connected_and_disconnected(node: &Node) {
    import_guest(node).await;
    make(node, spec("one")).await.unwrap();
    make(node, spec("two")).await.unwrap();
    let to = |network: &str| NetworkAttachment { network: network.into(), ..Default::default() };
    let wish =
        ContainerSpec { network: NetworkMode::Networks.into(), networks: vec![to("one")], ..guest(&["sleep", "300"]) };
    let container = create(node, wish).await.unwrap();
    assert!(container.endpoints.is_empty());
    let connect =
        |network: &str| ConnectContainerRequest { container: container.id.clone(), attachment: Some(to(network)) };
    let disconnect = |network: &str, force| DisconnectContainerRequest {
        container: container.id.clone(),
        network: network.into(),
        force,
    };

    let running = start(node, &container.id).await.unwrap();
    assert_eq!(running.endpoints[0].network_name, "one");
    let endpoint = client(node).connect_container(connect("two")).await.unwrap().into_inner().endpoint.unwrap();
    assert_eq!((endpoint.interface.as_str(), endpoint.is_way_out), ("eth1", false));
    let twice = client(node).connect_container(connect("two")).await;
    refused(twice, Code::AlreadyExists, "FAULT_ALREADY_CONNECTED");
    let shown = client(node).get_network(GetNetworkRequest { network: "two".into() }).await.unwrap().into_inner();
    assert_eq!(shown.network.unwrap().members[0].endpoint.as_ref(), Some(&endpoint));
    refused(delete(node, "two").await, Code::FailedPrecondition, "FAULT_NETWORK_IN_USE");
    client(node).disconnect_container(disconnect("one", false)).await.unwrap();
    let left = get(node, &container.id).await.unwrap().endpoints;
    assert!(left.len() == 1 && left[0].is_way_out, "{left:?}");
    let again = client(node).disconnect_container(disconnect("one", false)).await;
    refused(again, Code::FailedPrecondition, "FAULT_NOT_CONNECTED");
    client(node).disconnect_container(disconnect("one", true)).await.unwrap();
    remove(node, &container.id).await;
    for network in ["one", "two"] {
        delete(node, network).await.unwrap();
    }
}

async fn a_container_has_the_network_of_another_one(node: &Node) {
    import_guest(node).await;
    let shared = |whose: &str, words: &[&str]| ContainerSpec {
        network: NetworkMode::Container.into(),
        network_container: whose.into(),
        ..guest(words)
    };
    let owner = ContainerSpec {
        name: "owner".into(),
        hostname: "box".into(),
        network: NetworkMode::None.into(),
        ..guest(&["sleep", "300"])
    };
    let owner = create(node, owner).await.unwrap();

    let made = create(node, shared("owner", &["sleep", "300"])).await.unwrap();
    let spec = made.spec.clone().unwrap();
    assert_eq!(
        (spec.network(), spec.network_container, spec.hostname),
        (NetworkMode::Container, owner.id.clone(), "box".into())
    );
    let early = start(node, &made.id).await;
    refused(early, Code::FailedPrecondition, "FAULT_NOT_RUNNING");
    start(node, "owner").await.unwrap();
    start(node, &made.id).await.unwrap();
    let of_shared = create(node, shared(&made.id[..12], &["noop"])).await.unwrap();
    assert_eq!(of_shared.spec.unwrap().network_container, owner.id, "there is one owner, and not a chain");
    let connect = ConnectContainerRequest {
        container: made.id.clone(),
        attachment: Some(NetworkAttachment { network: "bridge".into(), ..Default::default() }),
    };
    refused(client(node).connect_container(connect).await, Code::FailedPrecondition, "FAULT_NETWORK_MODE");
    let absent = create(node, shared("nobody", &["noop"])).await;
    refused(absent, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND").resource("container", "nobody");
    for (field, spec) in [
        ("spec.network_container", shared("", &["noop"])),
        ("spec.network_container", ContainerSpec { network: NetworkMode::Host.into(), ..shared("owner", &["noop"]) }),
        ("spec.hostname", ContainerSpec { hostname: "x".into(), ..shared("owner", &["noop"]) }),
        ("spec.domainname", ContainerSpec { domainname: "x".into(), ..shared("owner", &["noop"]) }),
        ("spec.dns_servers", ContainerSpec { dns_servers: vec!["10.0.0.1".into()], ..shared("owner", &["noop"]) }),
        ("spec.dns_searches", ContainerSpec { dns_searches: vec!["x".into()], ..shared("owner", &["noop"]) }),
        ("spec.dns_options", ContainerSpec { dns_options: vec!["rotate".into()], ..shared("owner", &["noop"]) }),
        (
            "spec.host_gateway_names",
            ContainerSpec { host_gateway_names: vec!["h".into()], ..shared("owner", &["noop"]) },
        ),
        (
            "spec.networks",
            ContainerSpec {
                networks: vec![NetworkAttachment { network: "bridge".into(), ..Default::default() }],
                ..shared("owner", &["noop"])
            },
        ),
    ] {
        malformed(create(node, spec).await, field);
    }
    for id in [&of_shared.id, &made.id, &owner.id] {
        remove(node, id).await;
    }
}

async fn how_names_lead_to_addresses_is_kept_and_done(node: &Node) {
    import_guest(node).await;
    make(node, spec("names")).await.unwrap();
    let to = |aliases: &[&str]| NetworkAttachment {
        network: "names".into(),
        aliases: aliases.iter().map(|&alias| alias.into()).collect(),
        ..Default::default()
    };
    let in_network = |attachment, words: &[&str]| ContainerSpec {
        network: NetworkMode::Networks.into(),
        networks: vec![attachment],
        ..guest(words)
    };
    let asked = ContainerSpec {
        hostname: "box".into(),
        domainname: "example.org".into(),
        dns_servers: vec!["10.9.9.9".into(), "fd00::9".into()],
        dns_searches: vec!["here.example".into()],
        dns_options: vec!["ndots:2".into()],
        host_gateway_names: vec!["outside".into()],
        ..in_network(to(&["db", "cache"]), &["sleep", "300"])
    };
    let shown = create(node, asked.clone()).await.unwrap();
    let kept = shown.spec.unwrap();
    assert_eq!((&kept.hostname, &kept.domainname), (&asked.hostname, &asked.domainname));
    assert_eq!((&kept.dns_servers, &kept.dns_searches), (&asked.dns_servers, &asked.dns_searches));
    assert_eq!((&kept.dns_options, &kept.host_gateway_names), (&asked.dns_options, &asked.host_gateway_names));
    assert_eq!(kept.networks, asked.networks);

    let running = start(node, &shown.id).await.unwrap();
    let address = &running.endpoints[0].ipv4_address;
    for name in ["db", "cache.names", "box", &shown.name, &shown.id[..12]] {
        let asker = create(node, in_network(to(&[]), &["look-up", name, "A"])).await.unwrap();
        start(node, &asker.id).await.unwrap();
        let (kind, said) = end(node, &asker.id).await;
        assert_eq!((kind, said), (Some(Kind::Code(0)), format!("NOERROR\n{address}\n")), "{name}");
        remove(node, &asker.id).await;
    }
    for (field, wrong) in [
        ("spec.dns_servers", ContainerSpec { dns_servers: vec!["10.0.0.1\nx".into()], ..asked.clone() }),
        ("spec.dns_searches", ContainerSpec { dns_searches: vec!["a b".into()], ..asked.clone() }),
        ("spec.dns_options", ContainerSpec { dns_options: vec![String::new()], ..asked.clone() }),
        ("spec.domainname", ContainerSpec { domainname: "-x".into(), ..asked.clone() }),
        ("spec.host_gateway_names", ContainerSpec { host_gateway_names: vec!["a b".into()], ..asked.clone() }),
        ("spec.networks", ContainerSpec { networks: vec![to(&["a b"])], ..asked }),
    ] {
        malformed(create(node, wrong).await, field);
    }
    remove(node, &shown.id).await;
    delete(node, "names").await.unwrap();
}

async fn malformed_networks_name_the_field(node: &Node) {
    let pool = |change: fn(&mut NetworkPool)| {
        let mut pool = NetworkPool { subnet: "10.250.0.0/24".into(), ..Default::default() };
        change(&mut pool);
        NetworkSpec { pools: vec![pool], ..spec("bad") }
    };
    for (field, spec) in [
        ("spec.name", NetworkSpec { name: "a/b".into(), ..spec("") }),
        ("spec.name", NetworkSpec { name: String::new(), ..spec("") }),
        ("spec.driver", NetworkSpec { driver: 99, ..spec("bad") }),
        ("spec.host_binding", NetworkSpec { host_binding: "x".into(), ..spec("bad") }),
        ("spec.pools", pool(|pool| pool.subnet = "10.0.0.0".into())),
        ("spec.pools", pool(|pool| pool.subnet = "fd00::/64".into())),
        ("spec.pools", pool(|pool| pool.gateway = "x".into())),
        ("subnet", pool(|pool| pool.subnet = "10.0.0.0/31".into())),
        ("subnet", pool(|pool| pool.subnet = "127.0.0.0/8".into())),
        ("gateway", pool(|pool| pool.gateway = "10.251.0.1".into())),
        ("ip_range", pool(|pool| pool.range = "10.251.0.0/28".into())),
        ("mtu", NetworkSpec { mtu: 10, ..spec("bad") }),
        ("interface", NetworkSpec { interface: "a/b".into(), ..spec("bad") }),
        ("interface", NetworkSpec { interface: "a-name-that-is-too-long".into(), ..spec("bad") }),
    ] {
        malformed(make(node, spec).await, field);
    }
    malformed(client(node).create_network(CreateNetworkRequest { spec: None }).await, "spec");
    assert!(client(node).list_networks(ListNetworksRequest::default()).await.unwrap().into_inner().networks.is_empty());
}

async fn what_cannot_be_is_refused_by_its_reason(node: &Node) {
    import_guest(node).await;
    let one = make(node, spec("one")).await.unwrap();
    let same = NetworkSpec { name: "same".into(), ..one.spec.clone().unwrap() };
    refused(make(node, same).await, Code::FailedPrecondition, "FAULT_SUBNET_OVERLAPS").fact("holder", "one");
    refused(make(node, spec("one")).await, Code::AlreadyExists, "FAULT_NAME_TAKEN").fact("holder", &one.id);
    refused(make(node, spec("bridge")).await, Code::FailedPrecondition, "FAULT_NETWORK_PREDEFINED");
    let lo = NetworkSpec { interface: "lo".into(), ..spec("lo") };
    refused(make(node, lo).await, Code::FailedPrecondition, "FAULT_INTERFACE_IN_USE");
    let wish = |attachment| ContainerSpec {
        network: NetworkMode::Networks.into(),
        networks: vec![attachment],
        ..guest(&["noop"])
    };
    let to = |ipv4: &str| NetworkAttachment { network: "one".into(), ipv4_address: ipv4.into(), ..Default::default() };
    malformed(create(node, wish(to("x"))).await, "spec.networks");
    for (attachment, code, reason) in [
        (to("10.99.0.1"), Code::FailedPrecondition, "FAULT_ADDRESS_IN_USE"),
        (to(&one.spec.unwrap().pools[0].gateway), Code::FailedPrecondition, "FAULT_ADDRESS_IN_USE"),
    ] {
        let container = create(node, wish(attachment)).await.unwrap();
        refused(start(node, &container.id).await, code, reason);
        remove(node, &container.id).await;
    }
    let files = node.files("runtime");
    let nowhere = NetworkAttachment { network: "nowhere".into(), ..Default::default() };
    let refusal = refused(create(node, wish(nowhere)).await, Code::NotFound, "FAULT_NETWORK_NOT_FOUND");
    refusal.resource("network", "nowhere");
    assert_eq!(node.files("runtime"), files, "nothing is made of it");
    let alone = create(node, guest(&["noop"])).await.unwrap();
    let attachment = Some(to(""));
    let connect = ConnectContainerRequest { container: alone.id.clone(), attachment };
    refused(client(node).connect_container(connect).await, Code::FailedPrecondition, "FAULT_NETWORK_MODE");
    remove(node, &alone.id).await;
    delete(node, "one").await.unwrap();
}
