//! Blobs of layers that are not kept here, or got lost, from the registries that they came from or went to.
//!
//! Nobody names such a blob to us: its digest, its size and its repository were written down when it was unpacked, so
//! what comes is checked as it was then.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use strata_registry::Host;
use strata_types::{Descriptor, Digest, LeaseId, Reference};

use super::Identity;
use super::pull::{Source, is_suspect};
use crate::blob::{Partial, PartialName};
use crate::catalog::{BlobRow, Form};
use crate::ingest::{self, Fetch, Order, Prefix, Writeback, silent};
use crate::{Error, Result, Store};

/// A compressed layer that is not here, and that a registry is known to have.
pub(crate) async fn elsewhere(store: &Store, digest: &Digest) -> Result<Option<Form>> {
    let form = store.catalog.form(digest).await?;
    Ok(form.filter(|form| !form.is_here && !form.source.is_empty()))
}

/// Brings such a blob here, held by the lease; if it is here it is only held.
pub(crate) async fn again(
    store: &Arc<Store>,
    digest: &Digest,
    lease: &LeaseId,
    identity: &Identity,
) -> Result<BlobRow> {
    if let Some(row) = store.catalog.hold_blob(digest, lease).await? {
        return Ok(row);
    }
    let form = elsewhere(store, digest).await?.ok_or(Error::BlobNotFound { digest: *digest })?;
    let gone = |error| gone(digest, &form.source, error);
    let reference = Reference::parse(&form.source).map_err(|_| corrupt(&form))?;
    let sources = store.remotes.settings().hosts(&Host::of(&reference)).len();
    let fetch = Arc::new(Elsewhere::new(store, identity));
    let order = Order {
        fetch,
        lease: lease.clone(),
        report: silent(),
        blob: form.descriptor.clone(),
        writeback: Writeback::Ahead,
    };
    let mut failure = match ingest::blob(store, order.clone()).await {
        Err(error) if is_suspect(cause(&error)) => error,
        done => return done.map_err(gone),
    };
    // A source that lied is not asked again: every mirror has its turn.
    for _ in 0..sources {
        let Ok(partial) = Partial::open(store, &PartialName::Blob(*digest)).await else { break };
        partial.discard().await?;
        match ingest::blob(store, order.clone()).await {
            Err(error) if is_suspect(cause(&error)) => failure = error,
            done => return done.map_err(gone),
        }
    }
    Err(gone(failure))
}

/// Layers' own registries as one source.
pub(crate) struct Elsewhere {
    store: Arc<Store>,
    identity: Identity,
}

impl Elsewhere {
    pub(crate) fn new(store: &Arc<Store>, identity: &Identity) -> Self {
        Self { store: Arc::clone(store), identity: identity.clone() }
    }
}

impl Fetch for Elsewhere {
    fn fetch(&self, blob: &Descriptor, prefix: Prefix) -> BoxStream<'static, Result<Bytes>> {
        let (store, identity, digest) = (Arc::clone(&self.store), self.identity.clone(), blob.digest);
        let opened = async move {
            let form = elsewhere(&store, &digest).await?.ok_or(Error::BlobNotFound { digest })?;
            let reference = Reference::parse(&form.source).map_err(|_| corrupt(&form))?;
            let repository = store.remotes.repository(&reference, &identity)?;
            let name = form.source.clone();
            let source = Source { repository, name: form.source };
            let bytes = source.fetch(&form.descriptor, prefix);
            Ok::<_, Error>(bytes.map_err(move |error| gone(&digest, &name, error)))
        };
        stream::once(opened).try_flatten().boxed()
    }

    fn checks(&self) -> bool {
        true
    }
}

fn corrupt(form: &Form) -> Error {
    Error::CatalogCorrupt { noun: "source of a layer", text: form.source.clone() }
}

/// Says where a blob should have come from.
fn gone(digest: &Digest, repository: &str, error: Error) -> Error {
    match error {
        Error::Registry(_) | Error::DigestMismatch { .. } => {
            Error::BlobGone { digest: *digest, repository: repository.to_owned(), source: Box::new(error) }
        }
        // Is one already, or is about this machine.
        error => error,
    }
}

fn cause(error: &Error) -> &Error {
    match error {
        Error::BlobGone { source, .. } => source,
        error => error,
    }
}

#[cfg(test)]
mod tests;
