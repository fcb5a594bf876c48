//! BlobService.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::io::{Seek, SeekFrom};
use strata_proto::store::v1::{
    Blob, GetBlobRequest, GetBlobResponse, ListBlobsRequest, ListBlobsResponse, PutBlobRequest, PutBlobResponse,
    ReadBlobRequest, ReadBlobResponse, blob_service_server::BlobService, put_blob_request::Part,
};
use tonic::{Request, Response, Status, Streaming};

use super::{Service, check_chunk, digest, lease_id, page, status};
use crate::blob::{self, Upload};
use crate::catalog::BlobRow;
use crate::{Error, Result};

impl From<BlobRow> for Blob {
    fn from(row: BlobRow) -> Self {
        Self { digest: row.digest.to_string(), size_bytes: row.size }
    }
}

impl Service {
    async fn put_blob(&self, mut parts: Streaming<PutBlobRequest>) -> Result<BlobRow> {
        let ended = |source| Error::StreamEnded { source: Box::new(source) };
        let first = parts.message().await.map_err(ended)?.and_then(|message| message.part);
        let Some(Part::Header(header)) = first else {
            return Err(Error::invalid("header", "it must be the first message"));
        };
        let expected =
            header.expected_digest.as_deref().map(|text| digest("header.expected_digest", text)).transpose()?;
        let mut upload = Upload::begin(&self.store, &lease_id(&header.lease_id)?, expected).await?;
        while let Some(message) = parts.message().await.map_err(ended)? {
            let Some(Part::Chunk(chunk)) = message.part else {
                return Err(Error::invalid("chunk", "only chunks follow the header"));
            };
            check_chunk(&chunk)?;
            upload.write(chunk).await?;
        }
        upload.finish().await
    }
}

#[tonic::async_trait]
impl BlobService for Service {
    async fn put_blob(&self, request: Request<Streaming<PutBlobRequest>>) -> Result<Response<PutBlobResponse>, Status> {
        let row = self.put_blob(request.into_inner()).await.map_err(status)?;
        Ok(Response::new(PutBlobResponse { blob: Some(row.into()) }))
    }

    async fn get_blob(&self, request: Request<GetBlobRequest>) -> Result<Response<GetBlobResponse>, Status> {
        let digest = digest("digest", &request.get_ref().digest).map_err(status)?;
        let row = self.store.catalog.blob(&digest).await.map_err(status)?;
        Ok(Response::new(GetBlobResponse { blob: Some(row.into()) }))
    }

    type ReadBlobStream = BoxStream<'static, Result<ReadBlobResponse, Status>>;

    async fn read_blob(&self, request: Request<ReadBlobRequest>) -> Result<Response<Self::ReadBlobStream>, Status> {
        let ReadBlobRequest { digest: text, offset_bytes } = request.into_inner();
        let digest = digest("digest", &text).map_err(status)?;
        let (mut file, row) = blob::open(&self.store, &digest).await.map_err(status)?;
        if offset_bytes > row.size {
            return Err(status(Error::invalid("offset_bytes", format!("the blob has {} bytes", row.size))));
        }
        let path = self.store.paths.blob(&digest);
        file.seek(SeekFrom::Start(offset_bytes)).map_err(|source| status(Error::io("seek in", &path, source)))?;
        let chunks = strata_rpc::chunks::from_read(file).map(move |chunk| match chunk {
            Ok(chunk) => Ok(ReadBlobResponse { chunk }),
            Err(source) => Err(status(Error::io("read", &path, source))),
        });
        Ok(Response::new(chunks.boxed()))
    }

    async fn list_blobs(&self, request: Request<ListBlobsRequest>) -> Result<Response<ListBlobsResponse>, Status> {
        let (after, size) = page(&request.get_ref().page_token, request.get_ref().page_size)?;
        let mut rows = self.store.catalog.blobs(&after, size + 1).await.map_err(status)?;
        let next_page_token = strata_rpc::pages::cut(&mut rows, size, |row| row.digest.to_string());
        let blobs = rows.into_iter().map(Blob::from).collect();
        Ok(Response::new(ListBlobsResponse { blobs, next_page_token }))
    }
}
