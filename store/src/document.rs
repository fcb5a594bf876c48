//! Documents: manifests and indexes, kept byte for byte as blobs, with what they refer to in the catalog. Whoever
//! stores one names a lease; a name, a repository or an image keeps it afterwards, and all below it.

use std::collections::BTreeSet;
use std::sync::Arc;

use strata_image::{Document, Limits};
use strata_types::{Descriptor, Digest, LeaseId};

use crate::catalog::{ChildKind, DocumentRow, Durability, NewDocument};
use crate::config::Keep;
use crate::{Error, Result, Store, blob, remote};

/// Parses and stores a document that was announced as `media_type` (empty: it must say itself what it is). Refuses what
/// could be read in two ways. What it refers to need not be here; see [`missing`].
///
/// `Durability::Relaxed` leaves the sync to whoever names it.
pub async fn put(
    store: &Arc<Store>,
    bytes: Vec<u8>,
    media_type: &str,
    lease: &LeaseId,
    durability: Durability,
) -> Result<DocumentRow> {
    let document = Document::parse(bytes, media_type, &Limits::default())?;
    let new = NewDocument::from(&document);
    keep(store, document, new, lease, durability).await
}

/// As [`put`], for a document that this store made itself: in the form of its layers, or of those below it, it is only for
/// this store.
pub(crate) async fn put_own(
    store: &Arc<Store>,
    bytes: Vec<u8>,
    media_type: &str,
    lease: &LeaseId,
    durability: Durability,
) -> Result<DocumentRow> {
    let document = Document::parse(bytes, media_type, &Limits::default())?;
    let new = NewDocument::made_here(&document);
    keep(store, document, new, lease, durability).await
}

async fn keep(
    store: &Arc<Store>,
    mut document: Document,
    new: NewDocument,
    lease: &LeaseId,
    durability: Durability,
) -> Result<DocumentRow> {
    blob::put(store, std::mem::take(&mut document.bytes), lease, durability).await?;
    let row = new.row.clone();
    store.catalog.put_document(new, lease, durability).await?;
    Ok(row)
}

/// Reads a document: what is known of it, and its exact bytes.
pub async fn read(store: &Store, digest: &Digest) -> Result<(DocumentRow, Vec<u8>)> {
    let row = store.catalog.document(digest).await?;
    let bytes = blob::read(store, digest).await?;
    Ok((row, bytes))
}

/// What a document refers to, at any depth, and is not here. Of an index only what it lists itself and what is below the
/// documents that are here: an index may be sparse, and says so by this.
///
/// A layer that is unpacked here counts as missing while its blob is: [`crate::image::Source`] makes one.
pub async fn missing(store: &Store, digest: &Digest) -> Result<Vec<Descriptor>> {
    let mut missing = Vec::new();
    let mut seen = BTreeSet::from([*digest]);
    let mut left = vec![*digest];
    while let Some(digest) = left.pop() {
        for child in store.catalog.document_children(&digest).await? {
            let child_digest = child.descriptor.digest;
            if !seen.insert(child_digest) {
                continue;
            }
            match store.catalog.blob(&child_digest).await {
                Ok(_) if matches!(child.kind, ChildKind::Index | ChildKind::Manifest) => left.push(child_digest),
                Ok(_) => {}
                // It is where it came from, because that is enough.
                Err(Error::BlobNotFound { .. }) if is_let_go(store, &child_digest).await? => {}
                Err(Error::BlobNotFound { .. }) => missing.push(child.descriptor),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(missing)
}

async fn is_let_go(store: &Store, digest: &Digest) -> Result<bool> {
    Ok(store.config.blobs.keep != Keep::Always && remote::elsewhere(store, digest).await?.is_some())
}

#[cfg(test)]
mod tests;
