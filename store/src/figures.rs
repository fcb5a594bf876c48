//! The figures of the store for Prometheus: what the catalog holds when they are read, and what went to and from registries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use strata_rpc::fault::chain;
use strata_rpc::metrics::{IntCounterVec, IntGauge, Metrics, raise, whole};

use crate::{Error, Result, Store};

/// How pulls, or pushes, ended since the service started.
#[derive(Debug, Default)]
pub struct Outcomes([AtomicU64; 3]);

/// Words for it.
const RESULTS: [&str; 3] = ["ok", "failed", "interrupted"];

impl Outcomes {
    /// Counts one.
    pub(crate) fn count<T>(&self, result: &Result<T>) {
        let index = match result {
            Ok(_) => 0,
            Err(Error::Interrupted) => 2,
            Err(_) => 1,
        };
        self.0[index].fetch_add(1, Ordering::Relaxed);
    }

    fn show(&self, counters: &IntCounterVec) {
        for (word, number) in RESULTS.iter().zip(&self.0) {
            raise(&counters.with_label_values(&[word]), number.load(Ordering::Relaxed));
        }
    }
}

/// What went to and from registries since the service started.
#[derive(Debug, Default)]
pub struct Moves {
    /// Images that came.
    pub(crate) pulls: Outcomes,
    /// Images that went.
    pub(crate) pushes: Outcomes,
}

struct Figures {
    blobs: IntGauge,
    layers: IntGauge,
    images: IntGauge,
    bytes: IntGauge,
    pulls: IntCounterVec,
    pushes: IntCounterVec,
}

/// Adds the figures of a store.
pub fn add(metrics: &Metrics, store: &Arc<Store>) {
    let figures = Arc::new(Figures {
        blobs: metrics.gauge("blobs", "Blobs: compressed layers, configurations, manifests."),
        layers: metrics.gauge("layers", "Layers that are unpacked."),
        images: metrics.gauge("images", "Images."),
        bytes: metrics.gauge("blob_bytes", "Bytes of all blobs."),
        pulls: metrics.counters("pulls_total", "Images asked of registries, by result.", &["result"]),
        pushes: metrics.counters("pushes_total", "Images sent to registries, by result.", &["result"]),
    });
    let store: Weak<Store> = Arc::downgrade(store);
    metrics.before_each_read(move || {
        let (figures, store) = (figures.clone(), store.upgrade());
        Box::pin(async move {
            if let Some(store) = store {
                figures.take(&store).await;
            }
        })
    });
}

impl Figures {
    async fn take(&self, store: &Store) {
        self.pulls_and_pushes(&store.moves);
        match store.catalog.totals().await {
            Ok([blobs, layers, images, bytes]) => {
                for (gauge, number) in
                    [(&self.blobs, blobs), (&self.layers, layers), (&self.images, images), (&self.bytes, bytes)]
                {
                    gauge.set(whole(number));
                }
            }
            // What was known last is shown.
            Err(error) => tracing::warn!("cannot count what the store holds: {}", chain(&error)),
        }
    }

    fn pulls_and_pushes(&self, moves: &Moves) {
        moves.pulls.show(&self.pulls);
        moves.pushes.show(&self.pushes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_a_pull_is_no_failure_of_it() {
        let outcomes = Outcomes::default();
        outcomes.count(&Ok(()));
        outcomes.count::<()>(&Err(Error::Interrupted));
        outcomes.count::<()>(&Err(Error::invalid("reference", "x")));
        outcomes.count::<()>(&Err(Error::Interrupted));
        let counters = Metrics::new("store").counters("pulls_total", "Pulls.", &["result"]);

        outcomes.show(&counters);

        assert_eq!(RESULTS.map(|word| counters.with_label_values(&[word]).get()), [1, 1, 2]);
    }
}
