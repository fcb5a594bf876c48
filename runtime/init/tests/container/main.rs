//! Containers made by the built `strata-init`, as root, over a root file system that binds the host's
//! programs read-only. Each test has its own directory; nothing of it is left.

mod cgroups;
mod harness;
mod identity;
mod isolation;
mod lifecycle;
mod mounts;
mod races;
mod streams;
