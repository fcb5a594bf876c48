//! Volumes that are file systems of their own, memory or a server's: they are mounted on the host where the volume has its
//! content, while containers run that use them. Whether one is mounted, the kernel says: a crash forgets nothing. A server
//! that says nothing is given up after a while.

use std::{
    fs, io,
    net::{IpAddr, ToSocketAddrs},
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::PoisonError,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags},
};

use super::{Volume, options::Backing};
use crate::{
    error::{Error, VolumeError},
    launch::Launcher,
};

/// How long a server may take. The kernel alone would wait for minutes, or without an end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Versions of NFS, in the order in which mount.nfs(8) tries them where none is named. Without one the kernel takes 3.
const VERSIONS: [&str; 4] = ["vers=4.2", "vers=4.1", "vers=4.0", ""];

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

    /// What is to be added to the options, one after the other until the server takes it.
    fn versions(&self) -> &'static [&'static str] {
        let names_one = |option: &str| {
            let word = option.split('=').next().unwrap_or_default();
            matches!(word, "vers" | "nfsvers" | "minorversion")
                || word.starts_with(['v']) && word[1..].starts_with(['2', '3', '4'])
        };
        match self.kind == "nfs" && !self.data.split(',').any(names_one) {
            true => &VERSIONS,
            false => &[""],
        }
    }

    fn mount(&self, launcher: &Launcher, target: &Path) -> io::Result<()> {
        let (data, flags) = (self.resolved()?, MountFlags::from_bits_retain(self.flags));
        let end = Instant::now() + PATIENCE;
        let mut told = None;
        for version in self.versions() {
            let options = [data.as_str(), version].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
            let Err(error) = launcher.mount([&self.kind, &self.device, &options.join(",")], flags, target, end) else {
                return Ok(());
            };
            match error.raw_os_error().map(Errno::from_raw_os_error) {
                // Another version may have it, and under another path. That there is no such path tells most.
                Some(Errno::NOENT) => told = told.filter(is_absent).or(Some(error)),
                Some(Errno::PROTONOSUPPORT | Errno::INVAL) => told = told.or(Some(error)),
                _ => return Err(told.filter(is_absent).unwrap_or(error)),
            }
        }
        told.map_or(Ok(()), Err)
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
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
    pub fn attach(&self, launcher: &Launcher) -> Result<(), Error> {
        let Some(file_system) = self.file_system() else { return super::limit(&self.directory, self.size_limit()) };
        let _alone = self.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_attached()? {
            return Ok(());
        }
        let (name, kind) = (self.record.name.to_string(), file_system.kind.clone());
        let device = file_system.device.clone();
        match file_system.mount(launcher, &self.data()) {
            // In the last moment.
            Err(error) if error.kind() == io::ErrorKind::TimedOut && self.is_attached()? => Ok(()),
            mounted => mounted.map_err(|source| VolumeError::Mount { name, kind, device, source }.into()),
        }
    }

    /// Unmounts it, if it is mounted. Blocking.
    pub fn detach(&self, launcher: &Launcher) -> Result<(), Error> {
        if self.file_system().is_none() {
            return Ok(());
        }
        let _alone = self.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        let data = self.data();
        let mut how = UnmountFlags::empty();
        while self.is_attached()? {
            how = match launcher.unmount(&data, how, Instant::now() + PATIENCE) {
                Ok(()) => UnmountFlags::empty(),
                // Somebody of the host looks at it: for others it is gone, and for him when he ends.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && how.is_empty() => UnmountFlags::DETACH,
                // Its server is away: what that did not take yet is lost, and the kernel would keep it for ever.
                Err(error) if error.kind() == io::ErrorKind::TimedOut && !how.contains(UnmountFlags::FORCE) => {
                    UnmountFlags::FORCE | UnmountFlags::DETACH
                }
                Err(error) => return Err(Error::io("unmount", &data, error)),
            };
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

    #[test]
    fn a_version_of_nfs_is_looked_for_where_none_is_named() {
        for (kind, options, expected) in [
            ("nfs", &["addr=127.0.0.1", "rw"][..], 4),
            ("nfs", &["addr=127.0.0.1", "vers=3"], 1),
            ("nfs", &["nfsvers=4.1"], 1),
            ("nfs", &["v4.2"], 1),
            ("nfs", &["v3"], 1),
            ("nfs4", &["addr=127.0.0.1"], 1),
            ("tmpfs", &["size=1m"], 1),
        ] {
            assert_eq!(FileSystem::new(kind, ":/x", options).versions().len(), expected, "{kind} {options:?}");
        }
    }
}
