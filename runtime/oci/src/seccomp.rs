//! System call filters: what the OCI spec says, what a default container gets.

mod profile;

pub use profile::default_profile;
