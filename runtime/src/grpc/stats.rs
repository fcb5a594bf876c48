//! The stream of looks at what containers use.

use std::{sync::Arc, time::Duration};

use strata_proto::runtime::v1 as wire;
use strata_rpc::Drain;
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tonic::Status;

use super::refuse;
use crate::{
    container::Container,
    engine::{Engine, Sample},
    error::Error,
    usage::Usage,
};

/// Between two looks, if nobody says otherwise.
const USUAL: Duration = Duration::from_secs(1);
/// The least time between two looks.
const LEAST: Duration = Duration::from_millis(100);

/// The time between two looks.
pub fn interval(interval: Option<prost_types::Duration>) -> Result<Duration, Error> {
    let Some(interval) = interval else { return Ok(USUAL) };
    let interval = Duration::try_from(interval).ok().filter(|interval| *interval >= LEAST);
    interval.ok_or_else(|| Error::argument("interval", "it is shorter than 100 ms, or not a duration"))
}

/// Looks at containers until the client leaves or the service stops. `named` is empty: at all that run, or with `all` at
/// the others too.
pub async fn watch(
    engine: Arc<Engine>,
    named: Vec<Arc<Container>>,
    all: bool,
    interval: Duration,
    answers: mpsc::Sender<Result<wire::WatchStatsResponse, Status>>,
    drain: Drain,
) {
    let mut looks = tokio::time::interval(interval);
    // A client that is slow is not told more at once later.
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = answers.closed() => return,
            () = drain.cancelled() => return,
        }
        let containers = if named.is_empty() { engine.page("", usize::MAX, all) } else { named.clone() };
        let samples = engine.usage(containers).await;
        let is_failure = samples.is_err();
        let answer = samples
            .map(|samples| wire::WatchStatsResponse { containers: samples.into_iter().map(wire_sample).collect() });
        if answers.send(answer.map_err(refuse)).await.is_err() || is_failure {
            return;
        }
    }
}

fn wire_sample(sample: Sample) -> wire::ContainerStats {
    let Sample { id, name, usage } = sample;
    wire::ContainerStats { id: id.to_string(), name: name.to_string(), usage: usage.map(wire_usage) }
}

fn wire_usage(usage: Usage) -> wire::ContainerUsage {
    let duration =
        |time: Duration| prost_types::Duration { seconds: time.as_secs() as i64, nanos: time.subsec_nanos() as i32 };
    wire::ContainerUsage {
        taken_at: Some(duration(usage.taken_at)),
        cpu_time: usage.cpu.map(duration),
        memory_bytes: usage.memory_bytes,
        memory_limit_bytes: usage.memory_limit_bytes,
        pids: usage.pids,
        block_read_bytes: usage.block_read_bytes,
        block_written_bytes: usage.block_written_bytes,
        received_bytes: usage.traffic.map(|traffic| traffic.received_bytes),
        sent_bytes: usage.traffic.map(|traffic| traffic.sent_bytes),
    }
}
