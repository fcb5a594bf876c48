//! Plumbing of the services that knows no service: endpoints, serving and draining, starting on demand, faults,
//! request logs, metrics, traces, chunks, pages, configuration, identities and what they may do.

pub mod access;
pub mod chunks;
pub mod cli;
pub mod config;
pub mod endpoint;
pub mod events;
pub mod fault;
pub mod handed;
pub mod identity;
pub mod idle;
pub mod metrics;
mod notify;
pub mod pages;
pub mod paths;
mod rootless;
pub mod serve;
pub mod socket;
pub mod spans;
pub mod spawn;
pub mod trace;
pub mod version;

pub use access::{Caller, Grant};
pub use cli::ServiceArgs;
pub use endpoint::{Endpoint, connect, connect_eager};
pub use fault::{Fault, reason_of, to_status};
pub use idle::{Busy, Drain, Idle};
pub use metrics::Metrics;
pub use serve::{Context, run};
