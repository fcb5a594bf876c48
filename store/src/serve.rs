//! The registry: the OCI distribution specification 1.1 over HTTP, for `docker`, `podman`, `skopeo`, `containerd` and
//! Kubernetes, over the same blobs, documents and names that the store's own interface has.
//!
//! `name` says which repository is which name of the store, `identity` who may do what, `route` what a request is about;
//! `blobs`, `manifests` and `lists` answer it. Uploads under way are in `uploads`, and nowhere else.

mod blobs;
pub mod config;
mod export;
mod fault;
mod identity;
pub mod listen;
mod lists;
mod local;
mod manifests;
mod name;
mod range;
mod route;
mod uploads;
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse;
use strata_rpc::fault::chain;
use strata_rpc::identity::Files;

use crate::Store;
use config::{Permission, Settings};
use fault::Fault;
use identity::{Caller, Tokens};
use listen::{Connection, Door};
use name::Repository;
use route::{Query, Route};
use uploads::Uploads;
use upstream::{Logins, Transfers};

/// Header that says what the bytes of an answer are.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Milliseconds of a day.
const DAY: i64 = 86_400_000;
/// Between two looks at what has been idle for too long.
const SWEEP: Duration = Duration::from_secs(60);

/// A registry over a store.
#[derive(Debug)]
pub(crate) struct Registry {
    store: Arc<Store>,
    settings: Settings,
    uploads: Uploads,
    tokens: Tokens,
    logins: Logins,
    transfers: Transfers,
}

/// Opens the door of the registry and serves until the store stops; returns where it listens. `address` comes before
/// the configuration's; `certificates` are the store's own, for a configuration that has none.
pub async fn start(
    store: &Arc<Store>,
    address: Option<&str>,
    certificates: Option<Files>,
) -> Result<Option<SocketAddr>, listen::Error> {
    let settings = store.config.registry.clone();
    let Some(address) = address.or(settings.listen.as_deref()) else { return Ok(None) };
    let own = settings.tls.clone().map(|tls| Files {
        authority: tls.client_authority,
        certificate: tls.certificate,
        key: tls.key,
    });
    let door = Door::open(address, own.or(certificates), settings.max_connections).await?;
    let address = door.address();
    tracing::info!("the registry serves on {address}{}", if door.is_tls() { " with TLS" } else { "" });
    let registry = Arc::new(Registry {
        store: Arc::clone(store),
        uploads: Uploads::new(settings.limits()),
        tokens: Tokens::default(),
        logins: Logins::new(&settings.upstream),
        transfers: Transfers::default(),
        settings,
    });
    let drain = store.drain.clone();
    // Whoever pulls does not start the store: it must be there.
    let busy = store.idle.busy();
    let routes = routes(Arc::clone(&registry));
    store.drain.spawn(async move {
        let _busy = busy;
        tokio::join!(door.serve(routes, drain.clone()), sweep(registry, drain));
    });
    Ok(Some(address))
}

/// Lets go of what is idle for too long.
async fn sweep(registry: Arc<Registry>, drain: strata_rpc::Drain) {
    let age = i64::try_from(registry.settings.unused_blob_seconds).map_or(i64::MAX, |age| age.saturating_mul(1000));
    let pause = SWEEP.min(registry.settings.limits().upload_idle.max(Duration::from_millis(100)));
    loop {
        tokio::select! {
            () = drain.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if let Err(fault) = registry.uploads.expire().await {
            tracing::warn!("cannot let go of an idle upload: {fault:?}");
        }
        let catalog = &registry.store.catalog;
        let untagged = match registry.settings.untagged_days {
            0 => Ok(0),
            days => catalog.expire_untagged(i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(DAY)).await,
        };
        let expired = [catalog.expire_repository_blobs(age).await, catalog.expire_exports(age).await, untagged];
        for expired in expired {
            match expired {
                Ok(0) => {}
                Ok(_) => registry.store.collector.wake(),
                Err(error) => tracing::warn!("cannot let go of what a repository holds: {}", chain(&error)),
            }
        }
    }
}

fn routes(registry: Arc<Registry>) -> Router {
    Router::new().fallback(move |request: Request| {
        let registry = Arc::clone(&registry);
        async move {
            let mut response = handle(&registry, request).await.unwrap_or_else(Fault::into_response);
            let fields = response.headers_mut();
            fields.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
            // What was pushed is for programs, whatever a browser makes of it.
            fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }
    })
}

async fn handle(registry: &Arc<Registry>, request: Request) -> Result<Response<Body>, Fault> {
    let (parts, body) = request.into_parts();
    let (method, headers) = (&parts.method, &parts.headers);
    // Each connection says who is at its other end before its first request; one that did not permits nothing.
    let connection = parts.extensions.get::<Connection>().ok_or(Fault::Denied { problem: "an unknown connection" })?;
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let caller = identity::caller(&registry.settings, &registry.tokens, connection, headers)?;
    let route = match Route::parse(parts.uri.path(), &query) {
        Ok(route) => route,
        Err(fault) => {
            // Whoever may do nothing learns nothing, not even what a name may look like.
            caller.must_be_known(&registry.settings)?;
            return Err(fault);
        }
    };
    check(registry, &caller, method, &route)?;
    let is_change = matches!(route, Route::Manifest(..)) && matches!(*method, Method::PUT | Method::DELETE);
    let response = answer_route(registry, &caller, method, headers, &query, route, body).await?;
    if is_change {
        tracing::info!("{}: {method} {}", caller.name, parts.uri.path());
    }
    Ok(response)
}

/// Refuses what the caller may not.
fn check(registry: &Registry, caller: &Caller, method: &Method, route: &Route) -> Result<(), Fault> {
    let is_reading = matches!(*method, Method::GET | Method::HEAD);
    let by_method = if is_reading { Permission::Pull } else { Permission::Push };
    match route {
        Route::Base => caller.must_be_known(&registry.settings),
        Route::Token => Ok(()),
        Route::Catalog => caller.must(Permission::Pull, None),
        Route::Tags(repository) | Route::Referrers(repository, _) => caller.must(Permission::Pull, Some(repository)),
        Route::Manifest(repository, _) | Route::Blob(repository, _) => caller.must(by_method, Some(repository)),
        Route::Uploads(repository) | Route::Upload(repository, _) => caller.must(Permission::Push, Some(repository)),
    }
}

async fn answer_route(
    registry: &Arc<Registry>,
    caller: &Caller,
    method: &Method,
    headers: &HeaderMap,
    query: &Query,
    route: Route,
    body: Body,
) -> Result<Response<Body>, Fault> {
    match (method.as_str(), &route) {
        ("GET" | "HEAD", Route::Base) => {
            let mut response = answer(StatusCode::OK, &[("content-type", "application/json")]);
            *response.body_mut() = Body::from("{}");
            Ok(response)
        }
        ("GET", Route::Token) => {
            let scopes: Vec<&str> = query.all("scope").collect();
            let mut response =
                answer(StatusCode::OK, &[("content-type", "application/json"), ("cache-control", "no-store")]);
            *response.body_mut() = Body::from(identity::give(&registry.tokens, caller, &scopes).to_string());
            Ok(response)
        }
        ("GET", Route::Catalog) => lists::catalog(registry, query).await,
        ("GET", Route::Tags(repository)) => lists::tags(registry, repository, query).await,
        ("GET", Route::Referrers(repository, name)) => lists::referrers(registry, repository, name, query).await,
        ("GET" | "HEAD", Route::Manifest(repository, reference)) => {
            manifests::get(registry, method, headers, repository, reference).await
        }
        ("PUT", Route::Manifest(repository, reference)) => {
            manifests::put(registry, repository, reference, query, headers, body).await
        }
        ("DELETE", Route::Manifest(repository, reference)) => manifests::delete(registry, repository, reference).await,
        ("GET" | "HEAD", Route::Blob(repository, name)) => {
            blobs::get(registry, method, headers, repository, name).await
        }
        ("DELETE", Route::Blob(repository, name)) => blobs::delete(registry, repository, name).await,
        ("POST", Route::Uploads(repository)) => blobs::post(registry, caller, repository, query, headers, body).await,
        ("PATCH", Route::Upload(repository, id)) => blobs::patch(registry, repository, id, headers, body).await,
        ("PUT", Route::Upload(repository, id)) => blobs::put(registry, repository, id, query, headers, body).await,
        ("GET", Route::Upload(repository, id)) => blobs::status(registry, repository, id).await,
        ("DELETE", Route::Upload(repository, id)) => blobs::cancel(registry, repository, id).await,
        (_, route) => Err(Fault::Unsupported { allowed: route.methods() }),
    }
}

/// An answer without a body.
fn answer(status: StatusCode, fields: &[(&'static str, &str)]) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    for (name, value) in fields {
        // Paths, digests, numbers and media types that were checked are visible ASCII.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}

/// A header as text.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The query that keeps a client in the namespace it asked for.
fn namespace_query(repository: &Repository) -> String {
    repository.namespace().map_or_else(String::new, |host| format!("?ns={}", route::encode(host)))
}
