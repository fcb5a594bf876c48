//! Network interfaces that move from the host into the container, with as much of rtnetlink(7) as that takes.
//! `prepare` notes index and addresses, the parent moves, the process inside puts the addresses back and brings it up.

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::os::fd::OwnedFd;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_NEW_IFINDEX: u16 = 49;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
const RT_SCOPE_UNIVERSE: u8 = 0;

/// An interface on its way.
pub(crate) struct Interface {
    index: u32,
    name: String,
    addresses: Vec<Address>,
}

/// A permanent address of global scope.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Interface {
    /// Looks an interface of this network namespace up, by its name.
    pub(crate) fn find(host: &str, name: &str) -> Result<Self, Errno> {
        let index = index_of(host)?;
        let mut addresses = Vec::new();
        let request = message(RTM_GETADDR, NLM_F_DUMP, &[0; 8], &[]);
        exchange(&request, |kind, payload| {
            if kind == RTM_NEWADDR {
                addresses.extend(parse_address(payload, index));
            }
        })?;
        Ok(Self { index, name: name.to_owned(), addresses })
    }

    /// Moves it into the network namespace of a process. The kernel refuses a name that is in use there.
    pub(crate) fn move_to(&self, pid: u32) -> Result<(), Errno> {
        let mut attributes =
            vec![(IFLA_NET_NS_PID, pid.to_ne_bytes().to_vec()), (IFLA_IFNAME, nul_terminated(&self.name))];
        if self.is_template() {
            // The name is the kernel's choice, so it is found again by its number.
            attributes.push((IFLA_NEW_IFINDEX, self.index.to_ne_bytes().to_vec()));
        }
        exchange(&message(RTM_NEWLINK, NLM_F_ACK, &link_header(self.index, 0), &attributes), |_, _| {})
    }

    /// Gives it its addresses and brings it up, in the network namespace that it was moved to.
    pub(crate) fn settle(&self) -> Result<(), Errno> {
        let index = if self.is_template() { self.index } else { index_of(&self.name)? };
        for Address { family, prefix, attributes } in &self.addresses {
            let mut header = vec![*family, *prefix, 0, RT_SCOPE_UNIVERSE];
            header.extend(index.to_ne_bytes());
            let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
            exchange(&message(RTM_NEWADDR, flags, &header, attributes), |_, _| {})?;
        }
        exchange(&message(RTM_NEWLINK, NLM_F_ACK, &link_header(index, libc::IFF_UP as u32), &[]), |_, _| {})
    }

    fn is_template(&self) -> bool {
        self.name.contains("%d")
    }
}

fn index_of(name: &str) -> Result<u32, Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::netdevice::name_to_index(socket, name)
}

/// `struct ifinfomsg`: flags that are set are also those that change.
fn link_header(index: u32, flags: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), flags.to_ne_bytes()].concat()
}

fn nul_terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

/// Returns the address of a `struct ifaddrmsg` with attributes, if it is one to keep of this interface.
fn parse_address(payload: &[u8], index: u32) -> Option<Address> {
    let (header, rest) = payload.split_at_checked(8)?;
    let attributes = parse_attributes(rest);
    let find = |kind| attributes.iter().find(|(have, _)| *have == kind).map(|(_, value)| value.as_slice());
    let flags = find(IFA_FLAGS).and_then(|value| Some(u32::from_ne_bytes(value.try_into().ok()?)));
    let is_kept = header[4..8] == index.to_ne_bytes()
        && header[3] == RT_SCOPE_UNIVERSE
        && flags.unwrap_or(u32::from(header[2])) & IFA_F_PERMANENT != 0;
    let kept = attributes.iter().filter(|(kind, _)| matches!(*kind, IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST));
    is_kept.then(|| Address { family: header[0], prefix: header[1], attributes: kept.cloned().collect() })
}

fn parse_attributes(mut rest: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut attributes = Vec::new();
    while let [a, b, c, d, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = rest.get(4..length) else { break };
        attributes.push((u16::from_ne_bytes([c, d]) & 0x3fff, value.to_vec()));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    attributes
}

/// A request: `struct nlmsghdr`, the header of its kind, attributes.
fn message(kind: u16, flags: u16, header: &[u8], attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(header);
    for (kind, value) in attributes {
        bytes.extend((value.len() as u16 + 4).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = (bytes.len() as u32).to_ne_bytes();
    bytes[..4].copy_from_slice(&length);
    bytes
}

/// Sends a request and reads answers until the last.
fn exchange(request: &[u8], mut each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
    // No protocol is number 0, and that is NETLINK_ROUTE.
    let socket: OwnedFd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, request, SendFlags::empty())?;
    let mut buffer = vec![0_u8; 64 << 10];
    loop {
        let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((kind, payload, next)) = split_message(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let errno = payload.first_chunk().map_or(-libc::EPROTO, |code| i32::from_ne_bytes(*code));
                    return if errno == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(-errno)) };
                }
                _ => each(kind, payload),
            }
            rest = next;
        }
    }
}

fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    let payload = bytes.get(16..length)?;
    Some((kind, payload, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_permanent_global_addresses_of_the_interface_are_kept() {
        let address = |index: u32, scope, flags: u32| {
            let mut payload = vec![2, 24, flags as u8, scope];
            payload.extend(index.to_ne_bytes());
            let attributes =
                [(IFA_LOCAL, vec![10, 0, 0, 1]), (3, b"label\0".to_vec()), (IFA_FLAGS, flags.to_ne_bytes().to_vec())];
            payload.extend(&message(0, 0, &[], &attributes)[16..]);
            parse_address(&payload, 7)
        };

        let kept = Address { family: 2, prefix: 24, attributes: vec![(IFA_LOCAL, vec![10, 0, 0, 1])] };
        assert_eq!(address(7, 0, IFA_F_PERMANENT), Some(kept));
        assert_eq!(
            (address(8, 0, IFA_F_PERMANENT), address(7, 253, IFA_F_PERMANENT), address(7, 0, 0)),
            (None, None, None)
        );
    }

    #[test]
    fn a_message_is_read_as_it_was_written_and_a_broken_one_is_none() {
        let bytes = message(RTM_NEWLINK, 0, &link_header(3, 1), &[(IFLA_IFNAME, nul_terminated("eth0"))]);

        let (kind, payload, rest) = split_message(&bytes).unwrap();

        assert_eq!((kind, rest.len()), (RTM_NEWLINK, 0));
        assert_eq!(parse_attributes(&payload[16..]), [(IFLA_IFNAME, b"eth0\0".to_vec())]);
        (0..bytes.len()).for_each(|length| assert!(split_message(&bytes[..length]).is_none(), "{length}"));
        assert!(parse_attributes(&[255, 255, 3, 0, 1]).is_empty() && parse_attributes(&[0, 0, 0, 0]).is_empty());
    }
}
