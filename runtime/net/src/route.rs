//! Links, addresses and routes: rtnetlink(7), as far as networks of containers need them.
//! Numbers are those of include/uapi/linux/{rtnetlink,if_link,if_addr,veth}.h.

use std::{
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

use rustix::io::Errno;

use crate::{
    mac::Mac,
    netlink::{ACK, Attributes, Batch, CREATE, DUMP, EXCLUSIVE, Socket, attributes, number, text},
    network::{Driver, Ipvlan, IpvlanFlag, Macvlan},
    prefix::{Family, Prefix, octets},
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWRULE: u16 = 32;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const VETH_INFO_PEER: u16 = 1;
/// Of macvlan and ipvlan both.
const IFLA_CHILD_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFF_UP: u32 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// No detection of duplicates: the address can be used at once, and IPAM knows that there is no other.
const IFA_F_NODAD: u8 = 0x02;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RT_SCOPE_HOST: u8 = 254;
/// The loopback device has this number in every namespace.
const LOOPBACK: u32 = 1;

/// FR_ACT_TO_TBL and FRA_FWMARK of include/uapi/linux/fib_rules.h.
const TO_TABLE: u8 = 1;
const FRA_MARK: u16 = 10;

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_BRIDGE: u8 = 7;
const AF_INET6: u8 = 10;

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// "bridge", "veth"; empty for hardware.
    pub kind: String,
    /// The bridge that it is a port of. 0: none.
    pub master: u32,
    /// The most bytes of a packet.
    pub mtu: u32,
    /// Its hardware address, if it has one of Ethernet.
    pub mac: Option<Mac>,
    /// It is set up.
    pub is_up: bool,
}

/// A route that the host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to. Of length 0: everything else.
    pub to: Option<Prefix>,
    /// Number of the interface.
    pub through: u32,
}

/// One end of a pair that is to be made.
#[derive(Debug)]
pub struct Veth<'a> {
    /// Name of the end on the host.
    pub host: &'a str,
    /// The bridge that it becomes a port of.
    pub bridge: u32,
    /// Name of the end in the container.
    pub inside: &'a str,
    /// Hardware address of the end in the container.
    pub mac: Mac,
    /// The container's network namespace.
    pub namespace: BorrowedFd<'a>,
    /// The most bytes of a packet, on both ends.
    pub mtu: u32,
}

/// A container's interface on one of the host.
#[derive(Debug)]
pub struct Child<'a> {
    /// Its name, there.
    pub name: &'a str,
    /// Number of the host's interface.
    pub parent: u32,
    /// Macvlan or ipvlan.
    pub driver: Driver,
    /// Hardware address. Absent: one by chance, or that of the host's interface.
    pub mac: Option<Mac>,
    /// The container's network namespace. Absent: here.
    pub namespace: Option<BorrowedFd<'a>>,
    /// The most bytes of a packet. Absent: as the host's interface.
    pub mtu: Option<u32>,
}

/// `struct ifinfomsg`.
fn link_header(family: u8, index: u32, flags: u32) -> Vec<u8> {
    [[family, 0, 0, 0], index.to_ne_bytes(), flags.to_ne_bytes(), flags.to_ne_bytes()].concat()
}

fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

impl Batch {
    /// Makes a bridge, down.
    pub fn new_bridge(&mut self, name: &str, mac: Mac, mtu: u32) {
        let header = link_header(AF_UNSPEC, 0, 0);
        self.message(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &header, |link| {
            link.text(IFLA_IFNAME, name);
            link.bytes(IFLA_ADDRESS, &mac.octets());
            link.number(IFLA_MTU, mtu);
            link.nest(IFLA_LINKINFO, &[], |info| info.text(IFLA_INFO_KIND, "bridge"));
        });
    }

    /// Makes a pair of interfaces: one is a port of the bridge, the other is in the container at once. Both are down.
    pub fn new_veth(&mut self, veth: &Veth<'_>) {
        let header = link_header(AF_UNSPEC, 0, 0);
        self.message(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &header, |link| {
            link.text(IFLA_IFNAME, veth.host);
            link.number(IFLA_MTU, veth.mtu);
            link.number(IFLA_MASTER, veth.bridge);
            link.nest(IFLA_LINKINFO, &[], |info| {
                info.text(IFLA_INFO_KIND, "veth");
                info.nest(IFLA_INFO_DATA, &[], |data| data.nest(VETH_INFO_PEER, &header, |peer| fill_peer(peer, veth)));
            });
        });
    }

    /// Makes an interface on one of the host, down.
    pub fn new_child(&mut self, child: &Child<'_>) {
        self.message(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &link_header(AF_UNSPEC, 0, 0), |link| {
            link.text(IFLA_IFNAME, child.name);
            link.number(IFLA_LINK, child.parent);
            if let Some(mac) = child.mac {
                link.bytes(IFLA_ADDRESS, &mac.octets());
            }
            if let Some(mtu) = child.mtu {
                link.number(IFLA_MTU, mtu);
            }
            if let Some(namespace) = child.namespace {
                link.number(IFLA_NET_NS_FD, namespace.as_raw_fd() as u32);
            }
            link.nest(IFLA_LINKINFO, &[], |info| {
                info.text(IFLA_INFO_KIND, child.driver.name());
                info.nest(IFLA_INFO_DATA, &[], |data| fill_mode(data, child.driver));
            });
        });
    }

    /// Makes a VLAN of an interface, up.
    pub fn new_vlan(&mut self, name: &str, base: u32, number: u16) {
        self.message(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &link_header(AF_UNSPEC, 0, IFF_UP), |link| {
            link.text(IFLA_IFNAME, name);
            link.number(IFLA_LINK, base);
            link.nest(IFLA_LINKINFO, &[], |info| {
                info.text(IFLA_INFO_KIND, "vlan");
                info.nest(IFLA_INFO_DATA, &[], |data| data.bytes(IFLA_VLAN_ID, &number.to_ne_bytes()));
            });
        });
    }

    /// Makes a pair of interfaces here, down.
    pub fn new_pair(&mut self, name: &str, other: &str) {
        let header = link_header(AF_UNSPEC, 0, 0);
        self.message(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &header, |link| {
            link.text(IFLA_IFNAME, name);
            link.nest(IFLA_LINKINFO, &[], |info| {
                info.text(IFLA_INFO_KIND, "veth");
                info.nest(IFLA_INFO_DATA, &[], |data| {
                    data.nest(VETH_INFO_PEER, &header, |peer| peer.text(IFLA_IFNAME, other));
                });
            });
        });
    }

    /// Sets an interface up, by its name.
    pub fn set_up(&mut self, name: &str) {
        self.message(RTM_NEWLINK, ACK, &link_header(AF_UNSPEC, 0, IFF_UP), |link| link.text(IFLA_IFNAME, name));
    }

    /// Keeps a port of a bridge from the other ports that are kept so: bridge(8), "isolated".
    pub fn isolate(&mut self, index: u32) {
        self.message(RTM_SETLINK, ACK, &link_header(AF_BRIDGE, index, 0), |link| {
            link.nest(IFLA_PROTINFO, &[], |port| port.bytes(IFLA_BRPORT_ISOLATED, &[1]));
        });
    }

    /// Removes an interface, and what hangs on it: the other end of a pair, addresses, routes.
    pub fn delete_link(&mut self, index: u32) {
        self.message(RTM_DELLINK, ACK, &link_header(AF_UNSPEC, index, 0), |_| {});
    }

    /// Gives an interface an address in a subnet of this length.
    pub fn add_address(&mut self, index: u32, address: IpAddr, length: u8) {
        let family = Family::of(address);
        let flags = if family == Family::V6 { IFA_F_NODAD } else { 0 };
        let header =
            [&[family_number(family), length, flags, RT_SCOPE_UNIVERSE], index.to_ne_bytes().as_slice()].concat();
        self.message(RTM_NEWADDR, ACK | CREATE | EXCLUSIVE, &header, |message| {
            message.bytes(IFA_LOCAL, &octets(address));
            message.bytes(IFA_ADDRESS, &octets(address));
            if let (Family::V4, Some(subnet)) = (family, Prefix::of(address, length))
                && length < 31
            {
                message.bytes(IFA_BROADCAST, &octets(subnet.last()));
            }
        });
    }

    /// Sends everything else through an interface, to a gateway if there is one.
    pub fn add_default_route(&mut self, family: Family, gateway: Option<IpAddr>, index: u32) {
        let scope = if gateway.is_some() { RT_SCOPE_UNIVERSE } else { RT_SCOPE_LINK };
        let header = [family_number(family), 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, 0, 0, 0, 0];
        self.message(RTM_NEWROUTE, ACK | CREATE, &header, |message| {
            if let Some(gateway) = gateway {
                message.bytes(RTA_GATEWAY, &octets(gateway));
            }
            message.number(RTA_OIF, index);
        });
    }

    /// Has packets with a mark routed by a table of their own.
    pub fn mark_rule(&mut self, family: Family, mark: u32, table: u8) {
        let header = [family_number(family), 0, 0, 0, table, 0, 0, TO_TABLE, 0, 0, 0, 0];
        self.message(RTM_NEWRULE, ACK | CREATE | EXCLUSIVE, &header, |message| message.number(FRA_MARK, mark));
    }

    /// Has every packet that a table is asked for taken by this host itself.
    pub fn add_local_default(&mut self, family: Family, table: u8) {
        let header = [family_number(family), 0, 0, 0, table, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL, 0, 0, 0, 0];
        self.message(RTM_NEWROUTE, ACK | CREATE | EXCLUSIVE, &header, |message| message.number(RTA_OIF, LOOPBACK));
    }
}

/// Numbers of enum macvlan_mode, and of ipvlan's modes and flags.
fn fill_mode(data: &mut Attributes<'_>, driver: Driver) {
    match driver {
        Driver::Bridge => {}
        Driver::Macvlan(mode) => data.number(
            IFLA_CHILD_MODE,
            match mode {
                Macvlan::Private => 1,
                Macvlan::Vepa => 2,
                Macvlan::Bridge => 4,
                Macvlan::Passthru => 8,
            },
        ),
        Driver::Ipvlan(mode, flag) => {
            let mode: u16 = match mode {
                Ipvlan::L2 => 0,
                Ipvlan::L3 => 1,
                Ipvlan::L3s => 2,
            };
            let flag: u16 = match flag {
                IpvlanFlag::Bridge => 0,
                IpvlanFlag::Private => 1,
                IpvlanFlag::Vepa => 2,
            };
            data.bytes(IFLA_CHILD_MODE, &mode.to_ne_bytes());
            data.bytes(IFLA_IPVLAN_FLAGS, &flag.to_ne_bytes());
        }
    }
}

fn fill_peer(peer: &mut Attributes<'_>, veth: &Veth<'_>) {
    peer.text(IFLA_IFNAME, veth.inside);
    peer.bytes(IFLA_ADDRESS, &veth.mac.octets());
    peer.number(IFLA_MTU, veth.mtu);
    peer.number(IFLA_NET_NS_FD, veth.namespace.as_raw_fd() as u32);
}

impl Socket {
    /// The interface of a name; `None`: there is none.
    pub fn link(&self, name: &str) -> Result<Option<Link>, Errno> {
        let mut batch = Batch::default();
        batch.message(RTM_GETLINK, ACK, &link_header(AF_UNSPEC, 0, 0), |message| message.text(IFLA_IFNAME, name));
        let mut found = None;
        let asked = self.ask(&batch, |kind, payload| {
            if kind == RTM_NEWLINK {
                found = parse_link(payload);
            }
        });
        match asked {
            Ok(()) => Ok(found),
            Err(Errno::NODEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Removes an interface. Says whether it was still there.
    pub fn remove_link(&self, index: u32) -> Result<bool, Errno> {
        let mut batch = Batch::default();
        batch.delete_link(index);
        match self.send(&batch) {
            Ok(()) => Ok(true),
            Err(Errno::NODEV) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Removes the interface of a name; one that is gone is no error.
    pub fn remove_named(&self, name: &str) -> Result<(), Errno> {
        match self.link(name)? {
            Some(link) => self.remove_link(link.index).map(drop),
            None => Ok(()),
        }
    }

    /// Every interface.
    pub fn links(&self) -> Result<Vec<Link>, Errno> {
        let mut batch = Batch::default();
        batch.message(RTM_GETLINK, DUMP, &link_header(AF_UNSPEC, 0, 0), |_| {});
        let mut found = Vec::new();
        self.ask(&batch, |kind, payload| {
            if kind == RTM_NEWLINK {
                found.extend(parse_link(payload));
            }
        })?;
        Ok(found)
    }

    /// Every route of the main table.
    pub fn routes(&self, family: Family) -> Result<Vec<Route>, Errno> {
        let mut batch = Batch::default();
        let mut header = [0; 12];
        header[0] = family_number(family);
        batch.message(RTM_GETROUTE, DUMP, &header, |_| {});
        let mut found = Vec::new();
        self.ask(&batch, |kind, payload| {
            if kind == RTM_NEWROUTE {
                found.extend(parse_route(payload, family));
            }
        })?;
        Ok(found)
    }
}

/// Whether a message says that the interface of a name was removed.
pub fn is_removal(kind: u16, payload: &[u8], name: &str) -> bool {
    kind == RTM_DELLINK && parse_link(payload).is_some_and(|link| link.name == name)
}

/// Whether a message says that there is a default route now.
pub fn is_way_out(kind: u16, payload: &[u8]) -> bool {
    let is_default = |header: &[u8; 12]| header[1] == 0 && header[4] == RT_TABLE_MAIN && header[7] == RTN_UNICAST;
    kind == RTM_NEWROUTE && payload.first_chunk::<12>().is_some_and(is_default)
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let (header, rest) = payload.split_at_checked(16)?;
    let index = number(&header[4..])?;
    let is_up = number(&header[8..])? & IFF_UP != 0;
    let mut link = Link { index, name: String::new(), kind: String::new(), master: 0, mtu: 0, mac: None, is_up };
    for (kind, value) in attributes(rest) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_ADDRESS => link.mac = Mac::of_octets(value),
            IFLA_MASTER => link.master = number(value)?,
            IFLA_MTU => link.mtu = number(value)?,
            IFLA_LINKINFO => {
                let info = attributes(value);
                link.kind =
                    info.iter().find(|(kind, _)| *kind == IFLA_INFO_KIND).map_or(String::new(), |(_, v)| text(v));
            }
            _ => {}
        }
    }
    Some(link)
}

/// `struct rtmsg`: family, length of the destination, of the source, type of service, table, protocol, scope, kind.
fn parse_route(payload: &[u8], family: Family) -> Option<Route> {
    let (header, rest) = payload.split_at_checked(12)?;
    if header[4] != RT_TABLE_MAIN || header[7] != RTN_UNICAST {
        return None;
    }
    let (mut to, mut through) = (None, 0);
    for (kind, value) in attributes(rest) {
        match (kind, family) {
            (RTA_DST, Family::V4) => to = Prefix::of(IpAddr::from(*value.first_chunk::<4>()?), header[1]),
            (RTA_DST, Family::V6) => to = Prefix::of(IpAddr::from(*value.first_chunk::<16>()?), header[1]),
            (RTA_OIF, _) => through = number(value)?,
            _ => {}
        }
    }
    Some(Route { to, through })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_found_and_another_is_not() {
        let socket = Socket::route().unwrap();
        assert_eq!(socket.link("lo").unwrap().unwrap().index, 1);
        assert_eq!(socket.link("no-such-device").unwrap(), None);
        assert!(socket.links().unwrap().iter().any(|link| link.name == "lo"));
    }
}
