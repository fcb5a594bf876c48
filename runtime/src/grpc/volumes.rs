//! VolumeService.

use std::{io, pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt};
use strata_proto::runtime::v1::{self as wire, volume_service_server::VolumeService};
use strata_rpc::{Caller, chunks, pages, to_status};
use strata_types::{ContainerId, VolumeName};
use tonic::{Request, Response, Status, Streaming};

use super::{
    convert::{self, mounts},
    grants, refuse,
};
use crate::{
    engine::{Engine, Prunable, blocking},
    error::{Error, VolumeError},
    record::Durability,
    volume::{Volume, options::LOCAL},
};

/// The service.
pub struct Volumes {
    engine: Arc<Engine>,
}

impl Volumes {
    /// A service over an engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    fn find(&self, name: String) -> Result<Arc<Volume>, Status> {
        // What cannot be a name is the name of nothing; in quotes, since it may be anything.
        let absent = |_| refuse(VolumeError::NotFound { name: format!("{name:?}") }.into());
        let parsed = VolumeName::parse(name.as_str()).map_err(absent)?;
        self.engine.volumes().find(&parsed).map_err(refuse)
    }

    fn show(&self, volume: &Volume) -> Option<wire::Volume> {
        let users = self.engine.users_of(&volume.record.name);
        Some(describe(volume, users.iter().map(|user| &user.id)))
    }
}

type Chunks = Pin<Box<dyn Stream<Item = Result<wire::ExportVolumeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl VolumeService for Volumes {
    async fn create_volume(
        &self,
        request: Request<wire::CreateVolumeRequest>,
    ) -> Result<Response<wire::CreateVolumeResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let name = mounts::volume_name("name", request.name).map_err(refuse)?;
        mounts::driver(&request.driver).map_err(refuse)?;
        grants::volume(&caller, request.options.iter().map(|option| &option.name))?;
        let new = mounts::options("options", request.options).and_then(|options| {
            let labels = mounts::labels("labels", request.labels)?;
            Ok((options, labels))
        });
        let (options, labels) = new.map_err(refuse)?;
        let volume = self.engine.create_volume(name, options, labels, Durability::Synced).await.map_err(refuse)?;
        Ok(Response::new(wire::CreateVolumeResponse { volume: self.show(&volume) }))
    }

    async fn get_volume(
        &self,
        request: Request<wire::GetVolumeRequest>,
    ) -> Result<Response<wire::GetVolumeResponse>, Status> {
        let volume = self.find(request.into_inner().name)?;
        Ok(Response::new(wire::GetVolumeResponse { volume: self.show(&volume) }))
    }

    async fn list_volumes(
        &self,
        request: Request<wire::ListVolumesRequest>,
    ) -> Result<Response<wire::ListVolumesResponse>, Status> {
        let request = request.into_inner();
        let after = pages::decode(&request.page_token).map_err(|error| to_status(&error))?.unwrap_or_default();
        let size = pages::size(request.page_size);
        let mut page = self.engine.volumes().page(&after, size + 1);
        let next_page_token = pages::cut(&mut page, size, |volume| volume.record.name.to_string());
        let users = self.engine.users_of_volumes();
        let show = |volume: &Arc<Volume>| describe(volume, users.get(&volume.record.name).into_iter().flatten());
        let mut volumes: Vec<wire::Volume> = page.iter().map(show).collect();
        if request.with_sizes {
            let sizes = move || Ok(page.iter().map(|volume| volume.size()).collect::<Vec<_>>());
            let sizes = blocking("measuring volumes", sizes).await.map_err(refuse)?;
            volumes.iter_mut().zip(sizes).for_each(|(volume, size)| volume.size_bytes = size);
        }
        Ok(Response::new(wire::ListVolumesResponse { volumes, next_page_token }))
    }

    async fn delete_volume(
        &self,
        request: Request<wire::DeleteVolumeRequest>,
    ) -> Result<Response<wire::DeleteVolumeResponse>, Status> {
        let request = request.into_inner();
        let removed = match self.find(request.name) {
            Ok(volume) => self.engine.delete_volume(volume.record.name.clone()).await.map(drop).map_err(refuse),
            Err(status) => Err(status),
        };
        match removed {
            Err(status) if request.allow_missing && status.code() == tonic::Code::NotFound => {}
            removed => removed?,
        }
        Ok(Response::new(wire::DeleteVolumeResponse {}))
    }

    async fn prune_volumes(
        &self,
        request: Request<wire::PruneVolumesRequest>,
    ) -> Result<Response<wire::PruneVolumesResponse>, Status> {
        let request = request.into_inner();
        let labels = convert::label_conditions("labels", request.labels).map_err(refuse)?;
        let pruned = self.engine.prune_volumes(Prunable { all: request.all, labels }).await.map_err(refuse)?;
        let deleted = pruned.names.into_iter().map(String::from).collect();
        Ok(Response::new(wire::PruneVolumesResponse { deleted, reclaimed_bytes: pruned.bytes }))
    }

    type ExportVolumeStream = Chunks;

    async fn export_volume(&self, request: Request<wire::ExportVolumeRequest>) -> Result<Response<Chunks>, Status> {
        let volume = self.find(request.into_inner().name)?;
        let chunks = chunks::from_write(move |out| volume.export(out).map_err(io::Error::other));
        let failed = |error: io::Error| match error.downcast::<Error>() {
            Ok(error) => refuse(error),
            Err(error) => refuse(Error::io("write", "an archive", error)),
        };
        let chunks = chunks.map(move |chunk| chunk.map(|chunk| wire::ExportVolumeResponse { chunk }).map_err(failed));
        Ok(Response::new(chunks.boxed()))
    }

    async fn import_volume(
        &self,
        request: Request<Streaming<wire::ImportVolumeRequest>>,
    ) -> Result<Response<wire::ImportVolumeResponse>, Status> {
        use wire::import_volume_request::Part;
        let mut stream = request.into_inner();
        let first = stream.message().await?.and_then(|message| message.part);
        let Some(Part::Header(header)) = first else {
            return Err(refuse(Error::argument("header", "it must come first")));
        };
        let name = mounts::volume_name("header.name", header.name).map_err(refuse)?;
        let name = name.ok_or_else(|| refuse(Error::argument("header.name", "a name is needed")))?;
        let archive = stream.map(|message| match message?.part {
            Some(Part::Chunk(chunk)) if (1..=chunks::MAX_CHUNK).contains(&chunk.len()) => Ok(chunk),
            Some(Part::Chunk(_)) => Err(refuse(Error::argument("chunk", "it must have 1 to 262144 bytes"))),
            _ => Err(refuse(Error::argument("chunk", "chunks must follow the header"))),
        });
        let imported = self.engine.import_volume(name, header.replace, chunks::to_read(archive)).await;
        let volume = imported.map_err(of_the_stream)?;
        Ok(Response::new(wire::ImportVolumeResponse { volume: self.show(&volume) }))
    }
}

/// What ended the stream of an archive says more than that the archive ends there.
pub(super) fn of_the_stream(error: Error) -> Status {
    let cause = match &error {
        Error::Archive { source: strata_archive::Error::Read { source } } => source.get_ref(),
        _ => None,
    };
    match cause.and_then(|cause| cause.downcast_ref::<Status>()) {
        Some(status) => status.clone(),
        None => refuse(error),
    }
}

fn describe<'a>(volume: &Volume, users: impl Iterator<Item = &'a ContainerId>) -> wire::Volume {
    let record = &volume.record;
    wire::Volume {
        name: record.name.to_string(),
        driver: LOCAL.to_owned(),
        options: mounts::wire_options(record.options.clone()),
        labels: record.labels.clone().into_iter().collect(),
        host_path: volume.data().to_string_lossy().into_owned(),
        created_at: Some(convert::timestamp(record.created_at)),
        container_ids: users.map(ToString::to_string).collect(),
        size_bytes: None,
    }
}
