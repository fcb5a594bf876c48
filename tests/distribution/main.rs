//! The OCI distribution specification 1.1 as tests of ours, category by category, over HTTP: against our registry, and
//! as a control against Debian's `docker-registry`. What only ours promises is listed apart from what both must do.

mod clients;
mod content;
mod decided;
mod discovery;
mod floods;
mod http;
mod identity;
mod management;
mod own;
mod pull;
mod push;
mod subject;
mod through;
