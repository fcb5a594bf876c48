//! What is mounted into a container, and how: the domain's form of the wire's `MountSpec`.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
use strata_types::{SnapshotKey, VolumeName};

/// One mount into a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container.
    pub target: String,
    /// Read-only.
    pub is_read_only: bool,
    /// The options as they were written. Inert.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// What is mounted.
    pub source: Source,
}

/// What is mounted.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A path of this host.
    Bind(Bind),
    /// Memory.
    Tmpfs(Tmpfs),
    /// Bytes as a file in memory.
    Bytes {
        /// The bytes.
        data: Vec<u8>,
        /// Permission bits. 0: 0400.
        mode: u32,
        /// Owner and group.
        #[serde(default)]
        owner: (u32, u32),
    },
    /// A path of a snapshot that belongs to the caller.
    Snapshot {
        /// Key of the snapshot.
        key: SnapshotKey,
        /// Path in it.
        path: PathBuf,
    },
    /// A volume.
    Volume(VolumeMount),
    /// A path of an image, read-only.
    Image(ImageMount),
}

/// A path of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute path.
    pub path: PathBuf,
    /// Make a directory when it does not exist.
    pub create: bool,
    /// How mounts that are made below it later travel.
    #[serde(default)]
    pub propagation: Propagation,
    /// What happens to mounts below it.
    #[serde(default)]
    pub recursion: Recursion,
    /// Whose its files are in the container.
    #[serde(default)]
    pub ids: Ids,
}

/// How mounts travel between the host and a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Not at all; the mount itself.
    Private,
    /// Not at all; those below too.
    #[default]
    Rprivate,
    /// From the host to the container; the mount itself.
    Slave,
    /// From the host to the container; those below too.
    Rslave,
    /// Both ways; the mount itself.
    Shared,
    /// Both ways; those below too.
    Rshared,
}

impl Propagation {
    /// Its name in options of mounts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Rprivate => "rprivate",
            Self::Slave => "slave",
            Self::Rslave => "rslave",
            Self::Shared => "shared",
            Self::Rshared => "rshared",
        }
    }
}

/// What happens to mounts below a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recursion {
    /// They come along, and are read-only if the bind is.
    #[default]
    Enabled,
    /// They stay behind.
    Disabled,
    /// They come along, and can be written to though the bind cannot.
    Writable,
    /// They come along, and are read-only.
    ReadOnly,
}

/// Whose the files of a bind are in the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ids {
    /// Whose they are on the disk.
    #[default]
    Same,
    /// Those of the owner and the group of the path are this user's and this group's; all others nobody's.
    As(u32, u32),
    /// As these maps of users and groups say.
    Mapped(Vec<IdMap>, Vec<IdMap>),
}

/// Ids that appear as others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id on the disk.
    pub disk: u32,
    /// First id in the container.
    pub container: u32,
    /// How many.
    pub count: u32,
}

/// A file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Size in bytes. 0: half of the memory.
    pub size_bytes: u64,
    /// Permission bits. 0: 1777.
    pub mode: u32,
    /// Programs in it can be executed, and device nodes opened.
    #[serde(default)]
    pub may_execute: bool,
    /// Further options, over what is said above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Without `mode`: owner and permission bits are those of the directory that it covers, if there is one.
    #[serde(default)]
    pub is_like_covered: bool,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Its name. None: not chosen yet.
    pub name: Option<VolumeName>,
    /// It was made without a name for a container.
    pub is_anonymous: bool,
    /// An empty one does not get what the image has at the target.
    pub no_copy: bool,
    /// Path in it. Empty: all of it.
    pub sub_path: PathBuf,
    /// Options of one that is made.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Labels of one that is made.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What is mounted, on this host: known once it is looked up.
    #[serde(skip)]
    pub place: Option<VolumePlace>,
}

impl VolumeMount {
    /// A volume that is made for one container, without a name.
    pub fn anonymous() -> Self {
        Self {
            name: None,
            is_anonymous: true,
            no_copy: false,
            sub_path: PathBuf::new(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            place: None,
        }
    }
}

/// What is mounted where a volume is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumePlace {
    /// The directory of the volume.
    pub directory: PathBuf,
    /// The directory of this host that its options name instead of its own.
    pub device: Option<PathBuf>,
    /// Its options say that it is read-only.
    pub is_read_only: bool,
}

/// A path of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    /// Name, id or unique id prefix.
    pub image: String,
    /// Path in it.
    pub path: PathBuf,
    /// Id of the image. Empty: not looked up yet.
    pub image_id: String,
    /// Key of the snapshot that shows it. None: not chosen yet.
    pub key: Option<SnapshotKey>,
}

/// A container whose mounts another one gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesFrom {
    /// As asked for.
    pub container: String,
    /// All of them are read-only.
    pub is_read_only: bool,
}

impl Source {
    /// The name of the volume, if it is one that has a name.
    pub fn volume_name(&self) -> Option<&VolumeName> {
        match self {
            Self::Volume(volume) => volume.name.as_ref(),
            Self::Bind(_) | Self::Tmpfs(_) | Self::Bytes { .. } | Self::Snapshot { .. } | Self::Image(_) => None,
        }
    }

    /// The key of the snapshot that is mounted, if one is.
    pub fn snapshot_key(&self) -> Option<&SnapshotKey> {
        match self {
            Self::Snapshot { key, .. } => Some(key),
            Self::Image(image) => image.key.as_ref(),
            Self::Bind(_) | Self::Tmpfs(_) | Self::Bytes { .. } | Self::Volume(_) => None,
        }
    }
}

/// Secrets do not belong in logs.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(bind) => bind.fmt(f),
            Self::Tmpfs(tmpfs) => tmpfs.fmt(f),
            Self::Bytes { data, mode, owner } => {
                write!(f, "Bytes {{ {} bytes, mode: {mode:o}, owner: {owner:?} }}", data.len())
            }
            Self::Snapshot { key, path } => f.debug_struct("Snapshot").field("key", key).field("path", path).finish(),
            Self::Volume(volume) => volume.fmt(f),
            Self::Image(image) => image.fmt(f),
        }
    }
}
