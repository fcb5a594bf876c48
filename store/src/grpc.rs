//! The edge: requests become domain types, domain types become messages, errors become statuses. Decides nothing.

mod archives;
mod blobs;
mod cache;
mod contents;
mod entries;
mod events;
mod fault;
mod images;
mod layers;
mod leases;
mod manifests;
mod mounts;
mod registry;
mod snapshots;
mod system;
mod transfers;

use std::sync::Arc;

use strata_image::Platforms;
use strata_proto::store::v1::{
    archive_service_server::ArchiveServiceServer, blob_service_server::BlobServiceServer,
    cache_mount_service_server::CacheMountServiceServer, cache_service_server::CacheServiceServer,
    content_service_server::ContentServiceServer, event_service_server::EventServiceServer,
    image_service_server::ImageServiceServer, layer_service_server::LayerServiceServer,
    lease_service_server::LeaseServiceServer, manifest_service_server::ManifestServiceServer,
    registry_service_server::RegistryServiceServer, snapshot_service_server::SnapshotServiceServer,
    system_service_server::SystemServiceServer, transfer_service_server::TransferServiceServer,
};
use strata_proto::types::v1::Platform as PlatformMessage;
use strata_types::{LeaseId, Platform};
use tonic::Status;
use tonic::service::Routes;

use crate::{Error, Result, Store};

/// All services of a store.
#[derive(Clone, Debug)]
pub struct Service {
    store: Arc<Store>,
}

/// Makes the routes of a store.
pub fn routes(store: Arc<Store>) -> Routes {
    let service = Service { store };
    let mut routes = Routes::builder();
    routes
        .add_service(ArchiveServiceServer::new(service.clone()))
        .add_service(BlobServiceServer::new(service.clone()))
        .add_service(CacheMountServiceServer::new(service.clone()))
        .add_service(CacheServiceServer::new(service.clone()))
        .add_service(ContentServiceServer::new(service.clone()))
        .add_service(EventServiceServer::new(service.clone()))
        .add_service(ImageServiceServer::new(service.clone()))
        .add_service(LayerServiceServer::new(service.clone()))
        .add_service(LeaseServiceServer::new(service.clone()))
        .add_service(ManifestServiceServer::new(service.clone()))
        .add_service(RegistryServiceServer::new(service.clone()))
        .add_service(SnapshotServiceServer::new(service.clone()))
        .add_service(SystemServiceServer::new(service.clone()))
        .add_service(TransferServiceServer::new(service));
    routes.routes()
}

impl Service {
    /// Does work to its end though its client may leave: its stream fails then, and what it began is undone.
    /// Left to the server, the work would be dropped wherever it stands.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        let ended = self.store.drain.spawn(work).await;
        ended.unwrap_or_else(|_| Err(Status::internal("the work on this request panicked")))
    }
}

/// The status of an error.
pub(crate) fn status(error: Error) -> Status {
    // The client's own words travel back as they came.
    match error {
        Error::StreamEnded { source } => *source,
        error => strata_rpc::to_status(&error),
    }
}

/// A required lease.
pub(crate) fn lease_id(text: &str) -> Result<LeaseId> {
    LeaseId::parse(text).map_err(Error::field("lease_id"))
}

/// A lease that may be left out.
pub(crate) fn optional_lease(text: &str) -> Result<Option<LeaseId>> {
    if text.is_empty() { Ok(None) } else { lease_id(text).map(Some) }
}

/// A platform in the field `field`.
pub(crate) fn platform(field: &'static str, message: PlatformMessage) -> Result<Platform> {
    let PlatformMessage { os, architecture, variant } = message;
    if [&os, &architecture, &variant].iter().any(|part| part.contains('/')) {
        return Err(Error::invalid(field, "its parts contain a \"/\""));
    }
    let slash = if variant.is_empty() { "" } else { "/" };
    Platform::parse(&format!("{os}/{architecture}{slash}{variant}")).map_err(Error::field(field))
}

/// The platform that is asked for, or what is best for this machine.
pub(crate) fn platforms(field: &'static str, message: Option<PlatformMessage>) -> Result<Platforms> {
    message.map_or(Ok(Platforms::Host), |message| platform(field, message).map(Platforms::Only))
}

/// A digest in the field `field`.
pub(crate) fn digest(field: &'static str, text: &str) -> Result<strata_types::Digest> {
    strata_types::Digest::parse(text).map_err(Error::field(field))
}

/// The key after which a page starts, empty for the first, and its size.
pub(crate) fn page(token: &str, size: u32) -> Result<(String, usize), Status> {
    let after = strata_rpc::pages::decode(token).map_err(|error| strata_rpc::to_status(&error))?;
    Ok((after.unwrap_or_default(), strata_rpc::pages::size(size)))
}

/// A point in time in the field `field`.
pub(crate) fn moment(field: &'static str, at: Option<prost_types::Timestamp>) -> Result<Option<jiff::Timestamp>> {
    let wrong = |_| Error::invalid(field, "it is no time");
    at.map(|at| jiff::Timestamp::new(at.seconds, at.nanos)).transpose().map_err(wrong)
}

/// A time of the catalog as a message.
pub(crate) fn timestamp(millis: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    prost_types::Timestamp { seconds: millis.div_euclid(1000), nanos }
}

/// A chunk of an upload: neither empty nor too large.
pub(crate) fn check_chunk(chunk: &bytes::Bytes) -> Result<()> {
    if chunk.is_empty() || chunk.len() > strata_rpc::chunks::MAX_CHUNK {
        return Err(Error::invalid("chunk", format!("it has {} bytes, not 1 to 262144", chunk.len())));
    }
    Ok(())
}
