//! CacheMountService.

use std::io;
use std::path::PathBuf;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use strata_proto::store::v1 as proto;
use strata_types::LayerId;
use tonic::{Request, Response, Status, Streaming};

use super::{Service, check_chunk, page, status, timestamp};
use crate::cache_mount::{self, Seed, Sharing, Wanted};
use crate::catalog::MountRow;
use crate::{Error, Result};

impl Service {
    fn describe_mount(&self, row: &MountRow) -> proto::CacheMount {
        proto::CacheMount {
            key: row.key.clone(),
            id: row.id.clone(),
            base: row.base.clone(),
            size_bytes: row.size,
            created_at: Some(timestamp(row.created)),
            last_used_at: row.used.map(timestamp),
            usage_count: row.uses,
            is_in_use: self.store.cache_mounts.has(row),
        }
    }
}

#[tonic::async_trait]
impl proto::cache_mount_service_server::CacheMountService for Service {
    type HoldCacheMountStream = BoxStream<'static, Result<proto::HoldCacheMountResponse, Status>>;

    async fn hold_cache_mount(
        &self,
        request: Request<proto::HoldCacheMountRequest>,
    ) -> Result<Response<Self::HoldCacheMountStream>, Status> {
        let wanted = wanted(request.into_inner()).map_err(status)?;
        // Whoever goes away while this waits has dropped it.
        let hold = cache_mount::hold(&self.store, &wanted).await.map_err(status)?;
        let path = hold.path();
        let path =
            path.to_str().ok_or_else(|| status(Error::invalid("root", "the path of this store is not UTF-8")))?;
        let first =
            proto::HoldCacheMountResponse { path: path.to_owned(), mount: Some(self.describe_mount(hold.row())) };
        // The client dropping the stream drops what is held.
        let drain = self.store.drain.clone();
        let rest = futures_util::stream::once(async move {
            drain.cancelled().await;
            drop(hold);
            Err(Status::unavailable("the store is stopping"))
        });
        Ok(Response::new(futures_util::stream::iter([Ok(first)]).chain(rest).boxed()))
    }

    async fn list_cache_mounts(
        &self,
        request: Request<proto::ListCacheMountsRequest>,
    ) -> Result<Response<proto::ListCacheMountsResponse>, Status> {
        let request = request.into_inner();
        let (after, size) = page(&request.page_token, request.page_size)?;
        let mut rows = self.store.catalog.mounts(&after, size + 1).await.map_err(status)?;
        let next_page_token = strata_rpc::pages::cut(&mut rows, size, |row| row.key.clone());
        let mounts = rows.iter().map(|row| self.describe_mount(row)).collect();
        Ok(Response::new(proto::ListCacheMountsResponse { mounts, next_page_token }))
    }

    async fn remove_cache_mount(
        &self,
        request: Request<proto::RemoveCacheMountRequest>,
    ) -> Result<Response<proto::RemoveCacheMountResponse>, Status> {
        let proto::RemoveCacheMountRequest { key, allow_missing } = request.into_inner();
        let row = match cache_mount::by_key(&self.store, &key).await {
            Err(Error::CacheMountNotFound { .. }) if allow_missing => {
                return Ok(Response::new(proto::RemoveCacheMountResponse { mount: None }));
            }
            row => row.map_err(status)?,
        };
        let described = self.describe_mount(&row);
        match cache_mount::remove(&self.store, &row).await.map_err(status)? {
            true => Ok(Response::new(proto::RemoveCacheMountResponse { mount: Some(described) })),
            false => Err(status(Error::CacheMountInUse { id: row.id })),
        }
    }

    type ExportCacheMountStream = BoxStream<'static, Result<proto::ExportCacheMountResponse, Status>>;

    async fn export_cache_mount(
        &self,
        request: Request<proto::ExportCacheMountRequest>,
    ) -> Result<Response<Self::ExportCacheMountStream>, Status> {
        let row = cache_mount::by_key(&self.store, &request.into_inner().key).await.map_err(status)?;
        let store = self.store.clone();
        let chunks =
            strata_rpc::chunks::from_write(move |out| cache_mount::export(&store, &row, out).map_err(io::Error::other));
        let failed = |error: io::Error| match error.downcast::<Error>() {
            Ok(error) => status(error),
            Err(source) => status(Error::io("write", "an archive", source)),
        };
        let chunks =
            chunks.map(move |chunk| chunk.map(|chunk| proto::ExportCacheMountResponse { chunk }).map_err(failed));
        Ok(Response::new(chunks.boxed()))
    }

    async fn import_cache_mount(
        &self,
        request: Request<Streaming<proto::ImportCacheMountRequest>>,
    ) -> Result<Response<proto::ImportCacheMountResponse>, Status> {
        use proto::import_cache_mount_request::Part;
        let mut stream = request.into_inner();
        let first = stream.message().await?.and_then(|message| message.part);
        let Some(Part::Id(id)) = first else {
            return Err(status(Error::invalid("id", "it must come first")));
        };
        let chunks = stream.map(|message| match message?.part {
            Some(Part::Chunk(chunk)) => {
                check_chunk(&chunk).map_err(status)?;
                Ok(chunk)
            }
            _ => Err(status(Error::invalid("chunk", "chunks must follow the id"))),
        });
        let archive = strata_rpc::chunks::to_read(chunks);
        let (service, store) = (self.clone(), self.store.clone());
        let row =
            self.to_the_end(async move { cache_mount::import(&store, &id, archive).await.map_err(status) }).await?;
        Ok(Response::new(proto::ImportCacheMountResponse { mount: Some(service.describe_mount(&row)) }))
    }
}

fn wanted(request: proto::HoldCacheMountRequest) -> Result<Wanted> {
    let sharing = match proto::CacheSharing::try_from(request.sharing) {
        Ok(proto::CacheSharing::Unspecified | proto::CacheSharing::Shared) => Sharing::Shared,
        Ok(proto::CacheSharing::Private) => Sharing::Private,
        Ok(proto::CacheSharing::Locked) => Sharing::Locked,
        Err(_) => return Err(Error::invalid("sharing", "it is unknown")),
    };
    Ok(Wanted { id: request.id, sharing, seed: request.seed.map_or_else(|| Ok(Seed::default()), seed)? })
}

fn seed(seed: proto::CacheSeed) -> Result<Seed> {
    let is_digest = seed.base.len() == 64 && seed.base.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_digest {
        return Err(Error::invalid("seed.base", "it must be 64 hexadecimal digits"));
    }
    if seed.mode.is_some_and(|mode| mode > 0o7777) {
        return Err(Error::invalid("seed.mode", "it has bits that are no permissions"));
    }
    if seed.path.contains('\0') {
        return Err(Error::invalid("seed.path", "it holds a NUL"));
    }
    let layer = |id: &String| LayerId::parse(id.as_str()).map_err(Error::field("seed.layer_ids"));
    let owner = seed.uid.or(seed.gid).map(|_| (seed.uid.unwrap_or(0), seed.gid.unwrap_or(0)));
    Ok(Seed {
        base: seed.base,
        layers: seed.layer_ids.iter().map(layer).collect::<Result<_>>()?,
        path: PathBuf::from("/").join(seed.path),
        mode: seed.mode,
        owner,
    })
}
