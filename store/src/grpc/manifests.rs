//! ManifestService.

use strata_image::Platforms;
use strata_proto::store::v1::{
    FetchEntriesRequest, FetchEntriesResponse, GetManifestRequest, GetManifestResponse, IndexEntry, ListIndexesRequest,
    ListIndexesResponse, NamedIndex, PutIndexRequest, PutIndexResponse, manifest_service_server::ManifestService,
};
use strata_proto::types::v1::Platform as PlatformMessage;
use strata_types::Platform;
use tonic::{Request, Response, Status};

use super::registry::{identity, message};
use super::{Service, page, status};
use crate::catalog::DocumentRow;
use crate::{Error, Result, document, image, index};

impl Service {
    async fn get_manifest(&self, text: &str) -> Result<GetManifestResponse> {
        let (digest, _) = self.store.catalog.locate_document(image::wanted(&self.store, text).await?).await?;
        let (row, bytes) = document::read(&self.store, &digest).await?;
        let layer_registries = index::registries(&self.store, &digest).await?.into_iter().collect();
        Ok(GetManifestResponse {
            descriptor: Some(message(&row.descriptor())),
            document_json: bytes.into(),
            is_made_here: row.is_made_here,
            layer_registries,
        })
    }

    async fn fetch_entries(&self, request: FetchEntriesRequest) -> Result<FetchEntriesResponse> {
        let platforms = match (request.platform, request.all) {
            (None, true) => Platforms::All,
            (None, false) => Platforms::Host,
            (Some(one), false) => Platforms::Only(super::platform("platform", one)?),
            (Some(_), true) => return Err(Error::invalid("platform", "it cannot be set together with all")),
        };
        let identity = identity(request.credentials)?;
        let found = index::entries(&self.store, &request.reference, platforms, &identity).await?;
        let entry = |found: index::Entry| IndexEntry {
            descriptor: Some(message(&found.descriptor)),
            entry_json: found.json.to_string().into(),
        };
        Ok(FetchEntriesResponse { entries: found.into_iter().map(entry).collect() })
    }

    async fn put_index(&self, request: PutIndexRequest) -> Result<PutIndexResponse> {
        let name = image::tag_name("name", &request.name)?;
        let expected = request.expected_digest.map(|text| match text.as_str() {
            "" => Ok(None),
            text => super::digest("expected_digest", text).map(Some),
        });
        let bytes = request.document_json.to_vec();
        let descriptor = index::put(&self.store, &name, bytes, expected.transpose()?).await?;
        Ok(PutIndexResponse { descriptor: Some(message(&descriptor)) })
    }

    async fn named(&self, name: String, row: &DocumentRow) -> Result<NamedIndex> {
        let children = self.store.catalog.document_children(&row.digest).await?;
        let platform = |platform: Platform| PlatformMessage {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant.unwrap_or_default(),
        };
        let platforms = children.into_iter().filter_map(|child| child.platform.map(platform)).collect();
        Ok(NamedIndex { name, descriptor: Some(message(&row.descriptor())), platforms })
    }
}

#[tonic::async_trait]
impl ManifestService for Service {
    async fn get_manifest(
        &self,
        request: Request<GetManifestRequest>,
    ) -> Result<Response<GetManifestResponse>, Status> {
        let reply = self.get_manifest(&request.into_inner().reference).await.map_err(status)?;
        Ok(Response::new(reply))
    }

    async fn fetch_entries(
        &self,
        request: Request<FetchEntriesRequest>,
    ) -> Result<Response<FetchEntriesResponse>, Status> {
        Ok(Response::new(self.fetch_entries(request.into_inner()).await.map_err(status)?))
    }

    async fn put_index(&self, request: Request<PutIndexRequest>) -> Result<Response<PutIndexResponse>, Status> {
        Ok(Response::new(self.put_index(request.into_inner()).await.map_err(status)?))
    }

    async fn list_indexes(
        &self,
        request: Request<ListIndexesRequest>,
    ) -> Result<Response<ListIndexesResponse>, Status> {
        let ListIndexesRequest { page_size, page_token } = request.into_inner();
        let (after, size) = page(&page_token, page_size)?;
        let mut rows = self.store.catalog.own_indexes(&after, size + 1).await.map_err(status)?;
        let next_page_token = strata_rpc::pages::cut(&mut rows, size, |(name, _)| name.clone());
        let mut indexes = Vec::with_capacity(rows.len());
        for (name, row) in rows {
            indexes.push(self.named(name, &row).await.map_err(status)?);
        }
        Ok(Response::new(ListIndexesResponse { indexes, next_page_token }))
    }
}
