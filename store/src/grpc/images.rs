//! ImageService.

use futures_util::StreamExt;
use strata_proto::store::v1::{
    CreateImageRequest, CreateImageResponse, DeleteImageRequest, DeleteImageResponse, GetImageRequest,
    GetImageResponse, Image as Message, ImageLayer, ImportImageHeader, ImportImageRequest, ImportImageResponse,
    ListImagesRequest, ListImagesResponse, TagImageRequest, TagImageResponse, image_service_server::ImageService,
    import_image_request::Part,
};
use strata_proto::types::v1::{Descriptor, Platform};
use strata_types::{Digest, LayerId, Reference, media_type};
use tonic::{Request, Response, Status, Streaming};

use super::{Service, check_chunk, lease_id, optional_lease, page, status, timestamp};
use crate::catalog::{ImageRow, LayerRow};
use crate::image::{self, Image, Import, Parts};
use crate::{Error, Result};

/// Most layers of one image.
const MOST_LAYERS: usize = 1024;

impl From<ImageRow> for Message {
    fn from(row: ImageRow) -> Self {
        Self {
            id: row.id.to_string(),
            manifest: Some(Descriptor {
                media_type: media_type::OCI_MANIFEST.to_owned(),
                digest: row.manifest.to_string(),
                size_bytes: row.manifest_size,
            }),
            names: row.names,
            created_at: row.made.map(timestamp),
            size_bytes: row.size,
            platform: Some(Platform {
                os: row.platform.os,
                architecture: row.platform.architecture,
                variant: row.platform.variant.unwrap_or_default(),
            }),
            config_json: bytes::Bytes::new(),
            layers: Vec::new(),
        }
    }
}

impl From<LayerRow> for ImageLayer {
    fn from(row: LayerRow) -> Self {
        Self {
            layer_id: row.id.to_string(),
            diff_id: row.diff_id.as_ref().map(Digest::to_string).unwrap_or_default(),
            size_bytes: row.size,
        }
    }
}

impl Service {
    /// An image with its config and layers.
    async fn whole(&self, image: Image) -> Result<Message> {
        let config = image::config_json(&self.store, &image.row).await?;
        let layers = image.layers.into_iter().map(ImageLayer::from).collect();
        Ok(Message { config_json: config.into(), layers, ..Message::from(image.row) })
    }

    async fn create_image(&self, request: CreateImageRequest) -> Result<Message> {
        if request.layer_ids.len() > MOST_LAYERS {
            return Err(Error::invalid("layer_ids", format!("there are more than {MOST_LAYERS}")));
        }
        let layer = |id: &String| LayerId::parse(id.as_str()).map_err(Error::field("layer_ids"));
        let parts = Parts {
            config_json: request.config_json.to_vec(),
            layers: request.layer_ids.iter().map(layer).collect::<Result<_>>()?,
            names: request.names.iter().map(|name| image::tag_name("names", name)).collect::<Result<_>>()?,
            lease: lease_id(&request.lease_id)?,
        };
        let image = image::create(&self.store, parts).await?;
        self.whole(image).await
    }

    async fn import_image(&self, mut parts: Streaming<ImportImageRequest>) -> Result<Message> {
        let first = parts.message().await.map_err(|source| Error::StreamEnded { source: Box::new(source) })?;
        let Some(Part::Header(header)) = first.and_then(|message| message.part) else {
            return Err(Error::invalid("header", "it must be the first message"));
        };
        let ImportImageHeader { name, message, config_json } = header;
        let name = if name.is_empty() { None } else { Some(image::tag_name("header.name", &name)?) };
        let chunks = parts.map(|message| match message.map(|message| message.part) {
            Ok(Some(Part::Chunk(chunk))) => check_chunk(&chunk).map(|()| chunk),
            Ok(_) => Err(Error::invalid("chunk", "only chunks follow the header")),
            Err(source) => Err(Error::StreamEnded { source: Box::new(source) }),
        });
        let archive = strata_rpc::chunks::to_read(chunks);
        let what = Import { name, message, config_json: config_json.to_vec() };
        let image = image::import(&self.store, what, archive).await.map_err(of_the_stream)?;
        self.whole(image).await
    }
}

/// What ended the stream of an archive early, where that is why the archive could not be read.
fn of_the_stream(error: Error) -> Error {
    match error {
        Error::Archive { source: strata_archive::Error::Read { source } } => match source.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Error::Archive { source: strata_archive::Error::Read { source } },
        },
        error => error,
    }
}

/// Says whether an image answers to a filter: a whole name, or a repository.
fn answers(row: &ImageRow, wanted: &Reference, text: &str) -> bool {
    // Without a tag in the text the parser adds one; then the repository is meant.
    let has_tag = text.rsplit('/').next().is_some_and(|last| last.contains(':'));
    row.names.iter().any(|name| match Reference::parse(name) {
        Ok(name) if has_tag => name == *wanted,
        Ok(name) => name.name() == wanted.name(),
        Err(_) => false,
    })
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn create_image(
        &self,
        request: Request<CreateImageRequest>,
    ) -> Result<Response<CreateImageResponse>, Status> {
        let image = self.create_image(request.into_inner()).await.map_err(status)?;
        Ok(Response::new(CreateImageResponse { image: Some(image) }))
    }

    async fn import_image(
        &self,
        request: Request<Streaming<ImportImageRequest>>,
    ) -> Result<Response<ImportImageResponse>, Status> {
        let (this, parts) = (self.clone(), request.into_inner());
        let image = self.to_the_end(async move { this.import_image(parts).await.map_err(status) }).await?;
        Ok(Response::new(ImportImageResponse { image: Some(image) }))
    }

    async fn get_image(&self, request: Request<GetImageRequest>) -> Result<Response<GetImageResponse>, Status> {
        let GetImageRequest { reference, lease_id, platform } = request.into_inner();
        let lease = optional_lease(&lease_id).map_err(status)?;
        let platforms = super::platforms("platform", platform).map_err(status)?;
        let image = image::get_on(&self.store, &reference, platforms, lease).await.map_err(status)?;
        let image = self.whole(image).await.map_err(status)?;
        Ok(Response::new(GetImageResponse { image: Some(image) }))
    }

    async fn list_images(&self, request: Request<ListImagesRequest>) -> Result<Response<ListImagesResponse>, Status> {
        let ListImagesRequest { page_size, page_token, reference } = request.into_inner();
        let (mut after, size) = page(&page_token, page_size)?;
        let wanted = match reference.as_str() {
            "" => None,
            text => Some(Reference::parse(text).map_err(Error::field("reference")).map_err(status)?),
        };
        self.store.arriving.used_settled().await;
        let mut rows = Vec::new();
        // A filter may leave few of a page; the answer is full all the same.
        while rows.len() <= size {
            let found = self.store.catalog.images(&after, size + 1).await.map_err(status)?;
            let Some(last) = found.last() else { break };
            after = last.id.to_string();
            let is_end = found.len() <= size;
            rows.extend(found.into_iter().filter(|row| wanted.as_ref().is_none_or(|w| answers(row, w, &reference))));
            if is_end {
                break;
            }
        }
        let next_page_token = strata_rpc::pages::cut(&mut rows, size, |row: &ImageRow| row.id.to_string());
        let images = rows.into_iter().map(Message::from).collect();
        Ok(Response::new(ListImagesResponse { images, next_page_token }))
    }

    async fn tag_image(&self, request: Request<TagImageRequest>) -> Result<Response<TagImageResponse>, Status> {
        let TagImageRequest { source, target } = request.into_inner();
        let (row, previous) = image::tag(&self.store, &source, &target).await.map_err(status)?;
        let previous_id = previous.as_ref().map(Digest::to_string).unwrap_or_default();
        Ok(Response::new(TagImageResponse { image: Some(row.into()), previous_id }))
    }

    async fn delete_image(
        &self,
        request: Request<DeleteImageRequest>,
    ) -> Result<Response<DeleteImageResponse>, Status> {
        let DeleteImageRequest { reference, force, platforms } = request.into_inner();
        let platforms = platforms.into_iter().map(|one| super::platform("platforms", one)).collect::<Result<Vec<_>>>();
        let removed = match platforms.map_err(status)?.as_slice() {
            [] => image::remove(&self.store, &reference, force).await,
            platforms => image::remove_platforms(&self.store, &reference, platforms, force).await,
        };
        let removed = removed.map_err(status)?;
        let deleted = removed.deleted.iter().map(Digest::to_string).collect();
        Ok(Response::new(DeleteImageResponse { untagged: removed.untagged, deleted }))
    }
}
