//! What was built since the service started, in numbers, and these as figures for Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strata_rpc::metrics::{Metrics, raise};

use crate::error::Error;
use crate::progress::StepState;

/// Results of builds.
const RESULTS: [&str; 3] = ["ok", "failed", "cancelled"];

/// What became of steps.
const STEPS: [&str; 3] = ["cached", "executed", "failed"];

/// The numbers. They only grow.
#[derive(Debug, Default)]
pub struct Tally {
    builds: [AtomicU64; 3],
    steps: [AtomicU64; 3],
}

impl Tally {
    /// A build has ended.
    pub(crate) fn built<T>(&self, result: &Result<T, Error>) {
        let index = match result {
            Ok(_) => 0,
            Err(Error::Cancelled) => 2,
            Err(_) => 1,
        };
        self.builds[index].fetch_add(1, Ordering::Relaxed);
    }

    /// A step has ended. What waits, works or was given up is none.
    pub(crate) fn step(&self, state: StepState) {
        let index = match state {
            StepState::Cached => 0,
            StepState::Done => 1,
            StepState::Failed => 2,
            StepState::Waiting | StepState::Running | StepState::Cancelled => return,
        };
        self.steps[index].fetch_add(1, Ordering::Relaxed);
    }

    /// Shows the numbers among these figures.
    pub fn add_to(self: &Arc<Self>, metrics: &Metrics) {
        let builds = metrics.counters("builds_total", "Builds that have ended, by result.", &["result"]);
        let steps = metrics.counters("build_steps_total", "Steps of builds, by what became of them.", &["outcome"]);
        let tally = self.clone();
        metrics.before_each_read(move || {
            for (counters, words, numbers) in [(&builds, RESULTS, &tally.builds), (&steps, STEPS, &tally.steps)] {
                for (word, number) in words.iter().zip(numbers) {
                    raise(&counters.with_label_values(&[word]), number.load(Ordering::Relaxed));
                }
            }
            Box::pin(std::future::ready(()))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn builds_and_steps_are_counted_by_what_became_of_them() {
        let (tally, metrics) = (Arc::new(Tally::default()), Metrics::new("builder"));
        tally.add_to(&metrics);
        tally.built(&Ok(()));
        tally.built::<()>(&Err(Error::Cancelled));
        for state in [StepState::Cached, StepState::Running, StepState::Done, StepState::Done, StepState::Failed] {
            tally.step(state);
        }

        let text = metrics.text().await;

        for line in [
            "strata_builds_total{result=\"ok\",service=\"builder\"} 1",
            "strata_builds_total{result=\"failed\",service=\"builder\"} 0",
            "strata_builds_total{result=\"cancelled\",service=\"builder\"} 1",
            "strata_build_steps_total{outcome=\"cached\",service=\"builder\"} 1",
            "strata_build_steps_total{outcome=\"executed\",service=\"builder\"} 2",
            "strata_build_steps_total{outcome=\"failed\",service=\"builder\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
