//! Another port for packets of a network namespace to one of its loopback addresses, and back: each packet is changed as it
//! goes out, by rules that keep nothing in mind. Connection tracking would cost every packet of the namespace something.

use std::net::Ipv4Addr;

use crate::{
    error::{Attempt, Error},
    netlink::Socket,
    nft::{
        Base, Batch, Expression, Hook, Verdict,
        expression::{Is, Meta, Payload, R1},
    },
    prefix::Family,
};

/// Its table, in each namespace that has such rules.
const TABLE: &str = "strata-names";
const OUTPUT: &str = "output";
/// IPPROTO_TCP and IPPROTO_UDP, and where their checksums are.
const PROTOCOLS: [(u8, u32); 2] = [(6, 16), (17, 6)];

/// Leads packets to one port of an address to another one, in the network namespace of this thread. What was so before is
/// forgotten.
pub fn apply(address: Ipv4Addr, from: u16, to: u16) -> Result<(), Error> {
    let attempt = || format!("lead port {from} of {address} to port {to}");
    let socket = Socket::netfilter().attempt(attempt)?;
    let mut batch = Batch::of(TABLE);
    batch.add_table();
    // Of nft's priorities the one of raw: before anybody else looks at ports.
    batch.add_chain(OUTPUT, Some(Base { kind: "filter", hook: Hook::Output, priority: -300 }));
    batch.flush_chain(OUTPUT);
    // What leaves the namespace is looked at once.
    let mut loopback = [0; 16];
    loopback[..2].copy_from_slice(b"lo");
    batch.add_rule(
        OUTPUT,
        &[
            Expression::Meta(Meta::OutInterface, R1),
            Expression::Compare(R1, Is::Not, loopback.to_vec()),
            Expression::Verdict(Verdict::Accept),
        ],
    );
    for (protocol, checksum) in PROTOCOLS {
        let ends = [
            (Payload::Destination(Family::V4), Payload::DestinationPort, from, to),
            (Payload::Source(Family::V4), Payload::SourcePort, to, from),
        ];
        for (end, port, old, new) in ends {
            let of_address = [
                Expression::Payload(end, R1),
                Expression::Compare(R1, Is::So, address.octets().to_vec()),
                Expression::Meta(Meta::Protocol, R1),
                Expression::Compare(R1, Is::So, vec![protocol]),
                Expression::Payload(port, R1),
                Expression::Compare(R1, Is::So, old.to_be_bytes().to_vec()),
                Expression::Value(R1, new.to_be_bytes().to_vec()),
                Expression::Write(port, R1, checksum),
            ];
            let rule: Vec<Expression> = Expression::family(Family::V4).into_iter().chain(of_address).collect();
            batch.add_rule(OUTPUT, &rule);
        }
    }
    batch.commit(&socket).attempt(attempt)
}
