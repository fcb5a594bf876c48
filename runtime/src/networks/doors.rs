//! The sockets that hold published ports. Rules of the kernel lead nearly everything past them; what arrives all the same
//! is passed on here: from ::1, and from one version of the protocol to the other. The container then sees the host's
//! address as the client's. Of an ordinary user everything arrives here, and goes on from its networks (`way`).

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use rustix::fd::OwnedFd;
use strata_net::{Door, Published};
use strata_types::{ContainerId, Protocol};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

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

/// Ports that are held, by container.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    all: Arc<Mutex<HashMap<ContainerId, Vec<Open>>>>,
    way: Way,
}

#[derive(Debug)]
struct Open {
    published: Published,
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
    /// None yet; containers are reached by a way.
    pub fn new(way: Way) -> Self {
        Self { way, ..Self::default() }
    }

    /// Opens ports of a container, beside those that it has.
    pub fn open(&self, id: &ContainerId, doors: Vec<Door>) {
        if !doors.is_empty() {
            self.lock().entry(id.clone()).or_default().extend(doors.into_iter().map(|door| open(door, &self.way)));
        }
    }

    /// Leads ports elsewhere. Connections that are there stay where they lead.
    pub fn lead(&self, id: &ContainerId, targets: &[(Published, SocketAddr)]) {
        for open in self.lock().get(id).into_iter().flatten() {
            if let Some((_, target)) = targets.iter().find(|(published, _)| *published == open.published) {
                open.target.send_replace(*target);
            }
        }
    }

    /// Closes ports of a container; then others may have them. Connections that are there stay.
    pub async fn close(&self, id: &ContainerId, which: impl Fn(&Published) -> bool) {
        for open in self.take(id, which) {
            for keeper in open.keepers {
                keeper.end().await;
            }
        }
    }

    fn take(&self, id: &ContainerId, which: impl Fn(&Published) -> bool) -> Vec<Open> {
        let mut all = self.lock();
        let Some(open) = all.remove(id) else { return Vec::new() };
        let (gone, kept): (Vec<Open>, Vec<Open>) = open.into_iter().partition(|open| which(&open.published));
        if !kept.is_empty() {
            all.insert(id.clone(), kept);
        }
        gone
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, Vec<Open>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(door: Door, way: &Way) -> Open {
    let Door { published, socket, within, target } = door;
    let (sender, receiver) = watch::channel(target);
    let mut keepers = vec![keep(published, socket, receiver.clone(), way.clone())];
    keepers.extend(within.map(|socket| keep(published, Some(socket), receiver, way.for_containers())));
    Open { published, target: sender, keepers }
}

fn keep(published: Published, socket: Option<OwnedFd>, target: watch::Receiver<SocketAddr>, way: Way) -> Keeper {
    match (published.port.protocol, socket) {
        (Protocol::Tcp, Some(socket)) => match TcpListener::from_std(socket.into()) {
            Ok(listener) => Keeper::Task(tokio::spawn(pass_streams(listener, target, way))),
            Err(error) => unkept(published, &error),
        },
        (Protocol::Udp, Some(socket)) => match UdpSocket::from_std(socket.into()) {
            Ok(socket) => Keeper::Task(tokio::spawn(pass_datagrams(Arc::new(socket), target, way))),
            Err(error) => unkept(published, &error),
        },
        (Protocol::Sctp, socket) | (_, socket @ None) => Keeper::Nobody(socket),
    }
}

fn unkept(published: Published, error: &std::io::Error) -> Keeper {
    tracing::error!(address = %published.address, port = published.host_port, %error, "cannot watch a published port");
    Keeper::Nobody(None)
}

async fn pass_streams(listener: TcpListener, target: watch::Receiver<SocketAddr>, way: Way) {
    let seats = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        let Ok((stream, client)) = listener.accept().await else {
            // Of one connection, or of all: there may be descriptors again.
            sleep(AGAIN).await;
            continue;
        };
        let (target, way) = (*target.borrow(), way.clone());
        tokio::spawn(async move {
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

async fn pass_datagrams(socket: Arc<UdpSocket>, target: watch::Receiver<SocketAddr>, way: Way) {
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
                let target = *target.borrow();
                let Ok(server) = way.datagrams(client, target).await else { continue };
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
        let (doors, id) = (Doors::default(), ContainerId::from_bytes([1; 32]));
        let door = door(Protocol::Tcp, listener.into(), host, one);
        let published = door.published;
        doors.open(&id, vec![door]);

        assert_eq!(ask(host).await.unwrap(), "1 hello");
        doors.lead(&id, &[(published, two)]);
        assert_eq!(ask(host).await.unwrap(), "2 hello");
        doors.close(&id, |_| true).await;
        std::net::TcpListener::bind(host).unwrap();
        assert!(doors.lock().is_empty());
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
        let (doors, id) = (Doors::default(), ContainerId::from_bytes([1; 32]));
        doors.open(&id, vec![door(Protocol::Udp, socket.into(), host, target)]);

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
