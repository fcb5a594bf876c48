//! Who is at the other end of a loopback connection: the kernel's table of sockets says which user made it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// An established connection, as `/proc/net/tcp` numbers the states.
const ESTABLISHED: &str = "01";

/// Is the process at the other end one of our own user, or of root? `peer` and `local` are the addresses of an accepted
/// connection over loopback.
pub(super) fn is_ours(peer: SocketAddr, local: SocketAddr) -> bool {
    let own = rustix::process::geteuid().as_raw();
    uid_of(peer, local).is_some_and(|uid| (uid == own || uid == 0) && uid != 65_534)
}

/// The user of the socket whose own end is `peer`.
fn uid_of(peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    // A program may reach an IPv4 address through a socket of IPv6.
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| find(&fs::read_to_string(table).ok()?, peer, local))
}

fn find(table: &str, peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (near, far, state) = (fields.next()?, fields.next()?, fields.next()?);
        if state != ESTABLISHED || address(near)? != unmapped(peer) || address(far)? != unmapped(local) {
            return None;
        }
        // After queues, timer and retransmissions: uid, timeout, inode.
        let uid = fields.nth(3)?.parse().ok()?;
        // A socket that no process has belongs to nobody, and the kernel says user 0.
        (fields.nth(1)? != "0").then_some(uid)
    })
}

/// "0100007F:1388", or 32 digits of IPv6: words of 32 bits in the byte order of this machine, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = hex::decode(ip).ok()?;
    if cfg!(target_endian = "little") {
        bytes.chunks_mut(4).for_each(<[u8]>::reverse);
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(unmapped(SocketAddr::new(ip, port)))
}

/// An IPv4 address that is written as IPv6 is one of IPv4. Scopes and flow labels are left out.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Does this Host header name this machine? What a web page of another name makes a browser send does not.
pub(super) fn is_name_of_loopback(host: &str, further: &[String]) -> bool {
    let without_port = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    without_port.eq_ignore_ascii_case("localhost")
        || without_port.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
        || further.iter().any(|name| name.eq_ignore_ascii_case(without_port) || name.eq_ignore_ascii_case(host))
}

/// Is this an address of this machine alone?
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() && ip != Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(ip) => ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0000000000000000
   1: 0100007F:A001 0100007F:1388 01 00000000:00000000 02:000004D2 00000000  1000        0 4711 2 0000000000000000
   2: 0100007F:A002 0100007F:1388 01 00000000:00000000 02:000004D2 00000000     0        0 0 2 0000000000000000
   3: 0100007F:A003 0100007F:1388 05 00000000:00000000 02:000004D2 00000000     0        0 12 2 0000000000000000
   4: 0000000000000000FFFF00000100007F:A004 0000000000000000FFFF00000100007F:1388 01 00000000:00000000 00:00000000 00000000  1001        0 13 1 0
";

    #[test]
    fn the_table_tells_the_user_of_a_connected_socket_and_of_no_other() {
        let registry: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        let user = |port| find(TABLE, SocketAddr::new(registry.ip(), port), registry);

        assert_eq!(user(0xA001), Some(1000));
        assert_eq!(user(0xA002), None, "no process has it");
        assert_eq!(user(0xA003), None, "it is being closed");
        assert_eq!(user(0xA004), Some(1001), "IPv4 through IPv6");
        assert_eq!(user(0xA005), None);
        assert_eq!(find(TABLE, "127.0.0.1:40961".parse().unwrap(), "127.0.0.1:1".parse().unwrap()), None);
    }

    #[test]
    fn a_connection_of_this_process_is_ours() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, peer) = listener.accept().unwrap();
            assert!(is_ours(peer, server.local_addr().unwrap()));
            drop(client);
            assert!(!is_ours(peer, server.local_addr().unwrap()), "it is closed");
        }
    }

    #[test]
    fn only_names_of_this_machine_are_its_names() {
        for host in ["localhost", "LOCALHOST:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "registry.local:5000"]
        {
            assert!(is_name_of_loopback(host, &["registry.local".to_owned()]), "{host}");
        }
        for host in ["", "evil.example:5000", "localhost.evil.example", "10.0.0.1:5000", "[::2]:1", "registry.local"] {
            assert!(!is_name_of_loopback(host, &[]), "{host}");
        }
    }
}
