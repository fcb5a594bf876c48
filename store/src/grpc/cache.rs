//! CacheService.

use strata_proto::store::v1::{
    CacheRecord as Message, GetCacheRecordRequest, GetCacheRecordResponse, PruneCacheRecordsRequest,
    PruneCacheRecordsResponse, PutCacheRecordRequest, PutCacheRecordResponse, cache_service_server::CacheService,
};
use strata_types::LayerId;
use tonic::{Request, Response, Status};

use super::{Service, lease_id, status, timestamp};
use crate::catalog::{self, CacheRecord};
use crate::{Error, Result};

/// Longest description that is kept, in bytes.
const DESCRIPTION: usize = 4096;

impl From<CacheRecord> for Message {
    fn from(record: CacheRecord) -> Self {
        Self {
            key: record.key,
            layer_id: record.layer.map(String::from).unwrap_or_default(),
            description: record.description,
            family: record.family,
            created_at: Some(timestamp(record.created)),
        }
    }
}

fn check_hex(field: &'static str, text: &str) -> Result<()> {
    let is_hex = text.len() == 64 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { Ok(()) } else { Err(Error::invalid(field, "it must be 64 lower-case hexadecimal digits")) }
}

fn record(message: Message) -> Result<CacheRecord> {
    check_hex("record.key", &message.key)?;
    if !message.family.is_empty() {
        check_hex("record.family", &message.family)?;
    }
    let layer = match message.layer_id.as_str() {
        "" => None,
        id => Some(LayerId::parse(id).map_err(Error::field("record.layer_id"))?),
    };
    let mut description = message.description;
    description.truncate(description.floor_char_boundary(DESCRIPTION));
    let created = message
        .created_at
        .map_or_else(catalog::now, |at| at.seconds.saturating_mul(1000) + i64::from(at.nanos) / 1_000_000);
    Ok(CacheRecord { key: message.key, family: message.family, layer, description, created })
}

#[tonic::async_trait]
impl CacheService for Service {
    async fn get_cache_record(
        &self,
        request: Request<GetCacheRecordRequest>,
    ) -> Result<Response<GetCacheRecordResponse>, Status> {
        let GetCacheRecordRequest { key, family, lease_id: lease } = request.into_inner();
        check_hex("key", &key).map_err(status)?;
        if !family.is_empty() {
            check_hex("family", &family).map_err(status)?;
        }
        let lease = lease_id(&lease).map_err(status)?;
        let (record, previous) = self.store.catalog.cache_record(&key, &family, &lease).await.map_err(status)?;
        Ok(Response::new(GetCacheRecordResponse {
            record: record.map(Message::from),
            previous: previous.map(Message::from),
        }))
    }

    async fn put_cache_record(
        &self,
        request: Request<PutCacheRecordRequest>,
    ) -> Result<Response<PutCacheRecordResponse>, Status> {
        let message = request.into_inner().record;
        let message = message.ok_or_else(|| status(Error::invalid("record", "it is required")))?;
        self.store.catalog.put_cache_record(record(message).map_err(status)?).await.map_err(status)?;
        Ok(Response::new(PutCacheRecordResponse {}))
    }

    async fn prune_cache_records(
        &self,
        request: Request<PruneCacheRecordsRequest>,
    ) -> Result<Response<PruneCacheRecordsResponse>, Status> {
        let removed = self.store.catalog.prune_cache_records(request.get_ref().all).await.map_err(status)?;
        self.store.collector.wake();
        Ok(Response::new(PruneCacheRecordsResponse { removed }))
    }
}
