//! The names of a running container in its networks, and what it sees of those of others: as its record has them.

use strata_dns::{Member, View};
use strata_net::Endpoint;

use super::message::{Names, Zone};
use crate::record::Record;

/// Whether names are known in the network of an endpoint. In the default one, as in Docker, nobody has a name: everybody who
/// says nothing of networks is in it.
pub fn has_names(endpoint: &Endpoint) -> bool {
    endpoint.network_name.as_str() != strata_net::network::DEFAULT
}

/// The names of a container. It asks its own server for those of others if it `is_served`.
pub fn of(record: &Record, is_served: bool) -> Names {
    let zone = |endpoint: &Endpoint| Zone {
        network: endpoint.network.clone(),
        network_name: endpoint.network_name.to_string(),
        member: member(record, endpoint),
    };
    let zones = record.endpoints.iter().filter(|endpoint| has_names(endpoint)).map(zone).collect();
    Names { zones, view: view(record), is_served }
}

/// What a container sees.
fn view(record: &Record) -> View {
    let named = record.endpoints.iter().filter(|endpoint| has_names(endpoint));
    View {
        networks: named.map(|endpoint| endpoint.network.clone()).collect(),
        servers: record.spec.resolution.servers.clone(),
        has_way_out: record.endpoints.iter().any(|endpoint| endpoint.is_way_out),
    }
}

/// The names that Docker gives a container: its own, the start of its id, its host name if it was given one, its aliases.
fn member(record: &Record, endpoint: &Endpoint) -> Member {
    let hostname = Some(&record.spec.hostname).filter(|name| !name.is_empty());
    let aliases = endpoint.aliases.iter().chain(hostname).cloned();
    Member {
        name: record.name.to_string(),
        aliases: aliases.chain([record.id.short().to_owned()]).collect(),
        addresses: endpoint.addresses.iter().map(|held| held.address).collect(),
    }
}

#[cfg(test)]
mod tests {
    use strata_net::Held;
    use strata_types::{NetworkId, NetworkName};

    use super::*;
    use crate::record::tests::record;

    fn endpoint(number: u8, name: &str, is_way_out: bool) -> Endpoint {
        let address = |text: &str| text.parse().unwrap();
        Endpoint {
            id: String::new(),
            network: NetworkId::from_bytes([number; 32]),
            network_name: NetworkName::parse(name).unwrap(),
            driver: strata_net::Driver::Bridge,
            interface: "eth0".into(),
            host_interface: "v0".into(),
            mac: strata_net::Mac::of(address("10.0.0.2")),
            addresses: vec![Held { address: address("10.0.0.2"), length: 24, gateway: address("10.0.0.1") }],
            link_local: vec![],
            aliases: vec!["www".into()],
            is_way_out,
        }
    }

    #[test]
    fn a_container_has_names_in_its_own_networks_and_none_in_the_default_one() {
        let mut web = record(1, "web");
        web.spec.hostname = "box".into();
        web.endpoints = vec![endpoint(1, "bridge", true), endpoint(2, "net", false)];

        let names = of(&web, true);

        let [zone] = names.zones.as_slice() else { panic!("{names:?}") };
        assert_eq!((zone.network.clone(), zone.network_name.as_str()), (NetworkId::from_bytes([2; 32]), "net"));
        assert_eq!(zone.member.name, "web");
        assert_eq!(zone.member.aliases, ["www", "box", web.id.short()]);
        assert_eq!(names.view.networks, std::slice::from_ref(&zone.network));
    }

    #[test]
    fn only_who_has_a_way_out_has_others_asked() {
        let mut web = record(1, "web");
        web.endpoints = vec![endpoint(2, "vault", false)];
        assert!(!view(&web).has_way_out);
        web.endpoints.push(endpoint(3, "net", true));
        assert!(view(&web).has_way_out);
    }
}
