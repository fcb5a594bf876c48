//! Notices when the table of the firewall is gone: `nft flush ruleset` and a firewall that starts again remove what is
//! everybody's. Then the rules are made anew (CVE-2025-54410: without them networks are open to each other).

use std::io;

use crate::netlink::{Socket, attributes, text};

/// NFNLGRP_NFTABLES is 7.
const GROUP: u32 = 1 << (7 - 1);
/// NFNL_SUBSYS_NFTABLES and NFT_MSG_DELTABLE.
const TABLE_GONE: u16 = 10 << 8 | 2;
/// NFTA_TABLE_NAME.
const NAME: u16 = 1;
/// `struct nfgenmsg`.
const HEADER: usize = 4;

/// Listens to what happens to tables.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// From now on.
    pub fn open() -> io::Result<Self> {
        Socket::netfilter_groups(GROUP).map(|socket| Self { socket })
    }

    /// Waits until a table of this name was removed, or until messages were lost, which may have said so. Blocks.
    pub fn until_gone(&self, table: &str) -> io::Result<()> {
        let mut is_gone = false;
        while !is_gone {
            let heard = self.socket.listen(|kind, payload| {
                let name =
                    attributes(payload.get(HEADER..).unwrap_or_default()).into_iter().find(|(kind, _)| *kind == NAME);
                is_gone |= kind == TABLE_GONE && name.is_some_and(|(_, name)| text(name) == table);
            });
            match heard {
                Err(rustix::io::Errno::NOBUFS) => return Ok(()),
                heard => heard?,
            }
        }
        Ok(())
    }
}
