//! Ports of the host that lead to containers: what is published, and where it leads. `networks` chooses and keeps them,
//! `firewall::ports` has the kernel's part, `socket` holds them so that no other program gets them.

use std::net::{IpAddr, SocketAddr};

use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};
use strata_types::{ContainerId, Port};

use crate::{endpoint::Endpoint, prefix::Family};

/// A port of the host that leads to one of a container. It is part of the container's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Published {
    /// The container's port.
    pub port: Port,
    /// Address of the host; 0.0.0.0 and :: are all of its addresses of that version.
    pub address: IpAddr,
    /// Port of the host.
    pub host_port: u16,
}

/// A published port, and where it leads now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// What is published.
    pub published: Published,
    /// Address and port of the container.
    pub target: SocketAddr,
    /// Interface of its network on the host.
    pub bridge: String,
}

/// A port of the host that is held. What the kernel's rules do not lead to the container arrives at the socket.
#[derive(Debug)]
pub struct Door {
    /// What is published.
    pub published: Published,
    /// Listening (TCP, SCTP) or bound (UDP). None: this kernel has no sockets of the protocol.
    pub socket: Option<OwnedFd>,
    /// The same in a carrier, for what containers send to their own gateway. On a host it is the one above.
    pub within: Option<OwnedFd>,
    /// Address and port of the container.
    pub target: SocketAddr,
}

/// A container that has ports, or wants some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its id.
    pub id: ContainerId,
    /// Its name, for those who want the same port.
    pub name: String,
}

/// A container that ran before this service was started.
#[derive(Debug, Clone)]
pub struct Survivor {
    /// Who it is.
    pub owner: Owner,
    /// What it has of networks.
    pub endpoints: Vec<Endpoint>,
    /// Its ports.
    pub published: Vec<Published>,
}

impl Published {
    /// Where it leads: an address of the same version of the protocol, else the other one.
    pub fn target(&self, endpoint: &Endpoint) -> Option<SocketAddr> {
        let held = endpoint.address(Family::of(self.address)).or(endpoint.addresses.first())?;
        Some(SocketAddr::new(held.address, self.port.number))
    }

    /// Whether both are the same port of an address.
    fn meets(&self, other: &Self) -> bool {
        let (one, two) = (self.address, other.address);
        self.port.protocol == other.port.protocol
            && self.host_port == other.host_port
            && one.is_ipv4() == two.is_ipv4()
            && (one == two || one.is_unspecified() || two.is_unspecified())
    }
}

impl Mapping {
    /// Whether rules of the kernel lead there: not from one version of the protocol to the other, and not from ::1, which
    /// is nobody's source but the host's.
    pub fn is_kernels(&self) -> bool {
        let address = self.published.address;
        address.is_ipv4() == self.target.is_ipv4() && (address.is_ipv4() || !address.is_loopback())
    }

    /// Whether 127.0.0.1 leads there too.
    pub fn has_loopback(&self) -> bool {
        let address = self.published.address;
        self.is_kernels() && address.is_ipv4() && (address.is_loopback() || address.is_unspecified())
    }

    /// Whether another port cannot be had beside it.
    pub fn excludes(&self, other: &Published) -> bool {
        self.published.meets(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(text: &str) -> Published {
        let address: SocketAddr = text.parse().unwrap();
        Published { port: "80/tcp".parse().unwrap(), address: address.ip(), host_port: address.port() }
    }

    fn mapping(host: &str, target: &str) -> Mapping {
        Mapping { published: published(host), target: target.parse().unwrap(), bridge: "st-test".into() }
    }

    #[test]
    fn ports_meet_on_one_address_and_on_all() {
        for (one, two, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("0.0.0.0:80", "[::]:80", false),
            ("[::]:80", "[::1]:80", true),
        ] {
            assert_eq!(mapping(one, "10.0.0.2:80").excludes(&published(two)), expected, "{one} {two}");
        }
        let udp = Published { port: "80/udp".parse().unwrap(), ..published("0.0.0.0:80") };
        assert!(!mapping("0.0.0.0:80", "10.0.0.2:80").excludes(&udp));
    }

    #[test]
    fn the_kernel_leads_within_one_version_of_the_protocol() {
        for (host, target, is_kernels, has_loopback) in [
            ("0.0.0.0:80", "10.0.0.2:80", true, true),
            ("127.0.0.1:80", "10.0.0.2:80", true, true),
            ("192.0.2.1:80", "10.0.0.2:80", true, false),
            ("[::]:80", "[fd00::2]:80", true, false),
            ("[::1]:80", "[fd00::2]:80", false, false),
            ("[::]:80", "10.0.0.2:80", false, false),
            ("0.0.0.0:80", "[fd00::2]:80", false, false),
        ] {
            let mapping = mapping(host, target);
            assert_eq!((mapping.is_kernels(), mapping.has_loopback()), (is_kernels, has_loopback), "{host} {target}");
        }
    }
}
