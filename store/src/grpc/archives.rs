//! ArchiveService.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use strata_archive::Compression;
use strata_image::{Format, Platforms};
use strata_proto::store::v1::{
    ArchiveFormat, ArchiveLayers, LoadImagesHeader, LoadImagesRequest, LoadImagesResponse, LoadedImage,
    SaveImagesRequest, SaveImagesResponse, archive_service_server::ArchiveService, load_images_request::Part,
};
use strata_proto::types::v1::{Descriptor, OpenFile, Platform};
use strata_rpc::fault::chain;
use strata_rpc::handed::{Access, Handed};
use strata_rpc::identity::Peer;
use strata_types::Reference;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{Service, check_chunk, status};
use crate::catalog::blocking;
use crate::image::{self, Loaded, Save, Saved};
use crate::ingest::silent;
use crate::{Error, Result};

/// Most images of one archive.
const MOST_IMAGES: usize = 1000;

type Chunks = Pin<Box<dyn Stream<Item = Result<SaveImagesResponse, Status>> + Send>>;

impl From<Loaded> for LoadedImage {
    fn from(loaded: Loaded) -> Self {
        let strata_types::Descriptor { media_type, digest, size, .. } = loaded.target;
        Self {
            target: Some(Descriptor { media_type, digest: digest.to_string(), size_bytes: size }),
            names: loaded.names.iter().map(Reference::to_string).collect(),
            image_id: loaded.image.map(|image| image.id.to_string()).unwrap_or_default(),
        }
    }
}

/// The platform of a request, or all.
fn platforms(field: &'static str, platform: Option<Platform>) -> Result<Platforms> {
    platform.map_or(Ok(Platforms::All), |one| super::platform(field, one).map(Platforms::Only))
}

fn what(request: SaveImagesRequest) -> Result<Save> {
    if request.references.is_empty() || request.references.len() > MOST_IMAGES {
        return Err(Error::invalid(
            "references",
            format!("there are {}, not 1 to {MOST_IMAGES}", request.references.len()),
        ));
    }
    let format = match ArchiveFormat::try_from(request.format) {
        Ok(ArchiveFormat::Unspecified | ArchiveFormat::Docker) => Format::DockerArchive,
        Ok(ArchiveFormat::Oci) => Format::OciLayout,
        Err(_) => return Err(Error::invalid("format", "it is unknown")),
    };
    let compression = match ArchiveLayers::try_from(request.layers) {
        Ok(ArchiveLayers::Unspecified | ArchiveLayers::Gzip) => Compression::Gzip,
        Ok(ArchiveLayers::Zstd) => Compression::Zstd,
        Ok(ArchiveLayers::Plain) => Compression::None,
        Err(_) => return Err(Error::invalid("layers", "it is unknown")),
    };
    let platforms = platforms("platform", request.platform)?;
    Ok(Save { references: request.references, platforms, format, compression })
}

/// The archive as chunks, written on a thread of its own.
fn chunks(saved: Saved) -> Chunks {
    let runtime = tokio::runtime::Handle::current();
    let chunks = strata_rpc::chunks::from_write(move |out| write(&runtime, saved, out).map_err(io::Error::other));
    chunks.map(move |chunk| chunk.map(|chunk| SaveImagesResponse { chunk }).map_err(not_written)).boxed()
}

/// The archive in a file, written on a thread of its own: a stream without chunks, which ends when it is written.
fn in_file(saved: Saved, file: File) -> Chunks {
    let runtime = tokio::runtime::Handle::current();
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let out = BufWriter::with_capacity(1 << 16, Awaited { file, sender: sender.clone() });
        if let Err(error) = write(&runtime, saved, out) {
            // Who waits no longer needs no error.
            let _ = sender.blocking_send(Err(not_written(io::Error::other(error))));
        }
    });
    ReceiverStream::new(receiver).boxed()
}

/// Writes the archive, and lets go of what it needs.
fn write(runtime: &tokio::runtime::Handle, saved: Saved, out: impl Write) -> Result<()> {
    let written = saved.write(out);
    if let Err(error) = runtime.block_on(saved.end()) {
        tracing::warn!("cannot end the lease of an archive: {}", chain(&error));
    }
    written
}

fn not_written(error: io::Error) -> Status {
    match error.downcast::<Error>() {
        Ok(error) => status(error),
        Err(source) => status(Error::io("write", "an archive", source)),
    }
}

/// A file that is written while somebody waits for its end.
struct Awaited {
    file: File,
    sender: mpsc::Sender<Result<SaveImagesResponse, Status>>,
}

impl Write for Awaited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.sender.is_closed() {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => self.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Opens a file of the caller.
async fn open(file: OpenFile, caller: Option<Peer>, access: Access) -> Result<File> {
    let OpenFile { number, boot_id, device, inode } = file;
    let handed = Handed { number, boot_id, device, inode };
    blocking(move || handed.open(caller.as_ref(), access).map_err(|source| Error::FileUnreachable { source })).await
}

impl Service {
    async fn load_images(
        &self,
        mut parts: Streaming<LoadImagesRequest>,
        caller: Option<Peer>,
        given_up: CancellationToken,
    ) -> Result<Vec<Loaded>> {
        let ended = |source| Error::StreamEnded { source: Box::new(source) };
        let first = parts.message().await.map_err(ended)?;
        let Some(Part::Header(LoadImagesHeader { platform, file })) = first.and_then(|message| message.part) else {
            return Err(Error::invalid("header", "it must be the first message"));
        };
        let platforms = platforms("header.platform", platform)?;
        if let Some(file) = file {
            let archive = open(file, caller, Access::Read).await?;
            if parts.message().await.map_err(ended)?.is_some() {
                return Err(Error::invalid("chunk", "nothing follows a header with a file"));
            }
            return image::load_file(&self.store, archive, platforms, silent(), given_up).await;
        }
        let chunks = parts.map(|message| match message.map(|message| message.part) {
            Ok(Some(Part::Chunk(chunk))) => check_chunk(&chunk).map(|()| chunk),
            Ok(_) => Err(Error::invalid("chunk", "only chunks follow the header")),
            Err(source) => Err(Error::StreamEnded { source: Box::new(source) }),
        });
        let archive = strata_rpc::chunks::to_read(chunks);
        image::load(&self.store, archive, platforms, silent()).await
    }
}

#[tonic::async_trait]
impl ArchiveService for Service {
    type SaveImagesStream = Chunks;

    async fn save_images(
        &self,
        request: Request<SaveImagesRequest>,
    ) -> Result<Response<Self::SaveImagesStream>, Status> {
        let caller = Peer::of(&request);
        let mut request = request.into_inner();
        let file = request.file.take();
        let what = what(request).map_err(status)?;
        let Some(file) = file else {
            return Ok(Response::new(chunks(image::save(&self.store, what).await.map_err(status)?)));
        };
        let file = open(file, caller, Access::Write).await.map_err(status)?;
        if file.metadata().is_ok_and(|found| found.len() > 0) {
            return Err(status(Error::invalid("file", "it is not empty")));
        }
        Ok(Response::new(in_file(image::save(&self.store, what).await.map_err(status)?, file)))
    }

    async fn load_images(
        &self,
        request: Request<Streaming<LoadImagesRequest>>,
    ) -> Result<Response<LoadImagesResponse>, Status> {
        let (caller, given_up) = (Peer::of(&request), CancellationToken::new());
        // Who leaves cuts no stream where the archive is a file.
        let _left = given_up.clone().drop_guard();
        let (this, parts) = (self.clone(), request.into_inner());
        let load = async move { this.load_images(parts, caller, given_up).await.map_err(status) };
        let loaded = self.to_the_end(load).await?;
        Ok(Response::new(LoadImagesResponse { images: loaded.into_iter().map(LoadedImage::from).collect() }))
    }
}
