//! Questions that others answer. They go on byte for byte, but for their number: what the asker wanted of DNSSEC or EDNS
//! reaches the server. Each goes from a port of its own with a number of its own, and only an answer to it comes back.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    rand::GetRandomFlags,
};
use strata_net::Namespace;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UdpSocket},
    time::timeout,
};

use crate::message::{self, MAX_DATAGRAM, Question, Transport};

/// How long a server may take while there is another one to ask.
const ANOTHER: Duration = Duration::from_secs(2);
/// How long the last one may take. Askers give up after five seconds: RES_TIMEOUT of resolv.h.
const LAST: Duration = Duration::from_secs(4);

/// Where servers are asked from.
#[derive(Debug, Clone)]
pub enum From {
    /// The network namespace of this process.
    Host,
    /// That of a container.
    Inside(Arc<Namespace>),
}

/// Asks servers, one after the other, until one of them knows. None: none of them answers.
pub async fn ask(
    bytes: &[u8],
    question: &Question,
    transport: Transport,
    servers: &[SocketAddr],
    from: &From,
) -> Option<Vec<u8>> {
    let mut failure = None;
    for (index, server) in servers.iter().enumerate() {
        let patience = if index + 1 < servers.len() { ANOTHER } else { LAST };
        let asked = timeout(patience, exchange(bytes, question, transport, *server, from)).await;
        match asked {
            Ok(Ok(answer)) if !message::is_failure(&answer) => return Some(answer),
            Ok(Ok(answer)) => failure = failure.or(Some(answer)),
            Ok(Err(error)) => tracing::debug!(%server, %error, "a server of names cannot be asked"),
            Err(_) => tracing::debug!(%server, "a server of names does not answer"),
        }
    }
    failure
}

async fn exchange(
    bytes: &[u8],
    question: &Question,
    transport: Transport,
    server: SocketAddr,
    from: &From,
) -> io::Result<Vec<u8>> {
    let mut number = [0; 2];
    rustix::rand::getrandom(&mut number, GetRandomFlags::empty())?;
    let number = u16::from_be_bytes(number);
    let mut packet = bytes.to_vec();
    message::set_id(&mut packet, number);
    let mut answer = match transport {
        Transport::Udp => by_datagram(&packet, question, number, server, from).await?,
        Transport::Tcp => by_stream(&packet, question, number, server, from).await?,
    };
    message::set_id(&mut answer, message::id(bytes).unwrap_or(0));
    Ok(answer)
}

async fn by_datagram(
    packet: &[u8],
    question: &Question,
    number: u16,
    server: SocketAddr,
    from: &From,
) -> io::Result<Vec<u8>> {
    // Connected: the kernel takes packets from nobody else, and tells when nobody listens there.
    let open = move || {
        let socket = std::net::UdpSocket::bind(SocketAddr::new(unspecified(server), 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let socket = UdpSocket::from_std(opened(from, open).await?)?;
    socket.send(packet).await?;
    let mut buffer = vec![0; usize::from(MAX_DATAGRAM)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Somebody guesses, or an answer to an earlier question: the right one may still come.
        if question.is_answered_by(&buffer[..length], number) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn by_stream(
    packet: &[u8],
    question: &Question,
    number: u16,
    server: SocketAddr,
    from: &From,
) -> io::Result<Vec<u8>> {
    let mut stream = match from {
        From::Host => TcpStream::connect(server).await?,
        From::Inside(_) => {
            // Made inside, connected here: a socket stays in the namespace that it was made in.
            let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let open = move || Ok(socket_with(family, SocketType::STREAM, flags, None)?);
            TcpSocket::from_std_stream(opened(from, open).await?.into()).connect(server).await?
        }
    };
    let length = u16::try_from(packet.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), packet].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    match question.is_answered_by(&answer, number) {
        true => Ok(answer),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no answer to the question")),
    }
}

async fn opened<T: Send + 'static>(
    from: &From,
    open: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match from {
        From::Host => open(),
        From::Inside(namespace) => {
            let namespace = namespace.clone();
            tokio::task::spawn_blocking(move || namespace.enter(open)?).await.map_err(io::Error::other)?
        }
    }
}

fn unspecified(server: SocketAddr) -> IpAddr {
    match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
