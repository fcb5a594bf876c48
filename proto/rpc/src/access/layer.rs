//! The check before every handler.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use strata_proto::types::v1::Permission;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Service, http},
    transport::server::{TcpConnectInfo, TlsConnectInfo, UdsConnectInfo},
};

use super::{Access, Caller, Denied, Surface, audit};
use crate::{fault::to_status, identity::Peer, trace::REQUEST_ID};

/// Health says nothing but whether the service serves.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// Reflection shows the protos.
const REFLECTION: [&str; 2] = ["/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/"];

/// Refuses who may not call a method, and tells the handler who calls.
#[derive(Debug, Clone)]
pub(crate) struct AccessLayer {
    access: Access,
    permission: fn(&str) -> Option<Permission>,
}

impl AccessLayer {
    pub(crate) fn new(access: Access, surface: &Surface) -> Self {
        Self { access, permission: surface.permission }
    }

    /// What the method needs; `None`: it is not served.
    fn needed(&self, path: &str) -> Option<Permission> {
        if REFLECTION.into_iter().any(|service| is_of(service, path)) {
            return Some(Permission::View);
        }
        (self.permission)(path)
    }

    /// Lets the request in, with its caller, or says why not.
    fn admit(&self, request: &mut http::Request<Body>) -> Result<Option<audit::Entry>, Status> {
        let path = request.uri().path().to_owned();
        if is_of(HEALTH, &path) {
            return Ok(None);
        }
        let Some(permission) = self.needed(&path) else {
            return Err(Status::new(Code::Unimplemented, "there is no such method"));
        };
        let peer = Peer::within(request.extensions());
        let mut caller = self.access.policy.caller(peer.as_ref());
        let entry = caller.is_audited.then(|| self.entry(request, &path, permission, &caller));
        let permitted = caller.permit(permission);
        if let Some(entry) = &entry {
            entry.begun(permitted.is_ok()).map_err(|source| to_status(&Denied::Unrecorded { source }))?;
        }
        permitted.map_err(|denied| to_status(&denied))?;
        caller.entry.clone_from(&entry);
        request.extensions_mut().insert::<Caller>(caller);
        Ok(entry)
    }

    fn entry(
        &self,
        request: &http::Request<Body>,
        path: &str,
        permission: Permission,
        caller: &Caller,
    ) -> audit::Entry {
        let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or("?");
        self.access.log.entry(audit::Subject {
            request: id.to_owned(),
            subject: caller.subject.clone(),
            role: caller.role,
            peer: place(request.extensions()),
            method: path.to_owned(),
            permission,
        })
    }
}

/// Whether the path is one of a method that every service of gRPC may have: there are few of them.
pub(crate) fn is_standard(path: &str) -> bool {
    const METHODS: [&str; 4] = ["Check", "Watch", "List", "ServerReflectionInfo"];
    let method = REFLECTION.into_iter().chain([HEALTH]).find_map(|service| path.strip_prefix(service));
    method.is_some_and(|method| METHODS.contains(&method))
}

/// Whether the path is one of a method of that service.
fn is_of(service: &str, path: &str) -> bool {
    path.strip_prefix(service).is_some_and(|method| !method.contains('/'))
}

/// Where the peer is: an address, or a process of this host.
fn place(extensions: &http::Extensions) -> String {
    if let Some(tls) = extensions.get::<TlsConnectInfo<TcpConnectInfo>>() {
        return tls.get_ref().remote_addr().as_ref().map_or_else(|| "tcp".to_owned(), SocketAddr::to_string);
    }
    let process = extensions.get::<UdsConnectInfo>().and_then(|info| info.peer_cred?.pid());
    process.map_or_else(|| "this host".to_owned(), |pid| format!("process {pid}"))
}

impl<S> tower::Layer<S> for AccessLayer {
    type Service = Guarded<S>;
    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, layer: self.clone() }
    }
}

/// A service behind the check.
#[derive(Debug, Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    layer: AccessLayer,
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let entry = match self.layer.admit(&mut request) {
            Ok(entry) => entry,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        let future = self.inner.call(request);
        Box::pin(async move {
            let mut response = future.await?;
            if let Some(entry) = entry {
                // The layer above sees how the answer ends.
                response.extensions_mut().insert(entry);
            }
            Ok(response)
        })
    }
}
