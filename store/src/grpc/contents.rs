//! `ContentService`.

use std::fs::File;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use strata_proto::store::v1 as proto;
use strata_types::LeaseId;
use tonic::{Request, Response, Status, Streaming};

use super::{Service, check_chunk, lease_id, status};
use crate::catalog::blocking;
use crate::content::{self, Incoming};
use crate::{Error, Result, Store};

/// Most contents in one question.
const MOST_ASKED: usize = 65_536;

/// Most bytes of small contents in one message.
const MOST_SMALL: usize = 1 << 20;

impl Service {
    async fn missing_of(&self, request: proto::MissingContentsRequest) -> Result<Vec<u32>> {
        let lease = lease_id(&request.lease_id)?;
        if request.blake3.len() > MOST_ASKED {
            return Err(Error::invalid("blake3", format!("more than {MOST_ASKED}")));
        }
        let wanted: Vec<blake3::Hash> = request.blake3.iter().map(hash).collect::<Result<_>>()?;
        content::missing(&self.store, &lease, wanted).await
    }

    async fn put_all(&self, mut messages: Streaming<proto::PutContentsRequest>) -> Result<u64> {
        let mut upload = Upload { store: Arc::clone(&self.store), lease: None, current: None, stored: 0 };
        loop {
            let message = messages.message().await.map_err(|status| Error::StreamEnded { source: Box::new(status) })?;
            match message {
                Some(message) => upload.take(message).await?,
                None => return upload.end().await,
            }
        }
    }
}

/// A stream of contents under way.
struct Upload {
    store: Arc<Store>,
    lease: Option<LeaseId>,
    current: Option<(Incoming, u64)>,
    stored: u64,
}

impl Upload {
    async fn take(&mut self, message: proto::PutContentsRequest) -> Result<()> {
        use proto::put_contents_request::Part;
        match message.part {
            Some(Part::Header(header)) => {
                self.finish().await?;
                self.take_lease(&header.lease_id).await?;
                let expected = hash(&header.blake3)?;
                let store = Arc::clone(&self.store);
                let incoming = blocking(move || store.contents.incoming(expected)).await?;
                self.current = Some((incoming, header.size_bytes));
                Ok(())
            }
            Some(Part::Chunk(chunk)) => {
                let Some((mut incoming, size)) = self.current.take() else {
                    return Err(Error::invalid("chunk", "no header came before it"));
                };
                check_chunk(&chunk)?;
                if incoming.size() + chunk.len() as u64 > size {
                    return Err(Error::invalid("chunk", "the content is longer than its header says"));
                }
                let written = blocking(move || incoming.write(&chunk).map(|()| incoming)).await?;
                self.current = Some((written, size));
                Ok(())
            }
            Some(Part::Small(small)) => {
                self.finish().await?;
                self.take_lease(&small.lease_id).await?;
                self.put_small(small.contents).await
            }
            None => Err(Error::invalid("part", "it is missing")),
        }
    }

    async fn put_small(&mut self, contents: Vec<Bytes>) -> Result<()> {
        if contents.iter().map(Bytes::len).sum::<usize>() > MOST_SMALL {
            return Err(Error::invalid("small", format!("more than {MOST_SMALL} bytes together")));
        }
        let (store, lease, count) = (Arc::clone(&self.store), self.lease()?.as_str().to_owned(), contents.len());
        blocking(move || contents.iter().try_for_each(|bytes| store.contents.put(&lease, bytes).map(drop))).await?;
        self.stored += count as u64;
        Ok(())
    }

    /// Takes the lease of a header; later headers may leave it out.
    async fn take_lease(&mut self, text: &str) -> Result<()> {
        if text.is_empty() {
            return self.lease().map(drop);
        }
        let lease = lease_id(text)?;
        if self.lease.as_ref() != Some(&lease) {
            self.store.catalog.check_lease(&lease).await?;
            self.lease = Some(lease);
        }
        Ok(())
    }

    fn lease(&self) -> Result<&LeaseId> {
        self.lease.as_ref().ok_or_else(|| Error::invalid("lease_id", "the first message must have it"))
    }

    /// Checks and keeps the content that has arrived, if there is one.
    async fn finish(&mut self) -> Result<()> {
        let Some((incoming, size)) = self.current.take() else { return Ok(()) };
        if incoming.size() != size {
            return Err(Error::invalid("size_bytes", format!("{} bytes came, not {size}", incoming.size())));
        }
        let (store, lease) = (Arc::clone(&self.store), self.lease()?.as_str().to_owned());
        blocking(move || store.contents.finish(&lease, incoming)).await?;
        self.stored += 1;
        Ok(())
    }

    async fn end(mut self) -> Result<u64> {
        self.finish().await?;
        Ok(self.stored)
    }
}

#[tonic::async_trait]
impl proto::content_service_server::ContentService for Service {
    async fn missing_contents(
        &self,
        request: Request<proto::MissingContentsRequest>,
    ) -> Result<Response<proto::MissingContentsResponse>, Status> {
        let missing = self.missing_of(request.into_inner()).await.map_err(status)?;
        Ok(Response::new(proto::MissingContentsResponse { missing }))
    }

    async fn put_contents(
        &self,
        request: Request<Streaming<proto::PutContentsRequest>>,
    ) -> Result<Response<proto::PutContentsResponse>, Status> {
        let stored = self.put_all(request.into_inner()).await.map_err(status)?;
        Ok(Response::new(proto::PutContentsResponse { stored }))
    }

    type ReadContentStream = Pin<Box<dyn Stream<Item = Result<proto::ReadContentResponse, Status>> + Send>>;

    async fn read_content(
        &self,
        request: Request<proto::ReadContentRequest>,
    ) -> Result<Response<Self::ReadContentStream>, Status> {
        let proto::ReadContentRequest { blake3, is_decompressed } = request.into_inner();
        let wanted = hash(&blake3).map_err(status)?;
        let store = Arc::clone(&self.store);
        let opened = blocking(move || {
            let not_found = || Error::ContentNotFound { blake3: wanted.to_hex().to_string() };
            let path = store.contents.find(&wanted, None).ok_or_else(not_found)?.path().to_path_buf();
            let file = File::open(&path).map_err(|source| Error::io("open", &path, source))?;
            if !is_decompressed {
                return Ok((Box::new(file) as Box<dyn Read + Send>, path));
            }
            let (_, plain) = strata_archive::decompress_ahead(file).map_err(|source| Error::Archive { source })?;
            Ok((plain, path))
        });
        let (reader, path) = opened.await.map_err(status)?;
        let chunks = strata_rpc::chunks::from_read(reader).map(move |chunk| match chunk {
            Ok(chunk) => Ok(proto::ReadContentResponse { chunk }),
            Err(source) if is_decompressed => {
                Err(status(Error::Archive { source: strata_archive::Error::Read { source } }))
            }
            Err(source) => Err(status(Error::io("read", &path, source))),
        });
        Ok(Response::new(Box::pin(chunks)))
    }
}

fn hash(bytes: &Bytes) -> Result<blake3::Hash> {
    blake3::Hash::from_slice(bytes).map_err(|_| Error::invalid("blake3", "it must have 32 bytes"))
}
