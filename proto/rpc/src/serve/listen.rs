//! Listening: a Unix socket by path, a TCP port, or a socket that was handed over as standard input: by whoever starts
//! services on demand, or by systemd.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    os::{fd::AsFd, unix::net::UnixListener as StdUnixListener},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{Mode, OFlags};
use tokio::net::{TcpListener, UnixListener};

use super::{Config, Error};
use crate::{
    endpoint::Endpoint,
    identity::ServerTls,
    socket::{self, Inode},
};

/// How `--listen` names the socket that systemd keeps.
pub(crate) const SYSTEMD: &str = "systemd";

/// Where a service listens.
#[derive(Debug, Clone)]
pub enum Listen {
    /// A Unix socket that the service binds.
    Unix(PathBuf),
    /// A TCP address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A listening Unix socket as standard input, and where clients find it.
    Stdin {
        /// Path of the socket.
        path: PathBuf,
    },
    /// A listening Unix socket as standard input, which systemd keeps: `StandardInput=socket` of its units. It is found
    /// where the socket says that it is, and stays there when the service ends.
    Systemd,
    /// A socket that is bound already, and where clients find it.
    Bound {
        /// Path of the socket.
        path: PathBuf,
        /// The listener.
        listener: Arc<StdUnixListener>,
    },
}

impl Listen {
    /// Parses "unix:PATH", "tcp:ADDR:PORT", "systemd" or "fd:0"; the last needs the path of its socket.
    pub fn parse(text: &str, socket_path: Option<&Path>) -> Result<Self, Error> {
        let invalid = || Error::Listen { text: text.to_owned() };
        if text == "fd:0" {
            let path = socket_path.filter(|path| path.is_absolute()).ok_or_else(invalid)?;
            return Ok(Self::Stdin { path: path.to_owned() });
        }
        if text == SYSTEMD {
            return Ok(Self::Systemd);
        }
        match Endpoint::parse(text).map_err(|_| invalid())? {
            Endpoint::Unix(path) => Ok(Self::Unix(path)),
            Endpoint::Tcp { host, port } => {
                let mut found = (host.as_str(), port)
                    .to_socket_addrs()
                    .map_err(|source| Error::Bind { address: text.to_owned(), source })?;
                found.next().map(Self::Tcp).ok_or_else(invalid)
            }
        }
    }
}

/// Whose a Unix socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeper {
    /// The service's: its path goes with it.
    Service,
    /// systemd's, which has it open too: who comes when the service has ended waits in its queue, and has the next one
    /// started.
    Systemd,
}

/// A listener, and what is needed to take it away again.
pub(super) enum Bound {
    Unix { listener: UnixListener, path: PathBuf, inode: Option<Inode>, keeper: Keeper },
    Tcp { listener: TcpListener, address: SocketAddr, tls: ServerTls },
}

impl Bound {
    pub fn new(config: &Config) -> Result<Self, Error> {
        match &config.listen {
            Listen::Unix(path) => {
                let path = std::path::absolute(path).map_err(socket::Error::file("find", path))?;
                let lock = socket::lock(&path)?;
                Self::unix(socket::bind(&lock, &path)?, path, Keeper::Service)
            }
            Listen::Bound { path, listener } => {
                let listener = listener.try_clone().map_err(|source| Error::NotAListener { source })?;
                Self::unix(listener, path.clone(), Keeper::Service)
            }
            Listen::Stdin { path } => {
                let listener = take_stdin().map_err(|source| Error::NotAListener { source })?;
                Self::unix(listener, path.clone(), Keeper::Service)
            }
            Listen::Systemd => {
                let listener = take_stdin().map_err(|source| Error::NotAListener { source })?;
                let path = path_of(&listener).map_err(|source| Error::NotAListener { source })?;
                Self::unix(listener, path, Keeper::Systemd)
            }
            Listen::Tcp(address) => {
                let tls = config.tls.clone().ok_or(Error::NeedsTls)?;
                let failed = |source| Error::Bind { address: format!("tcp:{address}"), source };
                let listener = std::net::TcpListener::bind(address).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                Ok(Self::Tcp { listener: TcpListener::from_std(listener).map_err(failed)?, address, tls })
            }
        }
    }

    fn unix(listener: StdUnixListener, path: PathBuf, keeper: Keeper) -> Result<Self, Error> {
        let failed = |source| Error::Bind { address: format!("unix:{}", path.display()), source };
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        let inode = socket::inode(&path);
        Ok(Self::Unix { listener, path, inode, keeper })
    }

    /// Lets other users of this host in, as far as the door.
    pub fn open_to_users(&self) -> Result<(), Error> {
        match self {
            Self::Unix { path, .. } => Ok(socket::open_to_users(path)?),
            Self::Tcp { .. } => Ok(()),
        }
    }

    pub fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }

    /// Removes the socket of a service that never served, unless the path is somebody else's by now.
    pub fn take_away(&self) {
        if let Self::Unix { path, inode, keeper: Keeper::Service, .. } = self
            && inode.is_some()
            && let Ok(_lock) = socket::lock(path)
            && socket::inode(path) == *inode
        {
            // It is stale then, which the next service sees.
            let _ = std::fs::remove_file(path);
        }
    }

    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Unix { path, .. } => Endpoint::Unix(path.clone()),
            Self::Tcp { address, .. } => Endpoint::Tcp { host: address.ip().to_string(), port: address.port() },
        }
    }
}

/// The listening socket that is standard input, which becomes /dev/null.
fn take_stdin() -> io::Result<StdUnixListener> {
    let stdin = io::stdin();
    if !rustix::net::sockopt::socket_acceptconn(stdin.as_fd())? {
        return Err(io::Error::other("it does not listen"));
    }
    let listener = StdUnixListener::from(stdin.as_fd().try_clone_to_owned()?);
    listener.local_addr()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(listener)
}

/// Where clients find a socket.
fn path_of(listener: &StdUnixListener) -> io::Result<PathBuf> {
    let address = listener.local_addr()?;
    let path = address.as_pathname().filter(|path| path.is_absolute());
    path.map(Path::to_owned).ok_or_else(|| io::Error::other("it has no path: ListenStream= of the unit must be one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handed_socket_needs_the_path_where_clients_find_it() {
        assert!(Listen::parse("fd:0", None).is_err());
        assert!(Listen::parse("fd:0", Some(Path::new("relative"))).is_err());
        assert!(matches!(Listen::parse("fd:0", Some(Path::new("/x"))), Ok(Listen::Stdin { .. })));
        assert!(Listen::parse("fd:3", Some(Path::new("/x"))).is_err());
        assert!(matches!(Listen::parse("systemd", None), Ok(Listen::Systemd)), "its socket says where it is");
    }
}
