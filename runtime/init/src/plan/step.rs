//! What is done inside before the process is ready: mounts for the most part, with their attributes.

use super::{IdMap, Propagation, Root};
use crate::codec::{choice, records};
use std::ffi::OsString;
use std::path::PathBuf;

/// Mount attribute bits (`MOUNT_ATTR_*` of mount_setattr(2)) of steps.
pub mod attribute {
    /// Nothing can be written.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits have no effect.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Programs cannot be executed.
    pub const NOEXEC: u64 = 0x8;
    /// All bits of the access time mode; clear it when one of the modes below is set.
    pub const ATIME_MASK: u64 = 0x70;
    /// Access times are not kept.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always kept.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not kept.
    pub const NODIRATIME: u64 = 0x80;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

records! {
    /// Attributes that a mount gets and loses, see [`attribute`].
    #[derive(Default)]
    pub struct Attributes {
        /// Set on the mount itself.
        pub set: u64,
        /// Cleared on the mount itself.
        pub clear: u64,
        /// Set on the mount and those below it, before the ones above.
        pub set_all: u64,
        /// Cleared on the mount and those below it.
        pub clear_all: u64,
    }

    /// How the owners of files appear in an id-mapped mount.
    pub struct MountIds {
        /// User ids, from those in the file system (inside) to those of the host (outside); none: as the user
        /// namespace that the process joins maps them.
        pub uids: Vec<IdMap>,
        /// Group ids in the same way.
        pub gids: Vec<IdMap>,
        /// Whether the mounts below are mapped too.
        pub recursive: bool,
    }
}

choice! {
    /// One thing to do inside. Paths are absolute inside the root and are resolved beneath it
    /// (`openat2` with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS); missing mount points are made
    /// and reported in [`crate::wire::Frame::Ready`]. Sources of binds are paths of the host,
    /// opened by the monitor before the process exists.
    pub enum Step {
        /// Mounts a new file system.
        0 = Filesystem {
            /// Its type: `proc`, `sysfs`, `tmpfs`, `devpts`, `mqueue`, `cgroup`, `cgroup2` ...
            kind: String,
            /// What mountinfo shows as its source.
            source: String,
            /// Mount point, a directory.
            target: PathBuf,
            /// Mount attributes, see [`attribute`].
            attributes: u64,
            /// Options of the file system, as `key=value` or `flag`.
            options: Vec<String>,
            /// Whether it begins as a copy of the directory that it covers.
            copy_up: bool,
        },
        /// Binds a file or directory of the host.
        1 = Bind {
            /// Path on the host.
            source: PathBuf,
            /// Mount point.
            target: PathBuf,
            /// Whether mounts below the source come along.
            recursive: bool,
            /// Its attributes.
            attributes: Attributes,
            /// Propagation of the mount (and the mounts below when `recursive`).
            propagation: Propagation,
            /// Ids that it shows; unset: those of the source.
            ids: Option<MountIds>,
        },
        /// Hides a path, if it exists: `/dev/null` over a file, an empty read-only tmpfs over a directory.
        2 = Mask {
            /// The path.
            path: PathBuf,
        },
        /// Makes what is below a path read-only, if it exists.
        3 = ReadOnly {
            /// The path.
            path: PathBuf,
        },
        /// Makes a device node, and its parents; an equal one may be there already.
        4 = Device {
            /// The path.
            path: PathBuf,
            /// Whether it is a block device (otherwise a character device).
            block: bool,
            /// Major number.
            major: u32,
            /// Minor number.
            minor: u32,
            /// Permission bits.
            mode: u32,
            /// Owner inside.
            uid: u32,
            /// Group inside.
            gid: u32,
        },
        /// Makes a symbolic link, unless something is there.
        5 = Symlink {
            /// The path.
            path: PathBuf,
            /// What it points to.
            target: PathBuf,
        },
        /// Makes a directory, and its parents, unless it is there.
        6 = Directory {
            /// The path.
            path: PathBuf,
            /// Permission bits of a new one.
            mode: u32,
        },
        /// Writes a file (for example a secret on a tmpfs), replacing its content.
        7 = WriteFile {
            /// The path.
            path: PathBuf,
            /// The content.
            bytes: Vec<u8>,
            /// Permission bits.
            mode: u32,
            /// Owner inside.
            uid: u32,
            /// Group inside.
            gid: u32,
        },
        /// Sets the host name of the new uts namespace.
        8 = Hostname {
            /// The name.
            name: OsString,
        },
        /// Sets the NIS domain name of the new uts namespace.
        9 = Domainname {
            /// The name.
            name: OsString,
        },
        /// Writes a kernel parameter through a private procfs.
        10 = Sysctl {
            /// The file below `/proc/sys`, with slashes: `net/ipv4/ip_forward`.
            key: String,
            /// The value.
            value: String,
        },
        /// Brings the interface `lo` of the new network namespace up.
        11 = LoopbackUp,
        /// Changes a mount that is there.
        12 = Remount {
            /// Its mount point.
            target: PathBuf,
            /// Its attributes.
            attributes: Attributes,
            /// New options of the whole file system, as `key=value` or `flag`; none: it stays as it is.
            options: Vec<String>,
        },
        /// Binds a device node of the host, after a check that it is this one: where mknod(2) is not permitted.
        13 = HostDevice {
            /// The path, on the host and inside.
            path: PathBuf,
            /// Whether it is a block device (otherwise a character device).
            block: bool,
            /// Major number.
            major: u32,
            /// Minor number.
            minor: u32,
        },
        /// Makes a FIFO, and its parents; one may be there already.
        14 = Fifo {
            /// The path.
            path: PathBuf,
            /// Permission bits.
            mode: u32,
            /// Owner inside.
            uid: u32,
            /// Group inside.
            gid: u32,
        },
        /// Moves a network interface of the host into the network namespace, with its addresses, and brings it up.
        15 = NetDevice {
            /// Its name on the host.
            host: String,
            /// Its name inside; with `%d` the kernel puts a number there.
            name: String,
        },
        /// Makes a symbolic link, and the parents of it; an equal one may be there already.
        16 = Link {
            /// The path.
            path: PathBuf,
            /// What it points to.
            target: PathBuf,
        },
        /// Mounts a file that is nowhere but in memory: a secret, a script.
        17 = MemoryFile {
            /// Mount point.
            target: PathBuf,
            /// The content.
            bytes: Vec<u8>,
            /// Permission bits.
            mode: u32,
            /// Owner inside.
            uid: u32,
            /// Group inside.
            gid: u32,
            /// Mount attributes, see [`attribute`].
            attributes: u64,
        },
        /// Mounts a path of an overlay or of a directory of the host, made detached by the monitor.
        18 = Overlay {
            /// What it is looked up in, a [`Root::Overlay`] or a [`Root::Bind`].
            tree: Root,
            /// The path in it; links in it lead nowhere else.
            path: PathBuf,
            /// Mount point.
            target: PathBuf,
            /// Mount attributes, see [`attribute`].
            attributes: u64,
        },
        /// Takes a mount away, with what is mounted below it; who has it open keeps it until then.
        19 = Unmount {
            /// Mount point.
            target: PathBuf,
        },
    }
}
