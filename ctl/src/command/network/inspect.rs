//! `ctl network inspect`: Docker's JSON; and what `ctl inspect` says of a container's networks.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use strata_proto::runtime::v1 as pb;

use crate::command::{incomplete, port};
use crate::error::Result;
use crate::platform::Platform;
use crate::render::time;

/// A network, by Docker's names.
pub async fn value(platform: &Platform, name: &str) -> Result<Value> {
    if let "host" | "none" = name {
        let driver = if name == "host" { "host" } else { "null" };
        return Ok(without_record(name, driver));
    }
    let request = pb::GetNetworkRequest { network: name.to_owned() };
    let reply = platform.networks().await?.get_network(request).await?.into_inner();
    reply.network.map(of_network).ok_or_else(|| incomplete("a network"))
}

fn of_network(network: pb::Network) -> Value {
    let spec = network.spec.unwrap_or_default();
    let members = network.members.iter().map(|member| {
        let endpoint = member.endpoint.clone().unwrap_or_default();
        let value = json!({
            "Name": member.container_name,
            "EndpointID": endpoint.id,
            "MacAddress": endpoint.mac_address,
            "IPv4Address": with_length(&endpoint.ipv4_address, endpoint.ipv4_prefix_length),
            "IPv6Address": with_length(&endpoint.ipv6_address, endpoint.ipv6_prefix_length),
        });
        (member.container_id.clone(), value)
    });
    json!({
        "Name": spec.name,
        "Id": network.id,
        "Created": network.created_at.as_ref().and_then(time::timestamp).map(|at| at.to_string()),
        "Scope": "local",
        "Driver": super::driver(&spec),
        "EnableIPv4": !spec.has_no_ipv4,
        "EnableIPv6": spec.has_ipv6,
        "IPAM": { "Driver": "default", "Options": {}, "Config": spec.pools.iter().map(of_pool).collect::<Vec<_>>() },
        "Internal": spec.is_internal,
        "Attachable": true,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": members.collect::<Map<_, _>>(),
        "Options": options(&spec),
        "Labels": spec.labels.into_iter().collect::<BTreeMap<_, _>>(),
    })
}

/// A network that is there without one of ours: no containers are known of it.
fn without_record(name: &str, driver: &str) -> Value {
    json!({
        "Name": name,
        "Id": "",
        "Created": null,
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": {}, "Config": [] },
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": {},
        "Options": {},
        "Labels": {},
    })
}

/// Docker's names of what the driver was told, or chose.
fn options(spec: &pb::NetworkSpec) -> Value {
    let lower = |name: &str, start: &str| name.trim_start_matches(start).to_lowercase();
    let mtu = spec.mtu.to_string();
    match spec.driver() {
        pb::NetworkDriver::Macvlan => json!({
            "parent": spec.interface,
            "macvlan_mode": lower(spec.macvlan_mode().as_str_name(), "MACVLAN_MODE_"),
            "com.docker.network.driver.mtu": mtu,
        }),
        pb::NetworkDriver::Ipvlan => json!({
            "parent": spec.interface,
            "ipvlan_mode": lower(spec.ipvlan_mode().as_str_name(), "IPVLAN_MODE_"),
            "ipvlan_flag": lower(spec.ipvlan_flag().as_str_name(), "IPVLAN_FLAG_"),
            "com.docker.network.driver.mtu": mtu,
        }),
        pb::NetworkDriver::Bridge | pb::NetworkDriver::Unspecified => json!({
            "com.docker.network.bridge.name": spec.interface,
            "com.docker.network.bridge.enable_icc": (!spec.is_closed_within).to_string(),
            "com.docker.network.bridge.enable_ip_masquerade": (!spec.has_no_masquerade).to_string(),
            "com.docker.network.bridge.host_binding_ipv4": spec.host_binding,
            "com.docker.network.driver.mtu": mtu,
        }),
    }
}

fn of_pool(pool: &pb::NetworkPool) -> Value {
    let mut value = json!({ "Subnet": pool.subnet, "Gateway": pool.gateway });
    if !pool.range.is_empty() {
        value["IPRange"] = pool.range.clone().into();
    }
    if !pool.reserved.is_empty() {
        let reserved = pool.reserved.iter().map(|entry| (entry.name.clone(), entry.address.clone().into()));
        value["AuxiliaryAddresses"] = Value::Object(reserved.collect());
    }
    value
}

fn with_length(address: &str, length: u32) -> String {
    if address.is_empty() { String::new() } else { format!("{address}/{length}") }
}

/// Docker's word for the network of a container.
pub fn mode(spec: &pb::ContainerSpec) -> String {
    match spec.network() {
        pb::NetworkMode::Host => "host".to_owned(),
        pb::NetworkMode::None => "none".to_owned(),
        pb::NetworkMode::Container => format!("container:{}", spec.network_container),
        pb::NetworkMode::Unspecified => "default".to_owned(),
        pb::NetworkMode::Networks => spec.networks.first().map_or_else(String::new, |first| first.network.clone()),
    }
}

/// What a container has of its networks: Docker's `NetworkSettings`.
pub fn settings(container: &pb::Container) -> Value {
    let spec = container.spec.clone().unwrap_or_default();
    let mut networks = Map::new();
    for wish in &spec.networks {
        networks.insert(wish.network.clone(), of_endpoint(&pb::Endpoint::default(), Some(wish)));
    }
    for endpoint in &container.endpoints {
        let wish = spec.networks.iter().find(|wish| {
            wish.network == endpoint.network_name || endpoint.network_id.starts_with(wish.network.as_str())
        });
        if let Some(wish) = wish {
            networks.remove(&wish.network);
        }
        networks.insert(endpoint.network_name.clone(), of_endpoint(endpoint, wish));
    }
    let first = container.endpoints.first().cloned().unwrap_or_default();
    json!({
        "EndpointID": first.id,
        "Gateway": first.ipv4_gateway,
        "GlobalIPv6Address": first.ipv6_address,
        "GlobalIPv6PrefixLen": first.ipv6_prefix_length,
        "IPAddress": first.ipv4_address,
        "IPPrefixLen": first.ipv4_prefix_length,
        "IPv6Gateway": first.ipv6_gateway,
        "MacAddress": first.mac_address,
        "Networks": networks,
        "Ports": port::settings(container),
    })
}

fn of_endpoint(endpoint: &pb::Endpoint, wish: Option<&pb::NetworkAttachment>) -> Value {
    let ipam = wish.map(|wish| {
        json!({
            "IPv4Address": wish.ipv4_address,
            "IPv6Address": wish.ipv6_address,
            "LinkLocalIPs": wish.link_local_addresses,
        })
    });
    json!({
        "IPAMConfig": ipam,
        "Aliases": wish.map(|wish| wish.aliases.clone()),
        "NetworkID": endpoint.network_id,
        "EndpointID": endpoint.id,
        "Gateway": endpoint.ipv4_gateway,
        "IPAddress": endpoint.ipv4_address,
        "IPPrefixLen": endpoint.ipv4_prefix_length,
        "IPv6Gateway": endpoint.ipv6_gateway,
        "GlobalIPv6Address": endpoint.ipv6_address,
        "GlobalIPv6PrefixLen": endpoint.ipv6_prefix_length,
        "MacAddress": endpoint.mac_address,
        "GwPriority": wish.map_or(0, |wish| wish.gateway_priority),
    })
}
