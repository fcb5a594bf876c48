//! Connections that the kernel remembers: ctnetlink, include/uapi/linux/netfilter/nfnetlink_conntrack.h.
//!
//! Rules of NAT are asked once for each connection. Who sends datagrams from one port for ever is one connection: it would
//! go where a port led before, or to the host itself, as long as it does not fall silent.

use rustix::io::Errno;
use strata_types::Protocol;

use crate::{
    netlink::{ACK, Batch, DUMP, Socket, attributes},
    ports::Mapping,
};

/// NFNL_SUBSYS_CTNETLINK, in the high byte of a message's kind; IPCTNL_MSG_CT_GET and IPCTNL_MSG_CT_DELETE.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// CTA_TUPLE_ORIG, and what is in it.
const ORIGINAL: u16 = 1;
const PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const DESTINATION_PORT: u16 = 3;
/// `struct nfgenmsg`: the version of the protocol, then three bytes of nothing.
const HEADER: usize = 4;

/// Forgets the connections to ports of the host that lead elsewhere from now on. TCP ends its connections itself.
/// Errors are returned for the log: a kernel without ctnetlink forgets by itself, half a minute after the last datagram.
pub fn forget<'a>(mappings: impl Iterator<Item = &'a Mapping>) -> Result<(), Errno> {
    let datagrams = mappings.filter(|one| one.is_kernels() && one.published.port.protocol != Protocol::Tcp);
    let mut ports: Vec<(u8, u16)> =
        datagrams.map(|one| (one.published.port.protocol.number(), one.published.host_port)).collect();
    if ports.is_empty() {
        return Ok(());
    }
    ports.sort_unstable();
    let socket = Socket::netfilter().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let mut all = Batch::default();
    all.message(GET, DUMP, &[0; HEADER], |_| {});
    let mut gone = Batch::default();
    socket.ask(&all, |_, payload| {
        let Some(header) = payload.first_chunk::<HEADER>() else { return };
        let tuple = attributes(&payload[HEADER..]).into_iter().find(|(kind, _)| *kind == ORIGINAL);
        let Some((_, tuple)) = tuple else { return };
        if destination(tuple).is_some_and(|port| ports.binary_search(&port).is_ok()) {
            gone.message(DELETE, ACK, &[header[0], 0, 0, 0], |message| {
                message.nest(ORIGINAL, &[], |nest| {
                    attributes(tuple).iter().for_each(|(kind, value)| nest.raw(*kind, value))
                });
            });
        }
    })?;
    match socket.send(&gone) {
        // It ended by itself meanwhile.
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// Protocol and port that a connection was made to.
fn destination(tuple: &[u8]) -> Option<(u8, u16)> {
    let within = attributes(tuple).into_iter().find(|(kind, _)| *kind == PROTOCOL)?.1;
    let within = attributes(within);
    let value = |wanted| within.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
    let port = u16::from_be_bytes(*value(DESTINATION_PORT)?.first_chunk()?);
    Some((*value(PROTOCOL_NUMBER)?.first()?, port))
}
