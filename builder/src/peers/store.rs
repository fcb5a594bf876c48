//! The store, as a build sees it: leases, images, cache records, contents, trees, snapshots.

use bytes::Bytes;
use strata_proto::store::v1 as pb;
use strata_types::ImageConfig;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::MountPoint;
use crate::context::Blake3;
use crate::error::Error;
use crate::session::FromClient;

/// Largest message of small contents, in bytes.
const SMALL_BATCH: usize = 1 << 20;
/// Largest content that travels in a batch, in bytes.
const SMALL: usize = 64 << 10;
/// Entries of a tree in one message.
const ENTRIES: usize = 4096;

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

/// What a step made in an earlier build.
#[derive(Debug, Clone)]
pub struct CacheRecord {
    /// Key of the step.
    pub key: String,
    /// The layer it made.
    pub layer: String,
    /// The instruction, for people.
    pub description: String,
    /// Name of the step across versions.
    pub family: String,
    /// When the layer was made.
    pub created: jiff::Timestamp,
}

/// Something to place in a new layer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Absolute destination in the merged view.
    pub destination: String,
    /// Name to use when the destination is a directory there.
    pub name_in_directory: Vec<u8>,
    /// What to place.
    pub placement: Placement,
    /// Permission bits; `None`: the source's.
    pub mode: Option<u32>,
    /// Owner and group; `None`: the source's.
    pub owner: Option<(u32, u32)>,
}

/// What is placed.
#[derive(Debug, Clone)]
pub enum Placement {
    /// A directory.
    Directory {
        /// It is wanted for itself, not only as a place for others.
        explicit: bool,
    },
    /// A file with a content of the store.
    File {
        /// Digest of the content.
        blake3: Blake3,
        /// Size in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A path of another tree.
    Copy {
        /// Its layers, bottom first.
        layers: Vec<String>,
        /// The path.
        path: String,
        /// What a directory holds, not itself.
        contents_only: bool,
    },
    /// The entries of an archive.
    Archive(Blake3),
}

/// A layer to be written.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Layers below, bottom first.
    pub parents: Vec<String>,
    /// A layer that an earlier version of the step made.
    pub previous: String,
    /// What to place.
    pub entries: Vec<Entry>,
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

    /// Finds an image and holds it. `None`: there is none of this name.
    pub async fn image(&self, reference: &str, lease: &str) -> Result<Option<BaseImage>, Error> {
        let request = pb::GetImageRequest { reference: reference.to_owned(), lease_id: lease.to_owned() };
        let mut client = pb::image_service_client::ImageServiceClient::new(self.channel.clone());
        let response = match client.get_image(request).await {
            Ok(response) => response.into_inner(),
            Err(status) if strata_rpc::fault::reason_of(&status).as_deref() == Some("FAULT_IMAGE_NOT_FOUND") => {
                return Ok(None);
            }
            Err(status) => return Err(Error::peer("store", "find an image", status)),
        };
        let image = response.image.ok_or(Error::Answer { peer: "store", what: "an image" })?;
        let config = serde_json::from_slice(&image.config_json)
            .map_err(|source| Error::ImageConfig { image: reference.to_owned(), source })?;
        let (layers, diff_ids) = image.layers.into_iter().map(|layer| (layer.layer_id, layer.diff_id)).unzip();
        Ok(Some(BaseImage { config, layers, diff_ids }))
    }

    /// Makes an image of layers, and names it. Returns its id and names.
    pub async fn create_image(
        &self,
        config: &ImageConfig,
        layers: &[String],
        names: &[String],
        lease: &str,
    ) -> Result<(String, Vec<String>), Error> {
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
        Ok((image.id, image.names))
    }

    /// Finds the record of a key, or the newest one of its family; what they name is held.
    pub async fn cached(
        &self,
        key: &str,
        family: &str,
        lease: &str,
    ) -> Result<(Option<CacheRecord>, Option<CacheRecord>), Error> {
        let request =
            pb::GetCacheRecordRequest { key: key.to_owned(), family: family.to_owned(), lease_id: lease.to_owned() };
        let mut client = pb::cache_service_client::CacheServiceClient::new(self.channel.clone());
        let response = match client.get_cache_record(request).await {
            Ok(response) => response.into_inner(),
            Err(status) if strata_rpc::fault::reason_of(&status).as_deref() == Some("FAULT_CACHE_RECORD_NOT_FOUND") => {
                return Ok((None, None));
            }
            Err(status) => return Err(Error::peer("store", "look into the cache", status)),
        };
        let read = |record: pb::CacheRecord| CacheRecord {
            key: record.key,
            layer: record.layer_id,
            description: record.description,
            family: record.family,
            created: record
                .created_at
                .and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok())
                .unwrap_or(jiff::Timestamp::UNIX_EPOCH),
        };
        Ok((response.record.map(read), response.previous.map(read)))
    }

    /// Stores what a step made.
    pub async fn remember(&self, record: CacheRecord) -> Result<(), Error> {
        let record = pb::CacheRecord {
            key: record.key,
            layer_id: record.layer,
            description: record.description,
            family: record.family,
            created_at: Some(prost_types::Timestamp {
                seconds: record.created.as_second(),
                nanos: record.created.subsec_nanosecond(),
            }),
        };
        let mut client = pb::cache_service_client::CacheServiceClient::new(self.channel.clone());
        client
            .put_cache_record(pb::PutCacheRecordRequest { record: Some(record) })
            .await
            .map_err(|status| Error::peer("store", "write the cache", status))?;
        Ok(())
    }

    /// Which of these contents the store lacks; the others are held by the lease.
    pub async fn missing(&self, contents: &[Blake3], lease: &str) -> Result<Vec<Blake3>, Error> {
        let mut missing = Vec::new();
        let mut client = pb::content_service_client::ContentServiceClient::new(self.channel.clone());
        for part in contents.chunks(65_536) {
            let blake3 = part.iter().map(|digest| Bytes::copy_from_slice(digest)).collect();
            let request = pb::MissingContentsRequest { lease_id: lease.to_owned(), blake3 };
            let response = client.missing_contents(request).await;
            let response = response.map_err(|status| Error::peer("store", "look for contents", status))?.into_inner();
            missing.extend(response.missing.iter().filter_map(|&index| part.get(index as usize)));
        }
        Ok(missing)
    }

    /// Stores contents as they come from the client. `sizes` says how large each is.
    pub async fn put_contents(
        &self,
        mut parts: mpsc::Receiver<FromClient>,
        sizes: std::collections::HashMap<Blake3, u64>,
        lease: &str,
    ) -> Result<(), Error> {
        let (sender, receiver) = mpsc::channel(16);
        let lease = lease.to_owned();
        // Set when the client sends what is not the content asked for; what the store says then is a consequence.
        let mut lie = None;
        let feed = async {
            let sender = sender;
            let mut batch = Batch { lease, contents: Vec::new(), bytes: 0 };
            let mut current: Option<(Blake3, Vec<u8>)> = None;
            while let Some(FromClient::Content { blake3, chunk, is_last }) = parts.recv().await {
                if let Some(digest) = blake3 {
                    let size = sizes.get(&digest).copied().unwrap_or(0);
                    if size as usize > SMALL {
                        batch.flush(&sender).await?;
                        current = None;
                        send(&sender, batch.header(digest, size)).await?;
                    } else {
                        current = Some((digest, Vec::with_capacity(size as usize)));
                    }
                }
                match &mut current {
                    Some((digest, bytes)) if bytes.len() + chunk.len() > SMALL => {
                        lie = Some(*digest);
                        return Err(Closed);
                    }
                    Some((_, bytes)) => bytes.extend_from_slice(&chunk),
                    None if chunk.is_empty() => {}
                    None => send(&sender, pb::put_contents_request::Part::Chunk(chunk)).await?,
                }
                if is_last && let Some((digest, bytes)) = current.take() {
                    // The store hashes small contents on arrival, whatever they are.
                    if *blake3::hash(&bytes).as_bytes() != digest {
                        lie = Some(digest);
                        return Err(Closed);
                    }
                    batch.add(bytes, &sender).await?;
                }
            }
            batch.flush(&sender).await
        };
        let mut client = pb::content_service_client::ContentServiceClient::new(self.channel.clone());
        let put = client.put_contents(ReceiverStream::new(receiver));
        // A refusal ends the feed too: its channel closes.
        let (_, answer) = tokio::join!(feed, put);
        if let Some(digest) = lie {
            let problem = format!("content {} is not what it should be", hex::encode(digest));
            return Err(Error::Context { problem });
        }
        answer.map_err(|status| match strata_rpc::reason_of(&status).as_deref() {
            Some("FAULT_DIGEST_MISMATCH" | "FAULT_INVALID_ARGUMENT") => {
                Error::Context { problem: format!("a content is not what it should be: {}", status.message()) }
            }
            _ => Error::peer("store", "take in the build context", status),
        })?;
        Ok(())
    }

    /// Stores one content that the builder holds itself.
    pub async fn put_content(&self, bytes: Vec<u8>, lease: &str) -> Result<(), Error> {
        let mut messages: Vec<pb::PutContentsRequest> = Vec::new();
        let mut push = |part| messages.push(pb::PutContentsRequest { part: Some(part) });
        push(pb::put_contents_request::Part::Header(pb::PutContentsHeader {
            lease_id: lease.to_owned(),
            blake3: Bytes::copy_from_slice(blake3::hash(&bytes).as_bytes()),
            size_bytes: bytes.len() as u64,
        }));
        for chunk in bytes.chunks(256 << 10) {
            push(pb::put_contents_request::Part::Chunk(Bytes::copy_from_slice(chunk)));
        }
        let mut client = pb::content_service_client::ContentServiceClient::new(self.channel.clone());
        let answer = client.put_contents(tokio_stream::iter(messages)).await;
        answer.map_err(|status| Error::peer("store", "take in a content", status))?;
        Ok(())
    }

    /// The first bytes of a content, decompressed where it is compressed; none where that fails.
    pub async fn content_head(&self, blake3: &Blake3, limit: usize) -> Result<Vec<u8>, Error> {
        let request = pb::ReadContentRequest { blake3: Bytes::copy_from_slice(blake3), is_decompressed: true };
        let mut client = pb::content_service_client::ContentServiceClient::new(self.channel.clone());
        let mut head = Vec::new();
        let read = async {
            let mut stream = client.read_content(request).await?.into_inner();
            while head.len() < limit {
                let Some(message) = stream.message().await? else { break };
                head.extend_from_slice(&message.chunk);
            }
            Ok(())
        };
        match read.await {
            Ok(()) => head.truncate(limit),
            Err(status) if strata_rpc::reason_of(&status).as_deref() == Some("FAULT_ARCHIVE_INVALID") => head.clear(),
            Err(status) => return Err(Error::peer("store", "read a content", status)),
        }
        Ok(head)
    }

    /// Writes a tree as a layer and returns its id.
    pub async fn write_tree(&self, tree: Tree, lease: &str) -> Result<String, Error> {
        let header = pb::WriteTreeHeader {
            parent_layer_ids: tree.parents,
            lease_id: lease.to_owned(),
            previous_layer_id: tree.previous,
            working_directory: "/".to_owned(),
            modified_at: None,
        };
        let mut messages = vec![pb::WriteTreeRequest { part: Some(pb::write_tree_request::Part::Header(header)) }];
        for entries in tree.entries.chunks(ENTRIES) {
            let entries = pb::TreeEntries { entries: entries.iter().map(entry).collect() };
            messages.push(pb::WriteTreeRequest { part: Some(pb::write_tree_request::Part::Entries(entries)) });
        }
        let mut client = pb::layer_service_client::LayerServiceClient::new(self.channel.clone());
        let response = client.write_tree(tokio_stream::iter(messages)).await;
        let response = response.map_err(|status| Error::peer("store", "write a layer", status))?.into_inner();
        Ok(response.layer.ok_or(Error::Answer { peer: "store", what: "a layer" })?.id)
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

    /// Prepares a writable layer for a step.
    pub async fn prepare(&self, key: &str, layers: &[String], lease: &str) -> Result<(), Error> {
        let request = pb::PrepareSnapshotRequest {
            key: key.to_owned(),
            image: String::new(),
            layer_ids: layers.to_vec(),
            lease_id: lease.to_owned(),
            volatile: true,
        };
        let mut client = pb::snapshot_service_client::SnapshotServiceClient::new(self.channel.clone());
        client.prepare_snapshot(request).await.map_err(|status| Error::peer("store", "prepare a snapshot", status))?;
        Ok(())
    }

    /// Turns what a step wrote into a layer and returns its id.
    pub async fn commit(&self, key: &str, stubs: Vec<MountPoint>, lease: &str) -> Result<String, Error> {
        let stubs = stubs.into_iter().map(|stub| pb::MountStub { path: stub.path, inode: stub.inode }).collect();
        let request = pb::CommitSnapshotRequest { key: key.to_owned(), lease_id: lease.to_owned(), stubs };
        let mut client = pb::snapshot_service_client::SnapshotServiceClient::new(self.channel.clone());
        let response = client.commit_snapshot(request).await;
        let response = response.map_err(|status| Error::peer("store", "commit a snapshot", status))?.into_inner();
        Ok(response.layer.ok_or(Error::Answer { peer: "store", what: "a layer" })?.id)
    }

    /// Removes a snapshot, if it is there.
    pub async fn remove_snapshot(&self, key: &str) -> Result<(), Error> {
        let request = pb::RemoveSnapshotRequest { key: key.to_owned(), allow_missing: true, holder: String::new() };
        let mut client = pb::snapshot_service_client::SnapshotServiceClient::new(self.channel.clone());
        client.remove_snapshot(request).await.map_err(|status| Error::peer("store", "remove a snapshot", status))?;
        Ok(())
    }
}

/// Small contents on their way.
struct Batch {
    lease: String,
    contents: Vec<Bytes>,
    bytes: usize,
}

/// The store closed the stream; its answer says why.
struct Closed;

impl Batch {
    fn header(&self, blake3: Blake3, size_bytes: u64) -> pb::put_contents_request::Part {
        pb::put_contents_request::Part::Header(pb::PutContentsHeader {
            lease_id: self.lease.clone(),
            blake3: Bytes::copy_from_slice(&blake3),
            size_bytes,
        })
    }

    async fn add(&mut self, bytes: Vec<u8>, sender: &mpsc::Sender<pb::PutContentsRequest>) -> Result<(), Closed> {
        if self.bytes + bytes.len() > SMALL_BATCH {
            self.flush(sender).await?;
        }
        self.bytes += bytes.len();
        self.contents.push(bytes.into());
        Ok(())
    }

    async fn flush(&mut self, sender: &mpsc::Sender<pb::PutContentsRequest>) -> Result<(), Closed> {
        if self.contents.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let contents = std::mem::take(&mut self.contents);
        let small = pb::SmallContents { lease_id: self.lease.clone(), contents };
        send(sender, pb::put_contents_request::Part::Small(small)).await
    }
}

async fn send(
    sender: &mpsc::Sender<pb::PutContentsRequest>,
    part: pb::put_contents_request::Part,
) -> Result<(), Closed> {
    sender.send(pb::PutContentsRequest { part: Some(part) }).await.map_err(|_| Closed)
}

fn entry(entry: &Entry) -> pb::TreeEntry {
    use pb::tree_entry::Source;
    let source = match &entry.placement {
        Placement::Directory { explicit } => Source::Directory(pb::TreeDirectory { explicit: *explicit }),
        Placement::File { blake3, size } => {
            Source::File(pb::TreeFile { blake3: hex::encode(blake3), size_bytes: *size })
        }
        Placement::Symlink(target) => Source::Symlink(pb::TreeSymlink { target: Bytes::copy_from_slice(target) }),
        Placement::Copy { layers, path, contents_only } => {
            Source::Copy(pb::TreeCopy { layer_ids: layers.clone(), path: path.clone(), contents_only: *contents_only })
        }
        Placement::Archive(blake3) => Source::Archive(pb::TreeArchive { blake3: hex::encode(blake3) }),
    };
    pb::TreeEntry {
        destination: entry.destination.clone(),
        source: Some(source),
        mode: entry.mode,
        uid: entry.owner.map(|owner| owner.0),
        gid: entry.owner.map(|owner| owner.1),
        modified_at: None,
        name_in_directory: Bytes::copy_from_slice(&entry.name_in_directory),
    }
}
