//! Logs: set up once, and one line for every request that fails. What is logged is counted too, and is a part
//! of a trace.

use std::{
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::{SystemTime, UNIX_EPOCH},
};

use http_body::{Body as HttpBody, Frame};
use strata_proto::types::v1::Permission;
use tonic::{
    Code,
    body::Body,
    codegen::{Bytes, Service, http},
    metadata::MetadataMap,
};
use tracing_subscriber::EnvFilter;

use crate::{
    access::{Surface, audit::Entry, is_standard},
    fault::{CAUSE_KEY, code_name},
    metrics::{self, Metrics},
    spans::{self, HEADER, Place, Span, otlp::Kind},
};

/// Header that names a request; made here where the caller sent none.
pub const REQUEST_ID: &str = "x-request-id";

/// Sends the log to standard error. `filter` is a level or EnvFilter's directives. Later calls do nothing.
pub fn init(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}

/// Logs requests that fail: method, code, request id, cause chain, time. Counts all of them.
#[derive(Debug, Clone)]
pub struct TraceLayer {
    metrics: Metrics,
    permission: fn(&str) -> Option<Permission>,
}

impl TraceLayer {
    /// Counts there, by the methods of this surface.
    pub fn new(metrics: Metrics, surface: &Surface) -> Self {
        Self { metrics, permission: surface.permission }
    }

    fn begin(&self, path: &str) -> metrics::Call {
        self.metrics.begin(path, (self.permission)(path).is_some() || is_standard(path))
    }
}

impl<S> tower::Layer<S> for TraceLayer {
    type Service = Traced<S>;
    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, layer: self.clone() }
    }
}

/// A service whose failures are logged.
#[derive(Debug, Clone)]
pub struct Traced<S> {
    inner: S,
    layer: TraceLayer,
}

impl<S> Service<http::Request<Body>> for Traced<S>
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
        let counted = self.layer.begin(request.uri().path());
        let is_known = (self.layer.permission)(request.uri().path()).is_some();
        let mut call = Call::begin(&mut request, counted, is_known);
        let place = call.place;
        let future = self.inner.call(request.map(|inner| Body::new(WholeBody { inner })));
        Box::pin(async move {
            let mut response = spans::within(place, future).await?;
            call.entry = response.extensions_mut().remove();
            response.headers_mut().insert(REQUEST_ID, call.id.clone());
            if response.headers().contains_key("grpc-status") {
                call.finish(response.headers_mut());
                return Ok(response);
            }
            Ok(response.map(|body| Body::new(TracedBody { inner: body, place, call: Some(call) })))
        })
    }
}

/// One request on its way.
struct Call {
    method: String,
    id: http::HeaderValue,
    /// Where it is in a trace, if it belongs to one.
    place: Option<Place>,
    /// What the trace knows of it.
    span: Option<Span>,
    /// What the figures know of it.
    counted: metrics::Call,
    /// What the audit log knows of it, if it is recorded there.
    entry: Option<Entry>,
}

impl Call {
    fn begin(request: &mut http::Request<Body>, counted: metrics::Call, is_known: bool) -> Self {
        let id = match request.headers().get(REQUEST_ID) {
            Some(id) if id.len() <= 64 => id.clone(),
            _ => new_id(),
        };
        request.headers_mut().insert(REQUEST_ID, id.clone());
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let above = request.headers().get(HEADER).and_then(|text| Place::parse(text.to_str().ok()?));
        // What is not known, and health, is of no interest.
        let mut span = if is_known { Span::begin(method.as_str(), Kind::Server, above) } else { None };
        if let Some(span) = &mut span {
            span.note("rpc.system", "grpc");
            span.note("strata.request_id", id.to_str().unwrap_or("?"));
        }
        let place = span.as_ref().map(Span::place).or(above);
        Self { method, id, place, span, counted, entry: None }
    }

    /// Logs and records the outcome, and takes the cause out of what the caller gets.
    fn finish(&mut self, headers: &mut http::HeaderMap) {
        let cause = headers.remove(CAUSE_KEY);
        let code = headers.get("grpc-status").map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()));
        self.counted.end(code);
        if let Some(span) = &mut self.span {
            span.note("rpc.grpc.status_code", (code as i32).to_string());
            if code != Code::Ok {
                // What the text says is for the caller and the log.
                span.fail(code_name(code));
            }
        }
        if let Some(entry) = &self.entry {
            entry.ended(code);
        }
        if code == Code::Ok {
            return;
        }
        let cause = cause.and_then(decode).unwrap_or_else(|| {
            tonic::Status::from_header_map(headers).map(|status| status.message().to_owned()).unwrap_or_default()
        });
        let (method, id) = (self.method.as_str(), self.id.to_str().unwrap_or("?"));
        let ms = self.counted.elapsed().as_secs_f64() * 1e3;
        match code {
            Code::Internal | Code::Unknown | Code::DataLoss => {
                tracing::error!(method, code = ?code, request = id, ms = format_args!("{ms:.1}"), "{cause}");
            }
            _ => tracing::warn!(method, code = ?code, request = id, ms = format_args!("{ms:.1}"), "{cause}"),
        }
    }
}

fn decode(value: http::HeaderValue) -> Option<String> {
    let mut headers = http::HeaderMap::new();
    headers.insert(CAUSE_KEY, value);
    let bytes = MetadataMap::from_headers(headers).get_bin(CAUSE_KEY)?.to_bytes().ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Unique within a host: where the process began, and a count.
fn new_id() -> http::HeaderValue {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static BEGAN: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let began = BEGAN.get_or_init(|| {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        nanos.rotate_left(20) ^ u64::from(std::process::id())
    });
    let text = format!("{:08x}-{:x}", *began as u32, COUNT.fetch_add(1, Ordering::Relaxed));
    http::HeaderValue::try_from(text).unwrap_or(http::HeaderValue::from_static("none"))
}

/// A body that ends only where its sender ended it.
///
/// To hyper and tonic a stream that the client reset with CANCEL ends like any other; half an upload must not pass for a whole.
struct WholeBody {
    inner: Body,
}

impl HttpBody for WholeBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let is_broken_off = match &frame {
            None => !self.inner.is_end_stream(),
            Some(Err(status)) => status.code() == Code::Cancelled,
            Some(Ok(_)) => false,
        };
        if is_broken_off {
            self.inner = Body::empty();
            // Not "cancelled", which tonic takes for the end of the request's stream.
            return Poll::Ready(Some(Err(tonic::Status::aborted("the client broke the request off"))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

/// A body whose trailers tell how the request ended.
struct TracedBody {
    inner: Body,
    /// Where the call is in a trace.
    place: Option<Place>,
    call: Option<Call>,
}

impl HttpBody for TracedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let place = self.place;
        let mut frame = ready!(spans::at(place, || Pin::new(&mut self.inner).poll_frame(cx)));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
            && let Some(mut call) = self.call.take()
        {
            call.finish(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}
