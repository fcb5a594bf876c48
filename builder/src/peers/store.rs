//! The store, as a build sees it: leases, images, cache records, contents, trees, snapshots.

mod cache;
mod contents;
mod entries;
mod mounts;
mod pull;
mod trees;

use strata_proto::store::v1 as pb;
use strata_rpc::spans::Channel;
use strata_types::{ImageConfig, Platform};

pub use cache::{ByContent, Identity, Outcome};
pub use entries::{Entries, Feed, feed};
pub use mounts::{CacheMount, HeldMount, Sharing};
pub use pull::{Credentials, Resolved};
pub use trees::{Entry, Listed, Made, Placement, Tree};

use super::MountPoint;
use crate::error::Error;
use crate::export::Exported;

/// A connection to the store.
#[derive(Debug, Clone)]
pub struct Store {
    channel: Channel,
}

/// A session lease; it ends when this is dropped, at the latest.
#[derive(Debug)]
pub struct Lease {
    /// Its id.
    pub id: String,
    _stream: tonic::Streaming<pb::HoldLeaseResponse>,
}

/// An image to start from.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// Its config.
    pub config: ImageConfig,
    /// Its layers in the store, bottom first.
    pub layers: Vec<String>,
    /// Their diff-ids.
    pub diff_ids: Vec<String>,
}

/// What a name leads to.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// An image.
    Found(Box<BaseImage>),
    /// An image for other platforms than the one asked for: what the store says of it.
    OtherPlatform(String),
    /// Nothing.
    Absent,
}

/// The manifest of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A platform as the wire has it.
fn platform_message(platform: &Platform) -> strata_proto::types::v1::Platform {
    let Platform { os, architecture, variant } = platform.clone();
    strata_proto::types::v1::Platform { os, architecture, variant: variant.unwrap_or_default() }
}

impl Store {
    /// Speaks to the store over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Opens a session lease.
    pub async fn hold(&self, holder: &str) -> Result<Lease, Error> {
        let request = pb::HoldLeaseRequest { holder: holder.to_owned(), grace: None };
        let refused = |status| Error::peer("store", "open a lease", status);
        let mut client = pb::lease_service_client::LeaseServiceClient::new(self.channel.clone());
        let mut stream = client.hold_lease(request).await.map_err(refused)?.into_inner();
        let first = stream.message().await.map_err(refused)?;
        let lease = first.and_then(|r| r.lease).ok_or(Error::Answer { peer: "store", what: "a lease" })?;
        Ok(Lease { id: lease.id, _stream: stream })
    }

    /// Ends a lease.
    pub async fn release(&self, lease: Lease) -> Result<(), Error> {
        let request = pb::DeleteLeaseRequest { lease_id: lease.id.clone(), allow_missing: true };
        let mut client = pb::lease_service_client::LeaseServiceClient::new(self.channel.clone());
        client.delete_lease(request).await.map_err(|status| Error::peer("store", "end a lease", status))?;
        Ok(())
    }

    /// Finds an image, for this platform or as suits the store's machine, and holds it.
    pub async fn image(&self, reference: &str, platform: Option<&Platform>, lease: &str) -> Result<Lookup, Error> {
        let request = pb::GetImageRequest {
            reference: reference.to_owned(),
            lease_id: lease.to_owned(),
            platform: platform.map(platform_message),
        };
        let mut client = pb::image_service_client::ImageServiceClient::new(self.channel.clone());
        let response = match client.get_image(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => match strata_rpc::fault::reason_of(&status).as_deref() {
                Some("FAULT_IMAGE_NOT_FOUND") => return Ok(Lookup::Absent),
                Some("FAULT_PLATFORM_NOT_FOUND") => return Ok(Lookup::OtherPlatform(status.message().to_owned())),
                _ => return Err(Error::peer("store", "find an image", status)),
            },
        };
        let image = response.image.ok_or(Error::Answer { peer: "store", what: "an image" })?;
        let config = serde_json::from_slice(&image.config_json)
            .map_err(|source| Error::ImageConfig { image: reference.to_owned(), source })?;
        let (layers, diff_ids) = image.layers.into_iter().map(|layer| (layer.layer_id, layer.diff_id)).unzip();
        Ok(Lookup::Found(Box::new(BaseImage { config, layers, diff_ids })))
    }

    /// Makes an image of layers, and names it.
    pub async fn create_image(
        &self,
        config: &ImageConfig,
        layers: &[String],
        names: &[String],
        lease: &str,
    ) -> Result<Exported, Error> {
        let config_json = serde_json::to_vec(config)
            .map_err(|source| Error::ImageConfig { image: names.first().cloned().unwrap_or_default(), source })?;
        let request = pb::CreateImageRequest {
            config_json: config_json.into(),
            layer_ids: layers.to_vec(),
            names: names.to_vec(),
            lease_id: lease.to_owned(),
        };
        let mut client = pb::image_service_client::ImageServiceClient::new(self.channel.clone());
        let response = client.create_image(request).await;
        let response = response.map_err(|status| Error::peer("store", "make the image", status))?.into_inner();
        let image = response.image.ok_or(Error::Answer { peer: "store", what: "an image" })?;
        let manifest = image.manifest.map(|found| Manifest {
            media_type: found.media_type,
            digest: found.digest,
            size: found.size_bytes,
        });
        Ok(Exported { image_id: image.id, names: image.names, manifest, snapshot: String::new() })
    }

    /// Prepares a writable layer for a step.
    pub async fn prepare(&self, key: &str, layers: &[String], lease: &str) -> Result<(), Error> {
        let request = pb::PrepareSnapshotRequest {
            key: key.to_owned(),
            image: String::new(),
            layer_ids: layers.to_vec(),
            lease_id: lease.to_owned(),
            volatile: true,
            platform: None,
            size_limit_bytes: 0,
        };
        let mut client = pb::snapshot_service_client::SnapshotServiceClient::new(self.channel.clone());
        client.prepare_snapshot(request).await.map_err(|status| Error::peer("store", "prepare a snapshot", status))?;
        Ok(())
    }

    /// Turns what a step wrote into a layer, which the cache knows as what the step made.
    pub async fn commit(
        &self,
        key: &str,
        stubs: Vec<MountPoint>,
        step: &Identity,
        lease: &str,
    ) -> Result<Outcome, Error> {
        let (record, created) = cache::record(step);
        let stubs = stubs.into_iter().map(|stub| pb::MountStub { path: stub.path, inode: stub.inode }).collect();
        let request =
            pb::CommitSnapshotRequest { key: key.to_owned(), lease_id: lease.to_owned(), stubs, record: Some(record) };
        let mut client = pb::snapshot_service_client::SnapshotServiceClient::new(self.channel.clone());
        let response = client.commit_snapshot(request).await;
        let response = response.map_err(|status| Error::peer("store", "commit a snapshot", status))?.into_inner();
        let layer = response.layer.ok_or(Error::Answer { peer: "store", what: "a layer" })?.id;
        Ok(Outcome { layer, created })
    }

    /// Removes a snapshot, if it is there.
    pub async fn remove_snapshot(&self, key: &str) -> Result<(), Error> {
        let request = pb::RemoveSnapshotRequest { key: key.to_owned(), allow_missing: true, holder: String::new() };
        let mut client = pb::snapshot_service_client::SnapshotServiceClient::new(self.channel.clone());
        client.remove_snapshot(request).await.map_err(|status| Error::peer("store", "remove a snapshot", status))?;
        Ok(())
    }
}
