//! CacheService.

use strata_proto::store::v1::{
    CacheFilter, CacheKind as KindMessage, CacheRecord as Message, CacheUsage, GetCacheRecordRequest,
    GetCacheRecordResponse, ListCacheRecordsRequest, ListCacheRecordsResponse, PruneCacheRecordsRequest,
    PruneCacheRecordsResponse, PutCacheRecordRequest, PutCacheRecordResponse, cache_service_server::CacheService,
};
use strata_types::LayerId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::layers::layer_ids;
use super::{Service, lease_id, page, status, timestamp};
use crate::build_cache::{self, Filter, Pruning};
use crate::catalog::{self, CacheKind, CacheQuery, CacheRecord, CacheUse};
use crate::{Error, Result};

/// Longest description that is kept, in bytes.
const DESCRIPTION: usize = 4096;

impl From<CacheRecord> for Message {
    fn from(record: CacheRecord) -> Self {
        Self {
            key: record.key,
            operation: record.operation,
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

fn check_optional_hex(field: &'static str, text: &str) -> Result<()> {
    if text.is_empty() { Ok(()) } else { check_hex(field, text) }
}

/// Reads what the build cache is to know of a layer that is about to be made.
pub(super) fn record_of_new_layer(message: Option<Message>) -> Result<Option<CacheRecord>> {
    let Some(message) = message else { return Ok(None) };
    match message.layer_id.is_empty() {
        true => record(message).map(Some),
        false => Err(Error::invalid("record.layer_id", "the layer gets its id in this call")),
    }
}

fn record(message: Message) -> Result<CacheRecord> {
    check_hex("record.key", &message.key)?;
    check_optional_hex("record.family", &message.family)?;
    check_optional_hex("record.operation", &message.operation)?;
    let layer = match message.layer_id.as_str() {
        "" => None,
        id => Some(LayerId::parse(id).map_err(Error::field("record.layer_id"))?),
    };
    let mut description = message.description.clone();
    description.truncate(description.floor_char_boundary(DESCRIPTION));
    let created = message
        .created_at
        .map_or_else(catalog::now, |at| at.seconds.saturating_mul(1000) + i64::from(at.nanos) / 1_000_000);
    let Message { key, family, operation, .. } = message;
    Ok(CacheRecord { key, operation, family, layer, description, created })
}

#[tonic::async_trait]
impl CacheService for Service {
    async fn get_cache_record(
        &self,
        request: Request<GetCacheRecordRequest>,
    ) -> Result<Response<GetCacheRecordResponse>, Status> {
        let GetCacheRecordRequest { key, family, lease_id: lease, operation, layer_ids: layers, by_content } =
            request.into_inner();
        check_hex("key", &key).map_err(status)?;
        check_optional_hex("family", &family).map_err(status)?;
        check_optional_hex("operation", &operation).map_err(status)?;
        let lease = lease_id(&lease).map_err(status)?;
        let layers = layer_ids("layer_ids", &layers).map_err(status)?;
        let query = CacheQuery { key, operation, family, lease };
        let found = self.store.find_cached(query, by_content.then_some(&layers[..])).await.map_err(status)?;
        Ok(Response::new(GetCacheRecordResponse {
            record: found.record.map(Message::from),
            previous: found.previous.map(Message::from),
            is_operation_known: found.is_known,
        }))
    }

    async fn put_cache_record(
        &self,
        request: Request<PutCacheRecordRequest>,
    ) -> Result<Response<PutCacheRecordResponse>, Status> {
        let message = request.into_inner().record;
        let message = message.ok_or_else(|| status(Error::invalid("record", "it is required")))?;
        self.store.catalog.put_cache_record(record(message).map_err(status)?).await.map_err(status)?;
        self.store.build_cache_changed();
        Ok(Response::new(PutCacheRecordResponse {}))
    }

    async fn list_cache_records(
        &self,
        request: Request<ListCacheRecordsRequest>,
    ) -> Result<Response<ListCacheRecordsResponse>, Status> {
        let ListCacheRecordsRequest { page_size, page_token, filter } = request.into_inner();
        let (after, size) = page(&page_token, page_size)?;
        let filter = read_filter(filter).map_err(status)?;
        self.store.write_cache_finds().await.map_err(status)?;
        let mut rows = self.store.cache_uses(&after, size + 1).await.map_err(status)?;
        let next_page_token = strata_rpc::pages::cut(&mut rows, size, |row| row.key.clone());
        let records = rows.into_iter().filter(|row| filter.matches(row)).map(CacheUsage::from).collect();
        Ok(Response::new(ListCacheRecordsResponse { records, next_page_token }))
    }

    type PruneCacheRecordsStream = ReceiverStream<Result<PruneCacheRecordsResponse, Status>>;

    async fn prune_cache_records(
        &self,
        request: Request<PruneCacheRecordsRequest>,
    ) -> Result<Response<Self::PruneCacheRecordsStream>, Status> {
        let what = read_pruning(request.into_inner()).map_err(status)?;
        let (sender, receiver) = mpsc::channel(1);
        let (told, mut batches) = mpsc::channel(1);
        let (store, busy) = (self.store.clone(), self.store.idle.busy());
        self.store.drain.spawn(async move {
            let tell = async {
                while let Some(records) = batches.recv().await {
                    let records: Vec<CacheUse> = records;
                    let records = records.into_iter().map(CacheUsage::from).collect();
                    let message = PruneCacheRecordsResponse { records, reclaimed_bytes: 0 };
                    if sender.send(Ok(message)).await.is_err() {
                        // Whoever asked is gone: nothing more is removed.
                        batches.close();
                    }
                }
            };
            let (pruned, ()) = tokio::join!(build_cache::prune(&store, &what, told), tell);
            let last = pruned.map(|reclaimed_bytes| PruneCacheRecordsResponse { records: Vec::new(), reclaimed_bytes });
            let _ = sender.send(last.map_err(status)).await;
            drop(busy);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl From<CacheUse> for CacheUsage {
    fn from(found: CacheUse) -> Self {
        Self {
            key: found.key,
            layer_id: found.layer.map(String::from).unwrap_or_default(),
            description: found.description,
            size_bytes: found.size,
            created_at: Some(timestamp(found.created)),
            last_used_at: found.used.map(timestamp),
            usage_count: found.uses,
            is_in_use: found.is_in_use,
            is_shared: found.is_shared,
            kind: kind_message(found.kind).into(),
        }
    }
}

fn kind_message(kind: CacheKind) -> KindMessage {
    match kind {
        CacheKind::Step => KindMessage::Step,
        CacheKind::Mount => KindMessage::Mount,
    }
}

fn read_filter(message: Option<CacheFilter>) -> Result<Filter> {
    let CacheFilter { keys, description, is_in_use, is_shared, kind } = message.unwrap_or_default();
    let kind = match KindMessage::try_from(kind) {
        Ok(KindMessage::Unspecified) => None,
        Ok(KindMessage::Step) => Some(CacheKind::Step),
        Ok(KindMessage::Mount) => Some(CacheKind::Mount),
        Err(_) => return Err(Error::invalid("filter.kind", "it is unknown")),
    };
    let is_part = |key: &String| {
        (1..=64).contains(&key.len()) && key.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    match keys.iter().all(is_part) {
        true => Ok(Filter { ids: keys, description, is_in_use, is_shared, kind }),
        false => Err(Error::invalid("filter.keys", "each must be 1 to 64 lower-case hexadecimal digits")),
    }
}

fn read_pruning(message: PruneCacheRecordsRequest) -> Result<Pruning> {
    let keep = message.keep_duration.map(std::time::Duration::try_from).transpose();
    Ok(Pruning {
        all: message.all,
        filter: read_filter(message.filter)?,
        keep: keep.map_err(|_| Error::invalid("keep_duration", "it is negative"))?.unwrap_or_default(),
        reserved: message.reserved_bytes,
        max_used: message.max_used_bytes,
        min_free: message.min_free_bytes,
    })
}
