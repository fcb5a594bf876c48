//! ArchiveService.

use std::io;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use strata_archive::Compression;
use strata_image::{Format, Platforms};
use strata_proto::store::v1::{
    ArchiveFormat, ArchiveLayers, LoadImagesHeader, LoadImagesRequest, LoadImagesResponse, LoadedImage,
    SaveImagesRequest, SaveImagesResponse, archive_service_server::ArchiveService, load_images_request::Part,
};
use strata_proto::types::v1::{Descriptor, Platform};
use strata_rpc::fault::chain;
use strata_types::Reference;
use tonic::{Request, Response, Status, Streaming};

use super::{Service, check_chunk, status};
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
    let chunks = strata_rpc::chunks::from_write(move |out| {
        let written = saved.write(out);
        if let Err(error) = runtime.block_on(saved.end()) {
            tracing::warn!("cannot end the lease of an archive: {}", chain(&error));
        }
        written.map_err(io::Error::other)
    });
    let failed = |error: io::Error| match error.downcast::<Error>() {
        Ok(error) => status(error),
        Err(source) => status(Error::io("write", "an archive", source)),
    };
    chunks.map(move |chunk| chunk.map(|chunk| SaveImagesResponse { chunk }).map_err(failed)).boxed()
}

/// What ended the stream of an archive early, where that is why the archive could not be read.
fn of_the_stream(error: Error) -> Error {
    use strata_archive::Error as Archive;
    use strata_image::Error as Image;
    match error {
        Error::Image(Image::Tar { source: Archive::Read { source } }) => match source.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Image::Tar { source: Archive::Read { source } }.into(),
        },
        error => error,
    }
}

impl Service {
    async fn load_images(&self, mut parts: Streaming<LoadImagesRequest>) -> Result<Vec<Loaded>> {
        let first = parts.message().await.map_err(|source| Error::StreamEnded { source: Box::new(source) })?;
        let Some(Part::Header(LoadImagesHeader { platform })) = first.and_then(|message| message.part) else {
            return Err(Error::invalid("header", "it must be the first message"));
        };
        let platforms = platforms("header.platform", platform)?;
        let chunks = parts.map(|message| match message.map(|message| message.part) {
            Ok(Some(Part::Chunk(chunk))) => check_chunk(&chunk).map(|()| chunk),
            Ok(_) => Err(Error::invalid("chunk", "only chunks follow the header")),
            Err(source) => Err(Error::StreamEnded { source: Box::new(source) }),
        });
        let archive = strata_rpc::chunks::to_read(chunks);
        image::load(&self.store, archive, platforms, silent()).await.map_err(of_the_stream)
    }
}

#[tonic::async_trait]
impl ArchiveService for Service {
    type SaveImagesStream = Chunks;

    async fn save_images(
        &self,
        request: Request<SaveImagesRequest>,
    ) -> Result<Response<Self::SaveImagesStream>, Status> {
        let what = what(request.into_inner()).map_err(status)?;
        let saved = image::save(&self.store, what).await.map_err(status)?;
        Ok(Response::new(chunks(saved)))
    }

    async fn load_images(
        &self,
        request: Request<Streaming<LoadImagesRequest>>,
    ) -> Result<Response<LoadImagesResponse>, Status> {
        let (this, parts) = (self.clone(), request.into_inner());
        let loaded = self.to_the_end(async move { this.load_images(parts).await.map_err(status) }).await?;
        Ok(Response::new(LoadImagesResponse { images: loaded.into_iter().map(LoadedImage::from).collect() }))
    }
}
