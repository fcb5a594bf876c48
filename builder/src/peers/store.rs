//! The store, as a build sees it: leases, images, cache records, contents, trees, snapshots.

mod contents;
mod entries;
mod mounts;
mod pull;

use std::sync::Arc;

use futures_util::StreamExt;
use strata_proto::store::v1 as pb;
use strata_types::{ImageConfig, Platform};
use tonic::transport::Channel;

pub use entries::{Entries, Feed, feed};
pub use mounts::{CacheMount, HeldMount, Sharing};
pub use pull::{Credentials, Resolved};

use super::MountPoint;
use crate::context::{Attributes, Blake3, Special};
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

/// A step, as the build cache knows it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What it does, and on what.
    pub key: Blake3,
    /// What it does and reads, whatever it stands on.
    pub operation: Blake3,
    /// Its name across versions of what it reads.
    pub family: Blake3,
    /// The instruction, for people.
    pub description: String,
}

/// What a step made in an earlier build.
#[derive(Debug, Clone)]
pub struct CacheRecord {
    /// Key of the step that made it.
    pub key: Blake3,
    /// The layer it made.
    pub layer: String,
    /// When the layer was made.
    pub created: jiff::Timestamp,
}

/// What the cache says of a step.
#[derive(Debug, Clone, Default)]
pub struct Cached {
    /// What it made.
    pub record: Option<CacheRecord>,
    /// The layer of its newest version, where it made nothing yet.
    pub previous: Option<String>,
    /// Some step did the same, if perhaps to other files.
    pub is_operation_known: bool,
}

/// Whether the cache is asked for a step that did the same to the same files, however these came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByContent {
    /// It is.
    Yes,
    /// Only for the key.
    No,
}

/// What a step came to: a layer.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its id.
    pub layer: String,
    /// When it was made, in whole milliseconds: what the cache gives back must be what the image was made with.
    pub created: jiff::Timestamp,
}

/// Something to place in a new layer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Absolute destination in the merged view; links are followed.
    pub destination: Vec<u8>,
    /// Path below the destination, without links; empty: the destination itself.
    pub below: Vec<u8>,
    /// Name to use when the destination is a directory there.
    pub name_in_directory: Vec<u8>,
    /// What to place.
    pub placement: Placement,
    /// Permission bits; `None`: the source's.
    pub mode: Option<u32>,
    /// Owner and group; `None`: the source's.
    pub owner: Option<(u32, u32)>,
    /// Time of last change, in nanoseconds since 1970; `None`: the source's, or now.
    pub modified: Option<i64>,
    /// Extended attributes.
    pub attributes: Attributes,
}

impl Entry {
    /// Something at this destination, with what its source says of the rest.
    pub fn new(destination: Vec<u8>, placement: Placement) -> Self {
        Self {
            destination,
            below: Vec::new(),
            name_in_directory: Vec::new(),
            placement,
            mode: None,
            owner: None,
            modified: None,
            attributes: Vec::new(),
        }
    }
}

/// What directories become that are made on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
}

impl Default for Made {
    fn default() -> Self {
        Self { mode: 0o755, owner: (0, 0) }
    }
}

/// What is placed.
#[derive(Debug, Clone)]
pub enum Placement {
    /// A directory.
    Directory {
        /// It is wanted for itself, not only as a place for others: that leaves one that is there as it is.
        explicit: bool,
    },
    /// A file with a content of the store.
    File {
        /// Digest of the content.
        blake3: Blake3,
        /// Size in bytes.
        size: u64,
        /// Equal numbers, but 0, are names of one file.
        same_file: u64,
    },
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A device or a FIFO.
    Special(Special),
    /// A path of another tree; of a directory what it holds.
    Copy {
        /// Its layers, bottom first.
        layers: Arc<[String]>,
        /// The path.
        path: Vec<u8>,
        /// Only what the path names, not what is below.
        alone: bool,
        /// A directory that is only a place for others.
        implied: bool,
    },
    /// The entries of an archive.
    Archive(Blake3),
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

/// A layer to be written.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Layers below, bottom first.
    pub parents: Vec<String>,
    /// A layer that an earlier version of the step made.
    pub previous: String,
    /// What directories become that are made on the way.
    pub made: Made,
}

/// An entry of a merged view.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its path.
    pub path: Vec<u8>,
    /// File type and permission bits.
    pub mode: u32,
    /// Digest over content and metadata.
    pub digest: String,
    /// Time of last change, in nanoseconds since 1970.
    pub modified: Option<i64>,
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

    /// Finds what a step made, which is then held.
    pub async fn cached(
        &self,
        step: &Identity,
        layers: &[String],
        by_content: ByContent,
        lease: &str,
    ) -> Result<Cached, Error> {
        let request = pb::GetCacheRecordRequest {
            key: hex::encode(step.key),
            family: hex::encode(step.family),
            lease_id: lease.to_owned(),
            operation: hex::encode(step.operation),
            // Without need they are not sent: there may be hundreds, in every step.
            layer_ids: if by_content == ByContent::Yes { layers.to_vec() } else { Vec::new() },
            by_content: by_content == ByContent::Yes,
        };
        let mut client = pb::cache_service_client::CacheServiceClient::new(self.channel.clone());
        let response = client.get_cache_record(request).await;
        let response = response.map_err(|status| Error::peer("store", "look into the cache", status))?.into_inner();
        let read = |record: pb::CacheRecord| {
            let mut key = [0; 32];
            hex::decode_to_slice(&record.key, &mut key)
                .map_err(|_| Error::Answer { peer: "store", what: "a key of the cache" })?;
            let created = record.created_at.and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok());
            let created = created.unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            Ok(CacheRecord { key, layer: record.layer_id, created })
        };
        Ok(Cached {
            record: response.record.map(read).transpose()?,
            previous: response.previous.map(|record| record.layer_id).filter(|id| !id.is_empty()),
            is_operation_known: response.is_operation_known,
        })
    }

    /// What was memorized under a key.
    pub async fn recall(&self, key: &Blake3, lease: &str) -> Result<Option<Blake3>, Error> {
        let request = pb::GetCacheRecordRequest {
            key: hex::encode(key),
            lease_id: lease.to_owned(),
            ..pb::GetCacheRecordRequest::default()
        };
        let mut client = pb::cache_service_client::CacheServiceClient::new(self.channel.clone());
        let response = client.get_cache_record(request).await;
        let response = response.map_err(|status| Error::peer("store", "look into the cache", status))?.into_inner();
        let mut answer = [0; 32];
        let found = response.record.map(|record| hex::decode_to_slice(&record.operation, &mut answer));
        Ok(matches!(found, Some(Ok(()))).then_some(answer))
    }

    /// Keeps an answer under a key, as a record without a layer.
    pub async fn memorize(&self, key: &Blake3, answer: &Blake3, title: &str) -> Result<(), Error> {
        let record = pb::CacheRecord {
            key: hex::encode(key),
            operation: hex::encode(answer),
            description: title.to_owned(),
            ..pb::CacheRecord::default()
        };
        let mut client = pb::cache_service_client::CacheServiceClient::new(self.channel.clone());
        let stored = client.put_cache_record(pb::PutCacheRecordRequest { record: Some(record) }).await;
        stored.map(drop).map_err(|status| Error::peer("store", "write the cache", status))
    }

    /// Writes a tree as a layer, which the cache knows as what the step made. `entries` are told as they are fed; nothing is
    /// made of a feed that was not ended.
    pub async fn write_tree(
        &self,
        tree: Tree,
        entries: Entries,
        step: &Identity,
        lease: &str,
    ) -> Result<Outcome, Error> {
        let (record, created) = record(step);
        let header = pb::WriteTreeHeader {
            parent_layer_ids: tree.parents,
            lease_id: lease.to_owned(),
            previous_layer_id: tree.previous,
            working_directory: "/".to_owned(),
            modified_at: None,
            record: Some(record),
            made_mode: Some(tree.made.mode),
            made_uid: tree.made.owner.0,
            made_gid: tree.made.owner.1,
        };
        let header = pb::WriteTreeRequest { part: Some(pb::write_tree_request::Part::Header(header)) };
        let messages = tokio_stream::once(header).chain(entries.messages());
        let mut client = pb::layer_service_client::LayerServiceClient::new(self.channel.clone());
        let response = client.write_tree(messages).await;
        let response = response.map_err(|status| Error::peer("store", "write a layer", status))?.into_inner();
        let layer = response.layer.ok_or(Error::Answer { peer: "store", what: "a layer" })?.id;
        Ok(Outcome { layer, created })
    }

    /// Lists what a pattern matches in the merged view of layers. An empty answer: nothing.
    pub async fn list_tree(&self, layers: &[String], pattern: &str, recursive: bool) -> Result<Vec<Listed>, Error> {
        let request = pb::ListTreeRequest { layer_ids: layers.to_vec(), pattern: pattern.to_owned(), recursive };
        let mut client = pb::layer_service_client::LayerServiceClient::new(self.channel.clone());
        let mut found = Vec::new();
        let is_absent =
            |status: &tonic::Status| strata_rpc::fault::reason_of(status).as_deref() == Some("FAULT_PATH_NOT_FOUND");
        let mut stream = match client.list_tree(request).await {
            Ok(stream) => stream.into_inner(),
            Err(status) if is_absent(&status) => return Ok(found),
            Err(status) => return Err(Error::peer("store", "look into a stage", status)),
        };
        loop {
            match stream.message().await {
                Ok(Some(message)) => found.extend(message.entries.into_iter().map(|e| Listed {
                    path: e.path.to_vec(),
                    mode: e.mode,
                    digest: e.digest,
                    modified: e.modified_at.map(|at| at.seconds.saturating_mul(1_000_000_000) + i64::from(at.nanos)),
                })),
                Ok(None) => return Ok(found),
                Err(status) if is_absent(&status) => return Ok(found),
                Err(status) => return Err(Error::peer("store", "look into a stage", status)),
            }
        }
    }

    /// Reads a small file of the merged view. `None`: there is none.
    pub async fn read_file(&self, layers: &[String], path: &str) -> Result<Option<Vec<u8>>, Error> {
        let request =
            pb::ReadTreeFileRequest { layer_ids: layers.to_vec(), path: path.to_owned(), max_bytes: 10 << 20 };
        let refused = |status: tonic::Status| match strata_rpc::fault::reason_of(&status).as_deref() {
            Some("FAULT_PATH_NOT_FOUND") => None,
            _ => Some(Error::peer("store", "read a file of the image", status)),
        };
        let mut client = pb::layer_service_client::LayerServiceClient::new(self.channel.clone());
        let mut stream = match client.read_tree_file(request).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return refused(status).map_or(Ok(None), Err),
        };
        let mut bytes = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(message)) => bytes.extend_from_slice(&message.chunk),
                Ok(None) => return Ok(Some(bytes)),
                Err(status) => return refused(status).map_or(Ok(None), Err),
            }
        }
    }

    /// Reads a file of the merged view, whatever its size, a part at a time.
    pub async fn stream_file<E: From<Error>>(
        &self,
        layers: &[String],
        path: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let refused = |status| E::from(Error::peer("store", "read a file of the context", status));
        let path = String::from_utf8_lossy(path).into_owned();
        let request = pb::ReadTreeFileRequest { layer_ids: layers.to_vec(), path, max_bytes: u64::MAX };
        let mut client = pb::layer_service_client::LayerServiceClient::new(self.channel.clone());
        let mut stream = client.read_tree_file(request).await.map_err(refused)?.into_inner();
        while let Some(message) = stream.message().await.map_err(refused)? {
            take(&message.chunk)?;
        }
        Ok(())
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
        let (record, created) = record(step);
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

/// What the cache is to know of a step whose layer is made now.
fn record(step: &Identity) -> (pb::CacheRecord, jiff::Timestamp) {
    let now = jiff::Timestamp::now();
    let created = jiff::Timestamp::from_millisecond(now.as_millisecond()).unwrap_or_default();
    let record = pb::CacheRecord {
        key: hex::encode(step.key),
        layer_id: String::new(),
        description: step.description.clone(),
        family: hex::encode(step.family),
        created_at: Some(prost_types::Timestamp { seconds: created.as_second(), nanos: created.subsec_nanosecond() }),
        operation: hex::encode(step.operation),
    };
    (record, created)
}
