//! A network as it is recorded, and the wish that it is made from.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strata_types::{NetworkId, NetworkName};

use crate::{
    error::Error,
    prefix::{Family, Prefix},
};

/// Name of the network that is there without being made.
pub const DEFAULT: &str = "bridge";
/// Names that no network can be given, since they stand for something else.
pub const RESERVED: [&str; 4] = ["none", "host", "default", "container"];

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Version of the format.
    pub version: u32,
    /// Id.
    pub id: NetworkId,
    /// Name.
    pub name: NetworkName,
    /// What its packets go through.
    pub driver: Driver,
    /// Its addresses: at most one subnet of each version of the protocol takes part in the choice of an address.
    pub pools: Vec<Pool>,
    /// Nothing goes out of it or comes in.
    pub is_internal: bool,
    /// Name of the interface on the host: the bridge, or what the containers' interfaces hang on.
    pub interface: String,
    /// That interface was made for the network, and goes with it.
    #[serde(default = "yes")]
    pub has_own_interface: bool,
    /// The most bytes of a packet.
    pub mtu: u32,
    /// Its containers reach each other.
    pub is_open_within: bool,
    /// What goes out has the address of the host.
    pub has_masquerade: bool,
    /// Address of the host that its ports are published on when nothing is said.
    pub host_binding: Option<IpAddr>,
    /// Labels: inert.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Networks that were recorded without a word about it are bridges.
fn yes() -> bool {
    true
}

/// What the packets of a network go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// A bridge of the host, with firewall rules.
    #[default]
    Bridge,
    /// An interface of the host, under a hardware address of each container's own. The host does not look at them.
    Macvlan(Macvlan),
    /// An interface of the host, under its hardware address.
    Ipvlan(Ipvlan, IpvlanFlag),
}

/// Who reaches whom on one interface: ip-link(8), "MACVLAN".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Macvlan {
    /// Each other, and the world
    #[default]
    Bridge,
    /// The world alone
    Private,
    /// Each other by way of a switch that sends back
    Vepa,
    /// One container has it all
    Passthru,
}

/// What containers see of the network: ip-link(8), "IPVLAN".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ipvlan {
    /// Their neighbours
    #[default]
    L2,
    /// Packets that are theirs; the host routes
    L3,
    /// The same with the host's connection tracking
    L3s,
}

/// Who reaches whom on one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpvlanFlag {
    /// Each other, and the world
    #[default]
    Bridge,
    /// The world alone
    Private,
    /// Each other by way of a switch that sends back
    Vepa,
}

impl Driver {
    /// It is a bridge of the host, which its firewall looks at.
    pub fn is_bridge(self) -> bool {
        self == Self::Bridge
    }

    /// Docker's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan(_) => "macvlan",
            Self::Ipvlan(..) => "ipvlan",
        }
    }

    /// Whether what goes out is sent to a gateway, and not just out.
    pub fn has_neighbours(self) -> bool {
        !matches!(self, Self::Ipvlan(Ipvlan::L3 | Ipvlan::L3s, _))
    }
}

/// Addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// All of them.
    pub subnet: Prefix,
    /// Where addresses are chosen from. Absent: the subnet.
    pub range: Option<Prefix>,
    /// The host's own.
    pub gateway: IpAddr,
    /// Those of others, by name: never chosen.
    pub reserved: BTreeMap<String, IpAddr>,
}

/// What a network shall be.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Name.
    pub name: NetworkName,
    /// What its packets go through.
    pub driver: Driver,
    /// Addresses. Without one for IPv4, one is chosen.
    pub pools: Vec<PoolWish>,
    /// It has IPv4 addresses.
    pub has_ipv4: bool,
    /// It has IPv6 addresses.
    pub has_ipv6: bool,
    /// Nothing goes out of it or comes in.
    pub is_internal: bool,
    /// Name of the interface on the host. Absent: one is made, which leads nowhere if it is not a bridge.
    pub interface: Option<String>,
    /// The most bytes of a packet. Absent: that of the host's way out.
    pub mtu: Option<u32>,
    /// Its containers reach each other.
    pub is_open_within: bool,
    /// What goes out has the address of the host.
    pub has_masquerade: bool,
    /// Address of the host that its ports are published on when nothing is said.
    pub host_binding: Option<IpAddr>,
    /// Labels: inert.
    pub labels: BTreeMap<String, String>,
}

/// Addresses that a network shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolWish {
    /// All of them.
    pub subnet: Prefix,
    /// Where addresses are chosen from.
    pub range: Option<Prefix>,
    /// The host's own. Absent: the first.
    pub gateway: Option<IpAddr>,
    /// Those of others, by name.
    pub reserved: BTreeMap<String, IpAddr>,
}

impl Wish {
    /// A bridge with addresses that are chosen for it.
    pub fn bridge(name: NetworkName) -> Self {
        Self {
            name,
            driver: Driver::Bridge,
            pools: Vec::new(),
            has_ipv4: true,
            has_ipv6: false,
            is_internal: false,
            interface: None,
            mtu: None,
            is_open_within: true,
            has_masquerade: true,
            host_binding: None,
            labels: BTreeMap::new(),
        }
    }
}

impl PoolWish {
    /// A subnet, with nothing said about it.
    pub fn of(subnet: Prefix) -> Self {
        Self { subnet, range: None, gateway: None, reserved: BTreeMap::new() }
    }

    /// The pool, if it makes sense.
    pub fn settle(self) -> Result<Pool, Error> {
        let Self { subnet, range, gateway, reserved } = self;
        let longest = subnet.family().bits() - 2;
        if subnet.length() > longest || subnet.length() < 8 {
            return Err(Error::argument("subnet", format!("{subnet} is too small or too large: /8 to /{longest}")));
        }
        let first = subnet.first();
        if first.is_loopback() || first.is_multicast() || first.is_unspecified() || is_link_local(first) {
            return Err(Error::argument("subnet", format!("{subnet} has addresses that no interface can be given")));
        }
        if let Some(range) = range.filter(|range| !subnet.holds(range)) {
            return Err(Error::argument("ip_range", format!("{range} is not in the subnet {subnet}")));
        }
        let gateway = gateway.or_else(|| range.unwrap_or(subnet).nth(if is_start(&subnet, range) { 1 } else { 0 }));
        let gateway = gateway.ok_or_else(|| Error::argument("gateway", "the subnet has no address for it"))?;
        let pool = Pool { subnet, range, gateway, reserved };
        if !pool.is_usable(gateway) {
            return Err(Error::argument("gateway", format!("{gateway} is no address of the subnet {subnet}")));
        }
        for (name, address) in &pool.reserved {
            if !pool.is_usable(*address) {
                return Err(Error::argument("aux_address", format!("{name}={address} is no address of {subnet}")));
            }
        }
        Ok(pool)
    }
}

/// Whether addresses are counted from the first of the subnet, which is nobody's.
fn is_start(subnet: &Prefix, range: Option<Prefix>) -> bool {
    range.is_none_or(|range| range.first() == subnet.first())
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

impl Pool {
    /// Whether an interface can have the address: the first is the subnet's, the last of IPv4 everybody's.
    pub fn is_usable(&self, address: IpAddr) -> bool {
        let is_last = self.subnet.family() == Family::V4 && address == self.subnet.last();
        self.subnet.contains(address) && address != self.subnet.first() && !is_last
    }

    /// The name of who has an address without being a container.
    pub fn reserved_for(&self, address: IpAddr) -> Option<&str> {
        let is_it = |(_, reserved): &(&String, &IpAddr)| **reserved == address;
        match self.gateway == address {
            true => Some("the gateway"),
            false => self.reserved.iter().find(is_it).map(|(name, _)| name.as_str()),
        }
    }
}

impl Network {
    /// Its pool of a version of the protocol.
    pub fn pool(&self, family: Family) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.subnet.family() == family)
    }

    /// It is the one that is there without being made.
    pub fn is_default(&self) -> bool {
        self.name.as_str() == DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(subnet: &str) -> PoolWish {
        PoolWish::of(subnet.parse().unwrap())
    }

    #[test]
    fn the_gateway_is_the_first_address_unless_another_is_given() {
        assert_eq!(wish("10.1.0.0/16").settle().unwrap().gateway.to_string(), "10.1.0.1");
        assert_eq!(wish("fd00:1::/64").settle().unwrap().gateway.to_string(), "fd00:1::1");
        let range = Some("10.1.5.0/24".parse().unwrap());
        assert_eq!(PoolWish { range, ..wish("10.1.0.0/16") }.settle().unwrap().gateway.to_string(), "10.1.5.0");
        let gateway: IpAddr = "10.1.9.9".parse().unwrap();
        let wish = PoolWish { gateway: Some(gateway), ..wish("10.1.0.0/16") };
        assert_eq!(wish.settle().unwrap().gateway, gateway);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        let refused = |wish: PoolWish| match wish.settle().unwrap_err() {
            Error::Argument { field, .. } => field,
            other => panic!("{other:?}"),
        };
        for subnet in
            ["10.0.0.0/31", "10.0.0.0/7", "127.0.0.0/8", "224.0.0.0/24", "169.254.0.0/16", "fe80::/64", "fd00::/127"]
        {
            assert_eq!(refused(wish(subnet)), "subnet", "{subnet}");
        }
        let gateway = |text: &str| PoolWish { gateway: Some(text.parse().unwrap()), ..wish("10.1.0.0/16") };
        for text in ["10.1.0.0", "10.1.255.255", "10.2.0.1", "fd00::1"] {
            assert_eq!(refused(gateway(text)), "gateway", "{text}");
        }
        assert_eq!(
            refused(PoolWish { range: Some("10.2.0.0/24".parse().unwrap()), ..wish("10.1.0.0/16") }),
            "ip_range"
        );
        let reserved = BTreeMap::from([("router".to_owned(), "10.2.0.1".parse().unwrap())]);
        assert_eq!(refused(PoolWish { reserved, ..wish("10.1.0.0/16") }), "aux_address");
    }
}
