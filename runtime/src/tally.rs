//! What has happened to containers since this service started, in numbers. Steps of builds are containers too.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::spec::{Exit, ExitKind};

/// The numbers. They only grow.
#[derive(Debug, Default)]
pub struct Tally {
    starts: AtomicU64,
    restarts: AtomicU64,
    out_of_memory: AtomicU64,
    ends: [AtomicU64; 4],
}

/// How a run ended, as far as it is told apart here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With exit code 0.
    Success,
    /// With another one.
    Failure,
    /// By a signal.
    Signal,
    /// Nobody knows.
    Unknown,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Success, Self::Failure, Self::Signal, Self::Unknown];

    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Signal => "signal",
            Self::Unknown => "unknown",
        }
    }

    fn of(exit: &Exit) -> Self {
        match exit.kind {
            ExitKind::Code(0) => Self::Success,
            ExitKind::Code(_) => Self::Failure,
            ExitKind::Signal(_) => Self::Signal,
            ExitKind::Unknown(_) => Self::Unknown,
        }
    }
}

impl Tally {
    /// A container was started; perhaps by its restart policy.
    pub(crate) fn started(&self, is_by_policy: bool) {
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.restarts.fetch_add(u64::from(is_by_policy), Ordering::Relaxed);
    }

    /// A run has ended.
    pub(crate) fn ended(&self, exit: &Exit) {
        self.ends[End::of(exit) as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The kernel killed in a run for want of memory.
    pub(crate) fn out_of_memory(&self) {
        self.out_of_memory.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts, those by restart policies among them.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Starts by restart policies.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Runs in which the kernel killed for want of memory.
    pub fn out_of_memories(&self) -> u64 {
        self.out_of_memory.load(Ordering::Relaxed)
    }

    /// Runs that ended so.
    pub fn ends(&self, end: End) -> u64 {
        self.ends[end as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_by_their_kind() {
        let tally = Tally::default();
        for exit in [Exit::code(0), Exit::code(3), Exit::code(137), Exit::unknown("lost")] {
            tally.ended(&exit);
        }
        tally.ended(&Exit { kind: ExitKind::Signal(9), is_oom_killed: true });
        tally.started(false);
        tally.started(true);

        assert_eq!(End::ALL.map(|end| tally.ends(end)), [1, 2, 1, 1]);
        assert_eq!((tally.starts(), tally.restarts(), tally.out_of_memories()), (2, 1, 0));
    }
}
