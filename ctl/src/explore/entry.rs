//! One name of a layer, as the store streams it: checked here, trusted behind.

use bytes::Bytes;
use strata_proto::store::v1 as pb;

use crate::error::{Error, Result};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A FIFO.
    Fifo,
}

impl Kind {
    /// The letter that `ls -l` writes in front of the mode.
    pub fn letter(self) -> char {
        match self {
            Self::Regular => '-',
            Self::Directory => 'd',
            Self::Symlink => 'l',
            Self::CharacterDevice => 'c',
            Self::BlockDevice => 'b',
            Self::Fifo => 'p',
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Regular => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::CharacterDevice => "character-device",
            Self::BlockDevice => "block-device",
            Self::Fifo => "fifo",
        }
    }
}

/// Half of a blake3: enough to tell contents apart.
pub type Fingerprint = [u8; 16];

/// Everything that is said of a name but the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a regular file; 0 for all else.
    pub size: u64,
    /// Seconds and nanoseconds of the last change, where known.
    pub modified: Option<(i64, i32)>,
    /// Target of a symbolic link.
    pub target: Box<[u8]>,
    /// Of a file's content; none: it is empty, sparse, or no file.
    pub content: Option<Fingerprint>,
    /// Of extended attributes, if there are any.
    pub attributes: Option<Fingerprint>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
}

impl Facts {
    /// A directory that nobody described.
    pub fn implied_directory() -> Self {
        Self {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            modified: None,
            target: Box::default(),
            content: None,
            attributes: None,
            device: (0, 0),
        }
    }

    /// Names what differs, times left out.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        if self.kind != other.kind {
            return vec!["type"];
        }
        // Contents without a digest (sparse ones) may differ, so they do.
        let has_same_content = self.size == other.size
            && self.content == other.content
            && (self.content.is_some() || self.size == 0)
            && self.device == other.device;
        let differ = [
            ("content", !has_same_content),
            ("target", self.target != other.target),
            ("mode", self.mode != other.mode),
            ("owner", (self.uid, self.gid) != (other.uid, other.gid)),
            ("attributes", self.attributes != other.attributes),
        ];
        differ.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
    }
}

/// What a layer does with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Gives it these facts.
    Put {
        /// The facts.
        facts: Facts,
        /// First name of the same file in this layer.
        hard_link: Option<Bytes>,
    },
    /// Sees to it that it is a directory: one that is there stays as it is.
    Imply,
    /// Gives it these facts, as a directory that shows nothing of the layers below.
    Replace {
        /// The facts.
        facts: Facts,
    },
    /// Hides what layers below have there.
    Remove,
}

/// One name of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path without a slash in front; the root is empty.
    pub path: Bytes,
    /// What the layer does with it.
    pub action: Action,
}

impl Entry {
    /// Reads an entry of the wire.
    pub fn read(entry: pb::LayerEntry) -> Result<Self> {
        let malformed = |what: &str| {
            let error = Error::new(format!("the store sent an entry with {what}"));
            error.hint("`ctl version` shows whether versions differ")
        };
        let path = relative(&entry.path).ok_or_else(|| malformed("a malformed path"))?;
        let hard_link = match entry.hard_link.is_empty() {
            true => None,
            false => Some(relative(&entry.hard_link).ok_or_else(|| malformed("a malformed link"))?),
        };
        let kind = match entry.kind() {
            pb::LayerEntryKind::Regular => Kind::Regular,
            pb::LayerEntryKind::Directory => Kind::Directory,
            pb::LayerEntryKind::Symlink => Kind::Symlink,
            pb::LayerEntryKind::CharacterDevice => Kind::CharacterDevice,
            pb::LayerEntryKind::BlockDevice => Kind::BlockDevice,
            pb::LayerEntryKind::Fifo => Kind::Fifo,
            pb::LayerEntryKind::Whiteout if path.is_empty() => return Err(malformed("a whiteout of the root")),
            pb::LayerEntryKind::Whiteout => return Ok(Self { path, action: Action::Remove }),
            pb::LayerEntryKind::Unspecified => return Err(malformed("an unknown kind")),
        };
        let is_directory = kind == Kind::Directory;
        if path.is_empty() && !is_directory {
            return Err(malformed("a root that is no directory"));
        }
        let facts = Facts {
            kind,
            mode: entry.mode & 0o7777,
            uid: entry.uid,
            gid: entry.gid,
            size: if kind == Kind::Regular { entry.size_bytes } else { 0 },
            modified: entry.modified_at.map(|time| (time.seconds, time.nanos)),
            target: entry.target.as_ref().into(),
            content: fingerprint(&entry.blake3),
            attributes: fingerprint(&entry.attributes_blake3),
            device: (entry.device_major, entry.device_minor),
        };
        let action = match (is_directory && entry.is_opaque, is_directory && entry.is_implied) {
            (true, _) => Action::Replace { facts },
            (false, true) => Action::Imply,
            (false, false) => Action::Put { facts, hard_link },
        };
        Ok(Self { path, action })
    }
}

/// "/a/b" without its first slash. Names are neither empty nor dots nor hold a NUL.
fn relative(path: &Bytes) -> Option<Bytes> {
    let rest = path.strip_prefix(b"/")?;
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    let is_path = rest.is_empty() || rest.split(|byte| *byte == b'/').all(is_name);
    is_path.then(|| path.slice(1..))
}

fn fingerprint(digest: &Bytes) -> Option<Fingerprint> {
    digest.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(path: &'static str) -> pb::LayerEntry {
        let kind = pb::LayerEntryKind::Directory.into();
        pb::LayerEntry { path: Bytes::from_static(path.as_bytes()), kind, ..Default::default() }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["", "a", "//", "/a//b", "/a/", "/../a", "/a/./b", "/a\0b"] {
            assert!(Entry::read(sent(path)).is_err(), "{path:?}");
        }
        for (path, expected) in [("/", ""), ("/a", "a"), ("/a/..b", "a/..b")] {
            assert_eq!(Entry::read(sent(path)).unwrap().path, expected, "{path:?}");
        }
    }

    #[test]
    fn kinds_that_are_not_known_are_refused() {
        assert!(Entry::read(pb::LayerEntry { kind: 0, ..sent("/a") }).is_err());
        assert!(Entry::read(pb::LayerEntry { kind: 99, ..sent("/a") }).is_err());
        assert!(Entry::read(pb::LayerEntry { kind: pb::LayerEntryKind::Whiteout.into(), ..sent("/") }).is_err());
    }

    #[test]
    fn differences_are_named_and_times_are_none() {
        let file = Facts {
            kind: Kind::Regular,
            size: 3,
            content: Some([1; 16]),
            modified: Some((1, 0)),
            ..Facts::implied_directory()
        };
        let touched = Facts { modified: Some((2, 0)), ..file.clone() };
        let other = Facts { content: Some([2; 16]), mode: 0o600, uid: 5, ..file.clone() };
        let sparse = Facts { content: None, ..file.clone() };

        assert!(file.differences(&touched).is_empty());
        assert_eq!(file.differences(&other), ["content", "mode", "owner"]);
        assert_eq!(sparse.differences(&sparse), ["content"], "nobody knows that it is the same");
        assert_eq!(file.differences(&Facts::implied_directory()), ["type"]);
    }
}
