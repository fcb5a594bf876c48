//! Published ports in the table: maps from an address and a port of the host to those of a container. A packet is looked
//! up, whatever their number; one container's ports are elements that come and go without touching a rule.
//!
//! The client's address stays as it is, but for 127.0.0.1, which gets the gateway's: nobody could answer it.

use std::net::{IpAddr, Ipv6Addr};

use super::{BRIDGES, POSTROUTING, interface, rule};
use crate::{
    error::{Attempt, Error},
    netlink::Socket,
    nft::{
        Base, Batch, Element, Expression, Field, Hook, Set, Verdict,
        expression::{Is, Meta, Payload, R1, Register},
    },
    ports::Mapping,
    prefix::{Family, octets},
};

const RAW: &str = "raw";
const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";

/// Where a port is looked up.
struct Place {
    family: Family,
    /// From address, protocol and port, or from protocol and port alone, to those of a container.
    ports: Set,
    /// The same keys behind the interface of the container's own network: what comes from there is not led by the
    /// kernel, which would lead it back to where it comes from. With `bridge-nf-call-iptables` bridges lose such packets.
    own: Set,
}

/// The place of one address of the host, and that of all.
const PLACES: [Place; 4] = {
    use Field::{Address4, Address6, Interface, Port, Protocol};
    const fn place(
        family: Family,
        names: [&'static str; 2],
        key: &'static [Field],
        own: &'static [Field],
        data: &'static [Field],
    ) -> Place {
        Place {
            family,
            ports: Set { name: names[0], key, data: Some(data), is_interval: false },
            own: Set { name: names[1], key: own, data: None, is_interval: false },
        }
    }
    [
        place(
            Family::V4,
            ["ports4", "own4"],
            &[Address4, Protocol, Port],
            &[Interface, Address4, Protocol, Port],
            &[Address4, Port],
        ),
        place(
            Family::V4,
            ["ports4_all", "own4_all"],
            &[Protocol, Port],
            &[Interface, Protocol, Port],
            &[Address4, Port],
        ),
        place(
            Family::V6,
            ["ports6", "own6"],
            &[Address6, Protocol, Port],
            &[Interface, Address6, Protocol, Port],
            &[Address6, Port],
        ),
        place(
            Family::V6,
            ["ports6_all", "own6_all"],
            &[Protocol, Port],
            &[Interface, Protocol, Port],
            &[Address6, Port],
        ),
    ]
};

impl Place {
    /// It is that of one address.
    fn has_address(&self) -> bool {
        self.ports.key.len() == 3
    }
}

/// Adds chains, maps and what is in them to a batch that makes the whole table.
pub(super) fn add(batch: &mut Batch, mappings: &[&Mapping]) {
    // Priorities of nft: raw is -300, dstnat -100.
    batch.add_chain(RAW, Some(Base { kind: "filter", hook: Hook::PreRouting, priority: -300 }));
    batch.add_chain(PREROUTING, Some(Base { kind: "nat", hook: Hook::PreRouting, priority: -100 }));
    batch.add_chain(OUTPUT, Some(Base { kind: "nat", hook: Hook::Output, priority: -100 }));
    [RAW, PREROUTING, OUTPUT].iter().for_each(|chain| batch.flush_chain(chain));
    for place in &PLACES {
        let elements = mappings.iter().filter_map(|mapping| elements(place, mapping));
        let (ports, own): (Vec<Element>, Vec<Element>) = elements.unzip();
        for (set, elements) in [(&place.ports, ports), (&place.own, own)] {
            batch.add_set(set);
            batch.flush_set(set);
            batch.add_elements(set, &elements);
        }
    }
    no_loopback_from_outside(batch);
    for place in &PLACES {
        leave_own(batch, place);
    }
    for chain in [PREROUTING, OUTPUT] {
        PLACES.iter().for_each(|place| redirect(batch, chain, place));
    }
    // 127.0.0.1 cannot be answered from afar.
    let matches: [&[Expression]; 3] = [
        &Expression::family(Family::V4),
        &Expression::loopback(Payload::Source(Family::V4)),
        &Expression::interface(Meta::OutInterface, BRIDGES.name, Is::So),
    ];
    rule(batch, POSTROUTING, &matches, &[Expression::Masquerade]);
}

/// Bridges pass packets of 127.0.0.0/8 on, so that the host reaches its published ports there. Nobody else may send or
/// get such (CVE-2020-8558), neither the neighbours of the host nor its containers.
fn no_loopback_from_outside(batch: &mut Batch) {
    let mut lo = b"lo".to_vec();
    lo.resize(16, 0);
    let outside = [Expression::Meta(Meta::InInterface, R1), Expression::Compare(R1, Is::Not, lo)];
    for part in [Payload::Destination(Family::V4), Payload::Source(Family::V4)] {
        let matches: [&[Expression]; 3] = [&outside, &Expression::family(Family::V4), &Expression::loopback(part)];
        rule(batch, RAW, &matches, &[Expression::Verdict(Verdict::Drop)]);
    }
}

/// Loads what a packet is looked up by, from a register on.
fn load(place: &Place, from: u32) -> Vec<Expression> {
    let (mut key, mut at) = (Vec::new(), from);
    if place.has_address() {
        key.push(Expression::Payload(Payload::Destination(place.family), Register::word(at)));
        at += words(place.family);
    }
    key.push(Expression::Meta(Meta::Protocol, Register::word(at)));
    key.push(Expression::Payload(Payload::DestinationPort, Register::word(at + 1)));
    key
}

/// Words of an address.
fn words(family: Family) -> u32 {
    match family {
        Family::V4 => 1,
        Family::V6 => 4,
    }
}

/// Leaves what a container sends to a port of its own network to the socket that holds the port.
fn leave_own(batch: &mut Batch, place: &Place) {
    let interface = [Expression::Meta(Meta::InInterface, R1)];
    let own = [Expression::In(place.own.name, R1, Is::So)];
    let matches: [&[Expression]; 4] = [&Expression::family(place.family), &interface, &load(place, 4), &own];
    rule(batch, PREROUTING, &matches, &[Expression::Verdict(Verdict::Accept)]);
}

/// Looks a packet up and leads it on.
fn redirect(batch: &mut Batch, chain: &str, place: &Place) {
    let Place { family, ports, .. } = place;
    let mut matches = Expression::family(*family).to_vec();
    if !place.has_address() {
        // Nothing leaves the host with the source ::1, and no rule may change that: the socket answers there.
        let own = IpAddr::from(Ipv6Addr::LOCALHOST);
        if *family == Family::V6 {
            matches.push(Expression::Payload(Payload::Destination(*family), R1));
            matches.push(Expression::Compare(R1, Is::Not, octets(own)));
        }
        matches.extend(Expression::to_this_host());
    }
    matches.extend(load(place, 0));
    let (address, port) = (Register::word(0), Register::word(words(*family)));
    let end = [Expression::Map(ports.name, address, address), Expression::Redirect(*family, address, port)];
    rule(batch, chain, &[&matches], &end);
}

/// Removes ports and adds others, all or nothing.
pub fn change(table: &str, gone: &[&Mapping], new: &[&Mapping]) -> Result<(), Error> {
    if gone.iter().chain(new).all(|mapping| !mapping.is_kernels()) {
        return Ok(());
    }
    let socket = Socket::netfilter().attempt(|| "speak to nftables".to_owned())?;
    let mut batch = Batch::of(table);
    for place in &PLACES {
        let of = |mappings: &[&Mapping]| -> (Vec<Element>, Vec<Element>) {
            mappings.iter().filter_map(|mapping| elements(place, mapping)).unzip()
        };
        let ((ports, own), (new_ports, new_own)) = (of(gone), of(new));
        let keys: Vec<Element> = ports.into_iter().map(|element| Element::of(element.key)).collect();
        batch.delete_elements(&place.ports, &keys);
        batch.delete_elements(&place.own, &own);
        batch.add_elements(&place.ports, &new_ports);
        batch.add_elements(&place.own, &new_own);
    }
    batch.commit(&socket).attempt(|| format!("change the ports of table {table} of nftables"))
}

/// The elements of a port in its place, unless a program has to pass it on.
fn elements(place: &Place, mapping: &Mapping) -> Option<(Element, Element)> {
    let published = &mapping.published;
    let is_here = Family::of(published.address) == place.family
        && place.has_address() != published.address.is_unspecified()
        && mapping.is_kernels();
    if !is_here {
        return None;
    }
    let mut key = if place.has_address() { octets(published.address) } else { Vec::new() };
    key.extend([published.port.protocol.number(), 0, 0, 0]);
    key.extend(word_of(published.host_port));
    let own = [interface(&mapping.bridge), key.clone()].concat();
    let data = [octets(mapping.target.ip()), word_of(mapping.target.port()).to_vec()].concat();
    Some((Element { data, ..Element::of(key) }, Element::of(own)))
}

/// A port in a register.
fn word_of(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}
