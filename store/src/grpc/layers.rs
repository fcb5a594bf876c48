//! `LayerService`.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use rustix::fs::FileType;
use strata_proto::store::v1 as proto;
use strata_types::{LayerId, LeaseId};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::cache::record_of_new_layer;
use super::{Service, lease_id, status};
use crate::catalog::{CacheRecord, LayerRow, blocking};
use crate::tree::{self, Made, Owner, Source, Time, TreeCopy};
use crate::{Error, Result, Store, layer};

/// Entries in one message of a listing.
const LISTED_AT_ONCE: usize = 1024;

/// Most entries in one message of a tree.
const MOST_ENTRIES: usize = 4096;

/// Largest file that is read when the request does not say.
const DEFAULT_MAX_BYTES: u64 = 10 << 20;

/// Messages of a tree that wait to be written.
const WAITING: usize = 4;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl proto::layer_service_server::LayerService for Service {
    async fn describe_layer(
        &self,
        request: Request<proto::DescribeLayerRequest>,
    ) -> Result<Response<proto::DescribeLayerResponse>, Status> {
        let id = layer_id("layer_id", &request.into_inner().layer_id).map_err(status)?;
        let row = layer::describe(&self.store, &id).await.map_err(status)?;
        Ok(Response::new(proto::DescribeLayerResponse { layer: Some(to_proto(&row)) }))
    }

    async fn write_tree(
        &self,
        request: Request<Streaming<proto::WriteTreeRequest>>,
    ) -> Result<Response<proto::WriteTreeResponse>, Status> {
        let mut messages = request.into_inner();
        let header = match messages.message().await?.and_then(|message| message.part) {
            Some(proto::write_tree_request::Part::Header(header)) => header,
            _ => return Err(status(Error::invalid("header", "it must come first"))),
        };
        let this = self.clone();
        let row = self.to_the_end(async move { this.write_entries(header, messages).await }).await?;
        Ok(Response::new(proto::WriteTreeResponse { layer: Some(to_proto(&row)) }))
    }

    type ListTreeStream = Answers<proto::ListTreeResponse>;

    async fn list_tree(
        &self,
        request: Request<proto::ListTreeRequest>,
    ) -> Result<Response<Self::ListTreeStream>, Status> {
        let request = request.into_inner();
        let listed = self.list_view(request).await.map_err(status)?;
        let messages: Vec<_> = listed
            .chunks(LISTED_AT_ONCE)
            .map(|entries| Ok(proto::ListTreeResponse { entries: entries.iter().map(listed_to_proto).collect() }))
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }

    type ReadTreeFileStream = Answers<proto::ReadTreeFileResponse>;

    async fn read_tree_file(
        &self,
        request: Request<proto::ReadTreeFileRequest>,
    ) -> Result<Response<Self::ReadTreeFileStream>, Status> {
        let request = request.into_inner();
        let file = self.open_tree_file(&request).await.map_err(status)?;
        let path = PathBuf::from(request.path);
        let chunks = strata_rpc::chunks::from_read(file).map(move |chunk| match chunk {
            Ok(chunk) => Ok(proto::ReadTreeFileResponse { chunk }),
            Err(source) => Err(status(Error::io("read", &path, source))),
        });
        Ok(Response::new(Box::pin(chunks)))
    }

    type ReadLayerEntriesStream = Answers<proto::ReadLayerEntriesResponse>;

    async fn read_layer_entries(
        &self,
        request: Request<proto::ReadLayerEntriesRequest>,
    ) -> Result<Response<Self::ReadLayerEntriesStream>, Status> {
        let id = layer_id("layer_id", &request.into_inner().layer_id).map_err(status)?;
        let toc = layer::table_of_contents(&self.store, &id).await.map_err(status)?;
        Ok(Response::new(Box::pin(super::entries::stream(toc))))
    }
}

impl Service {
    async fn write_entries(
        &self,
        header: proto::WriteTreeHeader,
        mut messages: Streaming<proto::WriteTreeRequest>,
    ) -> Result<LayerRow, Status> {
        let parsed = parse_header(header).map_err(status)?;
        let (lease, parents, settings, record) = parsed;
        let (sender, receiver) = mpsc::channel(WAITING);
        let store = Arc::clone(&self.store);
        // Ends with its receiver, which the writer drops when it fails.
        let feed = async move {
            loop {
                let entries = match messages.message().await {
                    Ok(None) => return Ok(()),
                    Ok(Some(message)) => read_entries(&store, message).await,
                    Err(status) => Err(Error::StreamEnded { source: Box::new(status) }),
                };
                match entries {
                    Ok(entries) => {
                        if sender.send(Some(entries)).await.is_err() {
                            return Ok(());
                        }
                    }
                    Err(error) => {
                        // The writer must not take a cut-off stream for a whole one.
                        let _ = sender.send(None).await;
                        return Err(error);
                    }
                }
            }
        };
        let write = layer::write_tree(&self.store, &parents, &lease, (settings, record), Lots(receiver));
        let (fed, written) = tokio::join!(feed, write);
        // What cut the stream off is the cause of what the writer says.
        fed.map_err(status)?;
        written.map_err(status)
    }

    async fn list_view(&self, request: proto::ListTreeRequest) -> Result<Vec<tree::Listed>> {
        let layers = layer_ids("layer_ids", &request.layer_ids)?;
        let view = layer::view(&self.store, &layers).await?;
        let store = Arc::clone(&self.store);
        let pattern = PathBuf::from(request.pattern);
        blocking(move || Ok(tree::list(&view, &pattern, request.recursive, &store.layers.hashes)?)).await
    }

    async fn open_tree_file(&self, request: &proto::ReadTreeFileRequest) -> Result<std::fs::File> {
        let layers = layer_ids("layer_ids", &request.layer_ids)?;
        let view = layer::view(&self.store, &layers).await?;
        let limit = if request.max_bytes == 0 { DEFAULT_MAX_BYTES } else { request.max_bytes };
        let path = PathBuf::from(&request.path);
        blocking(move || {
            let (file, _) = tree::open_file(&view, &path, limit)?;
            Ok(file)
        })
        .await
    }
}

/// The entries of a stream, message by message, for a thread that may block.
struct Lots(mpsc::Receiver<Option<Vec<tree::Entry>>>);

impl Iterator for Lots {
    type Item = tree::Result<Vec<tree::Entry>>;

    fn next(&mut self) -> Option<Self::Item> {
        let reason = "the stream of entries was cut off";
        let cut_off = || tree::Error::InvalidPath { path: PathBuf::new(), reason };
        Some(self.0.blocking_recv()?.ok_or_else(cut_off))
    }
}

type Header = (LeaseId, Vec<LayerId>, layer::TreeSettings, Option<CacheRecord>);

fn parse_header(header: proto::WriteTreeHeader) -> Result<Header> {
    let previous = Some(header.previous_layer_id).filter(|id| !id.is_empty());
    let settings = layer::TreeSettings {
        working_directory: PathBuf::from(header.working_directory),
        previous: previous.map(|id| layer_id("previous_layer_id", &id)).transpose()?,
        modified: header.modified_at.map(|time| to_time("modified_at", time)).transpose()?,
        made: Made {
            mode: mode("made_mode", header.made_mode)?.unwrap_or(Made::default().mode),
            uid: header.made_uid,
            gid: header.made_gid,
        },
    };
    let lease = lease_id(&header.lease_id)?;
    let record = record_of_new_layer(header.record)?;
    Ok((lease, layer_ids("parent_layer_ids", &header.parent_layer_ids)?, settings, record))
}

/// Reads the entries of a message; chains that they copy from are looked up here.
async fn read_entries(store: &Arc<Store>, message: proto::WriteTreeRequest) -> Result<Vec<tree::Entry>> {
    let Some(proto::write_tree_request::Part::Entries(message)) = message.part else {
        return Err(Error::invalid("entries", "entries must follow the header"));
    };
    if message.entries.len() > MOST_ENTRIES {
        return Err(Error::invalid("entries", format!("more than {MOST_ENTRIES} in one message")));
    }
    let mut entries = Vec::with_capacity(message.entries.len());
    for entry in message.entries {
        entries.push(read_entry(store, entry).await?);
    }
    Ok(entries)
}

async fn read_entry(store: &Arc<Store>, entry: proto::TreeEntry) -> Result<tree::Entry> {
    use proto::tree_entry::Source as From;
    let source = match entry.source {
        Some(From::Directory(directory)) => Source::Directory { explicit: directory.explicit },
        Some(From::File(file)) => {
            Source::File { blake3: content_hex("entries.file.blake3", &file.blake3)?, same_file: file.same_file }
        }
        Some(From::Symlink(link)) if link.target.is_empty() || link.target.contains(&0) => {
            return Err(Error::invalid("entries.symlink.target", "it is empty or holds a NUL"));
        }
        Some(From::Symlink(link)) => Source::Symlink { target: link.target.to_vec() },
        Some(From::Copy(copy)) => {
            let layers = layer_ids("entries.copy.layer_ids", &copy.layer_ids)?;
            let chain = layer::chain(store, &layers).await?;
            Source::Copy(TreeCopy {
                lowers: chain.lowers.clone(),
                path: path(&copy.path),
                contents_only: copy.contents_only,
                alone: copy.alone,
                implied: copy.implied,
            })
        }
        Some(From::Special(special)) => special_file(&special)?,
        Some(From::Archive(archive)) => {
            Source::Archive { blake3: content_hex("entries.archive.blake3", &archive.blake3)? }
        }
        None => return Err(Error::invalid("entries.source", "it is missing")),
    };
    let name = entry.name_in_directory.to_vec();
    if name.contains(&b'/') || name.contains(&0) || name == b"." || name == b".." {
        return Err(Error::invalid("entries.name_in_directory", "it is no name of a file"));
    }
    let attributes = entry.attributes.into_iter().map(attribute).collect::<Result<_>>()?;
    Ok(tree::Entry {
        destination: path(&entry.destination),
        below: path(&entry.below),
        name_in_directory: name,
        source,
        owner: Owner { mode: mode("entries.mode", entry.mode)?, uid: entry.uid, gid: entry.gid },
        modified: entry.modified_at.map(|time| to_time("entries.modified_at", time)).transpose()?,
        attributes,
    })
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn mode(field: &'static str, mode: Option<u32>) -> Result<Option<u32>> {
    match mode {
        Some(mode) if mode > 0o7777 => Err(Error::invalid(field, "it has bits that are no permissions")),
        mode => Ok(mode),
    }
}

fn special_file(special: &proto::TreeSpecial) -> Result<Source> {
    let kind = FileType::from_raw_mode(special.r#type);
    match kind {
        FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {}
        _ => return Err(Error::invalid("entries.special.type", "it is neither a device nor a FIFO")),
    }
    let device = rustix::fs::makedev(special.major, special.minor);
    if kind == FileType::CharacterDevice && device == 0 {
        return Err(Error::invalid("entries.special", "the device 0:0 is a mark of deletion in a layer"));
    }
    Ok(Source::Special { kind, device })
}

/// Reads an extended attribute that belongs to a tree.
fn attribute(attribute: proto::TreeAttribute) -> Result<(CString, Vec<u8>)> {
    let invalid = || Error::invalid("entries.attributes.name", "it is no attribute of a tree");
    if attribute.name.is_empty() || !tree::is_portable(attribute.name.as_bytes()) {
        return Err(invalid());
    }
    let name = CString::new(attribute.name).map_err(|_| invalid())?;
    Ok((name, attribute.value.to_vec()))
}

/// Converts a layer.
pub(super) fn to_proto(row: &LayerRow) -> proto::Layer {
    proto::Layer {
        id: row.id.as_str().to_owned(),
        diff_id: row.diff_id.map(|digest| digest.to_string()).unwrap_or_default(),
        size_bytes: row.size,
    }
}

fn listed_to_proto(entry: &tree::Listed) -> proto::ListedEntry {
    proto::ListedEntry {
        path: Bytes::copy_from_slice(entry.path.as_os_str().as_bytes()),
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        size_bytes: entry.size,
        digest: entry.digest.to_hex().to_string(),
        target: Bytes::copy_from_slice(&entry.target),
        modified_at: Some(prost_types::Timestamp {
            seconds: entry.modified.seconds,
            nanos: entry.modified.nanoseconds as i32,
        }),
    }
}

/// Reads the id of a layer.
pub(super) fn layer_id(field: &'static str, text: &str) -> Result<LayerId> {
    LayerId::parse(text).map_err(Error::field(field))
}

/// Reads ids of layers.
pub(super) fn layer_ids(field: &'static str, texts: &[String]) -> Result<Vec<LayerId>> {
    texts.iter().map(|text| layer_id(field, text)).collect()
}

fn content_hex(field: &'static str, text: &str) -> Result<blake3::Hash> {
    blake3::Hash::from_hex(text).map_err(|error| Error::invalid(field, error.to_string()))
}

fn to_time(field: &'static str, time: prost_types::Timestamp) -> Result<Time> {
    match u32::try_from(time.nanos) {
        Ok(nanoseconds) if nanoseconds < 1_000_000_000 => Ok(Time { seconds: time.seconds, nanoseconds }),
        _ => Err(Error::invalid(field, "its nanoseconds are not below 1,000,000,000")),
    }
}
