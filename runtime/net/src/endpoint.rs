//! A container's place in a network: a pair of interfaces, one a port of the bridge, the other in the container.

use std::{collections::BTreeSet, net::IpAddr};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use strata_types::{NetworkId, NetworkName};

use crate::{
    bridge,
    error::{Attempt, Error},
    mac::Mac,
    namespace::{Namespace, set_parameter},
    netlink::{Batch, Socket},
    network::{Driver, Network},
    parent,
    place::Place,
    prefix::Family,
    route::{Child, Veth},
};

/// What a container wants of a network. It is part of the container's record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attachment {
    /// Name or id of the network.
    pub network: String,
    /// Further names that others find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The IPv4 address to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<IpAddr>,
    /// The IPv6 address to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<IpAddr>,
    /// The hardware address to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Addresses that only neighbours know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub link_local: Vec<IpAddr>,
    /// The network with the highest is the way out; among equals the first.
    #[serde(default)]
    pub gateway_priority: i32,
}

/// What a running container has of a network. It is part of the container's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Id, 64 hex digits.
    pub id: String,
    /// The network.
    pub network: NetworkId,
    /// Its name.
    pub network_name: NetworkName,
    /// What its packets go through.
    #[serde(default)]
    pub driver: Driver,
    /// Name of the interface in the container.
    pub interface: String,
    /// Name of the other end, on the host. Without a bridge there is none: the name is nobody's.
    pub host_interface: String,
    /// Hardware address in the container.
    pub mac: Mac,
    /// Addresses in the container.
    pub addresses: Vec<Held>,
    /// Addresses that only neighbours know.
    pub link_local: Vec<IpAddr>,
    /// Further names that others find it by.
    pub aliases: Vec<String>,
    /// It is the container's way out.
    pub is_way_out: bool,
}

/// An address of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The address.
    pub address: IpAddr,
    /// Bits that all addresses of its subnet share.
    pub length: u8,
    /// The host's address in the subnet.
    pub gateway: IpAddr,
}

impl Endpoint {
    /// Its address of a version of the protocol.
    pub fn address(&self, family: Family) -> Option<&Held> {
        self.addresses.iter().find(|held| Family::of(held.address) == family)
    }

    /// Makes the pair and sets both ends up, one of them where networks are, or the one interface without a bridge. Nothing is
    /// left on failure.
    pub fn attach(&self, place: &Place, network: &Network, namespace: &Namespace) -> Result<(), Error> {
        place.within(|| self.attach_here(network, namespace))
    }

    fn attach_here(&self, network: &Network, namespace: &Namespace) -> Result<(), Error> {
        let socket = Socket::route().attempt(|| "speak to the kernel about interfaces".to_owned())?;
        if !self.driver.is_bridge() {
            return self.attach_child(&socket, network, namespace);
        }
        let bridge = bridge::ensure(&socket, network)?;
        let mut batch = Batch::default();
        batch.new_veth(&Veth {
            host: &self.host_interface,
            bridge: bridge.index,
            inside: &self.interface,
            mac: self.mac,
            namespace: rustix::fd::AsFd::as_fd(namespace),
            mtu: network.mtu,
        });
        let attempt = || format!("connect the container to network {}", network.name);
        socket.send(&batch).attempt(attempt)?;
        self.settle(&socket, network, namespace).inspect_err(|_| {
            let _first_error_is_told = remove(&self.host_interface);
        })
    }

    fn attach_child(&self, socket: &Socket, network: &Network, namespace: &Namespace) -> Result<(), Error> {
        let attempt = || format!("connect the container to network {}", network.name);
        let parent = parent::ensure(socket, network)?;
        let mut batch = Batch::default();
        batch.new_child(&Child {
            name: &self.interface,
            parent: parent.index,
            driver: self.driver,
            mac: matches!(self.driver, Driver::Macvlan(_)).then_some(self.mac),
            namespace: Some(rustix::fd::AsFd::as_fd(namespace)),
            mtu: Some(network.mtu),
        });
        parent::send_patiently(socket, &batch).attempt(attempt)?;
        self.settle_within(network, namespace).inspect_err(|_| {
            let _first_error_is_told = self.detach_child(namespace);
        })
    }

    fn settle(&self, socket: &Socket, network: &Network, namespace: &Namespace) -> Result<(), Error> {
        let attempt = || format!("connect the container to network {}", network.name);
        // The host's end needs no address of its own.
        set_parameter(&format!("net/ipv6/conf/{}/disable_ipv6", self.host_interface), "1").attempt(attempt)?;
        let mut batch = Batch::default();
        if !network.is_open_within {
            let link = socket.link(&self.host_interface).attempt(attempt)?.ok_or(Errno::NODEV).attempt(attempt)?;
            batch.isolate(link.index);
        }
        batch.set_up(&self.host_interface);
        socket.send(&batch).attempt(attempt)?;
        self.settle_within(network, namespace)
    }

    fn settle_within(&self, network: &Network, namespace: &Namespace) -> Result<(), Error> {
        let attempt = || format!("connect the container to network {}", network.name);
        namespace.enter(|| self.settle_inside()).attempt(attempt)?.map_err(|source| match source {
            Error::Kernel { source, .. } => Error::Kernel { attempt: attempt(), source },
            other => other,
        })
    }

    /// Gives the container's end its addresses and routes; the thread is in the container's network namespace.
    fn settle_inside(&self) -> Result<(), Error> {
        let attempt = || format!("set interface {} up", self.interface);
        let name = &self.interface;
        set_parameter(&format!("net/ipv6/conf/{name}/accept_ra"), "0").attempt(attempt)?;
        let has_ipv6 = self.address(Family::V6).is_some() || self.link_local.iter().any(IpAddr::is_ipv6);
        // Off, unless the network has it: CVE-2024-32473.
        set_parameter(&format!("net/ipv6/conf/{name}/disable_ipv6"), if has_ipv6 { "0" } else { "1" })
            .attempt(attempt)?;
        let socket = Socket::route().attempt(attempt)?;
        let link = socket.link(name).attempt(attempt)?.ok_or(Errno::NODEV).attempt(attempt)?;
        let mut batch = Batch::default();
        for held in &self.addresses {
            batch.add_address(link.index, held.address, held.length);
        }
        for address in &self.link_local {
            batch.add_address(link.index, *address, if address.is_ipv4() { 16 } else { 64 });
        }
        batch.set_up(name);
        if self.is_way_out {
            self.add_default_routes(&mut batch, link.index);
        }
        socket.send(&batch).attempt(attempt)
    }

    fn add_default_routes(&self, batch: &mut Batch, index: u32) {
        for held in &self.addresses {
            let gateway = self.driver.has_neighbours().then_some(held.gateway);
            batch.add_default_route(Family::of(held.address), gateway, index);
        }
    }

    /// Makes it the container's way out.
    pub fn lead_out(&self, namespace: &Namespace) -> Result<(), Error> {
        let attempt = || format!("make {} the way out of the container", self.interface);
        namespace.enter(|| self.route_out(attempt)).attempt(attempt)?
    }

    fn route_out(&self, attempt: impl Fn() -> String + Copy) -> Result<(), Error> {
        let socket = Socket::route().attempt(attempt)?;
        let link = socket.link(&self.interface).attempt(attempt)?.ok_or(Errno::NODEV).attempt(attempt)?;
        let mut batch = Batch::default();
        self.add_default_routes(&mut batch, link.index);
        socket.send(&batch).attempt(attempt)
    }

    /// Removes the pair, or the one interface from the namespace of a container that runs on; what is gone is no error.
    pub fn detach(&self, place: &Place, namespace: Option<&Namespace>) -> Result<(), Error> {
        match (self.driver.is_bridge(), namespace) {
            (true, _) => place.within(|| remove(&self.host_interface)),
            // It goes with its namespace.
            (false, None) => Ok(()),
            (false, Some(namespace)) => self.detach_child(namespace),
        }
    }

    fn detach_child(&self, namespace: &Namespace) -> Result<(), Error> {
        namespace.enter(|| remove(&self.interface)).attempt(|| format!("remove interface {}", self.interface))?
    }
}

fn remove(interface: &str) -> Result<(), Error> {
    let attempt = || format!("remove interface {interface}");
    Socket::route().attempt(attempt)?.remove_named(interface).attempt(attempt)
}

/// Removes ends of pairs on the host whose names start so, but for those that are used.
pub fn sweep(socket: &Socket, start: &str, used: &BTreeSet<&str>) -> Result<usize, Error> {
    let attempt = || "look for interfaces that are nobody's".to_owned();
    let links = socket.links().attempt(attempt)?;
    let lost = links
        .iter()
        .filter(|link| link.kind == "veth" && link.name.starts_with(start) && !used.contains(link.name.as_str()));
    let mut count = 0;
    for link in lost {
        let was_there = socket.remove_link(link.index).attempt(|| format!("remove interface {}", link.name))?;
        count += usize::from(was_there);
    }
    Ok(count)
}
