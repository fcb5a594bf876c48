//! Trees of the store: layers that are written entry by entry, and merged views that are read.

use std::sync::Arc;

use futures_util::StreamExt;
use strata_proto::store::v1 as pb;

use super::cache::record;
use super::{Entries, Identity, Outcome, Store};
use crate::context::{Attributes, Blake3, Special};
use crate::error::Error;

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

impl Store {
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
}
