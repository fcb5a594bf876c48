//! Real containers through podman, containerd and Docker of Debian's packages, with this engine under them.
//! Needs root, and the packages podman, containerd and docker.io: a test without its package fails and names it.
//! Each test has directories, sockets and daemons of its own, and ends them by their process id.

#[path = "../conformance/bundle.rs"]
#[allow(dead_code, reason = "only its root file system is used here")]
mod bundle;
mod containerd;
mod docker;
mod podman;
mod work;
