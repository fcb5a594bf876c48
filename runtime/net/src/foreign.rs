//! What other programs have told the kernel about packets that pass through this host. It is only read, for whoever looks why
//! something is not reached: a packet must be let pass by the base chains of every table.

use rustix::io::Errno;

use crate::{
    error::{Attempt, Error},
    netlink::{Batch, DUMP, Socket, attributes, text},
};

/// NFNL_SUBSYS_NFTABLES with NFT_MSG_GETCHAIN and NFT_MSG_NEWCHAIN.
const GET_CHAIN: u16 = 10 << 8 | 4;
const CHAIN: u16 = 10 << 8 | 3;
/// `struct nfgenmsg`.
const HEADER: usize = 4;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
/// NF_INET_FORWARD and NF_DROP.
const FORWARD: u32 = 2;
const DROP: u32 = 0;

/// A base chain that drops forwarded packets which none of its rules lets pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barrier {
    /// "ip", "ip6", "inet".
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
}

/// Those of all tables but one.
pub fn barriers(own_table: &str) -> Result<Vec<Barrier>, Error> {
    let attempt = || "read the tables of nftables".to_owned();
    let socket = Socket::netfilter().attempt(attempt)?;
    let mut batch = Batch::default();
    batch.message(GET_CHAIN, DUMP, &[0; HEADER], |_| {});
    let mut found = Vec::new();
    let asked = socket.ask(&batch, |kind, payload| {
        if kind == CHAIN {
            found.extend(barrier(payload).filter(|barrier| barrier.table != own_table));
        }
    });
    match asked {
        // A kernel without nftables has no tables of it.
        Err(Errno::OPNOTSUPP | Errno::INVAL) => Ok(Vec::new()),
        asked => asked.attempt(attempt).map(|()| found),
    }
}

fn barrier(payload: &[u8]) -> Option<Barrier> {
    let (header, rest) = payload.split_at_checked(HEADER)?;
    let family = match header[0] {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        _ => return None,
    };
    let all = attributes(rest);
    let of = |wanted: u16| all.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
    let hook = attributes(of(CHAIN_HOOK)?).into_iter().find(|(kind, _)| *kind == HOOK_NUMBER)?.1;
    let is_barrier = big(hook)? == FORWARD && big(of(CHAIN_POLICY)?)? == DROP;
    is_barrier.then_some(Barrier { family, table: text(of(CHAIN_TABLE)?), chain: text(of(CHAIN_NAME)?) })
}

/// Numbers of nftables are in network order.
fn big(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?))
}
