//! What containers use: now, and in the last minutes.

use std::collections::{HashMap, VecDeque};

use strata_proto::runtime::v1 as pb;

use crate::command::stats::processors;

/// Looks that are kept, one a second.
pub const MOST_SAMPLES: usize = 300;

/// What a container used at one look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Processors that were busy since the look before; none: not known.
    pub processors: Option<f64>,
    /// Bytes of memory; none: not counted.
    pub memory: Option<u64>,
}

/// A container's usage.
#[derive(Debug, Default)]
pub struct Usage {
    /// The last look.
    pub now: pb::ContainerUsage,
    /// The last looks, the oldest first.
    pub samples: VecDeque<Sample>,
}

impl Usage {
    /// The last sample.
    pub fn last(&self) -> Sample {
        self.samples.back().copied().unwrap_or_default()
    }
}

/// The usage of all containers that run, by id.
#[derive(Debug, Default)]
pub struct Usages(HashMap<String, Usage>);

impl Usages {
    /// Of one container; none: it does not run, or nobody has looked yet.
    pub fn of(&self, id: &str) -> Option<&Usage> {
        self.0.get(id)
    }

    /// Takes a look. What is no longer in it is forgotten.
    pub fn take(&mut self, look: Vec<pb::ContainerStats>) {
        let mut before = std::mem::take(&mut self.0);
        for container in look {
            let Some(now) = container.usage else { continue };
            let known = before.remove(&container.id);
            let processors = known.as_ref().and_then(|known| processors(&known.now, &now));
            let mut samples = known.map(|known| known.samples).unwrap_or_default();
            if samples.len() == MOST_SAMPLES {
                samples.pop_front();
            }
            samples.push_back(Sample { processors, memory: now.memory_bytes });
            self.0.insert(container.id, Usage { now, samples });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(id: &str, second: i64, cpu_seconds: i64) -> pb::ContainerStats {
        let time = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let usage = pb::ContainerUsage {
            taken_at: time(second),
            cpu_time: time(cpu_seconds),
            memory_bytes: Some(1 << 20),
            ..Default::default()
        };
        pb::ContainerStats { id: id.to_owned(), name: id.to_owned(), usage: Some(usage) }
    }

    #[test]
    fn shares_are_of_the_time_between_two_looks_and_old_looks_go() {
        let mut usages = Usages::default();

        usages.take(vec![look("a", 0, 0), look("b", 0, 0)]);
        assert_eq!(usages.of("a").unwrap().last(), Sample { processors: None, memory: Some(1 << 20) });
        usages.take(vec![look("a", 2, 3)]);
        assert_eq!(usages.of("a").unwrap().last().processors, Some(1.5));
        assert!(usages.of("b").is_none(), "it does not run any more");
        for second in 3..1000 {
            usages.take(vec![look("a", second, 3)]);
        }
        assert_eq!(usages.of("a").unwrap().samples.len(), MOST_SAMPLES);
    }
}
