//! The figures of the runtime for Prometheus, made of what the engine knows when they are read.

use std::sync::{Arc, Weak};

use strata_rpc::metrics::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Metrics, raise, whole};

use crate::{engine::Engine, record::State, tally::End};

/// States as `ctl ps` has them.
const STATES: [&str; 6] = ["created", "running", "paused", "restarting", "exited", "removing"];

struct Figures {
    containers: IntGaugeVec,
    starts: IntCounter,
    restarts: IntCounter,
    out_of_memories: IntCounter,
    ends: IntCounterVec,
    volumes: IntGauge,
    secrets: IntGauge,
}

/// Adds the figures of an engine.
pub fn add(metrics: &Metrics, engine: &Arc<Engine>) {
    let figures = Figures {
        containers: metrics.gauges("containers", "Containers, by state.", &["state"]),
        starts: metrics.counter("container_starts_total", "Starts of containers, steps of builds among them."),
        restarts: metrics.counter("container_restarts_total", "Starts by restart policies."),
        out_of_memories: metrics
            .counter("container_ooms_total", "Runs of containers in which the kernel killed for want of memory."),
        ends: metrics.counters("container_deaths_total", "Ends of containers, by kind.", &["kind"]),
        volumes: metrics.gauge("volumes", "Volumes."),
        secrets: metrics.gauge("secrets", "Secrets."),
    };
    let engine: Weak<Engine> = Arc::downgrade(engine);
    metrics.before_each_read(move || {
        if let Some(engine) = engine.upgrade() {
            figures.take(&engine);
        }
        Box::pin(std::future::ready(()))
    });
}

impl Figures {
    fn take(&self, engine: &Engine) {
        let states: Vec<&str> = engine.states().iter().map(word).collect();
        for word in STATES {
            let count = states.iter().filter(|state| **state == word).count();
            self.containers.with_label_values(&[word]).set(whole(count as u64));
        }
        let tally = engine.tally();
        raise(&self.starts, tally.starts());
        raise(&self.restarts, tally.restarts());
        raise(&self.out_of_memories, tally.out_of_memories());
        for end in End::ALL {
            raise(&self.ends.with_label_values(&[end.as_str()]), tally.ends(end));
        }
        self.volumes.set(whole(engine.volumes().page("", usize::MAX).len() as u64));
        self.secrets.set(whole(engine.secrets().page("", usize::MAX).len() as u64));
    }
}

fn word(state: &State) -> &'static str {
    match state {
        State::Creating | State::Created => "created",
        State::Running(running) if running.is_paused => "paused",
        State::Running(_) => "running",
        State::Restarting => "restarting",
        State::Exited => "exited",
        State::Removing => "removing",
    }
}
