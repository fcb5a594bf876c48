//! Figures of a service for Prometheus: how it is called, and what it counts itself. They are kept in any case, which costs a
//! few atomic additions a call, and served only where somebody says where: [`server`] has the door.
//!
//! Labels are of closed sets: methods that there are, codes of gRPC, words of ours. Nothing that a caller or a container
//! chooses is one, so that nobody makes the figures grow.

mod address;
mod server;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;
use prometheus::{HistogramOpts, HistogramVec, Opts, Registry, TextEncoder, core::Collector};
pub use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use tonic::Code;

use crate::fault::code_name;

pub use address::{Address, Invalid};
pub use server::Error;

/// The content type of the text format 0.0.4.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What every name begins with.
const PREFIX: &str = "strata";

/// The method of a call of what is not there: whatever a caller writes, it is one.
const UNKNOWN: &str = "unknown";

/// Upper bounds of the durations of calls, in seconds: from a look into memory to a long build.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0];

/// Asks for what is not counted as it happens.
type Refresh = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// The figures of one service. Clones are the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    started: Instant,
    uptime: IntGauge,
    calls: IntCounterVec,
    durations: HistogramVec,
    in_flight: IntGauge,
    refreshes: Mutex<Vec<Refresh>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// The figures of a service of this name, which each of them has as a label.
    pub fn new(service: &str) -> Self {
        let label = [("service".to_owned(), service.to_owned())].into();
        let registry = Registry::new_custom(Some(PREFIX.to_owned()), Some(label));
        let registry = registry.expect("the prefix is a name");
        let buckets = HistogramOpts::new("grpc_request_duration_seconds", "Time from a call to the end of its answer.")
            .buckets(BUCKETS.to_vec());
        let durations = HistogramVec::new(buckets, &["method"]).expect("the names are names");
        let inner = Inner {
            started: Instant::now(),
            uptime: add(&registry, gauge("uptime_seconds", "Seconds since the service started.")),
            calls: add(
                &registry,
                counters("grpc_requests_total", "Calls that have ended, by method and code.", &["method", "code"]),
            ),
            durations: add(&registry, durations),
            in_flight: add(&registry, gauge("grpc_requests_in_flight", "Calls that have not ended.")),
            refreshes: Mutex::default(),
            registry,
        };
        let this = Self(Arc::new(inner));
        let info = this.gauges("build_info", "What runs here; always 1.", &["version"]);
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let began = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        this.gauge("start_time_seconds", "When the service started, in seconds of Unix time.").set(whole(began));
        this
    }

    /// A counter, its name without "strata_". Panics where there is one of the name, or it is none: both are mistakes of ours.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        add(&self.0.registry, IntCounter::with_opts(Opts::new(name, help)).expect("the name is a name"))
    }

    /// Counters that labels tell apart. Each shall be of few values that we choose.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        add(&self.0.registry, counters(name, help, labels))
    }

    /// Something that goes up and down.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        add(&self.0.registry, gauge(name, help))
    }

    /// Such things that labels tell apart.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect("the names are names");
        add(&self.0.registry, gauges)
    }

    /// Does something before the figures are read: sets what is not counted as it happens.
    pub fn before_each_read(&self, refresh: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        self.0.refreshes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(refresh));
    }

    /// All figures in the text format 0.0.4.
    pub async fn text(&self) -> String {
        let refreshes = self.0.refreshes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for refresh in refreshes {
            refresh().await;
        }
        self.0.uptime.set(whole(self.0.started.elapsed().as_secs()));
        // It fails for families without a figure, which `gather` leaves out.
        TextEncoder::new().encode_to_string(&self.0.registry.gather()).unwrap_or_default()
    }

    /// A call begins. Its path counts only where `is_known`.
    pub(crate) fn begin(&self, path: &str, is_known: bool) -> Call {
        self.0.in_flight.inc();
        let method = if is_known { path.trim_start_matches('/') } else { UNKNOWN };
        Call { metrics: self.clone(), method: method.to_owned(), begun: Instant::now(), code: None }
    }
}

/// A call on its way. Dropped before its end, it was cancelled.
#[derive(Debug)]
pub(crate) struct Call {
    metrics: Metrics,
    method: String,
    begun: Instant,
    code: Option<Code>,
}

impl Call {
    /// The call has ended.
    pub fn end(&mut self, code: Code) {
        self.code = Some(code);
    }

    /// How long it has taken.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let inner = &self.metrics.0;
        inner.in_flight.dec();
        let code = code_name(self.code.unwrap_or(Code::Cancelled));
        inner.calls.with_label_values(&[self.method.as_str(), code]).inc();
        inner.durations.with_label_values(&[self.method.as_str()]).observe(self.begun.elapsed().as_secs_f64());
    }
}

/// Raises a counter to what somebody else has counted.
pub fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

/// A number for a gauge.
pub fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn add<T: Collector + Clone + 'static>(registry: &Registry, figure: T) -> T {
    registry.register(Box::new(figure.clone())).expect("each name is there once");
    figure
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::with_opts(Opts::new(name, help)).expect("the name is a name")
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("the names are names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_are_counted_by_method_and_code_and_what_is_dropped_was_cancelled() {
        let metrics = Metrics::new("lamp");
        let mut first = metrics.begin("/strata.lamp.v1.LampService/Light", true);
        first.end(Code::Ok);
        drop(first);
        drop(metrics.begin("/strata.lamp.v1.LampService/Light", true));
        let open = metrics.begin("/strata.lamp.v1.LampService/Wait", true);
        for number in 0..50 {
            metrics.begin(&format!("/made.up/Method{number}"), false).end(Code::Unimplemented);
        }

        let text = metrics.text().await;

        for line in [
            "strata_grpc_requests_total{code=\"OK\",method=\"strata.lamp.v1.LampService/Light\",service=\"lamp\"} 1",
            "strata_grpc_requests_total{code=\"CANCELLED\",method=\"strata.lamp.v1.LampService/Light\",service=\"lamp\"} 1",
            "strata_grpc_requests_total{code=\"UNIMPLEMENTED\",method=\"unknown\",service=\"lamp\"} 50",
            "strata_grpc_requests_in_flight{service=\"lamp\"} 1",
            "strata_grpc_request_duration_seconds_count{method=\"unknown\",service=\"lamp\"} 50",
            "# TYPE strata_grpc_requests_total counter",
            "# TYPE strata_grpc_request_duration_seconds histogram",
            "# TYPE strata_uptime_seconds gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let version = env!("CARGO_PKG_VERSION");
        assert!(text.contains(&format!("strata_build_info{{version=\"{version}\",service=\"lamp\"}} 1")), "{text}");
        assert!(!text.contains("made.up"), "{text}");
        drop(open);
    }

    #[tokio::test]
    async fn what_is_not_counted_as_it_happens_is_asked_for_at_each_read() {
        let metrics = Metrics::new("lamp");
        let (lit, burnt) =
            (metrics.gauges("lamps", "Lamps.", &["state"]), metrics.counter("burnt_total", "Burnt out."));
        let shown = burnt.clone();
        metrics.before_each_read(move || {
            lit.with_label_values(&["lit"]).set(7);
            raise(&shown, shown.get() + 2);
            Box::pin(async {})
        });

        metrics.text().await;
        let text = metrics.text().await;

        assert!(text.contains("strata_lamps{state=\"lit\",service=\"lamp\"} 7"), "{text}");
        assert!(text.contains("strata_burnt_total{service=\"lamp\"} 4"), "{text}");
        raise(&burnt, 1);
        assert_eq!(burnt.get(), 4, "a counter never falls");
    }
}
