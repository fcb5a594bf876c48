//! A collector of OpenTelemetry that keeps what it is sent.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use strata_rpc::spans::otlp::{ExportTraceServiceRequest, ExportTraceServiceResponse, Span, any_value::Value};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{Service, http},
    server::{NamedService, UnaryService},
    transport::{Identity, ServerTlsConfig},
};
use tonic_prost::ProstCodec;

/// A span, and the service that it is of.
pub type Sent = (String, Span);

/// A collector on loopback. It ends with the test.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    endpoint: String,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Collector {
    /// Listens.
    pub fn start() -> Self {
        Self::listen("http", tonic::transport::Server::builder())
    }

    /// Listens behind TLS, with a certificate and its key, PEM.
    pub fn with_tls(certificate: &[u8], key: &[u8]) -> Self {
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        Self::listen("https", tonic::transport::Server::builder().tls_config(tls).expect("a pair"))
    }

    fn listen(scheme: &str, mut server: tonic::transport::Server) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it listens");
        listener.set_nonblocking(true).expect("a socket");
        let collector = Self { endpoint: format!("{scheme}://{address}"), sent: Arc::default() };
        let service = collector.clone();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads are there");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                let _ = server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await;
            });
        });
        collector
    }

    /// Where it is.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What it was sent so far.
    pub fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl Service<http::Request<Body>> for Collector {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let taker = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<ExportTraceServiceResponse, ExportTraceServiceRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(taker, request).await)
        })
    }
}

impl UnaryService<ExportTraceServiceRequest> for Collector {
    type Response = ExportTraceServiceResponse;
    type Future = Ready<Result<Response<ExportTraceServiceResponse>, Status>>;

    fn call(&mut self, request: Request<ExportTraceServiceRequest>) -> Self::Future {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        for of_process in request.into_inner().resource_spans {
            let attributes = of_process.resource.unwrap_or_default().attributes;
            let name = attributes.into_iter().find(|one| one.key == "service.name").and_then(|one| one.value);
            let service = match name.and_then(|value| value.value) {
                Some(Value::String(name)) => name,
                None => String::new(),
            };
            let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            sent.extend(spans.map(|span| (service.clone(), span)));
        }
        ready(Ok(Response::new(ExportTraceServiceResponse {})))
    }
}
