//! The kitchen: a Dockerfile and a context become an image.
//!
//! `grpc` translates; `stages` builds what `graph` found, `step` performs instructions, `session` speaks with the
//! client and `peers` with store and runtime. The builder never mounts, forks or writes a root file system.

mod agent;
mod config;
mod context;
mod contexts;
mod devices;
mod entitlements;
mod epoch;
mod error;
mod export;
mod flight;
mod graph;
mod grpc;
mod image;
mod key;
mod memo;
mod origin;
mod peers;
mod progress;
mod remotes;
mod scope;
mod secret;
mod session;
mod settings;
mod setup;
mod solve;
mod source;
mod stages;
mod step;
mod steps;
mod tally;

pub use config::Config;
pub use error::Error;
pub use grpc::service;
pub use tally::Tally;
