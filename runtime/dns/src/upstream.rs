//! The servers that this host asks: resolv.conf(5), read again when it has changed.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// The port of servers of names.
pub const PORT: u16 = 53;
/// The most servers that are asked, as with every C library: MAXNS of resolv.h.
const MOST: usize = 3;

/// The servers of this host. They are asked from its own network namespace, so that those on its loopback device are
/// reached too.
#[derive(Debug)]
pub struct Host {
    path: PathBuf,
    known: Mutex<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    servers: Vec<SocketAddr>,
}

/// What changes when a file is changed or another is put in its place.
type Stamp = (u64, u64, i64, i64, u64);

impl Default for Host {
    fn default() -> Self {
        Self::of("/etc/resolv.conf")
    }
}

impl Host {
    /// Those that this file names.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), known: Mutex::new(None) }
    }

    /// Whom to ask now. Where nobody is named, it is this host itself: resolv.conf(5).
    pub fn servers(&self) -> Vec<SocketAddr> {
        let stamp = fs::metadata(&self.path)
            .ok()
            .map(|meta| (meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()));
        // A list is put in whole.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(known), Some(stamp)) = (&*known, stamp)
            && known.stamp == stamp
        {
            return known.servers.clone();
        }
        let mut servers = parse(&fs::read_to_string(&self.path).unwrap_or_default());
        if servers.is_empty() {
            servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
        }
        *known = stamp.map(|stamp| Known { stamp, servers: servers.clone() });
        servers
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    text.lines().filter_map(server).take(MOST).collect()
}

/// The server in "nameserver 10.0.0.1", or in "nameserver fe80::1%eth0".
fn server(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace();
    let ("nameserver", text) = (words.next()?, words.next()?) else { return None };
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    match address.parse().ok()? {
        IpAddr::V4(address) => Some(SocketAddr::from((address, PORT))),
        IpAddr::V6(address) => Some(SocketAddrV6::new(address, PORT, 0, zone.map_or(0, index)).into()),
    }
}

/// The number of an interface, which may be written instead of its name. 0: there is none.
fn index(zone: &str) -> u32 {
    let is_name = !zone.is_empty() && !zone.contains(['/', '.']);
    let of_name = || fs::read_to_string(format!("/sys/class/net/{zone}/ifindex")).ok()?.trim().parse().ok();
    zone.parse().ok().or_else(|| is_name.then(of_name).flatten()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(servers: &[SocketAddr]) -> Vec<String> {
        servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_are_read_as_a_c_library_reads_them() {
        let text = "# comment\nsearch x\n nameserver\t10.0.0.1 rest\nnameserver x\nnameserver fd00::1\nnameserver\nnameserver fe80::1%7\nnameserver 10.0.0.4\n";
        assert_eq!(texts(&parse(text)), ["10.0.0.1:53", "[fd00::1]:53", "[fe80::1%7]:53"]);
        assert_eq!(index("lo"), 1);
        assert_eq!((index("../x"), index("nowhere")), (0, 0));
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let host = Host::of(&path);
        assert_eq!(texts(&host.servers()), ["127.0.0.1:53"], "without a file it is the host itself");

        for address in ["10.0.0.1", "10.0.0.22"] {
            // As systemd-resolved does it: another file in its place.
            let new = dir.path().join("new");
            fs::write(&new, format!("nameserver {address}\n")).unwrap();
            fs::rename(&new, &path).unwrap();
            assert_eq!(texts(&host.servers()), [format!("{address}:53")]);
            assert_eq!(texts(&host.servers()), [format!("{address}:53")]);
        }
        fs::write(&path, "").unwrap();
        assert_eq!(texts(&host.servers()), ["127.0.0.1:53"]);
    }
}
