//! The server of one container: two sockets in its network namespace, served by tasks of this process. What the container
//! sends costs a bounded part of this process, whatever it is; what is too much is refused or left to wait.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::fd::{AsFd, OwnedFd};
use serde::{Deserialize, Serialize};
use strata_net::{Namespace, redirect};
use strata_types::NetworkId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::{
    directory::Directory,
    forward::{self, From},
    message::{self, Kind, MAX_QUESTION, Packet, Question, Transport},
    upstream::{Host, PORT},
};

/// Where programs of a container ask: Docker's address, which is written in many configurations.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Ports that are really listened on, the first that is free: such as nobody has (IANA's list). Port 53 stays free for servers
/// of the container's own that listen on every address, which would collide with one that has it on one address.
const PORTS: [u16; 5] = [60, 40, 36, 34, 0];
/// The most questions of one container that others are asked at a time.
const QUESTIONS: usize = 64;
/// The most questions of all containers that others are asked at a time: each has a socket.
const ALL_QUESTIONS: usize = 512;
/// The most streams of one container.
const STREAMS: usize = 8;
/// How long a stream may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// After a failure of the kernel.
const PAUSE: Duration = Duration::from_millis(100);

/// What all servers share.
#[derive(Debug, Clone)]
pub struct Limits(Arc<Semaphore>);

impl Default for Limits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL_QUESTIONS)))
    }
}

/// What a container sees, and whom it may ask.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct View {
    /// Its networks: a name is looked for in them, in this order.
    pub networks: Vec<NetworkId>,
    /// Servers of its own, which are asked from its network namespace.
    pub servers: Vec<IpAddr>,
    /// It has a way out of its networks. Without one, the servers of the host are not asked for it: what it asks would
    /// leave a network that nothing leaves (CVE-2024-29018).
    pub has_way_out: bool,
}

/// Sockets in a network namespace.
#[derive(Debug)]
pub struct Sockets {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
    namespace: Arc<Namespace>,
}

impl Sockets {
    /// Opens them, and leads there what is sent to port 53 of the address. Blocking.
    pub fn open(namespace: Namespace) -> io::Result<Self> {
        let (udp, tcp) = namespace.enter(|| {
            let (udp, tcp) = bind()?;
            redirect::apply(ADDRESS, PORT, udp.local_addr()?.port()).map_err(io::Error::other)?;
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            io::Result::Ok((udp, tcp))
        })??;
        Ok(Self { udp, tcp, namespace: Arc::new(namespace) })
    }

    /// For another process.
    pub fn into_descriptors(self) -> io::Result<[OwnedFd; 3]> {
        Ok([self.udp.into(), self.tcp.into(), self.namespace.as_fd().try_clone_to_owned()?])
    }

    /// Those that another process has opened.
    pub fn from_descriptors([udp, tcp, namespace]: [OwnedFd; 3]) -> Self {
        Self { udp: udp.into(), tcp: tcp.into(), namespace: Arc::new(namespace.into()) }
    }
}

/// One port, for both kinds of packets.
fn bind() -> io::Result<(std::net::UdpSocket, std::net::TcpListener)> {
    let mut failure = io::Error::from(io::ErrorKind::AddrInUse);
    for port in PORTS {
        let bound = std::net::UdpSocket::bind((ADDRESS, port))
            .and_then(|udp| Ok((std::net::TcpListener::bind((ADDRESS, udp.local_addr()?.port()))?, udp)));
        match bound {
            Ok((tcp, udp)) => return Ok((udp, tcp)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The server of one container. It ends when it is stopped or dropped; its sockets keep the network namespace until then.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    directory: Arc<Directory>,
    host: Arc<Host>,
    namespace: Arc<Namespace>,
    view: Mutex<View>,
    all_questions: Arc<Semaphore>,
    questions: Arc<Semaphore>,
}

/// What becomes of a packet.
enum Reply {
    Nothing,
    Now(Vec<u8>),
    Ask(Box<Question>, Vec<SocketAddr>, From),
}

impl Server {
    /// Serves; within a runtime of tokio.
    pub fn start(
        sockets: Sockets,
        view: View,
        directory: Arc<Directory>,
        host: Arc<Host>,
        limits: &Limits,
    ) -> io::Result<Self> {
        let (udp, tcp) = (UdpSocket::from_std(sockets.udp)?, TcpListener::from_std(sockets.tcp)?);
        let shared = Arc::new(Shared {
            directory,
            host,
            namespace: sockets.namespace,
            view: Mutex::new(view),
            all_questions: limits.0.clone(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
        });
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(shared.clone(), Arc::new(udp), tcp, stopped));
        Ok(Self { shared, stop, task })
    }

    /// Changes what the container sees.
    pub fn change(&self, view: View) {
        *self.shared.view.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// Ends it; afterwards nothing of it is in the network namespace.
    pub async fn stop(self) {
        let Self { shared, stop, task } = self;
        let _it_may_have_ended = stop.send(());
        let _ = task.await;
        drop(shared);
    }
}

async fn serve(shared: Arc<Shared>, udp: Arc<UdpSocket>, tcp: TcpListener, mut stopped: oneshot::Receiver<()>) {
    let mut work = JoinSet::new();
    let streams = Arc::new(Semaphore::new(STREAMS));
    let mut buffer = vec![0; MAX_QUESTION + 1];
    loop {
        tokio::select! {
            // Sent, or its owner was dropped.
            _ = &mut stopped => break,
            Some(_) = work.join_next() => {}
            received = udp.recv_from(&mut buffer) => match received {
                Ok((length, asker)) => shared.datagram(&udp, &buffer[..length], asker, &mut work),
                Err(error) => pause(error).await,
            },
            accepted = accept(&tcp, &streams) => match accepted {
                Ok((stream, permit)) => {
                    let shared = shared.clone();
                    work.spawn(async move {
                        // Who breaks off, or is silent, is left.
                        let _ = shared.stream(stream).await;
                        drop(permit);
                    });
                }
                Err(error) => pause(error).await,
            },
        }
    }
    work.shutdown().await;
    // A child of this process has a copy of it until it executes its program: whoever connected to that one would wait.
    let _it_is_closed_in_any_case = rustix::net::shutdown(&tcp, rustix::net::Shutdown::Both);
}

/// Takes the next stream, when there may be one more.
async fn accept(tcp: &TcpListener, streams: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = streams.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = tcp.accept().await?;
    Ok((stream, permit))
}

async fn pause(error: io::Error) {
    tracing::warn!(%error, "cannot take a question for a name");
    tokio::time::sleep(PAUSE).await;
}

impl Shared {
    fn datagram(self: &Arc<Self>, udp: &Arc<UdpSocket>, bytes: &[u8], asker: SocketAddr, work: &mut JoinSet<()>) {
        // A packet that the kernel does not take is lost, as packets are: whoever asked asks again.
        let send = |answer: &[u8]| drop(udp.try_send_to(answer, asker));
        match self.reply(bytes, Transport::Udp) {
            Reply::Nothing => {}
            Reply::Now(answer) => send(&answer),
            Reply::Ask(question, servers, from) => {
                let Some(permits) = self.permits() else { return send(&question.failed()) };
                let (udp, bytes) = (udp.clone(), bytes.to_vec());
                work.spawn(async move {
                    let answer = ask(&bytes, &question, Transport::Udp, &servers, &from).await;
                    let _lost = udp.try_send_to(&answer, asker);
                    drop(permits);
                });
            }
        }
    }

    async fn stream(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let length = usize::from(timeout(SILENCE, stream.read_u16()).await??);
            if length > MAX_QUESTION {
                return Ok(());
            }
            let mut bytes = vec![0; length];
            timeout(SILENCE, stream.read_exact(&mut bytes)).await??;
            let answer = match self.reply(&bytes, Transport::Tcp) {
                Reply::Nothing => return Ok(()),
                Reply::Now(answer) => answer,
                Reply::Ask(question, servers, from) => match self.permits() {
                    Some(_permits) => ask(&bytes, &question, Transport::Tcp, &servers, &from).await,
                    None => question.failed(),
                },
            };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            timeout(SILENCE, stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())).await??;
        }
    }

    /// The right to ask others once more.
    fn permits(&self) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let own = self.questions.clone().try_acquire_owned().ok()?;
        let of_all = self.all_questions.clone().try_acquire_owned().ok()?;
        Some((own, of_all))
    }

    fn reply(&self, bytes: &[u8], transport: Transport) -> Reply {
        let question = match message::read(bytes) {
            Packet::Noise => return Reply::Nothing,
            Packet::Refused(answer) => return Reply::Now(answer),
            Packet::Asked(question) => question,
        };
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(answer) = self.own(&question, &view.networks, transport) {
            return Reply::Now(answer);
        }
        // Itself is the one that it must not ask.
        let servers: Vec<_> = view.servers.iter().filter(|&&server| server != ADDRESS).collect();
        match () {
            () if !servers.is_empty() => {
                let servers = servers.into_iter().map(|&server| SocketAddr::new(server, PORT)).collect();
                Reply::Ask(question, servers, From::Inside(self.namespace.clone()))
            }
            () if view.has_way_out => Reply::Ask(question, self.host.servers(), From::Host),
            () => Reply::Now(question.unknown()),
        }
    }

    /// The answer for a container of these networks, or for the address of one.
    fn own(&self, question: &Question, networks: &[NetworkId], transport: Transport) -> Option<Vec<u8>> {
        let kind = question.kind()?;
        let is_wanted = |address: &IpAddr| match kind {
            Kind::A => address.is_ipv4(),
            Kind::Aaaa => address.is_ipv6(),
            Kind::Any => true,
            Kind::Other => false,
        };
        if let Some(addresses) = self.directory.find(networks, &question.name(), is_wanted) {
            return Some(question.addresses(addresses, transport));
        }
        question.pointer(&self.directory.name_of(networks, question.reversed()?)?, transport)
    }
}

/// Asks others, and makes of what they say an answer for the asker.
async fn ask(bytes: &[u8], question: &Question, transport: Transport, servers: &[SocketAddr], from: &From) -> Vec<u8> {
    match forward::ask(bytes, question, transport, servers, from).await {
        Some(answer) => question.fit(answer, transport),
        None => question.failed(),
    }
}

#[cfg(test)]
mod tests;
