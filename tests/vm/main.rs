//! What this host cannot show: our tests again on Debian's own kernel, in guests of QEMU. `make test-v2` and
//! `make test-systemd` fetch what a guest boots from, and list our test binaries.
//!
//! A guest does all its jobs at once, and each test here looks at one of them.

mod archive;
mod job;
mod machine;
mod modules;
mod root;
mod systemd;
mod unified;
