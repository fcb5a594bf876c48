//! The kitchen: a Dockerfile and a context become an image.
//!
//! `grpc` translates; `solve` walks the stages of `graph`, `step` performs instructions, `session` speaks with the
//! client and `peers` with store and runtime. The builder never mounts, forks or writes a root file system.

mod config;
mod context;
mod error;
mod graph;
mod grpc;
mod image;
mod key;
mod peers;
mod progress;
mod scope;
mod session;
mod solve;
mod step;

pub use config::Config;
pub use error::Error;
pub use grpc::service;
