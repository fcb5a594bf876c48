//! What the runtime and the proxy say to each other over a Unix socket: a greeting, then questions with one answer each.
//! A message is its length, JSON of that length, and with its first byte descriptors. The greetings are for all versions.

use std::{io, mem::MaybeUninit, net::SocketAddr};

use rustix::{
    fd::{BorrowedFd, OwnedFd},
    io::{IoSlice, IoSliceMut},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use strata_dns::{Member, View};
use strata_net::Published;
use strata_types::{ContainerId, NetworkId};
use tokio::{io::Interest, net::UnixStream};

/// What is said here. Who speaks another version is replaced.
pub const VERSION: u32 = 1;
/// The longest message: a container has 4096 ports at most.
const LONGEST: usize = 4 << 20;
/// The most descriptors of a message.
const DESCRIPTORS: usize = 3;

/// The first message of the runtime.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
}

/// The answer, which is the first message of the proxy.
#[derive(Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// [`VERSION`].
    pub version: u32,
    /// What it has.
    pub containers: Vec<ContainerId>,
}

/// What the runtime says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// All that a container is to have; with its first process, at whose end it has nothing any more. The answer says what
    /// lacks sockets.
    Tell {
        /// The container.
        id: ContainerId,
        /// Its names.
        names: Names,
        /// Its ports, and where they lead.
        doors: Vec<(Published, SocketAddr)>,
    },
    /// Sockets for names in the network namespace of a container.
    Serve {
        /// The container.
        id: ContainerId,
    },
    /// Sockets that hold a port: of the host, and in the carrier.
    Open {
        /// The container.
        id: ContainerId,
        /// The port.
        published: Published,
        /// Where it leads.
        target: SocketAddr,
        /// Whether the first descriptor is one of the host. Without it the kernel has no such sockets.
        is_held: bool,
    },
    /// A container has nothing any more.
    Forget {
        /// The container.
        id: ContainerId,
    },
}

/// What the proxy answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It is done, but sockets are missing.
    Lacks {
        /// Those for names.
        names: bool,
        /// Those of these ports.
        doors: Vec<Published>,
    },
    /// It is done.
    Done,
    /// It cannot be done.
    Failed(String),
}

/// The names of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Where it has names.
    pub zones: Vec<Zone>,
    /// What it sees.
    pub view: View,
    /// It asks a server of its own.
    pub is_served: bool,
}

/// The names of a container in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// The network.
    pub network: NetworkId,
    /// Its name.
    pub network_name: String,
    /// Names and addresses.
    pub member: Member,
}

/// One end of the conversation.
#[derive(Debug)]
pub struct Channel(UnixStream);

impl Channel {
    /// Speaks to a process of the same user, and to no other.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        match stream.peer_cred()?.uid() == rustix::process::geteuid().as_raw() {
            true => Ok(Self(stream)),
            false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "the other end is another user's")),
        }
    }

    /// The process at the other end, or the one that listened.
    pub fn peer(&self) -> io::Result<u32> {
        let pid = self.0.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
        pid.ok_or_else(|| io::Error::other("the process at the other end is not known"))
    }

    /// Sends a message, and copies of descriptors.
    pub async fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let body = serde_json::to_vec(message)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let bytes = [length.to_be_bytes().as_slice(), &body].concat();
        let mut sent = 0;
        while sent < bytes.len() {
            let descriptors = if sent == 0 { descriptors } else { &[] };
            sent += self.0.async_io(Interest::WRITABLE, || send_some(&self.0, &bytes[sent..], descriptors)).await?;
        }
        Ok(())
    }

    /// The next message, with its descriptors. None: the other end has closed.
    pub async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut descriptors = Vec::new();
        let mut length = [0; 4];
        if !self.fill(&mut length, &mut descriptors).await? {
            return Ok(None);
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
        }
        let mut body = vec![0; length];
        if !self.fill(&mut body, &mut descriptors).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some((serde_json::from_slice(&body)?, descriptors)))
    }

    /// False: there was nothing any more.
    async fn fill(&self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            let receive = || receive_some(&self.0, &mut buffer[filled..], descriptors);
            match self.0.async_io(Interest::READABLE, receive).await? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(true)
    }
}

fn send_some(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

fn receive_some(stream: &UnixStream, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, os::fd::AsFd};

    use super::*;

    #[tokio::test]
    async fn descriptors_come_with_their_message_however_long_it_is() {
        let (one, two) = UnixStream::pair().unwrap();
        let (one, two) = (Channel::new(one).unwrap(), Channel::new(two).unwrap());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "text").unwrap();
        let file = File::open(dir.path().join("file")).unwrap();
        let long = "x".repeat(1 << 20);

        let send = async {
            one.send(&long, &[file.as_fd(), file.as_fd()]).await.unwrap();
            one.send(&Hello { version: 7 }, &[]).await.unwrap();
            drop(one);
        };
        let receive = async {
            let (text, descriptors) = two.receive::<String>().await.unwrap().unwrap();
            assert_eq!((text.len(), descriptors.len()), (long.len(), 2));
            let mut said = String::new();
            File::from(descriptors.into_iter().next().unwrap()).read_to_string(&mut said).unwrap();
            assert_eq!(said, "text");
            let (hello, descriptors) = two.receive::<Hello>().await.unwrap().unwrap();
            assert_eq!((hello.version, descriptors.len()), (7, 0));
            assert!(two.receive::<Hello>().await.unwrap().is_none());
        };
        tokio::join!(send, receive);
    }
}
