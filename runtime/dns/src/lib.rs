//! Names in networks: a small server in the network namespace of each container, at 127.0.0.11, as programs that know
//! Docker expect it. It answers for the containers of the networks that its container is in, and asks others for the rest.
//! `directory` knows the names, `message` the wire, `upstream` whom to ask, `forward` how; `server` is one container's.

pub mod directory;
mod forward;
mod message;
pub mod server;
pub mod upstream;

pub use directory::{Directory, Member};
pub use server::{ADDRESS, Limits, Server, Sockets, View};
pub use upstream::Host;
