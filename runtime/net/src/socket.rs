//! Sockets that hold ports of the host: a program that wants such a port is refused by the kernel, and so are we where
//! another program was first.

use std::net::{IpAddr, SocketAddr};

use nix::sys::socket::{
    setsockopt,
    sockopt::{IpBindAddressNoPort, IpTransparent},
};
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with, sockopt},
};
use strata_types::Protocol;

/// Connections that wait until they are accepted: the kernel's own limit.
const BACKLOG: i32 = 4096;

/// A socket that holds a port, and the port: the one that was asked for, or a free one for 0. None: this kernel has no
/// sockets of the protocol, and nobody can take the port.
pub fn hold(protocol: Protocol, address: SocketAddr) -> Result<Option<(OwnedFd, u16)>, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let socket = match socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, number) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => return Ok(None),
        opened => opened?,
    };
    if address.is_ipv6() {
        // IPv4 has a socket of its own.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol != Protocol::Udp {
        // Connections that were closed a moment ago hold nothing up. Who listens does, with this or without it.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    if protocol != Protocol::Udp {
        listen(&socket, BACKLOG)?;
    }
    let port = SocketAddr::try_from(getsockname(&socket)?).map_err(|_| Errno::INVAL)?.port();
    Ok(Some((socket, port)))
}

/// A socket of this thread's network namespace that can be connected to an address; with a client, it has the address of
/// that one, who need not be here.
pub fn open(protocol: Protocol, target: IpAddr, client: Option<IpAddr>) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if protocol == Protocol::Udp { SocketType::DGRAM } else { SocketType::STREAM };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if let Some(client) = client {
        let refused = |errno: nix::errno::Errno| Errno::from_raw_os_error(errno as i32);
        // One flag for both versions of the protocol: ipv6_setsockopt() of the kernel passes this level on.
        setsockopt(&socket, IpTransparent, &true).map_err(refused)?;
        // The port is chosen when it is known where to: else 28,000 connections were all.
        setsockopt(&socket, IpBindAddressNoPort, &true).map_err(refused)?;
        bind(&socket, &SocketAddr::new(client, 0))?;
    }
    Ok(socket)
}

/// First and last of the ports that this host gives to who asks for none: ip_local_port_range of ip-sysctl.rst.
pub fn ephemeral() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|number| number.parse());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if 0 < first && first <= last => (first, last),
        // What the kernel starts with.
        _ => (32768, 60999),
    }
}

/// All addresses of the host, of both versions of the protocol.
pub fn everywhere() -> Vec<IpAddr> {
    vec![IpAddr::from([0_u8; 4]), IpAddr::from([0_u8; 16])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_held_once() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
            let (first, port) = hold(protocol, any).unwrap().unwrap();
            let same = SocketAddr::new(any.ip(), port);
            assert_eq!(hold(protocol, same).unwrap_err(), Errno::ADDRINUSE, "{protocol}");
            let all = SocketAddr::new("0.0.0.0".parse().unwrap(), port);
            assert_eq!(hold(protocol, all).unwrap_err(), Errno::ADDRINUSE, "{protocol}");
            drop(first);
            assert_eq!(hold(protocol, same).unwrap().unwrap().1, port, "{protocol}");
        }
    }

    #[test]
    fn the_range_of_the_host_is_one() {
        let (first, last) = ephemeral();
        assert!(0 < first && first <= last);
    }
}
