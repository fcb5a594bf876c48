//! The names of running containers, network by network. A name is found in the networks that the asker is in, and in no
//! other. Names are compared without regard to case, as DNS has it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use serde::{Deserialize, Serialize};
use strata_types::{ContainerId, NetworkId};

/// A container in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The name that its addresses lead back to.
    pub name: String,
    /// All other names that it is found by.
    pub aliases: Vec<String>,
    /// Its addresses in the network.
    pub addresses: Vec<IpAddr>,
}

#[derive(Debug, Default)]
struct Zone {
    /// Name of the network, in lower case: "db.back" is "db" in the network "back".
    suffix: String,
    members: HashMap<ContainerId, Member>,
    by_name: HashMap<String, BTreeSet<ContainerId>>,
    by_address: BTreeMap<IpAddr, ContainerId>,
    /// Counts answers, so that each starts with another one of several addresses.
    turn: AtomicUsize,
}

/// All names.
#[derive(Debug, Default)]
pub struct Directory(RwLock<HashMap<NetworkId, Zone>>);

impl Directory {
    /// Takes in a container, or what has become of it.
    pub fn insert(&self, network: &NetworkId, network_name: &str, container: &ContainerId, member: Member) {
        let mut zones = self.write();
        let zone = zones.entry(network.clone()).or_default();
        zone.suffix = network_name.to_ascii_lowercase();
        zone.remove(container);
        zone.insert(container, member);
    }

    /// Forgets a container in a network.
    pub fn remove(&self, network: &NetworkId, container: &ContainerId) {
        let mut zones = self.write();
        if let Some(zone) = zones.get_mut(network) {
            zone.remove(container);
            if zone.members.is_empty() {
                zones.remove(network);
            }
        }
    }

    /// Addresses of a name, of those wanted: of the first network that has some. None: no network has the name.
    pub fn find(&self, networks: &[NetworkId], name: &str, is_wanted: impl Fn(&IpAddr) -> bool) -> Option<Vec<IpAddr>> {
        let zones = self.read();
        let mut is_known = false;
        for zone in networks.iter().filter_map(|network| zones.get(network)) {
            let Some(holders) = zone.holders(name) else { continue };
            is_known = true;
            let members = holders.iter().filter_map(|id| zone.members.get(id));
            let mut addresses: Vec<IpAddr> =
                members.flat_map(|member| &member.addresses).copied().filter(&is_wanted).collect();
            if !addresses.is_empty() {
                let start = zone.turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
                addresses.rotate_left(start);
                return Some(addresses);
            }
        }
        is_known.then(Vec::new)
    }

    /// The name that an address leads back to, "db.back".
    pub fn name_of(&self, networks: &[NetworkId], address: IpAddr) -> Option<String> {
        let zones = self.read();
        networks.iter().filter_map(|network| zones.get(network)).find_map(|zone| {
            let member = zone.members.get(zone.by_address.get(&address)?)?;
            Some(format!("{}.{}", member.name, zone.suffix))
        })
    }

    // A panic while one of these was held left no half of a change: each is a few infallible steps.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<NetworkId, Zone>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<NetworkId, Zone>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Zone {
    fn insert(&mut self, container: &ContainerId, member: Member) {
        for name in names(&member) {
            self.by_name.entry(name).or_default().insert(container.clone());
        }
        for address in &member.addresses {
            self.by_address.insert(*address, container.clone());
        }
        self.members.insert(container.clone(), member);
    }

    fn remove(&mut self, container: &ContainerId) {
        let Some(member) = self.members.remove(container) else { return };
        for name in names(&member) {
            if let Some(holders) = self.by_name.get_mut(&name) {
                holders.remove(container);
                if holders.is_empty() {
                    self.by_name.remove(&name);
                }
            }
        }
        // Another one may have the address already.
        member.addresses.iter().for_each(|address| {
            if self.by_address.get(address) == Some(container) {
                self.by_address.remove(address);
            }
        });
    }

    /// Who has a name: "db", or "db.back" in the network "back".
    fn holders(&self, name: &str) -> Option<&BTreeSet<ContainerId>> {
        self.by_name.get(name).or_else(|| {
            let short = name.strip_suffix(&self.suffix)?.strip_suffix('.')?;
            self.by_name.get(short)
        })
    }
}

fn names(member: &Member) -> impl Iterator<Item = String> + '_ {
    std::iter::once(&member.name).chain(&member.aliases).map(|name| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u8) -> NetworkId {
        NetworkId::from_bytes([number; 32])
    }

    fn container(number: u8) -> ContainerId {
        ContainerId::from_bytes([number; 32])
    }

    fn member(name: &str, aliases: &[&str], addresses: &[&str]) -> Member {
        Member {
            name: name.to_owned(),
            aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    fn found(directory: &Directory, networks: &[NetworkId], name: &str) -> Option<Vec<String>> {
        let found = directory.find(networks, name, IpAddr::is_ipv4)?;
        Some(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_name_is_found_in_the_networks_of_the_asker_alone() {
        let directory = Directory::default();
        directory.insert(&network(1), "Front", &container(1), member("Web", &["www"], &["10.0.0.2", "fd00::2"]));
        directory.insert(&network(2), "back", &container(2), member("db", &[], &["10.1.0.2"]));

        for name in ["web", "www", "web.front", "www.front"] {
            assert_eq!(found(&directory, &[network(1)], name), Some(vec!["10.0.0.2".into()]), "{name}");
            assert_eq!(found(&directory, &[network(2)], name), None, "{name}");
        }
        assert_eq!(found(&directory, &[network(1)], "db"), None);
        assert_eq!(found(&directory, &[network(1), network(2)], "db"), Some(vec!["10.1.0.2".into()]));
        for name in ["", "front", ".front", "webfront", "web.back", "eb", "web.front.front"] {
            assert_eq!(found(&directory, &[network(1), network(2)], name), None, "{name:?}");
        }
    }

    #[test]
    fn several_holders_of_an_alias_take_turns() {
        let directory = Directory::default();
        for number in 1..=3 {
            let address = format!("10.0.0.{number}");
            directory.insert(
                &network(1),
                "net",
                &container(number),
                member(&format!("c{number}"), &["all"], &[&address]),
            );
        }

        let firsts: BTreeSet<String> =
            (0..3).map(|_| found(&directory, &[network(1)], "all").unwrap().remove(0)).collect();
        assert_eq!(firsts.len(), 3, "{firsts:?}");
        directory.remove(&network(1), &container(2));
        let mut left = found(&directory, &[network(1)], "all").unwrap();
        left.sort();
        assert_eq!(left, ["10.0.0.1", "10.0.0.3"]);
        assert_eq!(found(&directory, &[network(1)], "c2"), None);
    }

    #[test]
    fn a_name_without_such_an_address_is_known_all_the_same() {
        let directory = Directory::default();
        directory.insert(&network(1), "six", &container(1), member("web", &[], &["fd00::2"]));
        directory.insert(&network(2), "four", &container(1), member("web", &[], &["10.0.0.2"]));

        assert_eq!(found(&directory, &[network(1)], "web"), Some(vec![]));
        assert_eq!(found(&directory, &[network(1), network(2)], "web"), Some(vec!["10.0.0.2".into()]));
    }

    #[test]
    fn addresses_lead_back_to_the_first_name() {
        let directory = Directory::default();
        let address = "10.0.0.2".parse().unwrap();
        directory.insert(&network(1), "net", &container(1), member("web", &["www"], &["10.0.0.2"]));
        assert_eq!(directory.name_of(&[network(1)], address).as_deref(), Some("web.net"));
        assert_eq!(directory.name_of(&[network(2)], address), None);

        // The address changes hands before the former holder is forgotten.
        directory.insert(&network(1), "net", &container(2), member("new", &[], &["10.0.0.2"]));
        directory.remove(&network(1), &container(1));
        assert_eq!(directory.name_of(&[network(1)], address).as_deref(), Some("new.net"));
        directory.remove(&network(1), &container(2));
        assert!(directory.0.read().unwrap().is_empty(), "nothing is left of what is gone");
    }
}
