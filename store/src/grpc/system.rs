//! SystemService.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use strata_proto::store::v1::{
    Damage, GetInfoRequest, GetInfoResponse, PruneRequest, PruneResponse, VerifyCompleted, VerifyRequest,
    VerifyResponse, system_service_server::SystemService, verify_response::Event,
};
use strata_proto::types::v1::{Fact, ServiceInfo};
use strata_types::{ByteSize, Digest, LabelCondition};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Service, moment, status};
use crate::Error;
use crate::gc::{self, Prune};
use crate::verify;

fn damage(found: verify::Damage) -> VerifyResponse {
    let verify::Damage { kind, object, path, problem } = found;
    VerifyResponse { event: Some(Event::Damage(Damage { kind: kind.to_owned(), object, path, problem })) }
}

fn completed(summary: verify::Summary) -> VerifyResponse {
    let verify::Summary { blobs, layers, images, bytes, damaged } = summary;
    VerifyResponse {
        event: Some(Event::Completed(VerifyCompleted { blobs, layers, images, bytes_read: bytes, damaged })),
    }
}

#[tonic::async_trait]
impl SystemService for Service {
    async fn get_info(&self, _request: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        let [blobs, layers, images, bytes] = self.store.catalog.totals().await.map_err(status)?;
        let fact = |label: &str, value: String| Fact { label: label.to_owned(), value };
        let facts = vec![
            fact("Storage driver", "overlay".to_owned()),
            fact("Catalog", "sqlite".to_owned()),
            fact("Images", images.to_string()),
            fact("Layers", layers.to_string()),
            fact("Blobs", blobs.to_string()),
            fact("Content", ByteSize(bytes).to_string()),
        ];
        let info = ServiceInfo {
            name: "store".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            root_path: self.store.paths.root().display().to_string(),
            facts,
        };
        Ok(Response::new(GetInfoResponse { info: Some(info) }))
    }

    type VerifyStream = BoxStream<'static, Result<VerifyResponse, Status>>;

    async fn verify(&self, _request: Request<VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        let store = self.store.clone();
        // Ends with the receiver, which the stream below drops with itself.
        let check = tokio::spawn(async move { verify::verify(&store, sender).await });
        let found = ReceiverStream::new(receiver).map(|found| Ok(damage(found)));
        let end = futures_util::stream::once(async move {
            match check.await {
                Ok(summary) => summary.map(completed).map_err(status),
                Err(_) => Err(Status::internal("the check was cut off")),
            }
        });
        Ok(Response::new(found.chain(end).boxed()))
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<PruneResponse>, Status> {
        let PruneRequest { all_images, cache, images_only, before, labels } = request.into_inner();
        if labels.iter().any(|condition| condition.key.is_empty()) {
            return Err(status(Error::invalid("labels", "a label is needed")));
        }
        let before = moment("before", before).map_err(status)?.map(jiff::Timestamp::as_millisecond);
        let labels = labels.into_iter().map(LabelCondition::from).collect();
        let what = Prune { all_images, cache, images_only, before, labels };
        let pruned = gc::prune(&self.store, what).await.map_err(status)?;
        Ok(Response::new(PruneResponse {
            untagged: pruned.untagged,
            deleted_images: pruned.deleted.iter().map(Digest::to_string).collect(),
            cache_records: pruned.cache_records,
            reclaimed_bytes: pruned.reclaimed,
        }))
    }
}
