//! The OCI runtime specification as decisions: what a bundle asks for becomes plain data that
//! `strata-init` runs. Nothing here enters a namespace; only `cgroup` and `systemd` touch the system.
//! Start at `plan` for the way from a spec to a plan, at `default_spec` for what `ctl run` gets.

pub mod capabilities;
pub mod cgroup;
pub mod config;
pub mod default_spec;
pub mod extra;
pub mod hooks;
pub mod plan;
pub mod rdt;
pub mod seccomp;
pub mod systemd;
pub mod unprivileged;
pub mod user;
