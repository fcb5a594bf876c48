//! The sockets that hold published ports. Rules of the kernel lead nearly everything past them; what arrives all the same
//! is passed on here: from ::1, and from one version of the protocol to the other. The container then sees the host's
//! address as the client's. Of an ordinary user everything arrives here, and goes on from its networks (`way`).

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use rustix::fd::OwnedFd;
use strata_net::{Door, Published};
use strata_types::Protocol;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::way::Way;

/// Connections of one port at once, and clients of one port of UDP.
const MOST: usize = 1024;
/// How long a container may take to accept.
const CONNECT: Duration = Duration::from_secs(10);
/// After so long without an answer a client of UDP is forgotten.
const SILENCE: Duration = Duration::from_secs(90);
/// Between two attempts to accept, where descriptors are short.
const AGAIN: Duration = Duration::from_millis(100);
/// The largest datagram.
const DATAGRAM: usize = 65535;

/// Ports of a container that are held.
#[derive(Debug, Default)]
pub struct Doors(HashMap<Published, Open>);

#[derive(Debug)]
struct Open {
    target: watch::Sender<SocketAddr>,
    /// Who passes on what arrives at its sockets, and holds them.
    keepers: Vec<Keeper>,
}

#[derive(Debug)]
enum Keeper {
    /// A task.
    Task(JoinHandle<()>),
    /// Nobody: the port is held, and that is all.
    Nobody(Option<OwnedFd>),
}

impl Keeper {
    /// Lets go of the port; then it is free.
    async fn end(self) {
        match self {
            Self::Task(task) => {
                task.abort();
                // It was told to end.
                let _cancelled = task.await;
            }
            Self::Nobody(socket) => drop(socket),
        }
    }
}

impl Doors {
    /// Has these ports only, led there. Others are closed; then anybody may have them. Connections that are there stay where
    /// they lead. Returns those that have yet to be opened.
    pub async fn lead(&mut self, ports: &[(Published, SocketAddr)]) -> Vec<Published> {
        let wanted: HashMap<_, _> = ports.iter().copied().collect();
        for (_, open) in self.0.extract_if(|published, _| !wanted.contains_key(published)) {
            for keeper in open.keepers {
                keeper.end().await;
            }
        }
        let mut closed = Vec::new();
        for (published, target) in ports {
            match self.0.get(published) {
                Some(open) => drop(open.target.send_replace(*target)),
                None => closed.push(*published),
            }
        }
        closed
    }

    /// Opens a port, with what is to be done with it. Connections are counted.
    pub fn open(&mut self, door: Door, way: &Way, connections: &TaskTracker) {
        let Door { published, socket, within, target } = door;
        let (sender, receiver) = watch::channel(target);
        let pass =
            |socket, way| keep(published, socket, Passage { target: receiver.clone(), way }, connections.clone());
        let mut keepers = vec![pass(socket, way.clone())];
        keepers.extend(within.map(|socket| pass(Some(socket), way.for_containers())));
        self.0.insert(published, Open { target: sender, keepers });
    }
}

/// Where what arrives goes.
#[derive(Debug, Clone)]
struct Passage {
    target: watch::Receiver<SocketAddr>,
    way: Way,
}

fn keep(published: Published, socket: Option<OwnedFd>, passage: Passage, connections: TaskTracker) -> Keeper {
    match (published.port.protocol, socket) {
        (Protocol::Tcp, Some(socket)) => match TcpListener::from_std(socket.into()) {
            Ok(listener) => Keeper::Task(tokio::spawn(pass_streams(listener, passage, connections))),
            Err(error) => unkept(published, &error),
        },
        (Protocol::Udp, Some(socket)) => match UdpSocket::from_std(socket.into()) {
            Ok(socket) => Keeper::Task(tokio::spawn(pass_datagrams(Arc::new(socket), passage))),
            Err(error) => unkept(published, &error),
        },
        (Protocol::Sctp, socket) | (_, socket @ None) => Keeper::Nobody(socket),
    }
}

fn unkept(published: Published, error: &std::io::Error) -> Keeper {
    tracing::error!(address = %published.address, port = published.host_port, %error, "cannot watch a published port");
    Keeper::Nobody(None)
}

async fn pass_streams(listener: TcpListener, passage: Passage, connections: TaskTracker) {
    let seats = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        let Ok((stream, client)) = listener.accept().await else {
            // Of one connection, or of all: there may be descriptors again.
            sleep(AGAIN).await;
            continue;
        };
        let (target, way) = (*passage.target.borrow(), passage.way.clone());
        connections.spawn(async move {
            // One that nobody accepts is closed: that is all there is to say to the client.
            let _ended = pass_stream(stream, client, target, &way).await;
            drop(seat);
        });
    }
}

async fn pass_stream(mut stream: TcpStream, client: SocketAddr, target: SocketAddr, way: &Way) -> std::io::Result<()> {
    let mut server = timeout(CONNECT, way.stream(client, target)).await??;
    for end in [&stream, &server] {
        end.set_nodelay(true)?;
    }
    copy_bidirectional(&mut stream, &mut server).await.map(drop)
}

async fn pass_datagrams(socket: Arc<UdpSocket>, passage: Passage) {
    let mut clients: HashMap<SocketAddr, Weak<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            sleep(AGAIN).await;
            continue;
        };
        let known = clients.get(&client).and_then(Weak::upgrade);
        let server = match known {
            Some(server) => server,
            None => {
                if clients.len() >= MOST {
                    clients.retain(|_, server| server.strong_count() > 0);
                }
                let target = *passage.target.borrow();
                let Ok(server) = passage.way.datagrams(client, target).await else { continue };
                if clients.len() >= MOST {
                    continue;
                }
                let server = Arc::new(server);
                clients.insert(client, Arc::downgrade(&server));
                tokio::spawn(answer(Arc::downgrade(&socket), client, server.clone()));
                server
            }
        };
        // As on every network, a datagram may be lost.
        let _lost = server.send(&buffer[..length]).await;
    }
}

/// Passes what a server says back to its client, until it is silent for long, or refuses, or the port is closed.
async fn answer(socket: Weak<UdpSocket>, client: SocketAddr, server: Arc<UdpSocket>) {
    let mut buffer = vec![0; DATAGRAM];
    while let Ok(Ok(length)) = timeout(SILENCE, server.recv(&mut buffer)).await {
        // The port is not held for those who answer.
        let Some(socket) = socket.upgrade() else { return };
        let _lost = socket.send_to(&buffer[..length], client).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn door(protocol: Protocol, socket: OwnedFd, host: SocketAddr, target: SocketAddr) -> Door {
        let port = strata_types::Port { number: target.port(), protocol };
        let published = Published { port, address: host.ip(), host_port: host.port() };
        Door { published, socket: Some(socket), within: None, target }
    }

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Accepts one connection after the other and sends back what comes, behind a letter.
    async fn echo(letter: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind((HOME, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = Vec::new();
                stream.read_to_end(&mut text).await.unwrap();
                stream.write_all(&[letter, &text].concat()).await.unwrap();
            }
        });
        address
    }

    async fn ask(address: SocketAddr) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn streams_are_passed_on_led_elsewhere_and_closed() {
        let (one, two) = (echo(b"1 ").await, echo(b"2 ").await);
        let listener = std::net::TcpListener::bind((HOME, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let host = listener.local_addr().unwrap();
        let mut doors = Doors::default();
        let door = door(Protocol::Tcp, listener.into(), host, one);
        let published = door.published;
        assert_eq!(doors.lead(&[(published, one)]).await, [published]);
        doors.open(door, &Way::default(), &TaskTracker::new());

        assert_eq!(ask(host).await.unwrap(), "1 hello");
        assert!(doors.lead(&[(published, two)]).await.is_empty());
        assert_eq!(ask(host).await.unwrap(), "2 hello");
        assert!(doors.lead(&[]).await.is_empty());
        std::net::TcpListener::bind(host).unwrap();
    }

    #[tokio::test]
    async fn datagrams_are_passed_on_to_each_client() {
        let server = UdpSocket::bind((HOME, 0)).await.unwrap();
        let target = server.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((length, client)) = server.recv_from(&mut buffer).await {
                server.send_to(&buffer[..length], client).await.unwrap();
            }
        });
        let socket = std::net::UdpSocket::bind((HOME, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let host = socket.local_addr().unwrap();
        let mut doors = Doors::default();
        doors.open(door(Protocol::Udp, socket.into(), host, target), &Way::default(), &TaskTracker::new());

        for text in ["one", "two"] {
            let client = UdpSocket::bind((HOME, 0)).await.unwrap();
            client.connect(host).await.unwrap();
            for _ in 0..2 {
                client.send(text.as_bytes()).await.unwrap();
                let mut buffer = [0; 64];
                let length = client.recv(&mut buffer).await.unwrap();
                assert_eq!(&buffer[..length], text.as_bytes());
            }
        }
    }
}
