//! Traces: one over `ctl` and the services. A call carries its place in a trace by the header `traceparent` of W3C's Trace
//! Context, whoever began it; a process that was told where sends what it did of it to a collector of OpenTelemetry, by OTLP
//! over gRPC, with TLS or without. Without a collector a place is only handed on.
//!
//! A place is of a task: what a handler moves into another task takes it along by [`carry`], which [`crate::Drain`] does too.

mod collector;
mod config;
pub mod otlp;
mod place;

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use collector::Collector;
pub use collector::Error;
pub use config::Config;
pub(crate) use config::VARIABLES;
use otlp::{AnyValue, KeyValue, Kind, any_value::Value};
pub use place::Place;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport,
};

/// The header that carries a place.
pub const HEADER: &str = "traceparent";

/// Who gets what this process did.
static COLLECTOR: OnceLock<Collector> = OnceLock::new();

tokio::task_local! {
    static HERE: Place;
}

/// Sends spans from now on: where the environment says, else where the configuration does; nowhere, if neither says so.
/// Needs the tokio runtime.
pub fn start(service: &str, configured: &Config) -> Result<(), Error> {
    let environment = Config::of_environment();
    let collector = match (&environment.endpoint, &configured.endpoint) {
        (Some(endpoint), _) => match Collector::open(service, endpoint, environment.ca.as_deref()) {
            Ok(collector) => collector,
            // It may be meant for other programs, which speak otherwise.
            Err(error) => {
                tracing::warn!("the collector of the environment is passed over: {}", crate::fault::chain(&error));
                return Ok(());
            }
        },
        (None, Some(endpoint)) => Collector::open(service, endpoint, configured.ca.as_deref())?,
        (None, None) => return Ok(()),
    };
    // One a process: a second would be a mistake, and changes nothing.
    let _ = COLLECTOR.set(collector);
    Ok(())
}

/// Whether spans are sent.
pub fn are_sent() -> bool {
    COLLECTOR.get().is_some()
}

/// Sends what is left, for as long at most.
pub async fn flush(patience: Duration) {
    if let Some(collector) = COLLECTOR.get() {
        let _ = tokio::time::timeout(patience, collector.flush()).await;
    }
}

/// The place of this task, if it has one.
pub fn here() -> Option<Place> {
    HERE.try_with(|place| *place).ok()
}

/// Does something at a place.
pub async fn within<F: Future>(place: Option<Place>, work: F) -> F::Output {
    match place {
        Some(place) => HERE.scope(place, work).await,
        None => work.await,
    }
}

/// Does something that does not wait at a place.
pub(crate) fn at<T>(place: Option<Place>, work: impl FnOnce() -> T) -> T {
    match place {
        Some(place) => HERE.sync_scope(place, work),
        None => work(),
    }
}

/// Work for another task that takes the place of this one along.
pub fn carry<F: Future>(work: F) -> impl Future<Output = F::Output> {
    within(here(), work)
}

/// Part of a trace, from now until it is dropped.
#[derive(Debug)]
pub struct Span {
    place: Place,
    parent: Option<Place>,
    name: String,
    kind: Kind,
    begun: SystemTime,
    attributes: Vec<(&'static str, String)>,
    problem: Option<String>,
}

impl Span {
    /// Begins a span below another, or a trace. `None`: nobody collects them.
    pub fn begin(name: impl Into<String>, kind: Kind, parent: Option<Place>) -> Option<Self> {
        COLLECTOR.get()?;
        let place = match parent {
            Some(parent) => parent.child(),
            None => Place::root(),
        };
        let (name, begun) = (name.into(), SystemTime::now());
        Some(Self { place, parent, name, kind, begun, attributes: Vec::new(), problem: None })
    }

    /// Its own place: that of what is done within it.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Says something about it.
    pub fn note(&mut self, key: &'static str, value: impl Into<String>) {
        self.attributes.push((key, value.into()));
    }

    /// It has failed.
    pub fn fail(&mut self, problem: impl Into<String>) {
        self.problem = Some(problem.into());
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(collector) = COLLECTOR.get().filter(|_| self.place.is_sampled()) else { return };
        collector.take(otlp::Span {
            trace_id: self.place.trace().to_vec(),
            span_id: self.place.span().to_vec(),
            parent_span_id: self.parent.map(|parent| parent.span().to_vec()).unwrap_or_default(),
            name: std::mem::take(&mut self.name),
            kind: self.kind.into(),
            start_time_unix_nano: nanos(self.begun),
            // A clock that was set back ends nothing before it began.
            end_time_unix_nano: nanos(SystemTime::now().max(self.begun)),
            attributes: self.attributes.drain(..).map(|(key, value)| attribute(key, value)).collect(),
            status: self.problem.take().map(|message| otlp::Status { message, code: otlp::Code::Error.into() }),
        });
    }
}

fn attribute(key: &str, value: impl Into<String>) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::String(value.into())) }) }
}

fn nanos(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A channel whose calls carry the place of the task that makes them.
pub type Channel = InterceptedService<transport::Channel, Carrier>;

/// Lets the calls of a channel carry places.
pub fn traced(channel: transport::Channel) -> Channel {
    InterceptedService::new(channel, Carrier)
}

/// Puts the place of a task into the calls that it makes.
#[derive(Debug, Clone, Copy)]
pub struct Carrier;

impl Interceptor for Carrier {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(place) = here()
            && let Ok(value) = MetadataValue::try_from(place.to_string())
        {
            request.metadata_mut().insert(HEADER, value);
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_carries_the_place_of_its_task_and_a_task_that_is_made_takes_it_along() {
        let carried = || {
            let request = Carrier.call(Request::new(())).unwrap();
            request.metadata().get(HEADER).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(carried(), None);
        let place = Place::root();
        within(Some(place), async {
            assert_eq!(carried(), Some(place.to_string()));
            let bare = tokio::spawn(async { here() }).await.unwrap();
            let along = tokio::spawn(carry(async { here() })).await.unwrap();
            assert_eq!((bare, along), (None, Some(place)));
        })
        .await;
    }
}
