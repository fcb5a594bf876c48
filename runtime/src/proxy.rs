//! What must not end with this service, in a process of its own: servers of names in the network namespaces of containers,
//! and sockets of published ports with all that passes through them. `server` is that process, which is a role of this
//! program; `client` starts it, tells it of each container, and starts it again; `message` is what they say to each other.

mod client;
mod doors;
mod message;
mod names;
mod server;
mod way;

pub use client::Proxy;
pub use names::has_names;
pub use server::run;

/// What the process is called.
const NAME: &str = "strata-proxy";
/// The role, as the first argument of this program.
pub const ROLE: &str = "proxy";
