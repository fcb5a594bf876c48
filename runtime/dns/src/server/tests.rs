//! Each test is a host of its own: its thread is in a network namespace that it made, in which the servers of the host are.

use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket as StdUdpSocket},
    process::Command,
    sync::mpsc,
    thread,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use nix::sched::{CloneFlags, unshare};
use strata_types::{ContainerId, NetworkId};

use super::*;
use crate::directory::Member;

/// A namespace with nothing in it but a loopback device that is up.
fn empty() -> Namespace {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        loopback_up();
        Namespace::own().unwrap()
    });
    made.join().unwrap()
}

/// A program that is started by this thread is in its network namespace.
fn loopback_up() {
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
}

struct Lab {
    inside: Arc<Namespace>,
    directory: Arc<Directory>,
    server: Server,
    /// What reached the host's server.
    heard: mpsc::Receiver<Vec<u8>>,
    _resolv_conf: tempfile::TempDir,
}

const NET: [u8; 32] = [1; 32];

fn network() -> NetworkId {
    NetworkId::from_bytes(NET)
}

fn view(has_way_out: bool) -> View {
    View { networks: vec![network()], servers: vec![], has_way_out }
}

/// Runs a body on a host of its own, whose server answers so. Where the test may not make namespaces, it says so.
fn on_a_host(view: View, answer: fn(&mut Message), body: impl AsyncFnOnce(Lab)) {
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        eprintln!("skipped: it needs root");
        return;
    }
    loopback_up();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let heard = upstream(Ipv4Addr::LOCALHOST, answer);
        let resolv_conf = tempfile::tempdir().unwrap();
        let path = resolv_conf.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 127.0.0.1\n").unwrap();
        let directory = Arc::new(Directory::default());
        let member =
            Member { name: "web".into(), aliases: vec!["www".into()], addresses: vec!["10.0.0.2".parse().unwrap()] };
        directory.insert(&network(), "net", &ContainerId::from_bytes([1; 32]), member);
        let sockets = Sockets::open(empty()).unwrap();
        let inside = sockets.namespace.clone();
        let host = Arc::new(Host::of(path));
        let server = Server::start(sockets, view, directory.clone(), host, &Limits::default()).unwrap();
        body(Lab { inside, directory, server, heard, _resolv_conf: resolv_conf }).await;
    });
}

/// A server of names of the host, over UDP and TCP. It hears everything, and answers as it is told.
fn upstream(address: Ipv4Addr, answer: fn(&mut Message)) -> mpsc::Receiver<Vec<u8>> {
    let (tell, heard) = mpsc::channel();
    let (udp, tcp) = (StdUdpSocket::bind((address, 53)).unwrap(), std::net::TcpListener::bind((address, 53)).unwrap());
    let answer = move |bytes: &[u8]| {
        let mut message = Message::from_vec(bytes).unwrap();
        message.metadata.message_type = MessageType::Response;
        let name = message.queries[0].name.clone();
        message.add_answer(Record::from_rdata(name, 60, RData::from(IpAddr::from([192, 0, 2, 1]))));
        answer(&mut message);
        message.to_vec().unwrap()
    };
    let told = tell.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let (length, asker) = udp.recv_from(&mut buffer).unwrap();
            let _the_test_has_ended = told.send(buffer[..length].to_vec());
            // First what somebody would send who does not know the number.
            let (right, mut wrong) = (answer(&buffer[..length]), answer(&buffer[..length]));
            wrong[1] ^= 1;
            udp.send_to(&wrong, asker).unwrap();
            udp.send_to(&right, asker).unwrap();
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let bytes = read_framed(&mut stream);
            let _the_test_has_ended = tell.send(bytes.clone());
            let right = answer(&bytes);
            stream.write_all(&[&(right.len() as u16).to_be_bytes(), right.as_slice()].concat()).unwrap();
        }
    });
    heard
}

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn asked(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    message.to_vec().unwrap()
}

impl Lab {
    /// Does something in the container, beside the server.
    async fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let inside = self.inside.clone();
        tokio::task::spawn_blocking(move || inside.enter(work).unwrap()).await.unwrap()
    }

    /// Asks as a program of the container does.
    async fn ask(&self, bytes: Vec<u8>, transport: Transport) -> Message {
        let answer = self.inside(move || match transport {
            Transport::Udp => {
                let socket = StdUdpSocket::bind("127.0.0.1:0").unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                socket.connect((ADDRESS, PORT)).unwrap();
                socket.send(&bytes).unwrap();
                let mut buffer = vec![0; 4096];
                let length = socket.recv(&mut buffer).unwrap();
                buffer[..length].to_vec()
            }
            Transport::Tcp => {
                let mut stream = TcpStream::connect((ADDRESS, PORT)).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                stream.write_all(&[&(bytes.len() as u16).to_be_bytes(), bytes.as_slice()].concat()).unwrap();
                read_framed(&mut stream)
            }
        });
        let answer = Message::from_vec(&answer.await).unwrap();
        assert_eq!(answer.metadata.id, 4711);
        answer
    }

    async fn look_up(&self, name: &str, kind: RecordType) -> Result<Vec<String>, ResponseCode> {
        let mut said = Vec::new();
        for transport in [Transport::Udp, Transport::Tcp] {
            let answer = self.ask(asked(name, kind), transport).await;
            said.push(match answer.metadata.response_code {
                ResponseCode::NoError => Ok(answer.answers.iter().map(|record| record.data.to_string()).collect()),
                code => Err(code),
            });
        }
        assert_eq!(said[0], said[1], "over UDP and over TCP");
        said.remove(0)
    }
}

#[test]
fn names_of_containers_are_answered_and_the_rest_is_asked() {
    on_a_host(
        view(true),
        |_| {},
        async |lab| {
            let found = |text: &str| Ok(vec![text.to_owned()]);
            for name in ["web", "WWW", "web.net"] {
                assert_eq!(lab.look_up(name, RecordType::A).await, found("10.0.0.2"), "{name}");
                assert_eq!(lab.look_up(name, RecordType::AAAA).await, Ok(vec![]), "{name} has IPv4 only");
                assert_eq!(lab.look_up(name, RecordType::MX).await, Ok(vec![]), "{name}");
            }
            assert_eq!(lab.look_up("2.0.0.10.in-addr.arpa", RecordType::PTR).await, found("web.net."));
            assert!(lab.heard.try_recv().is_err(), "nobody else learns the names of containers");

            assert_eq!(lab.look_up("example.com", RecordType::A).await, found("192.0.2.1"));
            lab.server.change(View { networks: vec![], ..view(true) });
            assert_eq!(lab.look_up("web", RecordType::A).await, found("192.0.2.1"), "it is in the network no more");
        },
    );
}

#[test]
fn what_is_asked_of_others_goes_byte_for_byte_with_another_number() {
    on_a_host(
        view(true),
        |_| {},
        async |lab| {
            // A question with everything: checking disabled, DNSSEC, a cookie, an option that nobody knows.
            let mut bytes = asked("Example.com", RecordType::A);
            bytes[3] |= 0x10;
            bytes[11] = 1;
            bytes.extend([
                0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 16, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0xfd, 0xe9, 0, 0,
            ]);

            let mut numbers = std::collections::BTreeSet::new();
            for transport in [Transport::Udp, Transport::Tcp, Transport::Udp] {
                let answer = lab.ask(bytes.clone(), transport).await;
                assert_eq!(answer.answers.len(), 1);
                let heard = lab.heard.try_recv().unwrap();
                assert_eq!(heard[2..], bytes[2..]);
                numbers.insert(heard[..2].to_vec());
            }
            assert!(numbers.len() > 1, "{numbers:?}");
        },
    );
}

/// CVE-2024-29018
#[test]
fn row_128_nothing_is_asked_for_a_container_without_a_way_out() {
    on_a_host(
        view(false),
        |_| {},
        async |lab| {
            for kind in [RecordType::A, RecordType::AAAA, RecordType::TXT, RecordType::ANY, RecordType::PTR] {
                assert_eq!(lab.look_up("secret.example.com", kind).await, Err(ResponseCode::NXDomain), "{kind}");
            }
            assert_eq!(lab.look_up("web", RecordType::A).await, Ok(vec!["10.0.0.2".into()]));
            assert!(lab.heard.try_recv().is_err(), "the host's server heard of it");
        },
    );
}

#[test]
fn servers_of_the_containers_own_are_asked_from_within() {
    on_a_host(
        view(false),
        |_| {},
        async |lab| {
            let own = lab.inside(|| upstream(Ipv4Addr::new(127, 0, 0, 77), |_| {})).await;
            let servers = vec![ADDRESS.into(), "127.0.0.77".parse().unwrap()];
            lab.server.change(View { servers, ..view(false) });

            assert_eq!(lab.look_up("example.com", RecordType::A).await, Ok(vec!["192.0.2.1".into()]));
            assert!(own.try_recv().is_ok() && lab.heard.try_recv().is_err());
            // It has no other than itself: the host's are asked.
            lab.server.change(View { servers: vec![ADDRESS.into()], ..view(true) });
            assert_eq!(lab.look_up("example.com", RecordType::A).await, Ok(vec!["192.0.2.1".into()]));
            assert!(lab.heard.try_recv().is_ok());
        },
    );
}

#[test]
fn port_53_of_all_addresses_is_the_containers_own() {
    on_a_host(
        view(true),
        |_| {},
        async |lab| {
            let own = lab.inside(|| {
                let (udp, tcp) =
                    (StdUdpSocket::bind("0.0.0.0:53").unwrap(), std::net::TcpListener::bind("0.0.0.0:53").unwrap());
                udp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let asker = StdUdpSocket::bind("127.0.0.1:0").unwrap();
                asker.send_to(b"own", "127.0.0.1:53").unwrap();
                let mut buffer = [0; 16];
                let (length, _) = udp.recv_from(&mut buffer).unwrap();
                TcpStream::connect("127.0.0.1:53").unwrap();
                (buffer[..length].to_vec(), udp, tcp)
            });
            let (heard, _udp, _tcp) = own.await;
            assert_eq!(heard, b"own");
            assert_eq!(lab.look_up("web", RecordType::A).await, Ok(vec!["10.0.0.2".into()]));
        },
    );
}

#[test]
fn a_server_that_fails_is_followed_by_the_next() {
    let refuse: fn(&mut Message) = |answer| answer.metadata.response_code = ResponseCode::Refused;
    on_a_host(view(true), refuse, async |lab| {
        assert_eq!(lab.look_up("example.com", RecordType::A).await, Err(ResponseCode::Refused), "it is the only one");
        let path = lab._resolv_conf.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 127.0.0.1\nnameserver 127.0.0.2\n").unwrap();
        assert_eq!(lab.look_up("example.com", RecordType::A).await, Err(ResponseCode::Refused), "nobody is there");

        let second = upstream(Ipv4Addr::new(127, 0, 0, 2), |_| {});
        assert_eq!(lab.look_up("example.com", RecordType::A).await, Ok(vec!["192.0.2.1".into()]));
        assert_eq!(second.iter().take(2).count(), 2);
        std::fs::write(&path, "nameserver 127.0.0.3\n").unwrap();
        assert_eq!(lab.look_up("example.com", RecordType::A).await, Err(ResponseCode::ServFail), "nobody at all");
    });
}

#[test]
fn an_answer_that_is_too_long_comes_over_tcp() {
    let long: fn(&mut Message) = |answer| {
        for number in 0..100 {
            let name = answer.queries[0].name.clone();
            answer.add_answer(Record::from_rdata(name, 60, RData::from(IpAddr::from([192, 0, 2, number]))));
        }
    };
    on_a_host(view(true), long, async |lab| {
        let over_udp = lab.ask(asked("example.com", RecordType::A), Transport::Udp).await;
        assert!(over_udp.metadata.truncation && over_udp.answers.is_empty());
        assert_eq!(lab.ask(asked("example.com", RecordType::A), Transport::Tcp).await.answers.len(), 101);
    });
}

#[test]
fn a_container_that_sends_anything_is_served_all_the_same() {
    on_a_host(
        view(true),
        |_| {},
        async |lab| {
            let streams = lab.inside(|| {
                let socket = StdUdpSocket::bind("127.0.0.1:0").unwrap();
                let mut state = 1_u32;
                let mut noise = |length: usize| {
                    let byte = |_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (state >> 24) as u8
                    };
                    (0..length).map(byte).collect::<Vec<u8>>()
                };
                for length in (0..1000).chain([4096, 9000, 60000]) {
                    socket.send_to(&noise(length), (ADDRESS, PORT)).unwrap();
                }
                // Streams that say nothing, half of something, too much, and nonsense.
                let beginnings = [vec![], vec![0], vec![255, 255, 1, 2, 3], vec![0, 4, 1, 2, 3, 4]];
                let open = |bytes: &Vec<u8>| {
                    let mut stream = TcpStream::connect((ADDRESS, PORT)).unwrap();
                    stream.write_all(bytes).unwrap();
                    stream
                };
                beginnings.iter().cycle().take(40).map(open).collect::<Vec<TcpStream>>()
            });
            let streams = streams.await;
            let answer = lab.ask(asked("web", RecordType::A), Transport::Udp).await;
            assert_eq!(answer.answers.len(), 1);
            drop(streams);
            assert_eq!(lab.look_up("web", RecordType::A).await, Ok(vec!["10.0.0.2".into()]));
        },
    );
}

#[test]
fn questions_beyond_what_is_asked_at_a_time_fail_at_once() {
    on_a_host(
        view(true),
        |_| {},
        async |lab| {
            let held: Vec<_> = (0..QUESTIONS).map(|_| lab.server.shared.permits().unwrap()).collect();
            assert_eq!(lab.look_up("example.com", RecordType::A).await, Err(ResponseCode::ServFail));
            assert_eq!(lab.look_up("web", RecordType::A).await, Ok(vec!["10.0.0.2".into()]), "own names go on");
            drop(held);
            assert_eq!(lab.look_up("example.com", RecordType::A).await, Ok(vec!["192.0.2.1".into()]));
        },
    );
}

#[test]
fn after_a_stop_another_server_takes_its_place() {
    on_a_host(
        view(true),
        |_| {},
        async |lab| {
            let (inside, directory) = (lab.inside.clone(), lab.directory.clone());
            let namespace = inside.enter(|| Namespace::own().unwrap()).unwrap();
            // As after a crash: the former port may be taken by somebody.
            let sockets = Sockets::open(namespace).unwrap();
            let host = lab.server.shared.host.clone();
            let next = Server::start(sockets, view(false), directory, host, &Limits::default()).unwrap();
            assert_eq!(
                lab.look_up("example.com", RecordType::A).await,
                Err(ResponseCode::NXDomain),
                "the new one is asked"
            );

            next.stop().await;
            let nobody = lab.inside(|| TcpStream::connect((ADDRESS, PORT)).unwrap_err().kind()).await;
            assert_eq!(nobody, io::ErrorKind::ConnectionRefused);
            lab.server.stop().await;
            // A child that another test starts has copies of all sockets until it executes its program.
            let left = || inside.enter(|| std::fs::read_to_string("/proc/thread-self/net/udp").unwrap()).unwrap();
            let is_empty = || {
                thread::sleep(Duration::from_millis(1));
                left().lines().count() == 1
            };
            assert!((0..10_000).any(|_| is_empty()), "only the heading: {}", left());
        },
    );
}
