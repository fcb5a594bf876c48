//! Images that were made here leave in another form: nobody knows them by their digest, and their layers are compressed
//! on the first pull, always to the same bytes. A repository holds that form while a name of it leads to the image, and
//! for a while after.

use std::sync::Arc;

use strata_archive::Compression;
use strata_types::Digest;

use super::name::Repository;
use super::{Fault, Registry};
use crate::catalog::DocumentRow;
use crate::lease::{GRACE, Session};
use crate::{Error, image};

/// The form in which others get a document that a name of this repository leads to.
pub(super) async fn portable(
    registry: &Arc<Registry>,
    repository: &Repository,
    row: DocumentRow,
) -> Result<DocumentRow, Fault> {
    if !row.is_made_here {
        return Ok(row);
    }
    let (catalog, within) = (&registry.store.catalog, repository.store_name());
    if let Some(digest) = catalog.exported(within, &row.digest).await? {
        return Ok(catalog.document(&digest).await?);
    }
    // It goes on when the client is gone: the next one finds it done.
    let (registry, within) = (Arc::clone(registry), within.to_owned());
    let task = tokio::spawn(async move { export(&registry, &within, &row).await });
    match task.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Fault::BodyLost { problem: "the registry is stopping".to_owned() }),
        },
    }
}

async fn export(registry: &Registry, within: &str, row: &DocumentRow) -> Result<DocumentRow, Fault> {
    let _busy = registry.store.idle.busy();
    let session = Session::begin(&registry.store, "a pull from the registry", GRACE).await?;
    let lease = session.lease().id.clone();
    let exported = async {
        let descriptor = image::portable(&registry.store, row, Compression::Gzip, &lease).await?;
        sync(registry, &descriptor.digest).await?;
        registry.store.catalog.export_to_repository(within, &descriptor.digest, &row.digest).await?;
        registry.store.catalog.document(&descriptor.digest).await
    }
    .await;
    session.end().await?;
    Ok(exported?)
}

/// What a repository holds is on disk.
async fn sync(registry: &Registry, document: &Digest) -> Result<(), Error> {
    let store = &registry.store;
    let mut all = vec![*document];
    let mut left = vec![*document];
    while let Some(digest) = left.pop() {
        for child in store.catalog.document_children(&digest).await? {
            let digest = child.descriptor.digest;
            if !all.contains(&digest) {
                all.push(digest);
                left.push(digest);
            }
        }
    }
    store.flusher.sync().await?;
    store.catalog.mark_blobs_synced(&all).await
}
