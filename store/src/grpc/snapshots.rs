//! `SnapshotService`.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use strata_proto::store::v1 as proto;
use strata_proto::types::v1::Mount;
use strata_types::SnapshotKey;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::cache::record_of_new_layer;
use super::layers::{layer_ids, to_proto};
use super::{Service, lease_id, optional_lease, page, status};
use crate::catalog::{SnapshotRow, SnapshotState};
use crate::snapshot::{self, Change, ChangeKind, Comparison, Export, Keep, Stub, Writing};
use crate::{Error, Result, image};

/// Most mount stubs in one commit.
const MOST_STUBS: usize = 4096;

/// Most keys that are measured at once.
const MOST_KEYS: usize = 1000;

/// Most changes in one message.
const BATCH: usize = 1000;

type Changes = Pin<Box<dyn Stream<Item = Result<proto::DiffSnapshotResponse, Status>> + Send>>;
type Chunks = Pin<Box<dyn Stream<Item = Result<proto::ExportSnapshotResponse, Status>> + Send>>;

impl Service {
    async fn prepare_one(&self, request: proto::PrepareSnapshotRequest) -> Result<proto::PrepareSnapshotResponse> {
        let key = key(&request.key)?;
        let lease = optional_lease(&request.lease_id)?;
        let layers = layer_ids("layer_ids", &request.layer_ids)?;
        let writing = writing(request.volatile, request.size_limit_bytes);
        if request.image.is_empty() {
            if request.platform.is_some() {
                return Err(Error::invalid("platform", "layers are for any"));
            }
            let row = snapshot::prepare(&self.store, key, layers, None, lease, writing).await?;
            let (snapshot, image_config_json) = (Some(describe(&row)), Bytes::new());
            return Ok(proto::PrepareSnapshotResponse { snapshot, image_config_json });
        }
        if !layers.is_empty() {
            return Err(Error::invalid("layer_ids", "an image has its own"));
        }
        let platforms = super::platforms("platform", request.platform)?;
        let is_volatile = writing.keep == Keep::Volatile;
        let image =
            image::get_for_container(&self.store, &request.image, platforms, lease.clone(), is_volatile).await?;
        let config = image::config_json(&self.store, &image.row).await?;
        let id = Some(image.row.id);
        let row = snapshot::prepare(&self.store, key, image.row.layers, id, lease, writing).await?;
        Ok(proto::PrepareSnapshotResponse { snapshot: Some(describe(&row)), image_config_json: config.into() })
    }

    async fn acquire_one(&self, request: proto::AcquireSnapshotRequest) -> Result<proto::AcquireSnapshotResponse> {
        let key = key(&request.key)?;
        let writing = writing(request.volatile, request.size_limit_bytes);
        let (row, mount) = snapshot::acquire(&self.store, &key, &request.holder, writing).await?;
        let lower_paths = mount.lowers.iter().map(|path| text(path)).collect::<Result<_>>()?;
        let mount = Mount {
            kind: "overlay".to_owned(),
            lower_paths,
            upper_path: text(&mount.upper)?,
            work_path: text(&mount.work)?,
            source_path: String::new(),
            options: mount.options,
        };
        Ok(proto::AcquireSnapshotResponse { mount: Some(mount), snapshot: Some(describe(&row)) })
    }

    async fn commit_one(&self, request: proto::CommitSnapshotRequest) -> Result<proto::CommitSnapshotResponse> {
        let key = key(&request.key)?;
        let lease = lease_id(&request.lease_id)?;
        let stubs = stubs(request.stubs)?;
        let record = record_of_new_layer(request.record)?;
        let row = snapshot::commit(&self.store, &key, &lease, stubs, record).await?;
        Ok(proto::CommitSnapshotResponse { layer: Some(to_proto(&row)) })
    }
}

#[tonic::async_trait]
impl proto::snapshot_service_server::SnapshotService for Service {
    async fn prepare_snapshot(
        &self,
        request: Request<proto::PrepareSnapshotRequest>,
    ) -> Result<Response<proto::PrepareSnapshotResponse>, Status> {
        self.prepare_one(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn acquire_snapshot(
        &self,
        request: Request<proto::AcquireSnapshotRequest>,
    ) -> Result<Response<proto::AcquireSnapshotResponse>, Status> {
        self.acquire_one(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn release_snapshot(
        &self,
        request: Request<proto::ReleaseSnapshotRequest>,
    ) -> Result<Response<proto::ReleaseSnapshotResponse>, Status> {
        let request = request.into_inner();
        let released = async { snapshot::release(&self.store, &key(&request.key)?, &request.holder).await };
        released.await.map_err(status)?;
        Ok(Response::new(proto::ReleaseSnapshotResponse {}))
    }

    async fn commit_snapshot(
        &self,
        request: Request<proto::CommitSnapshotRequest>,
    ) -> Result<Response<proto::CommitSnapshotResponse>, Status> {
        self.commit_one(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn copy_snapshot(
        &self,
        request: Request<proto::CopySnapshotRequest>,
    ) -> Result<Response<proto::CopySnapshotResponse>, Status> {
        let (this, request) = (self.clone(), request.into_inner());
        let copy = async move {
            let (key, lease) = (key(&request.key)?, lease_id(&request.lease_id)?);
            snapshot::copy(&this.store, &key, &lease, stubs(request.stubs)?).await
        };
        let row = self.to_the_end(async move { copy.await.map_err(status) }).await?;
        Ok(Response::new(proto::CopySnapshotResponse { layer: Some(to_proto(&row)) }))
    }

    async fn remove_snapshot(
        &self,
        request: Request<proto::RemoveSnapshotRequest>,
    ) -> Result<Response<proto::RemoveSnapshotResponse>, Status> {
        let request = request.into_inner();
        let key = key(&request.key).map_err(status)?;
        let existed = snapshot::remove(&self.store, &key, &request.holder).await.map_err(status)?;
        if !existed && !request.allow_missing {
            return Err(status(Error::SnapshotNotFound { key }));
        }
        Ok(Response::new(proto::RemoveSnapshotResponse {}))
    }

    type ExportSnapshotStream = Chunks;

    async fn export_snapshot(
        &self,
        request: Request<proto::ExportSnapshotRequest>,
    ) -> Result<Response<Self::ExportSnapshotStream>, Status> {
        let request = request.into_inner();
        let key = key(&request.key).map_err(status)?;
        if request.path.contains('\0') {
            return Err(status(Error::invalid("path", "it holds a NUL")));
        }
        let path = Some(Path::new(&request.path)).filter(|path| !path.as_os_str().is_empty());
        let export = snapshot::export(&self.store, &key, path).await.map_err(status)?;
        Ok(Response::new(chunks(export)))
    }

    type DiffSnapshotStream = Changes;

    async fn diff_snapshot(
        &self,
        request: Request<proto::DiffSnapshotRequest>,
    ) -> Result<Response<Self::DiffSnapshotStream>, Status> {
        let request = request.into_inner();
        let opened = async { snapshot::compare(&self.store, &key(&request.key)?, stubs(request.stubs)?).await };
        Ok(Response::new(changes(opened.await.map_err(status)?)))
    }

    async fn measure_snapshots(
        &self,
        request: Request<proto::MeasureSnapshotsRequest>,
    ) -> Result<Response<proto::MeasureSnapshotsResponse>, Status> {
        let keys = request.into_inner().keys;
        let measured = async {
            if keys.len() > MOST_KEYS {
                return Err(Error::invalid("keys", format!("more than {MOST_KEYS}")));
            }
            let parse = |key: &String| SnapshotKey::parse(key).map_err(Error::field("keys"));
            snapshot::measure(&self.store, keys.iter().map(parse).collect::<Result<_>>()?).await
        };
        let size = |(key, size_bytes): (SnapshotKey, u64)| proto::SnapshotSize { key: key.to_string(), size_bytes };
        let sizes = measured.await.map_err(status)?.into_iter().map(size).collect();
        Ok(Response::new(proto::MeasureSnapshotsResponse { sizes }))
    }

    async fn list_snapshots(
        &self,
        request: Request<proto::ListSnapshotsRequest>,
    ) -> Result<Response<proto::ListSnapshotsResponse>, Status> {
        let request = request.into_inner();
        let (after, size) = page(&request.page_token, request.page_size)?;
        let mut rows = self.store.catalog.snapshots(&after, size + 1).await.map_err(status)?;
        let next_page_token = strata_rpc::pages::cut(&mut rows, size, |row| row.key.as_str().to_owned());
        let snapshots = rows.iter().map(describe).collect();
        Ok(Response::new(proto::ListSnapshotsResponse { snapshots, next_page_token }))
    }
}

/// The archive as chunks, written on a thread of its own.
fn chunks(export: Export) -> Chunks {
    let runtime = tokio::runtime::Handle::current();
    let chunks = strata_rpc::chunks::from_write(move |out| {
        let written = export.write(out);
        let written = written.and_then(|()| runtime.block_on(export.end()));
        written.map_err(io::Error::other)
    });
    let failed = |error: io::Error| match error.downcast::<Error>() {
        Ok(error) => status(error),
        Err(source) => status(Error::io("write", "an archive", source)),
    };
    chunks.map(move |chunk| chunk.map(|chunk| proto::ExportSnapshotResponse { chunk }).map_err(failed)).boxed()
}

fn writing(is_volatile: bool, limit_bytes: u64) -> Writing {
    let keep = if is_volatile { Keep::Volatile } else { Keep::Durable };
    Writing { keep, limit: Some(limit_bytes).filter(|bytes| *bytes != 0) }
}

/// What a comparison tells, told on a thread of its own.
fn changes(comparison: Comparison) -> Changes {
    let (sender, receiver) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        let mut batch = Vec::new();
        let mut is_heard = true;
        let told = comparison.tell(|change| {
            batch.push(to_message(&change));
            if batch.len() == BATCH {
                let changes = std::mem::take(&mut batch);
                is_heard = sender.blocking_send(Ok(proto::DiffSnapshotResponse { changes })).is_ok();
            }
            is_heard
        });
        let last = match told {
            Err(error) => Err(status(error)),
            Ok(()) if batch.is_empty() => return,
            Ok(()) => Ok(proto::DiffSnapshotResponse { changes: batch }),
        };
        // Who listens no longer needs none of it.
        let _ = sender.blocking_send(last);
    });
    ReceiverStream::new(receiver).boxed()
}

fn to_message(change: &Change) -> proto::SnapshotChange {
    let kind = match change.kind {
        ChangeKind::Added => proto::SnapshotChangeKind::Added,
        ChangeKind::Changed => proto::SnapshotChangeKind::Changed,
        ChangeKind::Removed => proto::SnapshotChangeKind::Removed,
    };
    let path = change.path.as_os_str().as_encoded_bytes().to_vec();
    proto::SnapshotChange { kind: kind.into(), path: path.into() }
}

fn stubs(stubs: Vec<proto::MountStub>) -> Result<Vec<Stub>> {
    if stubs.len() > MOST_STUBS {
        return Err(Error::invalid("stubs", format!("more than {MOST_STUBS}")));
    }
    Ok(stubs.into_iter().map(|stub| Stub { path: PathBuf::from(stub.path), inode: stub.inode }).collect())
}

fn key(text: &str) -> Result<SnapshotKey> {
    SnapshotKey::parse(text).map_err(Error::field("key"))
}

/// A path of the store as text: what a field of a message can hold.
fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::invalid("root", format!("{} is not UTF-8", path.display())))
}

fn describe(row: &SnapshotRow) -> proto::Snapshot {
    let state = match row.state {
        SnapshotState::Held => proto::SnapshotState::Held,
        // What is being committed or removed is not listed; nobody holds it.
        SnapshotState::Free | SnapshotState::Committing | SnapshotState::Deleting => proto::SnapshotState::Free,
    };
    proto::Snapshot {
        key: row.key.as_str().to_owned(),
        state: state.into(),
        holder: row.holder.clone(),
        layer_ids: row.layer_ids.iter().map(|id| id.as_str().to_owned()).collect(),
        image_id: row.image_id.map(|id| id.to_string()).unwrap_or_default(),
        lease_id: row.lease.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
    }
}
