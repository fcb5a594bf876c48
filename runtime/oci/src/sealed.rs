//! A copy of this program that nobody can write to: a container's process may execute `/proc/self/exe`
//! before its own program takes over (CVE-2019-5736), and must not find the host's file there.

use std::{
    fs,
    io::Write,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::Command,
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// What of the caller's environment this program reads. The rest may be secret, and would be seen in the memory of a
/// process that is to execute a container's program.
const NEEDED: [&str; 6] = [
    "DBUS_SESSION_BUS_ADDRESS",
    "DBUS_SYSTEM_BUS_ADDRESS",
    "LISTEN_FDS",
    "RUST_BACKTRACE",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
];

/// Executes this program again from a sealed memory file, unless it already runs from one.
pub fn become_sealed() -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot make a sealed copy of this program: {error}");
    let program = fs::read_link("/proc/self/exe").map_err(failed)?;
    if program.as_os_str().as_encoded_bytes().starts_with(b"/memfd:strata-oci") {
        return Ok(());
    }
    let bytes = fs::read("/proc/self/exe").map_err(failed)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = fs::File::from(memfd_create("strata-oci", flags).map_err(|error| failed(error.into()))?);
    file.write_all(&bytes).map_err(failed)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals).map_err(|error| failed(error.into()))?;
    let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| NEEDED.iter().any(|needed| name == needed)));
    Err(failed(command.arg0("strata-oci").args(std::env::args_os().skip(1)).exec()))
}
