//! The way to a collector: a bounded queue, and one task that sends what is in it. Who has something to send never waits: what
//! finds the queue full is lost, and said to be.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tonic::{
    Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint},
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
        "invalid endpoint {text:?} for traces: it must be http://HOST:PORT or https://HOST:PORT of a collector that takes \
         OTLP over gRPC"
    )]
    Endpoint {
        /// What was given.
        text: String,
    },
    /// Who signs its certificate cannot be read.
    #[error("cannot read the certificate authority {path} of the collector of traces", path = path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No certificate can be believed.
    #[error("cannot speak TLS to the collector of traces {text}")]
    Tls {
        /// Where it is.
        text: String,
        /// Why.
        source: transport::Error,
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
    /// Begins to send to an endpoint, which is reached when there is something to send. Behind https it is believed by the
    /// authority in a file of PEM, else by those of this host.
    pub fn open(service: &str, endpoint: &str, authority: Option<&Path>) -> Result<Self, Error> {
        let channel = target(endpoint, authority)?.connect_lazy();
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

fn target(endpoint: &str, authority: Option<&Path>) -> Result<Endpoint, Error> {
    let invalid = || Error::Endpoint { text: endpoint.to_owned() };
    let is_tls = endpoint.starts_with("https://");
    if !is_tls && !endpoint.starts_with("http://") {
        return Err(invalid());
    }
    let target = Endpoint::from_shared(endpoint.to_owned()).map_err(|_| invalid())?;
    let target = target.connect_timeout(PATIENCE).timeout(PATIENCE);
    if !is_tls {
        return Ok(target);
    }
    let tls = match authority {
        Some(path) => {
            let pem = fs::read(path).map_err(|source| Error::Authority { path: path.to_owned(), source })?;
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
        }
        None => ClientTlsConfig::new().with_native_roots(),
    };
    target.tls_config(tls).map_err(|source| Error::Tls { text: endpoint.to_owned(), source })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_endpoint_is_http_or_https_and_its_authority_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let authority = dir.path().join("ca.pem");
        let params = rcgen::CertificateParams::new(vec![]).unwrap();
        fs::write(&authority, params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()).unwrap();

        target("http://collector:4317", None).unwrap();
        target("https://collector:4317", Some(&authority)).unwrap();
        for wrong in ["", "collector:4317", "grpc://collector:4317", "https://", "http:///x y"] {
            assert!(matches!(target(wrong, Some(&authority)), Err(Error::Endpoint { .. })), "{wrong:?}");
        }
        let absent = dir.path().join("absent.pem");
        assert!(matches!(target("https://collector:4317", Some(&absent)), Err(Error::Authority { .. })));
        // Without TLS nobody is asked for a certificate.
        target("http://collector:4317", Some(&absent)).unwrap();
    }
}
