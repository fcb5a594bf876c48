//! Mounts as data: whoever receives one attaches it, whoever sends it never does.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// An overlay of several directories.
    Overlay,
    /// One directory or file at a second place.
    Bind,
    /// A file system in memory.
    Tmpfs,
}

impl MountKind {
    /// The name of the file system type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Bind => "bind",
            Self::Tmpfs => "tmpfs",
        }
    }
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Bind: what is bound. Absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// Overlay: lower directories, topmost first. Absolute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lowers: Vec<PathBuf>,
    /// Overlay: the writable directory; absent for a read-only view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<PathBuf>,
    /// Overlay: the work directory, present together with `upper`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<PathBuf>,
    /// Where it goes, when the sender knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBuf>,
    /// Further options, one "key" or "key=value" each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Mount {
    /// A mount of this kind with nothing else set.
    pub fn new(kind: MountKind) -> Self {
        Self { kind, source: None, lowers: vec![], upper: None, work: None, target: None, options: vec![] }
    }

    /// A bind mount of `source`.
    pub fn bind(source: impl Into<PathBuf>) -> Self {
        Self { source: Some(source.into()), ..Self::new(MountKind::Bind) }
    }

    /// An overlay of `lowers`, topmost first; writable where `writable` is (upper, work).
    pub fn overlay(lowers: Vec<PathBuf>, writable: Option<(PathBuf, PathBuf)>) -> Self {
        let (upper, work) = writable.unzip();
        Self { lowers, upper, work, ..Self::new(MountKind::Overlay) }
    }
}
