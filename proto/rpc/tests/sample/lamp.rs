//! A service made by hand for the tests, and its client: `Ping` answers, `Fail` fails, `Wait` lasts until the drain.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use strata_proto::types::v1::Permission;
use strata_rpc::{Drain, Fault, access::Surface, to_status};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    codegen::{Service, http},
    server::NamedService,
    transport::Channel,
};
use tonic_prost::ProstCodec;

/// Whoever may look may use the lamp.
pub const SURFACE: Surface =
    Surface { descriptors: &[], permission: |path| path.starts_with("/strata.test.Lamp/").then_some(Permission::View) };

/// The service.
#[derive(Clone, Default)]
pub struct Lamp {
    /// Calls that reached the handler.
    pub calls: Arc<AtomicUsize>,
    /// Ends `Wait`.
    pub drain: Drain,
}

impl NamedService for Lamp {
    const NAME: &'static str = "strata.test.Lamp";
}

#[derive(Debug, thiserror::Error)]
#[error("the lamp is broken")]
struct Broken {
    source: std::io::Error,
}

impl Fault for Broken {
    fn code(&self) -> Code {
        Code::Internal
    }
    fn reason(&self) -> &'static str {
        "FAULT_BROKEN"
    }
}

impl Service<http::Request<Body>> for Lamp {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let drain = self.drain.clone();
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        Box::pin(async move {
            let answer = tower::service_fn(move |_: Request<()>| {
                let (method, drain) = (method.clone(), drain.clone());
                async move { respond(&method, &drain).await }
            });
            Ok(tonic::server::Grpc::new(ProstCodec::<(), ()>::default()).unary(answer, request).await)
        })
    }
}

async fn respond(method: &str, drain: &Drain) -> Result<Response<()>, Status> {
    match method {
        "Ping" => Ok(Response::new(())),
        "Fail" => Err(to_status(&Broken { source: std::io::Error::other("the filament is gone") })),
        "Wait" => {
            drain.cancelled().await;
            Ok(Response::new(()))
        }
        "Hang" => std::future::pending().await,
        _ => Err(Status::unimplemented("no such switch")),
    }
}

/// Calls a method of the lamp.
pub async fn call(channel: Channel, method: &str) -> Result<Response<()>, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|err| Status::unavailable(strata_rpc::fault::chain(&err)))?;
    let path = http::uri::PathAndQuery::try_from(format!("/strata.test.Lamp/{method}")).unwrap();
    client.unary(Request::new(()), path, ProstCodec::<(), ()>::default()).await
}
