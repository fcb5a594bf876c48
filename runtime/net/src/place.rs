//! Where networks are: among the interfaces of the host, for root. An ordinary user's are in a network namespace that the
//! runtime makes, the carrier: bridges, rules and routes are the same there, and nothing of the host's is touched.
//!
//! The carrier is kept by a mount, so that it stays when the runtime is killed, and is found again by the next. The mount is
//! in the mount namespace of the user's services: it goes with the last of them, and with the last container.

use std::{
    fs::{self, File},
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use nix::sched::{CloneFlags, unshare};
use rustix::{fd::OwnedFd, fs::statfs, mount::mount_bind};
use strata_types::Protocol;

use crate::{
    error::{Attempt, Error},
    namespace::{Namespace, set_parameter},
    netlink::{Batch, Socket},
    prefix::Family,
    returns,
    route::{Route, is_removal, is_way_out},
    socket,
};

/// linux/magic.h: the file system of namespaces.
const NSFS_MAGIC: u64 = 0x6e73_6673;
/// RTMGRP_LINK, RTMGRP_IPV4_ROUTE and RTMGRP_IPV6_ROUTE.
const LINKS: u32 = 1;
const ROUTES: u32 = 0x40 | 0x400;

/// Where networks are.
#[derive(Debug, Clone)]
pub enum Place {
    /// Among the interfaces of the host, which this service is root of.
    Host,
    /// In a network namespace of this service's.
    Carrier(Carrier),
}

impl Place {
    /// Does something there. On the host it is this thread that does it.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        match self {
            Self::Host => work(),
            Self::Carrier(carrier) => carrier.enter(work)?,
        }
    }

    /// The network namespace of this service, if it is one of its own.
    pub fn carrier(&self) -> Option<&Carrier> {
        match self {
            Self::Host => None,
            Self::Carrier(carrier) => Some(carrier),
        }
    }

    /// Routes that a subnet must not be in the way of: those that are there, and those of the host.
    pub(crate) fn routes(&self, family: Family) -> Result<Vec<Route>, Error> {
        let read = || {
            let attempt = || "read the routes of the host".to_owned();
            Socket::route().attempt(attempt)?.routes(family).attempt(attempt)
        };
        match self {
            Self::Host => read(),
            Self::Carrier(_) => Ok([read()?, self.within(read)?].concat()),
        }
    }
}

/// A network namespace that is made when it is needed.
#[derive(Debug, Clone)]
pub struct Carrier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    found: Mutex<Option<Found>>,
}

/// What is known of one that is there.
#[derive(Debug, Clone)]
struct Found {
    namespace: Arc<Namespace>,
    /// Sockets in it may have the addresses of others.
    has_returns: bool,
}

impl Carrier {
    /// The one that is mounted at a path, or will be.
    pub fn at(path: PathBuf) -> Self {
        Self(Arc::new(Inner { path, found: Mutex::default() }))
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Finds or makes it. Blocks.
    pub fn namespace(&self) -> Result<Arc<Namespace>, Error> {
        Ok(self.find()?.namespace)
    }

    fn find(&self) -> Result<Found, Error> {
        let mut known = self.0.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = &*known {
            return Ok(found.clone());
        }
        let failed = |source| Error::NoCarrier { source };
        let namespace = match is_mounted(&self.0.path) {
            true => Namespace::at(&self.0.path),
            false => make(&self.0.path),
        };
        let namespace = Arc::new(namespace.map_err(failed)?);
        // Without it containers see the address of their gateway as the client's.
        let has_returns = namespace.enter(returns::apply).map_err(failed)?.is_ok();
        let found = Found { namespace, has_returns };
        *known = Some(found.clone());
        Ok(found)
    }

    /// Opens a socket in it that can be connected to a server in the name of a client: with its address, unless that is of
    /// another version of the protocol, or means somebody else in there.
    pub fn socket_for(&self, protocol: Protocol, client: Option<IpAddr>, server: IpAddr) -> Result<OwnedFd, Error> {
        let found = self.find()?;
        let is_told = |client: &IpAddr| found.has_returns && client.is_ipv4() == server.is_ipv4() && !is_local(*client);
        let client = client.map(|client| client.to_canonical()).filter(is_told);
        let open = || socket::open(protocol, server, client);
        let attempt = || format!("open a socket to {server}");
        found.namespace.enter(open).attempt(attempt)?.attempt(attempt)
    }

    /// Does something in it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        self.namespace()?.enter(work).attempt(|| "enter the network namespace of the networks".to_owned())
    }

    /// Listens to what becomes of its interfaces, from now on.
    pub fn departures(&self) -> Result<Departures, Error> {
        let open = || Socket::route_groups(LINKS);
        self.enter(open)?.attempt(|| "listen to what becomes of interfaces".to_owned()).map(Departures)
    }

    /// Whether it has a way to the world.
    pub fn has_way_out(&self) -> Result<bool, Error> {
        let read = || Socket::route()?.routes(Family::V4).map_err(io::Error::from);
        let routes = self.enter(read)?.attempt(|| "read the routes of the networks".to_owned())?;
        Ok(routes.iter().any(|route| route.to.is_none()))
    }
}

/// Interfaces that go.
#[derive(Debug)]
pub struct Departures(Socket);

impl Departures {
    /// Waits until an interface of this name was removed, or until messages were lost, which may have said so. Blocks.
    pub fn until_gone(&self, name: &str) -> Result<(), Error> {
        let mut is_gone = false;
        while !is_gone {
            let heard = self.0.listen(|kind, payload| is_gone |= is_removal(kind, payload, name));
            match heard {
                Err(rustix::io::Errno::NOBUFS) => return Ok(()),
                heard => heard.attempt(|| format!("wait for the end of interface {name}"))?,
            }
        }
        Ok(())
    }
}

/// Ways out that the host gets.
#[derive(Debug)]
pub struct Arrivals(Socket);

impl Arrivals {
    /// Listens to what becomes of the host's routes, from now on.
    pub fn listen() -> Result<Self, Error> {
        Socket::route_groups(ROUTES).attempt(|| "listen to what becomes of routes".to_owned()).map(Self)
    }

    /// Waits until the host has got a default route, or until messages were lost, which may have said so. Blocks.
    pub fn until_led_out(&self) -> Result<(), Error> {
        let mut is_led_out = false;
        while !is_led_out {
            let heard = self.0.listen(|kind, payload| is_led_out |= is_way_out(kind, payload));
            match heard {
                Err(rustix::io::Errno::NOBUFS) => return Ok(()),
                heard => heard.attempt(|| "wait for a way out of the host".to_owned())?,
            }
        }
        Ok(())
    }
}

fn is_mounted(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.f_type as u64 == NSFS_MAGIC)
}

/// Makes a network namespace, on a thread that ends in it, and mounts it.
fn make(path: &Path) -> io::Result<Namespace> {
    File::create(path)?;
    let body = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        // Nobody sends what another's address is on; in here every answer takes the way that the question took.
        for which in ["all", "default"] {
            set_parameter(&format!("net/ipv4/conf/{which}/rp_filter"), "1")?;
        }
        // As on bridges: for a second or two nothing would be sent on by an interface that has just been made.
        set_parameter("net/ipv6/conf/default/accept_dad", "0")?;
        let mut batch = Batch::default();
        batch.set_up("lo");
        Socket::route()?.send(&batch)?;
        mount_bind("/proc/thread-self/ns/net", path)?;
        Namespace::at(path)
    };
    let inside = thread::Builder::new().name("netns".to_owned());
    let made =
        thread::scope(|scope| inside.spawn_scoped(scope, body)?.join().map_err(|_| io::Error::other("it panicked"))?);
    made.inspect_err(|_| {
        let _first_error_is_told = fs::remove_file(path);
    })
}

/// Whether an address means whoever uses it, or a neighbour.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_unspecified() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unspecified() || address.is_unicast_link_local(),
    }
}

/// The host's own address, as it goes out with. None: it has no way out. Nothing is sent for it.
pub fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // An address of documentation (RFC 5737): only routes are looked at.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address: SocketAddr| address.ip())
}
