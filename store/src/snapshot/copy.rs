//! A layer of what was written to a snapshot, which stays as it is and whose it is: what `commit` of a container makes. It goes
//! by way of a tar, read from the writable directory and unpacked as a layer. Its holder should stand still meanwhile: a file
//! that changes its length or goes away while it is read ends the copy.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use strata_archive::DiffOptions;
use strata_types::{LeaseId, SnapshotKey};

use super::stub::{self, Stub};
use super::{export::found, make_upper};
use crate::catalog::{LayerRow, blocking};
use crate::tree::View;
use crate::{Error, Result, Store, layer};

/// Makes a layer, held by the lease, of what a snapshot's writable layer has. Mount stubs that nobody touched are not in it.
pub async fn copy(store: &Arc<Store>, key: &SnapshotKey, lease: &LeaseId, stubs: Vec<Stub>) -> Result<LayerRow> {
    let row = found(store, key).await?;
    let chain = layer::chain(store, &row.layer_ids).await?;
    let (this, place) = (Arc::clone(store), store.paths.snapshot(row.directory));
    let (root, stubs) = blocking(move || {
        let root = stub::root(&make_upper(&place, &chain)?)?;
        let below = View::open(&chain.lowers, this.layers.chains.empty())?;
        let stubs = stub::untouched(root.as_fd(), &below, &stubs)?;
        Ok::<_, Error>((root, stubs))
    })
    .await?;
    let archive = strata_rpc::chunks::pipe(move |out| {
        let is_wanted = |path: &[u8]| !stubs.has(Path::new(std::ffi::OsStr::from_bytes(path)));
        let packed = strata_archive::pack_some(root.as_fd(), &DiffOptions::default(), &is_wanted, out);
        packed.map(drop).map_err(|source| io::Error::other(Error::Archive { source }))
    });
    layer::ingest(store, archive, lease).await.map_err(of_the_tree)
}

/// Why the tree could not be read, where that is why there was no whole archive of it.
fn of_the_tree(error: Error) -> Error {
    match error {
        Error::Archive { source: strata_archive::Error::Read { source } } => match source.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Error::Archive { source: strata_archive::Error::Read { source } },
        },
        error => error,
    }
}
