//! The way back of connections that this service makes in the name of others: a socket in the carrier that has a client's
//! address sends from it, and what a container answers to that address is for the socket, not for the world. Packets that
//! belong to such a socket are marked, and what is marked is led to this namespace itself.
//! Documentation/networking/tproxy.rst of the kernel.

use rustix::io::Errno;

use crate::{
    error::{Attempt, Error},
    netlink::{Batch as Netlink, Socket},
    nft::{
        Base, Batch, Expression, Hook,
        expression::{Is, R1},
    },
    prefix::Family,
};

/// Its table, in the carrier.
const TABLE: &str = "strata-returns";
const PREROUTING: &str = "prerouting";
/// "St".
const MARK: u32 = 0x5374;
/// The table of routes for what is marked.
const ROUTES: u8 = 83;

/// Makes the way back in the network namespace of this thread, if it is not there. A kernel that cannot look for sockets
/// (`CONFIG_NFT_SOCKET`) refuses.
pub fn apply() -> Result<(), Error> {
    let attempt = || "let clients keep their addresses".to_owned();
    let mut batch = Batch::of(TABLE);
    batch.add_table();
    // Of nft's priorities the one of mangle: behind connection tracking, before the routing.
    batch.add_chain(PREROUTING, Some(Base { kind: "filter", hook: Hook::PreRouting, priority: -150 }));
    batch.flush_chain(PREROUTING);
    batch.add_rule(
        PREROUTING,
        &[
            Expression::IsTransparent(R1),
            Expression::Compare(R1, Is::So, vec![1]),
            Expression::Value(R1, MARK.to_ne_bytes().to_vec()),
            Expression::Mark(R1),
        ],
    );
    batch.commit(&Socket::netfilter().attempt(attempt)?).attempt(attempt)?;
    let socket = Socket::route().attempt(attempt)?;
    for family in [Family::V4, Family::V6] {
        let (mut rule, mut route) = (Netlink::default(), Netlink::default());
        rule.mark_rule(family, MARK, ROUTES);
        route.add_local_default(family, ROUTES);
        for batch in [rule, route] {
            match socket.send(&batch) {
                // It was made before; or this kernel has no IPv6.
                Ok(()) | Err(Errno::EXIST | Errno::AFNOSUPPORT | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno).attempt(attempt),
            }
        }
    }
    Ok(())
}
