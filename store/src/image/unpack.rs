//! Unpack: an image whose blobs are here (it was pushed to this store, or came with others of an index) becomes one
//! that containers start from.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use strata_image::{Limits, Plan, Platforms, Root};
use strata_types::{Digest, LeaseId};

use super::adopt::{Adoption, adopt};
use super::source::Source;
use crate::catalog::{ImageRow, blocking};
use crate::ingest::{self, Order, Writeback, silent};
use crate::lease::{GRACE, Session};
use crate::remote::{Elsewhere, Identity};
use crate::{Error, Result, Store};

/// Layers that are asked for at a time.
const AT_ONCE: usize = 16;

/// Unpacks the image of a document that suits the platforms best. What is missing of it is an
/// error, unless it was here and a registry has it.
pub async fn unpack(store: &Arc<Store>, target: &Digest, platforms: Platforms) -> Result<ImageRow> {
    let session = Session::begin(store, "unpack", GRACE).await?;
    let unpacked = unpack_within(store, target, platforms, session.lease().id.clone()).await;
    // Whatever became of it: nothing is left for which the rest would have to be held.
    let ended = session.end().await;
    let row = unpacked?;
    ended.map(|()| row)
}

async fn unpack_within(store: &Arc<Store>, target: &Digest, platforms: Platforms, lease: LeaseId) -> Result<ImageRow> {
    let row = store.catalog.hold_document(target, &lease).await?;
    let row = row.ok_or(Error::DocumentNotFound { reference: target.to_string() })?;
    let source = Source::new(store);
    let plan =
        blocking(move || Plan::new(&source, &[Root::new(row.descriptor(), vec![])], &platforms, &Limits::default()))
            .await?;
    let image = plan.roots().iter().flat_map(|root| &root.images).next();
    let image = image.ok_or_else(|| strata_image::Error::NoImage { what: format!("document {target}") })?.clone();

    let layers: Vec<_> =
        image.layers.iter().map(|layer| layer.descriptor.clone()).zip(image.diff_ids.clone()).collect();
    let unpacked = stream::iter(layers).map(|(blob, diff_id)| {
        let fetch = Arc::new(Elsewhere::new(store, &Identity::default()));
        let order = Order { fetch, lease: lease.clone(), report: silent(), blob, writeback: Writeback::Ahead };
        async move { ingest::layer(store, order, diff_id).await }
    });
    let unpacked: Result<Vec<_>> = unpacked.buffer_unordered(AT_ONCE).try_collect().await;
    unpacked?;
    let blobs = plan.blobs().iter().map(|planned| planned.descriptor.digest).collect();
    let adoption = Adoption { target: *target, images: vec![image], blobs, names: vec![], lease };
    let row = adopt(store, adoption).await?.pop();
    row.ok_or(Error::DocumentNotFound { reference: target.to_string() })
}
