//! What several tests need, and tests of all of it together: each in a network namespace of its own, where it is root.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    thread,
    time::Duration,
};

use jiff::Timestamp;
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use strata_types::{ContainerId, NetworkId, NetworkName};
use tempfile::TempDir;

use crate::{
    endpoint::{Attachment, Endpoint},
    error::Error,
    mac::Mac,
    namespace::Namespace,
    netlink::{Batch, Socket},
    network::{Driver, Network, PoolWish, Wish},
    networks::Networks,
    nft,
    place::{Carrier, Place},
    ports::{Owner, Survivor},
    prefix::Family,
    route::Veth,
    watch::Watch,
};

/// A network with one subnet.
pub fn network(subnet: &str) -> Network {
    Network {
        version: 1,
        id: NetworkId::from_bytes([7; 32]),
        name: NetworkName::parse("net").unwrap(),
        driver: Driver::Bridge,
        pools: vec![PoolWish::of(subnet.parse().unwrap()).settle().unwrap()],
        is_internal: false,
        interface: "st-test".into(),
        has_own_interface: true,
        mtu: 1500,
        is_open_within: true,
        has_masquerade: true,
        host_binding: None,
        labels: BTreeMap::new(),
        created_at: Timestamp::UNIX_EPOCH,
    }
}

fn wish(name: &str) -> Wish {
    Wish::bridge(NetworkName::parse(name).unwrap())
}

/// A namespace with nothing in it but a loopback device that is up.
fn empty() -> Namespace {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        set_up("lo");
        Namespace::own().unwrap()
    });
    made.join().unwrap()
}

fn set_up(name: &str) {
    let mut batch = Batch::default();
    batch.set_up(name);
    Socket::route().unwrap().send(&batch).unwrap();
}

/// A host, with the thread of the test in it.
struct Lab {
    root: TempDir,
    networks: Networks,
    count: u8,
}

/// A container: a namespace, and what it has of its networks.
struct Guest {
    id: ContainerId,
    namespace: Namespace,
    endpoints: Vec<Endpoint>,
}

impl Lab {
    /// None where the test may not make namespaces: it says so.
    fn open() -> Option<Self> {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("skipped: it needs root");
            return None;
        }
        set_up("lo");
        let root = tempfile::tempdir().unwrap();
        let (networks, complaints) = Networks::open(root.path(), Place::Host, &[]).unwrap();
        assert!(complaints.is_empty(), "{complaints:?}");
        Some(Self { root, networks, count: 0 })
    }

    fn guest(&mut self, attachments: &[Attachment]) -> Guest {
        self.try_guest(attachments).unwrap()
    }

    fn try_guest(&mut self, attachments: &[Attachment]) -> Result<Guest, Error> {
        self.count += 1;
        let (id, namespace) = (ContainerId::from_bytes([self.count; 32]), empty());
        let reserved = self.networks.reserve(&id, attachments, &BTreeSet::new())?;
        for (endpoint, network) in &reserved {
            endpoint.attach(&Place::Host, network, &namespace)?;
        }
        Ok(Guest { id, namespace, endpoints: reserved.into_iter().map(|(endpoint, _)| endpoint).collect() })
    }

    /// The world: a namespace behind the host's interface 203.0.113.1 and 2001:db8::1.
    fn world(&self) -> Namespace {
        let (world, socket) = (empty(), Socket::route().unwrap());
        let mut batch = Batch::default();
        batch.new_bridge("uplink", Mac::of_random([9; 5]), 1500);
        batch.set_up("uplink");
        socket.send(&batch).unwrap();
        let bridge = socket.link("uplink").unwrap().unwrap().index;
        let mut batch = Batch::default();
        let mac = Mac::of_random([8; 5]);
        batch.new_veth(&Veth { host: "up0", bridge, inside: "net0", mac, namespace: world.as_fd(), mtu: 1500 });
        batch.set_up("up0");
        for (address, length) in [("203.0.113.1", 24), ("2001:db8::1", 64)] {
            batch.add_address(bridge, address.parse().unwrap(), length);
        }
        batch.add_default_route(Family::V4, Some("203.0.113.9".parse().unwrap()), bridge);
        batch.add_default_route(Family::V6, Some("2001:db8::9".parse().unwrap()), bridge);
        socket.send(&batch).unwrap();
        let inside = || {
            let socket = Socket::route().unwrap();
            let index = socket.link("net0").unwrap().unwrap().index;
            let mut batch = Batch::default();
            for (address, length) in [("203.0.113.9", 24), ("2001:db8::9", 64)] {
                batch.add_address(index, address.parse().unwrap(), length);
            }
            batch.set_up("net0");
            // The world knows the way to every subnet: what protects containers is not that nobody finds them.
            batch.add_default_route(Family::V4, Some("203.0.113.1".parse().unwrap()), index);
            batch.add_default_route(Family::V6, Some("2001:db8::1".parse().unwrap()), index);
            socket.send(&batch).unwrap();
        };
        world.enter(inside).unwrap();
        world
    }
}

impl Guest {
    fn address(&self, index: usize, family: Family) -> IpAddr {
        self.endpoints[index].address(family).unwrap().address
    }
}

fn to(network: &str) -> Attachment {
    Attachment { network: network.into(), ..Attachment::default() }
}

/// A server in a namespace that says to each client what its address is.
fn serve(namespace: &Namespace, port: u16) {
    let listener = namespace.enter(|| TcpListener::bind(("::", port)).unwrap()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_canonical();
            let _gone = stream.write_all(peer.to_string().as_bytes());
        }
    });
}

/// What a server says to a client in a namespace; None: nobody answers.
fn ask(namespace: &Namespace, address: IpAddr, port: u16) -> Option<String> {
    namespace
        .enter(|| {
            let mut stream =
                TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_millis(700)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            Some(text)
        })
        .unwrap()
}

/// What a server says that is to be reached. A port that was made a moment ago may not pass anything yet, and the first
/// packet is sent again only after a second.
fn hear(namespace: &Namespace, address: IpAddr, port: u16) -> Option<String> {
    (0..5).find_map(|_| ask(namespace, address, port))
}

/// Who reaches whom: containers of two networks, of one that is internal, of one that is closed within, and the world.
fn isolation_is_whole(lab: &mut Lab, world: &Namespace) {
    let guests: Vec<Guest> =
        ["one", "one", "two", "shut", "shut", "closed", "closed"].map(|network| lab.guest(&[to(network)])).into();
    guests.iter().for_each(|guest| serve(&guest.namespace, 80));
    for family in [Family::V4, Family::V6] {
        let reaches = |from: usize, to: usize| ask(&guests[from].namespace, guests[to].address(0, family), 80);
        let hears = |from: usize, to: usize| hear(&guests[from].namespace, guests[to].address(0, family), 80);
        for (from, to, is_open) in [
            (0, 1, true),
            (1, 0, true),
            (0, 2, false),
            (2, 0, false),
            (0, 3, false),
            (3, 0, false),
            (3, 4, true),
            (5, 6, false),
            (5, 0, false),
        ] {
            let expected = is_open.then(|| guests[from].address(0, family).to_string());
            let heard = if is_open { hears(from, to) } else { reaches(from, to) };
            assert_eq!(heard, expected, "{family:?} from {from} to {to}");
        }
        // Straight from outside to an address that is not published.
        assert_eq!(ask(world, guests[0].address(0, family), 80), None, "{family:?}");
        let (outside, host) = match family {
            Family::V4 => ("203.0.113.9", "203.0.113.1"),
            Family::V6 => ("2001:db8::9", "2001:db8::1"),
        };
        let out = |from: usize| hear(&guests[from].namespace, outside.parse().unwrap(), 80);
        assert_eq!(out(0).as_deref(), Some(host), "{family:?}: what goes out has the host's address");
        assert_eq!(out(5).as_deref(), Some(host), "{family:?}");
        assert_eq!(
            ask(&guests[3].namespace, outside.parse().unwrap(), 80),
            None,
            "{family:?}: nothing leaves an internal network"
        );
    }
    for guest in &guests {
        lab.networks.release(&guest.id);
        guest.endpoints.iter().for_each(|endpoint| endpoint.detach(&Place::Host, None).unwrap());
    }
}

#[test]
fn networks_are_isolated_before_and_after_their_rules_are_flushed() {
    let Some(mut lab) = Lab::open() else { return };
    let world = lab.world();
    serve(&world, 80);
    for name in ["one", "two"] {
        lab.networks.create(Wish { has_ipv6: true, ..wish(name) }).unwrap();
    }
    lab.networks.create(Wish { has_ipv6: true, is_internal: true, ..wish("shut") }).unwrap();
    lab.networks.create(Wish { has_ipv6: true, is_open_within: false, ..wish("closed") }).unwrap();
    isolation_is_whole(&mut lab, &world);

    let watch = Watch::open().unwrap();
    let socket = Socket::netfilter().unwrap();
    let mut flush = nft::Batch::of(lab.networks.table());
    flush.delete_table();
    flush.commit(&socket).unwrap();
    watch.until_gone(lab.networks.table()).unwrap();
    lab.networks.apply_firewall().unwrap();

    isolation_is_whole(&mut lab, &world);
}

#[test]
fn a_container_has_several_networks_and_one_way_out() {
    let Some(mut lab) = Lab::open() else { return };
    let world = lab.world();
    serve(&world, 80);
    lab.networks.create(Wish { is_internal: true, ..wish("inner") }).unwrap();
    lab.networks.create(wish("outer")).unwrap();
    let other = lab.guest(&[to("inner")]);
    serve(&other.namespace, 80);

    let guest =
        lab.guest(&[to("inner"), Attachment { mac: Some("02:00:00:00:00:07".parse().unwrap()), ..to("outer") }]);

    assert_eq!(guest.endpoints[0].interface, "eth0");
    assert_eq!((guest.endpoints[1].interface.as_str(), guest.endpoints[1].is_way_out), ("eth1", true));
    assert!(hear(&guest.namespace, other.address(0, Family::V4), 80).is_some());
    assert_eq!(hear(&guest.namespace, "203.0.113.9".parse().unwrap(), 80).as_deref(), Some("203.0.113.1"));
    let address = guest.namespace.enter(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap()).unwrap();
    assert!(!address.contains("eth"), "IPv6 is off where the network has none: {address}");
}

#[test]
fn what_is_made_goes_and_other_tables_stay() {
    let Some(mut lab) = Lab::open() else { return };
    let socket = Socket::netfilter().unwrap();
    let mut foreign = nft::Batch::of("foreign");
    foreign.add_table();
    foreign.add_chain("kept", None);
    foreign.commit(&socket).unwrap();
    let before = Socket::route().unwrap().links().unwrap();

    for _ in 0..3 {
        let network = lab.networks.create(wish("gone")).unwrap();
        let guest = lab.guest(&[to("gone")]);
        let refused = lab.networks.delete(&network.id).unwrap_err();
        assert!(matches!(refused, Error::InUse { .. }), "{refused}");
        guest.endpoints[0].detach(&Place::Host, None).unwrap();
        guest.endpoints[0].detach(&Place::Host, None).unwrap();
        lab.networks.release(&guest.id);
        lab.networks.delete(&network.id).unwrap();
    }

    assert_eq!(Socket::route().unwrap().links().unwrap(), before);
    let mut own = nft::Batch::of(lab.networks.table());
    own.delete_table();
    assert!(own.commit(&socket).is_err(), "the table is gone with the last network");
    let mut foreign = nft::Batch::of("foreign");
    foreign.delete_table();
    foreign.commit(&socket).unwrap();
    assert!(lab.root.path().join("networks").read_dir().unwrap().next().is_none());
}

#[test]
fn after_a_restart_the_host_is_what_the_records_say() {
    let Some(mut lab) = Lab::open() else { return };
    lab.networks.create(wish("kept")).unwrap();
    let (kept, lost) = (lab.guest(&[to("kept")]), lab.guest(&[to("kept")]));
    serve(&kept.namespace, 80);
    let socket = Socket::route().unwrap();
    // Another runtime's, or nobody's.
    let link = socket.link(&lab.networks.find("kept").unwrap().interface).unwrap().unwrap();
    let mut batch = Batch::default();
    let mac = Mac::of_random([1; 5]);
    batch.new_veth(&Veth {
        host: "v123456other",
        bridge: link.index,
        inside: "x",
        mac,
        namespace: lost.namespace.as_fd(),
        mtu: 1500,
    });
    socket.send(&batch).unwrap();

    let owner = Owner { id: kept.id.clone(), name: "kept".into() };
    let running = [Survivor { owner, endpoints: kept.endpoints.clone(), published: vec![] }];
    let (networks, complaints) = Networks::open(lab.root.path(), Place::Host, &running).unwrap();

    assert!(complaints.is_empty(), "{complaints:?}");
    lab.networks = networks;
    let links = socket.links().unwrap();
    let has = |name: &str| links.iter().any(|link| link.name == name);
    assert!(has(&kept.endpoints[0].host_interface) && has("v123456other"));
    assert!(!has(&lost.endpoints[0].host_interface), "the end of a container that does not run is gone");
    let wanted = Attachment { ipv4: Some(kept.address(0, Family::V4)), ..to("kept") };
    assert!(matches!(lab.try_guest(&[wanted]), Err(Error::AddressTaken { .. })));
    let next = lab.guest(&[to("kept")]);
    assert_eq!(next.address(0, Family::V4), lost.address(0, Family::V4));
    assert!(hear(&next.namespace, kept.address(0, Family::V4), 80).is_some());

    // The host was started again: nothing is there but the records.
    let mut batch = Batch::default();
    batch.delete_link(link.index);
    socket.send(&batch).unwrap();
    let (_, complaints) = Networks::open(lab.root.path(), Place::Host, &[]).unwrap();
    assert!(complaints.is_empty(), "{complaints:?}");
    assert!(socket.link(&link.name).unwrap().is_some());
}

#[test]
fn what_a_root_that_was_removed_left_on_the_host_is_in_nobodys_way() {
    let Some(mut lab) = Lab::open() else { return };
    let address = lab.guest(&[to("bridge")]).address(0, Family::V4);
    std::fs::remove_dir_all(lab.root.path().join("networks")).unwrap();
    lab.networks = Networks::open(lab.root.path(), Place::Host, &[]).unwrap().0;

    let again = lab.guest(&[to("bridge")]);

    assert_eq!(again.address(0, Family::V4), address, "its subnet is free again");
    serve(&again.namespace, 80);
    assert!(hear(&Namespace::own().unwrap(), address, 80).is_some());
}

#[test]
fn bad_wishes_leave_nothing_half_made() {
    let Some(mut lab) = Lab::open() else { return };
    let pool = |subnet: &str| Wish { pools: vec![PoolWish::of(subnet.parse().unwrap())], ..wish("new") };
    lab.networks.create(Wish { name: NetworkName::parse("there").unwrap(), ..pool("10.1.0.0/29") }).unwrap();
    let links = Socket::route().unwrap().links().unwrap();

    let mut refused = |wish: Wish| lab.networks.create(wish).unwrap_err();
    assert!(matches!(refused(pool("10.1.0.0/16")), Error::Overlap { .. }));
    assert!(matches!(refused(wish("there")), Error::NameTaken { .. }));
    assert!(matches!(refused(wish("bridge")), Error::Predefined { .. }));
    assert!(matches!(refused(wish("host")), Error::Predefined { .. }));
    assert!(matches!(refused(Wish { interface: Some("lo".into()), ..wish("new") }), Error::InterfaceTaken { .. }));
    assert!(matches!(refused(Wish { interface: Some("../x".into()), ..wish("new") }), Error::Argument { .. }));
    assert!(matches!(refused(Wish { mtu: Some(10), ..wish("new") }), Error::Argument { .. }));
    assert!(matches!(refused(Wish { has_ipv4: false, ..wish("new") }), Error::Argument { .. }));
    let two = vec![PoolWish::of("10.2.0.0/24".parse().unwrap()), PoolWish::of("10.3.0.0/24".parse().unwrap())];
    assert!(matches!(refused(Wish { pools: two, ..wish("new") }), Error::Argument { .. }));
    let outside = Attachment { ipv4: Some("10.9.0.1".parse().unwrap()), ..to("there") };
    assert!(matches!(lab.try_guest(&[to("there"), outside]), Err(Error::NotInSubnet { .. })));
    assert!(matches!(lab.try_guest(&[to("nowhere")]), Err(Error::NotFound { .. })));
    let six = Attachment { ipv6: Some("fd00::2".parse().unwrap()), ..to("there") };
    assert!(matches!(lab.try_guest(&[six]), Err(Error::NotInSubnet { .. })));

    assert_eq!(Socket::route().unwrap().links().unwrap(), links);
    assert_eq!(lab.root.path().join("networks").read_dir().unwrap().count(), 1);
    // What the failed ones took is free again.
    (0..5).for_each(|_| drop(lab.guest(&[to("there")])));
    assert!(matches!(lab.try_guest(&[to("there")]), Err(Error::NoAddress { .. })));
}

/// A carrier, mounted where only the thread of the test sees it.
fn carrier(root: &TempDir) -> Place {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
    Place::Carrier(Carrier::at(root.path().join("netns")))
}

#[test]
fn networks_in_a_carrier_are_nowhere_else_and_are_found_again() {
    let Some(lab) = Lab::open() else { return };
    let place = carrier(&lab.root);
    let (mut networks, complaints) = Networks::open(lab.root.path(), place.clone(), &[]).unwrap();
    assert!(complaints.is_empty() && !lab.root.path().join("netns").exists(), "it is made when it is needed");
    let ids = [1, 2].map(|number| ContainerId::from_bytes([number; 32]));
    let mut reserve = |id: &ContainerId| networks.reserve(id, &[to("bridge")], &BTreeSet::new()).unwrap().remove(0);
    let guests = ids.each_ref().map(|id| (reserve(id), empty()));
    for ((endpoint, network), namespace) in &guests {
        endpoint.attach(&place, network, namespace).unwrap();
    }

    let addresses = guests.each_ref().map(|((endpoint, _), _)| endpoint.addresses[0].address);
    serve(&guests[1].1, 80);
    assert_eq!(hear(&guests[0].1, addresses[1], 80), Some(addresses[0].to_string()));
    let names = || Socket::route().unwrap().links().unwrap().into_iter().map(|link| link.name).collect::<Vec<_>>();
    assert!(!names().iter().any(|name| name.starts_with("strata") || name.starts_with('v')), "{:?}", names());
    let again = Place::Carrier(Carrier::at(lab.root.path().join("netns")));
    let inside = again.within(|| Ok(names())).unwrap();
    assert_eq!(
        inside.iter().filter(|name| name.starts_with("strata") || name.starts_with('v')).count(),
        3,
        "{inside:?}"
    );
    rustix::mount::unmount(lab.root.path().join("netns"), UnmountFlags::DETACH).unwrap();
}

#[test]
fn a_carrier_that_cannot_be_made_is_told_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let place = Place::Carrier(Carrier::at(root.path().join("no/such/directory")));
    let (mut networks, _) = Networks::open(root.path(), place, &[]).unwrap();
    assert!(matches!(networks.create(wish("new")), Err(Error::NoCarrier { .. })));
    let id = ContainerId::from_bytes([1; 32]);
    assert!(matches!(networks.reserve(&id, &[to("bridge")], &BTreeSet::new()), Err(Error::NoCarrier { .. })));
    assert!(networks.is_empty());
}

mod ports;
