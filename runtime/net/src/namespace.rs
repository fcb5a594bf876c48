//! Work in the network namespace of a container: a thread of its own joins it, works, and ends.
//! A socket that it opens stays in that namespace; no thread of a pool is ever in another namespace than its host's.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The network namespace of a process.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// That of a process, which the caller holds: it cannot have ended unseen.
    pub fn of(pid: u32) -> io::Result<Self> {
        Self::at(format!("/proc/{pid}/ns/net"))
    }

    /// That of the thread which calls.
    pub fn own() -> io::Result<Self> {
        Self::at("/proc/thread-self/ns/net")
    }

    /// That of a file.
    pub fn at(path: impl AsRef<Path>) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// A path that stands for it, for this process and its children, as long as this value is there.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// Does something in it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let inside = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            })?;
            inside.join().map_err(|_| io::Error::other("a thread in a network namespace panicked"))?
        })
    }
}

impl From<OwnedFd> for Namespace {
    /// The one that a descriptor of another process stands for.
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sets a parameter of the network namespace of this thread: `net/ipv4/ip_forward`. What does not exist is left out:
/// a kernel without IPv6 has none of its parameters.
///
/// /proc/sys/net shows the namespace of the thread that looks: net/sysctl_net.c.
pub fn set_parameter(name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/{name}");
    match fs::read_to_string(&path) {
        Ok(current) if current.trim() == value => Ok(()),
        Ok(_) => fs::write(&path, value),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_in_a_namespace_is_done_and_answers() {
        // Without the right to join, the refusal is told.
        match Namespace::own().unwrap().enter(|| 7) {
            Ok(answer) => assert_eq!(answer, 7),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
