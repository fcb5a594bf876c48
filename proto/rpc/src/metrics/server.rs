//! The door of the figures: `GET /metrics` by HTTP/1.1, in plain. Whoever reaches the address reads them: they hold numbers
//! and words of ours, no name of a container or an image. A request keeps no service from stopping when it is idle.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tonic::codegen::http::{Method, Request, Response, StatusCode, header};

use super::{Address, CONTENT_TYPE, Metrics};
use crate::idle::Drain;

/// How long a client may take for all it does.
const PATIENCE: Duration = Duration::from_secs(15);

/// Clients at a time; the others wait.
const PLACES: usize = 8;

/// Why figures cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the flag or the configuration says is no address.
    #[error(transparent)]
    Address(#[from] super::Invalid),
    /// The address cannot be had.
    #[error("cannot serve metrics on {address}")]
    Bind {
        /// The address.
        address: Address,
        /// Why.
        source: io::Error,
    },
}

impl Metrics {
    /// Serves the figures there until the stop begins. Returns the address, which has a port of its own where 0 was asked for.
    pub async fn serve(&self, address: Address, drain: &Drain) -> Result<SocketAddr, Error> {
        let failed = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address.socket()).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        tracing::info!(address = %bound, "serving metrics");
        drain.spawn(admit(listener, self.clone(), drain.clone()));
        Ok(bound)
    }
}

async fn admit(listener: TcpListener, metrics: Metrics, drain: Drain) {
    let places = Arc::new(Semaphore::new(PLACES));
    // Dropped with this task: whoever is served still is cut off.
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ended = clients.join_next(), if !clients.is_empty() => continue,
            () = drain.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (metrics, places) = (metrics.clone(), places.clone());
                clients.spawn(async move {
                    // The semaphore is never closed.
                    let _place = places.acquire_owned().await;
                    // Who is too slow is let go.
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, metrics)).await;
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection for metrics: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Answers one request: the next one comes by a connection of its own.
async fn answer(stream: TcpStream, metrics: Metrics) {
    let service = service_fn(move |request: Request<Incoming>| {
        let metrics = metrics.clone();
        async move { Ok::<_, Infallible>(respond(&request, &metrics).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    // A client that goes away is its own affair.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(request: &Request<Incoming>, metrics: &Metrics) -> Response<String> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, text) = match request.uri().path() {
        "/metrics" if is_read => (StatusCode::OK, CONTENT_TYPE, metrics.text().await),
        "/metrics" => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET it\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "there is /metrics\n".to_owned()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(address: SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{head} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    }

    #[tokio::test]
    async fn figures_are_served_until_the_stop_begins_and_nothing_else_is() {
        let (metrics, drain) = (Metrics::new("lamp"), Drain::default());
        metrics.counter("lit_total", "Lamps that were lit.").inc();

        let address = metrics.serve("0".parse().unwrap(), &drain).await.unwrap();

        let said = ask(address, "GET /metrics").await;
        assert!(
            said.starts_with("HTTP/1.1 200 ") && said.contains("content-type: text/plain; version=0.0.4"),
            "{said}"
        );
        assert!(said.contains("# HELP strata_lit_total Lamps that were lit.\n"), "{said}");
        assert!(said.contains("\nstrata_lit_total{service=\"lamp\"} 1\n"), "{said}");
        assert!(!ask(address, "HEAD /metrics").await.contains("strata_lit_total"));
        assert!(ask(address, "GET /").await.starts_with("HTTP/1.1 404 "));
        assert!(ask(address, "POST /metrics").await.starts_with("HTTP/1.1 405 "));
        let taken = metrics.serve(address.to_string().parse().unwrap(), &Drain::default()).await.unwrap_err();
        assert!(taken.to_string().contains(&address.to_string()), "{taken}");
        drain.start();
        drain.finished().await;
        assert!(TcpStream::connect(address).await.is_err());
    }
}
