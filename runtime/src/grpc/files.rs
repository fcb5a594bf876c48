//! FileService.

use std::{io, sync::Arc};

use futures_util::{StreamExt, stream::BoxStream};
use strata_proto::runtime::v1::{self as wire, file_service_server::FileService};
use strata_rpc::{Caller, chunks};
use tonic::{Request, Response, Status, Streaming};

use super::{grants, refuse, volumes::of_the_stream};
use crate::{
    container::Container,
    engine::{Engine, Tree, blocking},
    error::Error,
    files::Stat,
};

/// The service.
pub struct Files {
    engine: Arc<Engine>,
}

impl Files {
    /// A service over an engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// The container, if the caller may act within it, and its files.
    async fn tree(&self, caller: &Caller, container: &str) -> Result<(Arc<Container>, Tree), Status> {
        let container = self.engine.find(container).map_err(refuse)?;
        grants::enter(caller, &self.engine, &container)?;
        let tree = self.engine.tree(&container).await.map_err(refuse)?;
        Ok((container, tree))
    }
}

type Chunks = BoxStream<'static, Result<wire::ReadFilesResponse, Status>>;

#[tonic::async_trait]
impl FileService for Files {
    async fn stat_file(
        &self,
        request: Request<wire::StatFileRequest>,
    ) -> Result<Response<wire::StatFileResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wire::StatFileRequest { container, path } = request.into_inner();
        let (_, tree) = self.tree(&caller, &container).await?;
        let root = tree.root.clone();
        let found = blocking("looking at a file", move || root.stat(&path)).await.map_err(refuse)?;
        Ok(Response::new(wire::StatFileResponse { file: Some(shown(found)) }))
    }

    type ReadFilesStream = Chunks;

    async fn read_files(&self, request: Request<wire::ReadFilesRequest>) -> Result<Response<Chunks>, Status> {
        let caller = Caller::of(&request)?;
        let wire::ReadFilesRequest { container, path, name } = request.into_inner();
        check_name(&name).map_err(refuse)?;
        let (found, tree) = self.tree(&caller, &container).await?;
        // What is not there is told before the first byte.
        let (root, wanted) = (tree.root.clone(), path.clone());
        blocking("looking at a file", move || root.stat(&wanted)).await.map_err(refuse)?;
        self.engine.happened(&found, "copy", [("path", path.clone())]);
        let chunks = chunks::from_write(move |out| {
            // All of it, so that what shows the root stays until it is read.
            let tree = tree;
            tree.root.read(&path, &name, out).map_err(io::Error::other)
        });
        let failed = |error: io::Error| match error.downcast::<Error>() {
            Ok(error) => refuse(error),
            Err(error) => refuse(Error::io("write", "an archive", error)),
        };
        let chunks = chunks.map(move |chunk| chunk.map(|chunk| wire::ReadFilesResponse { chunk }).map_err(failed));
        Ok(Response::new(chunks.boxed()))
    }

    async fn write_files(
        &self,
        request: Request<Streaming<wire::WriteFilesRequest>>,
    ) -> Result<Response<wire::WriteFilesResponse>, Status> {
        use wire::write_files_request::Part;
        let caller = Caller::of(&request)?;
        let mut stream = request.into_inner();
        let first = stream.message().await?.and_then(|message| message.part);
        let Some(Part::Header(header)) = first else {
            return Err(refuse(Error::argument("header", "it must come first")));
        };
        let wire::WriteFilesHeader { container, path, owner } = header;
        let archive = stream.map(|message| match message?.part {
            Some(Part::Chunk(chunk)) if (1..=chunks::MAX_CHUNK).contains(&chunk.len()) => Ok(chunk),
            Some(Part::Chunk(_)) => Err(refuse(Error::argument("chunk", "it must have 1 to 262144 bytes"))),
            _ => Err(refuse(Error::argument("chunk", "chunks must follow the header"))),
        });
        let (found, tree) = self.tree(&caller, &container).await?;
        let archive = chunks::to_read(archive);
        let owner = owner.map(|owner| (owner.uid, owner.gid));
        let place = path.clone();
        let write = move || {
            // As above: who leaves takes nothing from below the writer.
            let tree = tree;
            tree.root.write(&place, owner, archive)
        };
        blocking("copying files", write).await.map_err(of_the_stream)?;
        self.engine.happened(&found, "copy", [("path", path)]);
        Ok(Response::new(wire::WriteFilesResponse {}))
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    match name.contains(['/', '\0']) || matches!(name, "." | "..") || name.len() > 255 {
        true => Err(Error::argument("name", "it is no name of a file")),
        false => Ok(()),
    }
}

fn shown(stat: Stat) -> wire::FileStat {
    wire::FileStat {
        mode: stat.mode,
        size_bytes: stat.size,
        modified_at: Some(prost_types::Timestamp { seconds: stat.modified.0, nanos: stat.modified.1 as i32 }),
        link_target: stat.link.unwrap_or_default(),
    }
}
