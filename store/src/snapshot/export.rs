//! Export: all that a snapshot shows over its layers, as one tar. Its holder may be writing to it; a view of our own,
//! read-only, looks at the same directories, so nothing that is mounted over it in a container is part of the archive.
//!
//! The kernel's log warns of a lower directory that another mount writes to, since what two mounts see of a change may
//! differ (overlayfs.rst, "Changes to underlying filesystems"). Here each name is looked up once, in a mount that was just
//! made: what it shows is what there was then.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use strata_types::SnapshotKey;

use super::make_upper;
use crate::catalog::{SnapshotRow, SnapshotState, blocking};
use crate::tree::{self, View};
use crate::{Error, Result, Store, layer};

/// A snapshot that is about to be written as an archive.
#[derive(Debug)]
pub struct Export {
    store: Arc<Store>,
    row: SnapshotRow,
    view: View,
    /// The directory in the view that is the root of the archive. None: the view's own root.
    directory: Option<OwnedFd>,
}

/// Opens a snapshot for export, or what is below a directory of it; links on the way there lead nowhere else.
pub async fn export(store: &Arc<Store>, key: &SnapshotKey, path: Option<&Path>) -> Result<Export> {
    let row = found(store, key).await?;
    let chain = layer::chain(store, &row.layer_ids).await?;
    let (this, place) = (Arc::clone(store), store.paths.snapshot(row.directory));
    let path = path.map(Path::to_path_buf);
    let (view, directory) = blocking(move || {
        let mut all = vec![make_upper(&place, &chain)?];
        all.extend(chain.lowers.iter().cloned());
        let view = View::open(&all, this.layers.chains.empty())?;
        let directory = path.map(|path| open_directory(&view, &path)).transpose()?;
        Ok::<_, Error>((view, directory))
    })
    .await?;
    Ok(Export { store: Arc::clone(store), row, view, directory })
}

fn open_directory(view: &View, path: &Path) -> Result<OwnedFd> {
    let found = view.lookup(path, OFlags::RDONLY | OFlags::DIRECTORY);
    found.map_err(|errno| tree::Error::lookup(path, errno).into())
}

/// A snapshot that is not on its way out.
pub(super) async fn found(store: &Arc<Store>, key: &SnapshotKey) -> Result<SnapshotRow> {
    let row = store.catalog.snapshot(key).await?;
    match row.state {
        SnapshotState::Free | SnapshotState::Held => Ok(row),
        SnapshotState::Committing => Err(Error::SnapshotCommitted { key: key.clone() }),
        SnapshotState::Deleting => Err(Error::SnapshotNotFound { key: key.clone() }),
    }
}

impl Export {
    /// Writes the archive, on a thread that may block.
    pub fn write(&self, out: impl Write) -> Result<()> {
        let root = self.directory.as_ref().map_or_else(|| self.view.root(), AsFd::as_fd);
        let exported = strata_archive::export(root, out).map_err(|source| Error::Archive { source })?;
        if exported.gone > 0 || exported.shortened > 0 {
            let (key, gone, shortened) = (self.row.key.as_str(), exported.gone, exported.shortened);
            tracing::info!(key, gone, shortened, "a snapshot changed while it was exported");
        }
        Ok(())
    }

    /// Ends the export: an error if the snapshot went meanwhile, for then files may lack that nobody removed by name.
    pub async fn end(self) -> Result<()> {
        let now = found(&self.store, &self.row.key).await?;
        match now.directory == self.row.directory {
            true => Ok(()),
            false => Err(Error::SnapshotNotFound { key: self.row.key }),
        }
    }
}
