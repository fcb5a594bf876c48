//! What the runtime asks of its node's store. `peers` answers over gRPC, the tests from memory.

use std::io::Read;

use futures_util::future::BoxFuture;
use strata_types::{ContainerConfig, LayerId, Mount, Platform, SnapshotKey};

use crate::{
    error::Error,
    spec::{MountPoint, Spec},
};

/// The store of this node.
pub trait Store: Send + Sync + 'static {
    /// Prepares a snapshot of an image, for this platform or as suits this machine.
    fn prepare<'a>(
        &'a self,
        key: &'a SnapshotKey,
        image: &'a str,
        platform: Option<&'a Platform>,
        writing: Writing,
    ) -> BoxFuture<'a, Result<Prepared, Error>>;

    /// Takes a snapshot for `holder` and says how to mount it.
    fn acquire<'a>(
        &'a self,
        key: &'a SnapshotKey,
        holder: &'a str,
        writing: Writing,
    ) -> BoxFuture<'a, Result<Acquired, Error>>;

    /// Lets go of a snapshot. One that is gone, or held by somebody else, is let go of already.
    fn release<'a>(&'a self, key: &'a SnapshotKey, holder: &'a str) -> BoxFuture<'a, Result<(), Error>>;

    /// Removes a free snapshot. One that is gone is removed already.
    fn remove<'a>(&'a self, key: &'a SnapshotKey, holder: &'a str) -> BoxFuture<'a, Result<(), Error>>;

    /// Reads what is below a directory of a snapshot as one tar; `None` when there is no such directory.
    fn export<'a>(
        &'a self,
        key: &'a SnapshotKey,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Read + Send>>, Error>>;

    /// Makes a layer, held by this lease, of what was written to a snapshot; returns its id. Of mount points that were made
    /// for mounts nothing is in it.
    fn copy<'a>(
        &'a self,
        key: &'a SnapshotKey,
        lease: &'a str,
        points: &'a [MountPoint],
    ) -> BoxFuture<'a, Result<String, Error>>;

    /// Lists all snapshots.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, Error>>;

    /// Reads a regular file of a merged view; `None` when there is no such file.
    fn read_file<'a>(&'a self, layers: &'a [LayerId], path: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, Error>>;
}

/// What holds of what is written to a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writing {
    /// Whether it may be lost.
    pub volatile: Volatile,
    /// Bytes that it may have. Absent: as many as there are.
    pub limit: Option<u64>,
}

impl From<Volatile> for Writing {
    /// Without a limit.
    fn from(volatile: Volatile) -> Self {
        Self { volatile, limit: None }
    }
}

/// Whether a mount need not survive a crash of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volatile {
    /// It is not synced.
    Yes,
    /// It is synced.
    No,
}

impl Volatile {
    /// What a container wants of what it mounts.
    pub fn of(spec: &Spec) -> Self {
        if spec.is_volatile { Self::Yes } else { Self::No }
    }
}

/// A snapshot that was prepared.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Id of the image.
    pub image_id: String,
    /// How containers of the image run.
    pub config: ContainerConfig,
}

/// A snapshot that was taken.
#[derive(Debug, Clone)]
pub struct Acquired {
    /// The mount to make.
    pub mount: Mount,
    /// Layers below, bottom first.
    pub layers: Vec<LayerId>,
}

/// A snapshot of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Who holds it. Empty: nobody.
    pub holder: String,
}
