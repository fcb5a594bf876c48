//! The build cache of the store: what steps made, and answers that are remembered.

use strata_proto::store::v1 as pb;

use super::Store;
use crate::context::Blake3;
use crate::error::Error;

/// A step, as the build cache knows it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What it does, and on what.
    pub key: Blake3,
    /// What it does and reads, whatever it stands on.
    pub operation: Blake3,
    /// Its name across versions of what it reads.
    pub family: Blake3,
    /// The instruction, for people.
    pub description: String,
}

/// What a step made in an earlier build.
#[derive(Debug, Clone)]
pub struct CacheRecord {
    /// Key of the step that made it.
    pub key: Blake3,
    /// The layer it made.
    pub layer: String,
    /// When the layer was made.
    pub created: jiff::Timestamp,
}

/// What the cache says of a step.
#[derive(Debug, Clone, Default)]
pub struct Cached {
    /// What it made.
    pub record: Option<CacheRecord>,
    /// The layer of its newest version, where it made nothing yet.
    pub previous: Option<String>,
    /// Some step did the same, if perhaps to other files.
    pub is_operation_known: bool,
}

/// Whether the cache is asked for a step that did the same to the same files, however these came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByContent {
    /// It is.
    Yes,
    /// Only for the key.
    No,
}

/// What a step came to: a layer.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its id.
    pub layer: String,
    /// When it was made, in whole milliseconds: what the cache gives back must be what the image was made with.
    pub created: jiff::Timestamp,
}

impl Store {
    /// Finds what a step made, which is then held.
    pub async fn cached(
        &self,
        step: &Identity,
        layers: &[String],
        by_content: ByContent,
        lease: &str,
    ) -> Result<Cached, Error> {
        let request = pb::GetCacheRecordRequest {
            key: hex::encode(step.key),
            family: hex::encode(step.family),
            lease_id: lease.to_owned(),
            operation: hex::encode(step.operation),
            // Without need they are not sent: there may be hundreds, in every step.
            layer_ids: if by_content == ByContent::Yes { layers.to_vec() } else { Vec::new() },
            by_content: by_content == ByContent::Yes,
        };
        let mut client = pb::cache_service_client::CacheServiceClient::new(self.channel.clone());
        let response = client.get_cache_record(request).await;
        let response = response.map_err(|status| Error::peer("store", "look into the cache", status))?.into_inner();
        let read = |record: pb::CacheRecord| {
            let mut key = [0; 32];
            hex::decode_to_slice(&record.key, &mut key)
                .map_err(|_| Error::Answer { peer: "store", what: "a key of the cache" })?;
            let created = record.created_at.and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok());
            let created = created.unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            Ok(CacheRecord { key, layer: record.layer_id, created })
        };
        Ok(Cached {
            record: response.record.map(read).transpose()?,
            previous: response.previous.map(|record| record.layer_id).filter(|id| !id.is_empty()),
            is_operation_known: response.is_operation_known,
        })
    }

    /// What was memorized under a key.
    pub async fn recall(&self, key: &Blake3, lease: &str) -> Result<Option<Blake3>, Error> {
        let request = pb::GetCacheRecordRequest {
            key: hex::encode(key),
            lease_id: lease.to_owned(),
            ..pb::GetCacheRecordRequest::default()
        };
        let mut client = pb::cache_service_client::CacheServiceClient::new(self.channel.clone());
        let response = client.get_cache_record(request).await;
        let response = response.map_err(|status| Error::peer("store", "look into the cache", status))?.into_inner();
        let mut answer = [0; 32];
        let found = response.record.map(|record| hex::decode_to_slice(&record.operation, &mut answer));
        Ok(matches!(found, Some(Ok(()))).then_some(answer))
    }

    /// Keeps an answer under a key, as a record without a layer.
    pub async fn memorize(&self, key: &Blake3, answer: &Blake3, title: &str) -> Result<(), Error> {
        let record = pb::CacheRecord {
            key: hex::encode(key),
            operation: hex::encode(answer),
            description: title.to_owned(),
            ..pb::CacheRecord::default()
        };
        let mut client = pb::cache_service_client::CacheServiceClient::new(self.channel.clone());
        let stored = client.put_cache_record(pb::PutCacheRecordRequest { record: Some(record) }).await;
        stored.map(drop).map_err(|status| Error::peer("store", "write the cache", status))
    }
}

/// What the cache is to know of a step whose layer is made now.
pub(super) fn record(step: &Identity) -> (pb::CacheRecord, jiff::Timestamp) {
    let now = jiff::Timestamp::now();
    let created = jiff::Timestamp::from_millisecond(now.as_millisecond()).unwrap_or_default();
    let record = pb::CacheRecord {
        key: hex::encode(step.key),
        layer_id: String::new(),
        description: step.description.clone(),
        family: hex::encode(step.family),
        created_at: Some(prost_types::Timestamp { seconds: created.as_second(), nanos: created.subsec_nanosecond() }),
        operation: hex::encode(step.operation),
    };
    (record, created)
}
