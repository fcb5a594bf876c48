//! Which program of the host has a port: proc(5), /proc/net/tcp and its like, and the descriptors of processes.
//! Only for messages: what is read may have changed since.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use strata_types::Protocol;

/// TCP_LISTEN of include/net/tcp_states.h, as /proc/net/tcp shows it.
const LISTENS: &str = "0A";

/// The program that keeps others from a port, "nginx (process 123)". None: it cannot be found.
pub fn holder(protocol: Protocol, wanted: SocketAddr) -> Option<String> {
    let files: &[&str] = match protocol {
        Protocol::Tcp => &["tcp", "tcp6"],
        Protocol::Udp => &["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    // The network namespace of the thread that looks.
    let texts = files.iter().filter_map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok());
    let mut inodes = texts.flat_map(|text| inodes_of(&text, protocol, wanted)).collect::<Vec<_>>();
    inodes.dedup();
    inodes.iter().find_map(|inode| program_with(*inode))
}

/// Numbers of the sockets that are bound to an address.
fn inodes_of(table: &str, protocol: Protocol, wanted: SocketAddr) -> Vec<u64> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = address(fields.get(1)?)?;
        let is_held = protocol != Protocol::Tcp || *fields.get(3)? == LISTENS;
        (is_held && meets(address, wanted)).then(|| fields.get(9)?.parse().ok())?
    };
    table.lines().skip(1).filter_map(row).filter(|inode| *inode != 0).collect()
}

/// Whether one of two sockets keeps the other from being bound. Those of all IPv6 addresses may be of IPv4 too.
fn meets(one: SocketAddr, two: SocketAddr) -> bool {
    let is_same = one.ip() == two.ip() || one.ip().to_canonical() == two.ip();
    one.port() == two.port() && (is_same || one.ip().is_unspecified() || two.ip().is_unspecified())
}

/// "0100007F:1F90": words of four bytes in the order of this machine, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<[u8; 4]>> = (0..address.len() / 8)
        .map(|at| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    let bytes = words?.concat();
    let address = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// A process that has a socket among its descriptors.
fn program_with(inode: u64) -> Option<String> {
    let link = format!("socket:[{inode}]");
    let has_it = |process: &Path| {
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        descriptors.into_iter().any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
    };
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if has_it(&entry.path()) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            // A process chooses its name itself.
            let name: String = name.trim_end().chars().filter(|letter| !letter.is_control()).collect();
            return Some(format!("{name} (process {pid})"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_test_itself_is_found_by_its_sockets() {
        let own = format!("(process {})", std::process::id());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (protocol, address) in
            [(Protocol::Tcp, listener.local_addr().unwrap()), (Protocol::Udp, socket.local_addr().unwrap())]
        {
            for wanted in [address, SocketAddr::new("0.0.0.0".parse().unwrap(), address.port())] {
                let found = holder(protocol, wanted).unwrap();
                assert!(found.ends_with(&own), "{found}");
            }
        }
    }

    #[test]
    fn rows_of_the_kernel_are_read_and_others_are_not() {
        let local = |text| address(text).map(|address| address.to_string());
        if cfg!(target_endian = "little") {
            assert_eq!(local("0100007F:1F90").as_deref(), Some("127.0.0.1:8080"));
            assert_eq!(local("00000000000000000000000001000000:0050").as_deref(), Some("[::1]:80"));
        }
        for text in ["", ":", "0100007F", "0100007F:x", "01:1F90", "é00007F:1F90"] {
            assert_eq!(local(text), None, "{text:?}");
        }
        assert!(inodes_of("head\nshort\n  0: x y z\n", Protocol::Tcp, "0.0.0.0:80".parse().unwrap()).is_empty());
    }
}
