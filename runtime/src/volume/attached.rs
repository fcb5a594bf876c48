//! Volumes that are file systems of their own, memory or a server's: they are mounted on the host where the volume has its
//! content, while containers run that use them. Whether one is mounted, the kernel says: a crash forgets nothing.

use std::{
    ffi::CString,
    fs, io,
    net::{IpAddr, ToSocketAddrs},
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::PoisonError,
};

use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, unmount},
};

use super::{Volume, options::Backing};
use crate::error::{Error, VolumeError};

/// A file system that is a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// "tmpfs", "nfs".
    pub kind: String,
    /// What has its files: "server:/path"; a word that means nothing for memory.
    pub device: String,
    /// What the file system is told: "size=1m,mode=700".
    pub data: String,
    /// Bits of mount(2).
    pub flags: u32,
}

/// Options that are bits of mount(2) and not the file system's: mount(8).
const FLAGS: [(&str, MountFlags, bool); 14] = [
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("noatime", MountFlags::NOATIME, true),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("relatime", MountFlags::RELATIME, true),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("defaults", MountFlags::empty(), true),
];

impl FileSystem {
    /// One of these options, as `-o o=` has them.
    pub fn new(kind: &str, device: &str, options: &[&str]) -> Self {
        let (mut flags, mut data) = (MountFlags::empty(), Vec::new());
        for option in options {
            match FLAGS.iter().find(|(name, ..)| name == option) {
                Some((_, flag, is_set)) => flags.set(*flag, *is_set),
                None => data.push(*option),
            }
        }
        Self { kind: kind.to_owned(), device: device.to_owned(), data: data.join(","), flags: flags.bits() }
    }

    /// What the file system is told, with the address of a server in place of its name: the kernel knows no names.
    fn resolved(&self) -> io::Result<String> {
        let resolve = |option: &str| match option.strip_prefix("addr=") {
            Some(name) if self.kind.starts_with("nfs") || self.kind == "cifs" => Ok(format!("addr={}", address(name)?)),
            _ => Ok(option.to_owned()),
        };
        let options: io::Result<Vec<String>> =
            self.data.split(',').filter(|option| !option.is_empty()).map(resolve).collect();
        Ok(options?.join(","))
    }

    fn mount(&self, target: &Path) -> io::Result<()> {
        let data = CString::new(self.resolved()?)?;
        let flags = MountFlags::from_bits_retain(self.flags);
        Ok(mount(self.device.as_str(), target, self.kind.as_str(), flags, data.as_c_str())?)
    }
}

fn address(name: &str) -> io::Result<IpAddr> {
    let mut found = (name, 0).to_socket_addrs()?;
    Ok(found.next().ok_or_else(|| io::Error::other(format!("the name {name} has no address")))?.ip())
}

impl Volume {
    /// The file system that it is; `None`: it is a directory.
    pub fn file_system(&self) -> Option<&FileSystem> {
        match &self.backing {
            Backing::FileSystem(file_system) => Some(file_system),
            Backing::Own { .. } | Backing::Directory { .. } => None,
        }
    }

    /// Mounts it, unless that is done. Of a directory it is looked after that its limit holds: what it is on may have been
    /// mounted otherwise meanwhile. Blocking.
    pub fn attach(&self) -> Result<(), Error> {
        let Some(file_system) = self.file_system() else { return super::limit(&self.directory, self.size_limit()) };
        let _alone = self.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_attached()? {
            return Ok(());
        }
        let (name, kind) = (self.record.name.to_string(), file_system.kind.clone());
        let device = file_system.device.clone();
        file_system.mount(&self.data()).map_err(|source| VolumeError::Mount { name, kind, device, source }.into())
    }

    /// Unmounts it, if it is mounted. Blocking.
    pub fn detach(&self) -> Result<(), Error> {
        if self.file_system().is_none() {
            return Ok(());
        }
        let _alone = self.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        let data = self.data();
        while self.is_attached()? {
            match unmount(&data, UnmountFlags::empty()) {
                // Somebody of the host looks at it: for others it is gone, and for him when he ends.
                Err(Errno::BUSY) => unmount(&data, UnmountFlags::DETACH),
                result => result,
            }
            .map_err(|errno| Error::io("unmount", &data, errno))?;
        }
        Ok(())
    }

    /// Whether something is mounted on it: proc(5), /proc/pid/mountinfo. A server that is away is not asked.
    pub fn is_attached(&self) -> Result<bool, Error> {
        const TABLE: &str = "/proc/self/mountinfo";
        let table = fs::read(TABLE).map_err(|e| Error::io("read", TABLE, e))?;
        let data = self.data();
        let wanted = escaped(&data);
        let is_it = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).is_some_and(|target| target == wanted);
        Ok(table.split(|byte| *byte == b'\n').any(is_it))
    }
}

/// A path as the table of mounts has it.
fn escaped(path: &Path) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
        byte => vec![*byte],
    };
    path.as_os_str().as_bytes().iter().flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_kernels_or_the_file_systems() {
        let one = FileSystem::new("tmpfs", "tmpfs", &["size=1m", "ro", "nosuid", "suid", "uid=1000"]);
        assert_eq!(one.data, "size=1m,uid=1000");
        assert_eq!(MountFlags::from_bits_retain(one.flags), MountFlags::RDONLY);
        let server = FileSystem::new("nfs", ":/export", &["addr=127.0.0.1", "vers=4"]);
        assert_eq!(server.resolved().unwrap(), "addr=127.0.0.1,vers=4");
        assert_eq!(escaped(Path::new("/a b/c\\d")), b"/a\\040b/c\\134d");
    }
}
