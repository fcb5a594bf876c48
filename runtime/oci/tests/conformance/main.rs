//! The OCI runtime specification, claim by claim, against the command line and the kernel. Needs root and a cgroup
//! hierarchy. A test whose first line of documentation is `Spec: DOCUMENT, SECTION: CLAIM` is a row of the table in
//! the engine's README, which `table` keeps true.

mod bundle;
mod mounts;
mod namespaces;
mod operations;
mod table;
