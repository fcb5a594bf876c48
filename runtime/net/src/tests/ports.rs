//! Published ports: who reaches them, with which address, and what is left of them.

use std::{net::UdpSocket, process::Command};

use rustix::io::Errno;
use strata_types::PortBinding;

use super::*;
use crate::ports::{Door, Published};

const HOST: &str = "203.0.113.1";
const HOST6: &str = "2001:db8::1";
const WORLD: &str = "203.0.113.9";
const WORLD6: &str = "2001:db8::9";

impl Lab {
    fn publish(&mut self, guest: &Guest, ports: &[&str]) -> Result<Vec<Door>, Error> {
        let bindings: Vec<PortBinding> = ports.iter().flat_map(|text| PortBinding::parse(text).unwrap()).collect();
        self.networks.publish(&owner(guest), &bindings, &guest.endpoints)
    }

    fn flush(&self) {
        let mut flush = nft::Batch::of(self.networks.table());
        flush.delete_table();
        flush.commit(&Socket::netfilter().unwrap()).unwrap();
    }

    /// As another service finds it: what is known is what the records say.
    fn restart(&mut self, guests: &[(&Guest, Vec<Published>)]) -> Vec<Door> {
        let survivor = |(guest, published): &(&Guest, Vec<Published>)| Survivor {
            owner: owner(guest),
            endpoints: guest.endpoints.clone(),
            published: published.clone(),
        };
        let running: Vec<Survivor> = guests.iter().map(survivor).collect();
        let (networks, complaints) = Networks::open(self.root.path(), Place::Host, &running).unwrap();
        assert!(complaints.is_empty(), "{complaints:?}");
        self.networks = networks;
        let again = |(guest, _): &(&Guest, Vec<Published>)| {
            let all = self.networks.doors_of(&guest.id).into_iter();
            all.map(|(one, _)| self.networks.hold_again(&guest.id, &one).unwrap().unwrap()).collect::<Vec<_>>()
        };
        guests.iter().flat_map(again).collect()
    }
}

impl Guest {
    /// Waits until it reaches the host: a bridge that had no port until now drops what it sends for up to a second, until
    /// the kernel has noticed (net/core/link_watch.c).
    fn settled(self) -> Self {
        for endpoint in &self.endpoints {
            for held in &endpoint.addresses {
                let try_once = || {
                    // Nobody listens there: that is an answer.
                    let address = SocketAddr::new(held.gateway, 1);
                    let tried = TcpStream::connect_timeout(&address, Duration::from_millis(200));
                    tried.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
                };
                let is_there = self.namespace.enter(|| (0..50).any(|_| try_once())).unwrap();
                assert!(is_there, "{} cannot be reached", held.gateway);
            }
        }
        self
    }
}

fn owner(guest: &Guest) -> Owner {
    Owner { id: guest.id.clone(), name: format!("number-{}", &guest.id.as_str()[..2]) }
}

/// Answers who arrives at the socket that holds a port, until `close`.
fn answer_at(door: &Door) {
    let socket = door.socket.as_ref().unwrap().try_clone().unwrap();
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(false).unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.write_all(b"a door").unwrap();
        }
    });
}

/// Closes ports that are answered at: those who wait there are woken.
fn close(doors: Vec<Door>) {
    for door in doors {
        rustix::net::shutdown(door.socket.unwrap(), rustix::net::Shutdown::Both).unwrap();
    }
}

fn published(doors: &[Door]) -> Vec<Published> {
    doors.iter().map(|door| door.published).collect()
}

fn shown(doors: &[Door]) -> Vec<String> {
    let text = |one: &Published| format!("{} {}", SocketAddr::new(one.address, one.host_port), one.port);
    doors.iter().map(|door| text(&door.published)).collect()
}

/// What a server says to a client in a namespace, by the text of its address.
fn said(namespace: &Namespace, address: &str, port: u16) -> Option<String> {
    ask(namespace, address.parse().unwrap(), port)
}

/// The same of one that is to be reached.
fn heard(namespace: &Namespace, address: &str, port: u16) -> Option<String> {
    hear(namespace, address.parse().unwrap(), port)
}

fn gateway(guest: &Guest, family: Family) -> String {
    guest.endpoints[0].address(family).unwrap().gateway.to_string()
}

#[test]
fn published_ports_are_reached_from_everywhere_with_the_clients_address() {
    let Some(mut lab) = Lab::open() else { return };
    let world = lab.world();
    let host = Namespace::own().unwrap();
    for (name, is_internal, is_open_within) in [("one", false, false), ("two", false, true), ("shut", true, true)] {
        lab.networks.create(Wish { has_ipv6: true, is_internal, is_open_within, ..wish(name) }).unwrap();
    }
    let guests: Vec<Guest> = ["one", "one", "two", "shut"].map(|network| lab.guest(&[to(network)]).settled()).into();
    let [server, sibling, other, shut] = guests.as_slice() else { unreachable!() };
    serve(&server.namespace, 80);

    let mut doors = lab.publish(server, &["8080:80"]).unwrap();
    assert_eq!(shown(&doors), ["0.0.0.0:8080 80/tcp", "[::]:8080 80/tcp"]);
    for round in ["published", "flushed", "restarted"] {
        match round {
            "published" => doors.iter().for_each(answer_at),
            "flushed" => {
                lab.flush();
                lab.networks.apply_firewall().unwrap();
            }
            _ => {
                let known = published(&doors);
                lab.flush();
                close(doors);
                let rest = [sibling, other, shut].map(|guest| (guest, vec![]));
                doors = lab.restart(&[vec![(server, known)], rest.to_vec()].concat());
                assert_eq!(doors.len(), 2);
                doors.iter().for_each(answer_at);
            }
        }
        for (family, address, client) in [(Family::V4, HOST, WORLD), (Family::V6, HOST6, WORLD6)] {
            let from = |namespace: &Namespace| heard(namespace, address, 8080);
            assert_eq!(from(&world).as_deref(), Some(client), "{round}: the client's own address");
            assert_eq!(from(&host).as_deref(), Some(address), "{round}");
            assert_eq!(from(&other.namespace), Some(other.address(0, family).to_string()), "{round}");
            assert_eq!(from(&sibling.namespace).as_deref(), Some("a door"), "{round}");
            assert_eq!(from(&server.namespace).as_deref(), Some("a door"), "{round}: its own port");
            assert_eq!(from(&shut.namespace), None, "{round}: nothing leaves an internal network");
            // Not published, on the host and in the container.
            assert_eq!(said(&world, address, 8081), None, "{round}");
            assert_eq!(ask(&world, server.address(0, family), 80), None, "{round}");
        }
        assert_eq!(heard(&host, "127.0.0.1", 8080), Some(gateway(server, Family::V4)), "{round}");
    }

    lab.networks.unpublish(&server.id, |_| true).unwrap();
    close(doors);
    for (namespace, address) in [(&world, HOST), (&world, HOST6), (&host, "127.0.0.1"), (&host, HOST)] {
        assert_eq!(said(namespace, address, 8080), None, "{address}");
    }
    lab.publish(server, &["8080:80"]).unwrap();
}

#[test]
fn datagrams_find_their_way_and_back() {
    let Some(mut lab) = Lab::open() else { return };
    let world = lab.world();
    lab.networks.create(Wish { has_ipv6: true, has_ipv4: false, ..wish("six") }).unwrap();
    // At once: nothing is looked for before the first packet from outside.
    let guest = lab.guest(&[to("six")]);
    let server = guest.namespace.enter(|| UdpSocket::bind("[::]:53").unwrap()).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = server.recv_from(&mut buffer) {
            server.send_to(client.ip().to_string().as_bytes(), client).unwrap();
        }
    });

    let doors = lab.publish(&guest, &["5353:53/udp"]).unwrap();

    assert_eq!(shown(&doors), ["0.0.0.0:5353 53/udp", "[::]:5353 53/udp"]);
    let answer = |address: &str| {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        socket.send_to(b"who", (address, 5353)).unwrap();
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    };
    assert_eq!(world.enter(|| answer(HOST6)).unwrap().as_deref(), Some(WORLD6));
    assert_eq!(answer(HOST6).as_deref(), Some(HOST6));
}

#[test]
fn who_sends_datagrams_for_ever_is_led_to_where_a_port_leads_now() {
    let Some(mut lab) = Lab::open() else { return };
    let world = lab.world();
    lab.networks.create(wish("net")).unwrap();
    let guests = [(); 2].map(|()| lab.guest(&[to("net")]).settled());
    for (guest, name) in guests.iter().zip(["one", "two"]) {
        let server = guest.namespace.enter(|| UdpSocket::bind("0.0.0.0:53").unwrap()).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, client)) = server.recv_from(&mut buffer) {
                server.send_to(name.as_bytes(), client).unwrap();
            }
        });
    }
    let client = world.enter(|| UdpSocket::bind("0.0.0.0:5000").unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let asked = || {
        client.send_to(b"who", (HOST, 5353)).unwrap();
        let mut buffer = [0; 64];
        client.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned())
    };

    // Before anything is published, it is the host that the client speaks to.
    assert_eq!(asked(), None);
    for (guest, name) in guests.iter().zip(["one", "two"]) {
        let doors = lab.publish(guest, &["0.0.0.0:5353:53/udp"]).unwrap();
        assert_eq!(asked().as_deref(), Some(name));
        lab.networks.unpublish(&guest.id, |_| true).unwrap();
        drop(doors);
        assert_eq!(asked(), None);
    }
}

#[test]
fn what_is_published_on_the_loopback_device_stays_there() {
    let Some(mut lab) = Lab::open() else { return };
    let world = lab.world();
    let host = Namespace::own().unwrap();
    lab.networks.create(wish("net")).unwrap();
    let (guest, evil) = (lab.guest(&[to("net")]).settled(), lab.guest(&[to("net")]).settled());
    serve(&guest.namespace, 80);
    serve(&host, 9000);
    let doors = lab.publish(&guest, &["127.0.0.1:8080:80"]).unwrap();

    assert_eq!(heard(&host, "127.0.0.1", 8080), Some(gateway(&guest, Family::V4)));
    assert_eq!(said(&host, HOST, 8080), None);
    assert_eq!(said(&world, HOST, 8080), None);
    // Neighbours that send what is for the loopback device, and hosts that pass it on: CVE-2020-8558.
    crate::namespace::set_parameter("net/ipv4/conf/uplink/route_localnet", "1").unwrap();
    for (who, interface) in [(&world, "net0"), (&evil.namespace, "eth0")] {
        let set = || {
            // Its own loopback device would have it otherwise.
            assert!(Command::new("ip").args(["addr", "del", "127.0.0.1/8", "dev", "lo"]).status().unwrap().success());
            crate::namespace::set_parameter(&format!("net/ipv4/conf/{interface}/route_localnet"), "1").unwrap();
        };
        who.enter(set).unwrap();
        for port in [8080, 9000] {
            assert_eq!(said(who, "127.0.0.1", port), None, "{interface} {port}");
        }
    }
    // It is the table that keeps them out.
    lab.flush();
    for (who, interface) in [(&world, "net0"), (&evil.namespace, "eth0")] {
        assert!(said(who, "127.0.0.1", 9000).is_some(), "{interface}");
    }
    drop(doors);
}

#[test]
fn a_port_that_is_taken_says_by_whom_and_nothing_is_half_made() {
    let Some(mut lab) = Lab::open() else { return };
    lab.networks.create(wish("net")).unwrap();
    let (one, two) = (lab.guest(&[to("net")]), lab.guest(&[to("net")]));
    let _held = lab.publish(&one, &["8080:80", "127.0.0.1:8090:80/udp"]).unwrap();
    let program = TcpListener::bind("127.0.0.1:9000").unwrap();

    let mut refused = |ports: &[&str]| lab.publish(&two, ports).unwrap_err().to_string();
    assert_eq!(refused(&["8081:80", "8080:81"]), "port 8080/tcp of 0.0.0.0 is in use by container number-01");
    assert_eq!(refused(&["8090:80/udp"]), "port 8090/udp of 0.0.0.0 is in use by container number-01");
    let by_program = refused(&["8082:80", "9000:80"]);
    let own = format!("(process {})", std::process::id());
    assert!(
        by_program.starts_with("port 9000/tcp of 0.0.0.0 is in use by ") && by_program.ends_with(&own),
        "{by_program}"
    );
    assert_eq!(refused(&["8083:80", "8083:81"]), "port 8083/tcp of 0.0.0.0 is in use by container number-02");
    assert_eq!(refused(&["8080-8080:80"]), "port 8080/tcp of 0.0.0.0 is in use by container number-01");
    let elsewhere = refused(&["8084:80", "192.0.2.99:8085:80"]);
    assert_eq!(elsewhere, "ports cannot be published on 192.0.2.99: this host does not have that address");

    // Everything that was tried on the way is free.
    drop(program);
    let ports = ["8081:80", "8082:80", "8083:80", "8084:80", "9000:80", "8090:80/tcp", "8080:80/udp"];
    let doors = lab.publish(&two, &ports).unwrap();
    assert_eq!(doors.len(), 14);
    // A program is refused by the kernel.
    for port in [8080, 8081, 9000] {
        assert_eq!(
            TcpListener::bind(("0.0.0.0", port)).unwrap_err().raw_os_error(),
            Some(Errno::ADDRINUSE.raw_os_error())
        );
        assert!(TcpListener::bind(("::", port)).is_err());
    }
    assert!(UdpSocket::bind("0.0.0.0:8080").is_err());
}

#[test]
fn free_ports_are_chosen_from_ranges() {
    let Some(mut lab) = Lab::open() else { return };
    lab.networks.create(wish("net")).unwrap();
    let guest = lab.guest(&[to("net")]);
    let mut chosen = |port: &str| {
        let doors = lab.publish(&guest, &[port]);
        doors.map(|doors| {
            let texts = shown(&doors);
            std::mem::forget(doors);
            texts
        })
    };

    assert_eq!(chosen("8000-8002:80").unwrap(), ["0.0.0.0:8000 80/tcp", "[::]:8000 80/tcp"]);
    let taken = TcpListener::bind("[::1]:8001").unwrap();
    assert_eq!(chosen("8000-8002:80").unwrap(), ["0.0.0.0:8002 80/tcp", "[::]:8002 80/tcp"]);
    assert!(chosen("8000-8002:80").unwrap_err().to_string().starts_with("port 8000-8002/tcp of "));
    drop(taken);
    assert_eq!(chosen("8000-8002:80").unwrap()[0], "0.0.0.0:8001 80/tcp");
    assert_eq!(chosen("127.0.0.1:8010-8011:80-81").unwrap(), ["127.0.0.1:8010 80/tcp", "127.0.0.1:8011 81/tcp"]);
    let (first, last) = crate::socket::ephemeral();
    for port in ["80", "80/udp", "80/sctp"] {
        let texts = chosen(port).unwrap();
        let numbers: Vec<u16> = texts.iter().map(|text| text.parse_host_port()).collect();
        assert!(numbers.len() == 2 && numbers[0] == numbers[1], "{texts:?}");
        assert!((first..=last).contains(&numbers[0]), "{texts:?}");
    }
}

trait HostPort {
    fn parse_host_port(&self) -> u16;
}

impl HostPort for String {
    fn parse_host_port(&self) -> u16 {
        self.split(' ').next().unwrap().parse::<SocketAddr>().unwrap().port()
    }
}

#[test]
fn networks_and_settings_say_where_ports_are_published() {
    let Some(mut lab) = Lab::open() else { return };
    let _world = lab.world();
    let binding = |text: &str| Some(text.parse().unwrap());
    lab.networks.create(Wish { host_binding: binding(HOST), ..wish("bound") }).unwrap();
    lab.networks.create(Wish { host_binding: binding("0.0.0.0"), ..wish("open") }).unwrap();
    lab.networks.create(wish("plain")).unwrap();
    lab.networks.create(Wish { is_internal: true, ..wish("inner") }).unwrap();
    lab.networks.set_publish_addresses(vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]);

    let mut on = |network: &str, port: &str| {
        let guest = lab.guest(&[to(network)]);
        let doors = lab.publish(&guest, &[port]).unwrap();
        let texts = shown(&doors);
        lab.networks.unpublish(&guest.id, |_| true).unwrap();
        texts
    };
    assert_eq!(on("bound", "80:80"), ["203.0.113.1:80 80/tcp"]);
    assert_eq!(on("bound", "127.0.0.1:80:80"), ["127.0.0.1:80 80/tcp"]);
    assert_eq!(on("open", "80:80"), ["0.0.0.0:80 80/tcp", "[::]:80 80/tcp"]);
    assert_eq!(on("plain", "80:80"), ["127.0.0.1:80 80/tcp", "[::1]:80 80/tcp"]);
    assert!(on("inner", "80:80").is_empty());
    // A host without IPv6 publishes on what it has; what is asked for by name is an error there.
    crate::namespace::set_parameter("net/ipv6/conf/lo/disable_ipv6", "1").unwrap();
    assert_eq!(on("plain", "80:80"), ["127.0.0.1:80 80/tcp"]);
    let guest = lab.guest(&[to("plain")]);
    assert!(matches!(lab.publish(&guest, &["[::1]:80:80"]), Err(Error::NotOfHost { .. })));
}

#[test]
fn ports_follow_their_container_to_another_network() {
    let Some(mut lab) = Lab::open() else { return };
    let world = lab.world();
    lab.networks.create(wish("old")).unwrap();
    lab.networks.create(wish("new")).unwrap();
    let mut guest = lab.guest(&[to("old")]).settled();
    serve(&guest.namespace, 80);
    let _doors = lab.publish(&guest, &["8080:80"]).unwrap();
    assert_eq!(heard(&world, HOST, 8080).as_deref(), Some(WORLD));

    let interfaces = BTreeSet::from(["eth0".to_owned()]);
    let (endpoint, network) = lab.networks.reserve(&guest.id, &[to("new")], &interfaces).unwrap().remove(0);
    Endpoint { is_way_out: false, ..endpoint.clone() }.attach(&Place::Host, &network, &guest.namespace).unwrap();
    let targets = lab.networks.retarget(&guest.id, std::slice::from_ref(&endpoint)).unwrap();
    guest.endpoints[0].detach(&Place::Host, None).unwrap();
    endpoint.lead_out(&guest.namespace).unwrap();
    guest.endpoints = vec![endpoint];
    let guest = guest.settled();

    assert_eq!(targets[0].1, SocketAddr::new(guest.address(0, Family::V4), 80));
    assert_eq!(heard(&world, HOST, 8080).as_deref(), Some(WORLD));
}
