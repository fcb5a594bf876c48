//! What can go wrong with networks.

use std::{io, net::IpAddr, path::PathBuf};

use rustix::io::Errno;
use strata_types::{PortRange, Protocol};

use crate::prefix::Prefix;

/// Why a network could not be made, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No network has this id or name.
    #[error("network {name} not found")]
    NotFound {
        /// As asked for.
        name: String,
    },
    /// Several ids start so.
    #[error("{prefix:?} is the start of several network ids: {}", candidates.join(", "))]
    Ambiguous {
        /// As asked for.
        prefix: String,
        /// Some of them, short, with their names.
        candidates: Vec<String>,
    },
    /// The name is in use.
    #[error("network with name {name} already exists")]
    NameTaken {
        /// The name.
        name: String,
        /// Id of its holder.
        holder: String,
    },
    /// A network that is always there.
    #[error("{name} is a pre-defined network and cannot be {what}")]
    Predefined {
        /// Its name.
        name: String,
        /// "removed", "made".
        what: &'static str,
    },
    /// Containers use it.
    #[error("network {name} has active endpoints: {}", holders.join(", "))]
    InUse {
        /// Its name.
        name: String,
        /// Ids of the containers, as people see them.
        holders: Vec<String>,
    },
    /// Something that was asked for makes no sense.
    #[error("{field}: {problem}")]
    Argument {
        /// Field of the request.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Another network has some of the addresses.
    #[error("the subnet {subnet} overlaps {other} of network {holder}")]
    Overlap {
        /// What was asked for.
        subnet: Prefix,
        /// What is there.
        other: Prefix,
        /// Name of the network that has it.
        holder: String,
    },
    /// No subnet is left that neither a network nor a route of the host has.
    #[error("all predefined address pools have been fully subnetted: give a --subnet")]
    NoSubnet {},
    /// No address is left in a network.
    #[error("no available address in {subnet} of network {network}")]
    NoAddress {
        /// Its name.
        network: String,
        /// The subnet.
        subnet: Prefix,
    },
    /// An address is in use.
    #[error("address {address} is already in use by {holder}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Who has it.
        holder: String,
    },
    /// An address is in no subnet of the network.
    #[error("address {address} is in no subnet of network {network}")]
    NotInSubnet {
        /// The address.
        address: IpAddr,
        /// Name of the network.
        network: String,
    },
    /// Somebody has the port.
    #[error("port {ports}/{protocol} of {address} is in use by {holder}")]
    PortTaken {
        /// The port, or those that were tried.
        ports: PortRange,
        /// Their protocol.
        protocol: Protocol,
        /// Address of the host.
        address: IpAddr,
        /// "container web", "nginx (process 123)".
        holder: String,
    },
    /// A port cannot be published on what is no address of the host.
    #[error("ports cannot be published on {address}: this host does not have that address")]
    NotOfHost {
        /// The address.
        address: IpAddr,
    },
    /// A port that an ordinary user may not have.
    #[error(
        "port {ports}/{protocol} of {address} is for root: net.ipv4.ip_unprivileged_port_start says from which on ports are for all"
    )]
    PortOfRoot {
        /// The port, or those that were tried.
        ports: PortRange,
        /// Their protocol.
        protocol: Protocol,
        /// Address of the host.
        address: IpAddr,
    },
    /// An interface of the host has the name already.
    #[error("an interface with the name {name} exists already")]
    InterfaceTaken {
        /// The name.
        name: String,
    },
    /// An ordinary user's networks are in a network namespace, and there is none.
    #[error("cannot make a network namespace for networks: --network host and none are there without it")]
    NoCarrier {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel makes no interfaces of a kind.
    #[error("the kernel of this host makes no {kind}: its module {module} is not there (modprobe {module})")]
    NoKernelModule {
        /// What was to be made.
        kind: &'static str,
        /// The module that makes them.
        module: &'static str,
    },
    /// The kernel makes no further interfaces on one of the host's.
    #[error(
        "no {kind} can be made on interface {name}: it is a port of a bridge, of another kind of network, or of none"
    )]
    ParentBusy {
        /// What was to be made.
        kind: &'static str,
        /// The interface of the host.
        name: String,
    },
    /// Another network has an interface of the host to itself.
    #[error("network {holder} uses interface {name} already, and passthru takes it whole")]
    ParentTaken {
        /// The interface of the host.
        name: String,
        /// Name of the network.
        holder: String,
    },
    /// The kernel refused.
    #[error("cannot {attempt}")]
    Kernel {
        /// What was attempted.
        attempt: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record on disk cannot be understood.
    #[error("cannot read record {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file operation failed.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was attempted.
        verb: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// A file operation that failed.
    pub(crate) fn io(verb: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { verb, path: path.into(), source }
    }

    /// Something malformed.
    pub fn argument(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Argument { field, problem: problem.into() }
    }
}

/// Names what was attempted when the kernel refuses.
pub(crate) trait Attempt<T> {
    /// The error with its attempt.
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Attempt<T> for Result<T, Errno> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|errno| Error::Kernel { attempt: what(), source: errno.into() })
    }
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Kernel { attempt: what(), source })
    }
}
