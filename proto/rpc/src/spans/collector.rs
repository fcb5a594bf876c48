//! The way to a collector: a bounded queue, and one task that sends what is in it. Who has something to send never waits: what
//! finds the queue full is lost, and said to be.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tonic::{
    Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::{
    attribute,
    otlp::{ExportTraceServiceRequest, ExportTraceServiceResponse, Resource, ResourceSpans, Scope, ScopeSpans, Span},
};
use crate::fault::chain;

/// Spans that wait.
const BACKLOG: usize = 2048;
/// Spans of one message.
const BATCH: usize = 512;
/// How long a span waits for others to go with.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a collector may take for one message.
const PATIENCE: Duration = Duration::from_secs(10);

/// The method of a collector.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Spans that found the queue full.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is none.
    #[error(
        "invalid endpoint {text:?} for traces: it must be http://HOST:PORT of a collector that takes OTLP over gRPC"
    )]
    Endpoint {
        /// What was given.
        text: String,
    },
}

enum Order {
    Send(Box<Span>),
    Flush(oneshot::Sender<()>),
}

/// Takes spans.
#[derive(Debug)]
pub(super) struct Collector {
    queue: mpsc::Sender<Order>,
}

impl Collector {
    /// Begins to send to an endpoint, which is reached when there is something to send.
    pub fn open(service: &str, endpoint: &str) -> Result<Self, Error> {
        let invalid = || Error::Endpoint { text: endpoint.to_owned() };
        if !endpoint.starts_with("http://") {
            return Err(invalid());
        }
        let target = Endpoint::from_shared(endpoint.to_owned()).map_err(|_| invalid())?;
        let channel = target.connect_timeout(PATIENCE).timeout(PATIENCE).connect_lazy();
        let (queue, orders) = mpsc::channel(BACKLOG);
        let attributes = vec![
            attribute("service.name", format!("strata-{service}")),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
            attribute("process.pid", std::process::id().to_string()),
        ];
        tokio::spawn(send(orders, channel, Resource { attributes }));
        Ok(Self { queue })
    }

    /// Takes a span.
    pub fn take(&self, span: Span) {
        if self.queue.try_send(Order::Send(Box::new(span))).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns when all that was taken is sent, or could not be.
    pub async fn flush(&self) {
        let (done, sent) = oneshot::channel();
        if self.queue.send(Order::Flush(done)).await.is_ok() {
            let _ = sent.await;
        }
    }
}

async fn send(mut orders: mpsc::Receiver<Order>, channel: Channel, resource: Resource) {
    let (mut waiting, mut is_failing) = (Vec::new(), false);
    loop {
        let order = match waiting.is_empty() {
            true => orders.recv().await.map(Some),
            false => tokio::time::timeout(PAUSE, orders.recv()).await.map_or(Some(None), |order| order.map(Some)),
        };
        let asker = match order {
            // Nobody can take spans any more.
            None => return,
            Some(Some(Order::Send(span))) => {
                waiting.push(*span);
                if waiting.len() < BATCH {
                    continue;
                }
                None
            }
            Some(Some(Order::Flush(asker))) => Some(asker),
            Some(None) => None,
        };
        if !waiting.is_empty() {
            let sent = export(channel.clone(), &resource, std::mem::take(&mut waiting)).await;
            tell(&sent, &mut is_failing);
        }
        if let Some(asker) = asker {
            let _ = asker.send(());
        }
    }
}

/// Logs that the collector is away, and that it is back, once each.
fn tell(sent: &Result<(), Status>, is_failing: &mut bool) {
    match sent {
        Err(status) if !*is_failing => {
            tracing::warn!("cannot send traces, which are lost: {}", chain(status));
            *is_failing = true;
        }
        Err(_) => {}
        Ok(()) => {
            if std::mem::take(is_failing) {
                tracing::info!("traces are sent again");
            }
            match LOST.swap(0, Ordering::Relaxed) {
                0 => {}
                lost => tracing::warn!(lost, "spans were more than could be sent"),
            }
        }
    }
}

async fn export(channel: Channel, resource: &Resource, spans: Vec<Span>) -> Result<(), Status> {
    let scope = Scope { name: "strata".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource.clone()), scope_spans }];
    let request = tonic::Request::new(ExportTraceServiceRequest { resource_spans });
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
    let codec = ProstCodec::<ExportTraceServiceRequest, ExportTraceServiceResponse>::default();
    client.unary(request, PathAndQuery::from_static(EXPORT), codec).await.map(drop)
}
