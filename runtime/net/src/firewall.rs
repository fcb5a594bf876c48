//! The table of nftables that networks have: what may pass between them, and what gets the host's address on its way out.
//! `ports` has what leads from ports of the host to containers.
//!
//! Rules are few and always the same; networks are elements of sets, so that nothing grows but sets. What is here is
//! made anew in one transaction, whenever networks change; the chain `admin` is left as the administrator made it.
//!
//! Other tables are never touched. Of nftables, a packet must be accepted by the base chains of every table: a host
//! whose own `forward` drops what it does not know drops what containers send, until its administrator allows it.

use rustix::io::Errno;

use crate::{
    error::{Attempt, Error},
    netlink::Socket,
    network::Network,
    nft::{
        Base, Batch, Element, Expression, Field, Hook, Set, Verdict,
        expression::{Connection, ESTABLISHED_OR_RELATED, Is, Meta, Payload, R1, R2, TRANSLATED},
    },
    ports::Mapping,
    prefix::{Family, Prefix, octets},
};

pub mod ports;

/// The chain that is the administrator's: forwarded packets of all interfaces go through it first. It is made empty, and
/// never changed.
pub const ADMIN: &str = "admin";
const FORWARD: &str = "forward";
const POSTROUTING: &str = "postrouting";

/// Interfaces of networks.
const BRIDGES: Set = Set { name: "bridges", key: &[Field::Interface], data: None, is_interval: false };
/// Interfaces of networks that nothing leaves.
const INTERNAL: Set = Set { name: "internal", key: &[Field::Interface], data: None, is_interval: false };
/// Interfaces of networks whose containers reach each other, each with itself.
const WITHIN: Set = Set { name: "within", key: &[Field::Interface, Field::Interface], data: None, is_interval: false };
/// Subnets whose addresses nobody outside knows.
const HIDDEN4: Set = Set { name: "hidden4", key: &[Field::Address4], data: None, is_interval: true };
const HIDDEN6: Set = Set { name: "hidden6", key: &[Field::Address6], data: None, is_interval: true };

/// Makes the table what the networks need. Without networks there is none.
pub fn apply(table: &str, networks: &[&Network], mappings: &[&Mapping]) -> Result<(), Error> {
    let socket = Socket::netfilter().attempt(|| "speak to nftables".to_owned())?;
    let attempt = || format!("change the table {table} of nftables");
    // Packets of others do not come by.
    let networks: Vec<&Network> = networks.iter().filter(|network| network.driver.is_bridge()).copied().collect();
    if networks.is_empty() {
        return remove(&socket, table).attempt(attempt);
    }
    rules(table, &networks, mappings).commit(&socket).attempt(attempt)
}

fn remove(socket: &Socket, table: &str) -> Result<(), Errno> {
    let mut batch = Batch::of(table);
    batch.delete_table();
    match batch.commit(socket) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

fn rules(table: &str, networks: &[&Network], mappings: &[&Mapping]) -> Batch {
    let mut batch = Batch::of(table);
    batch.add_table();
    batch.add_chain(ADMIN, None);
    // Priorities of nft: filter is 0, srcnat 100.
    batch.add_chain(FORWARD, Some(Base { kind: "filter", hook: Hook::Forward, priority: 0 }));
    batch.add_chain(POSTROUTING, Some(Base { kind: "nat", hook: Hook::PostRouting, priority: 100 }));
    [FORWARD, POSTROUTING].iter().for_each(|chain| batch.flush_chain(chain));
    let names = |filter: fn(&Network) -> bool| {
        let some = networks.iter().filter(|network| filter(network));
        some.map(|network| Element::of(interface(&network.interface))).collect::<Vec<_>>()
    };
    let within = networks.iter().filter(|network| network.is_open_within);
    let within = within.map(|network| Element::of(interface(&network.interface).repeat(2))).collect();
    for (set, elements) in [
        (BRIDGES, names(|_| true)),
        (INTERNAL, names(|network| network.is_internal)),
        (WITHIN, within),
        (HIDDEN4, hidden(networks, Family::V4)),
        (HIDDEN6, hidden(networks, Family::V6)),
    ] {
        batch.add_set(&set);
        batch.flush_set(&set);
        batch.add_elements(&set, &elements);
    }
    forward(&mut batch);
    for (family, set) in [(Family::V4, HIDDEN4), (Family::V6, HIDDEN6)] {
        let source = [Expression::Payload(Payload::Source(family), R1), Expression::In(set.name, R1, Is::So)];
        let leaves = Expression::interface(Meta::OutInterface, BRIDGES.name, Is::Not);
        rule(&mut batch, POSTROUTING, &[&Expression::family(family), &source, &leaves], &[Expression::Masquerade]);
    }
    ports::add(&mut batch, mappings);
    batch
}

/// What may pass through the host, first match decides.
fn forward(batch: &mut Batch) {
    let accept = [Expression::Verdict(Verdict::Accept)];
    let drop = [Expression::Verdict(Verdict::Drop)];
    let from = |set: Set| Expression::interface(Meta::InInterface, set.name, Is::So);
    let to = |set: Set| Expression::interface(Meta::OutInterface, set.name, Is::So);
    rule(batch, FORWARD, &[], &[Expression::Verdict(Verdict::Jump(ADMIN))]);
    rule(batch, FORWARD, &[&Expression::connection(Connection::State, ESTABLISHED_OR_RELATED)], &accept);
    let pair = [
        Expression::Meta(Meta::InInterface, R1),
        Expression::Meta(Meta::OutInterface, R2),
        Expression::In(WITHIN.name, R1, Is::So),
    ];
    rule(batch, FORWARD, &[&pair], &accept);
    rule(batch, FORWARD, &[&from(INTERNAL)], &drop);
    rule(batch, FORWARD, &[&to(INTERNAL)], &drop);
    // A published port.
    rule(batch, FORWARD, &[&to(BRIDGES), &Expression::connection(Connection::Status, TRANSLATED)], &accept);
    // From another network, or from outside to an address that is not published.
    rule(batch, FORWARD, &[&to(BRIDGES)], &drop);
}

fn rule(batch: &mut Batch, chain: &str, matches: &[&[Expression]], end: &[Expression]) {
    let all: Vec<Expression> = matches.iter().flat_map(|part| part.iter()).chain(end).cloned().collect();
    batch.add_rule(chain, &all);
}

/// The key of an interface: its name in IFNAMSIZ bytes.
fn interface(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}

/// Intervals of the subnets that are hidden behind the host.
fn hidden(networks: &[&Network], family: Family) -> Vec<Element> {
    let hiding = networks.iter().filter(|network| network.has_masquerade && !network.is_internal);
    let subnets = hiding.filter_map(|network| Some(network.pool(family)?.subnet));
    intervals(subnets.collect())
}

/// Elements of intervals that do not overlap; neighbours become one.
fn intervals(mut subnets: Vec<Prefix>) -> Vec<Element> {
    subnets.sort();
    let mut elements: Vec<Element> = Vec::new();
    for subnet in subnets {
        let start = octets(subnet.first());
        match elements.last() {
            Some(end) if end.key == start => drop(elements.pop()),
            _ => elements.push(Element::of(start)),
        }
        // Behind the last address of all there is none: no subnet of containers has it.
        if let Some(next) =
            Prefix::of(subnet.last(), 0).and_then(|all| all.nth(crate::prefix::number(subnet.last()) + 1))
        {
            elements.push(Element { is_end: true, ..Element::of(octets(next)) });
        }
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_interval() {
        let ends = |texts: &[&str]| {
            let elements = intervals(texts.iter().map(|text| text.parse().unwrap()).collect());
            elements.iter().map(|element| (element.key.clone(), element.is_end)).collect::<Vec<_>>()
        };
        let end = |a, b, is_end| (vec![a, b, 0, 0], is_end);
        assert_eq!(
            ends(&["172.19.0.0/16", "172.17.0.0/16", "172.18.0.0/16", "10.0.0.0/16"]),
            [end(10, 0, false), end(10, 1, true), end(172, 17, false), end(172, 20, true)]
        );
        assert!(ends(&[]).is_empty());
    }
}
