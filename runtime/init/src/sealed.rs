//! A program that nobody can write to through a process that runs it: a container's process may execute
//! `/proc/self/exe` before its own program takes over (CVE-2019-5736), and must not find the host's file there.

use crate::{
    failure::{Attempt, Failure},
    plan::attribute,
    sys,
};
use rustix::{
    fs::{CWD, MemfdFlags, OFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fstatvfs, memfd_create},
    mount::{OpenTreeFlags, open_tree},
};
use std::{
    env,
    fs::{self, File},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::Path,
    process::Command,
};

const ITSELF: &str = "/proc/self/exe";

/// Executes this program again so that its file cannot be written to, unless it already runs so, with those variables
/// of its environment that it names: the rest may be secret, and would be seen in the memory of a process that is to
/// execute a container's program.
///
/// It runs from a read-only mount of its file alone, which is in no mount namespace any more when it runs: nobody can
/// make it writable, and no page is copied. Who may not mount runs from a sealed copy in memory.
pub fn become_sealed(name: &str, variables: &[&str]) -> Result<(), Failure> {
    let program = fs::read_link(ITSELF).attempt(|| format!("read {ITSELF}"))?;
    let in_memory = format!("/memfd:{name}");
    if program.as_os_str().as_encoded_bytes().starts_with(in_memory.as_bytes()) || is_mounted_alone(&program) {
        return Ok(());
    }
    let file = match mounted_alone() {
        Ok(mount) => mount,
        Err(_) => sealed_copy(Path::new(ITSELF), name)?.into(),
    };
    let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    command.env_clear().envs(env::vars_os().filter(|(name, _)| variables.iter().any(|variable| name == variable)));
    let error = command.arg0(name).args(env::args_os().skip(1)).exec();
    Err(Failure::of(format!("execute the sealed {name}"), error))
}

/// Copies a program into memory that nobody can change any more.
pub fn sealed_copy(program: &Path, name: &str) -> Result<File, Failure> {
    let step = || format!("copy {} into memory", program.display());
    let mut source = File::open(program).attempt(step)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // EXEC says that it is meant to be executed: sysctl vm.memfd_noexec. Linux 6.3
    let memory = memfd_create(name, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(name, flags));
    let mut memory = File::from(memory.attempt(step)?);
    // In the kernel: no page of it becomes one of ours.
    std::io::copy(&mut source, &mut memory).attempt(step)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&memory, seals).attempt(step)?;
    // Open for reading only: a descriptor open for writing may make execve say ETXTBSY.
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    File::options().read(true).custom_flags(OFlags::CLOEXEC.bits() as i32).open(path).attempt(step)
}

/// The descriptor holds the mount in a namespace of its own; execve closes it, and the mount then belongs to none.
fn mounted_alone() -> Result<OwnedFd, Failure> {
    let step = || format!("mount {ITSELF} read-only");
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, ITSELF, flags).attempt(step)?;
    sys::mount_setattr(mount.as_fd(), false, attribute::RDONLY, 0, libc::MS_PRIVATE).attempt(step)?;
    Ok(mount)
}

/// A file that is the root of its mount, which is below no other: there is no other way to a program named `/`.
fn is_mounted_alone(program: &Path) -> bool {
    let is_read_only =
        || fstatvfs(File::open(ITSELF).ok()?).ok().map(|it| it.f_flag.contains(StatVfsMountFlags::RDONLY));
    program == Path::new("/") && is_read_only().unwrap_or(false)
}
