//! Networks of containers on this host: addresses, bridges, pairs of interfaces, and the firewall's rules, by netlink alone.
//! `networks` is what the runtime calls; `network`, `endpoint` and `prefix` are what it speaks of. Nothing here knows
//! containers beyond their ids, and nothing is asynchronous: a call to the kernel takes microseconds.

mod bridge;
mod conntrack;
pub mod endpoint;
pub mod error;
pub mod firewall;
pub mod foreign;
mod holder;
pub mod host;
mod ipam;
pub mod mac;
pub mod namespace;
mod netlink;
pub mod network;
pub mod networks;
mod nft;
mod parent;
pub mod place;
pub mod ports;
pub mod prefix;
mod records;
pub mod redirect;
mod returns;
mod route;
mod socket;
pub mod watch;

#[cfg(test)]
mod tests;

pub use endpoint::{Attachment, Endpoint, Held};
pub use error::Error;
pub use mac::Mac;
pub use namespace::Namespace;
pub use network::{Driver, Ipvlan, IpvlanFlag, Macvlan, Network, Pool, PoolWish, Wish};
pub use networks::Networks;
pub use place::{Arrivals, Carrier, Departures, Place};
pub use ports::{Door, Owner, Published, Survivor};
pub use prefix::{Family, Prefix};
pub use records::VERSION as RECORD_VERSION;
