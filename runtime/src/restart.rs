//! When a container that ended is started again: Docker's policies, and the growing pause between two starts. Pure; what
//! acts on it is `engine/again.rs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::{Exit, ExitKind};

/// The first pause; each later one is twice as long.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);

/// Who ran for so long begins with the first pause again.
const SETTLED: Duration = Duration::from_secs(10);

/// What follows the end of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Nothing.
    #[default]
    No,
    /// A start, after any end that is not exit code 0.
    OnFailure {
        /// At most so many of them. Absent: any number.
        attempts: Option<u32>,
    },
    /// A start, whatever the end was. One that somebody stopped is started with the host, or with this service.
    Always,
    /// A start, unless somebody stopped it; then it is started by hand only.
    UnlessStopped,
}

/// What is known of the end.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// How it ended.
    pub exit: &'a Exit,
    /// Somebody asked for it.
    pub is_by_hand: bool,
    /// So many starts of the policy came before.
    pub count: u32,
}

impl Policy {
    /// Whether it ever starts anything.
    pub fn is_set(self) -> bool {
        self != Self::No
    }

    /// Whether a container that has just ended is started again.
    pub fn is_due(self, end: End<'_>) -> bool {
        let failed = end.exit.kind != ExitKind::Code(0);
        match self {
            _ if end.is_by_hand => false,
            Self::No => false,
            Self::OnFailure { attempts } => failed && attempts.is_none_or(|most| end.count < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }

    /// Whether a container that does not run is started when this service, or the host, starts anew.
    pub fn is_due_anew(self, end: End<'_>) -> bool {
        self == Self::Always || self.is_due(end)
    }
}

/// The pause before the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pause(Option<Duration>);

impl Pause {
    /// The pause after a run of this length.
    pub fn after(&mut self, run: Duration) -> Duration {
        let next = match self.0 {
            Some(last) if run < SETTLED => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.0 = Some(next);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(number: u32) -> Exit {
        Exit { kind: ExitKind::Signal(number), is_oom_killed: false }
    }

    #[test]
    fn policies_are_dockers() {
        let on_failure = Policy::OnFailure { attempts: None };
        let twice = Policy::OnFailure { attempts: Some(2) };
        let lost = Exit::unknown("the monitor was lost");
        for (policy, exit, is_by_hand, count, at_once, anew) in [
            (Policy::No, Exit::code(1), false, 0, false, false),
            (on_failure, Exit::code(0), false, 0, false, false),
            (on_failure, Exit::code(1), false, 1000, true, true),
            (on_failure, signal(9), false, 0, true, true),
            (on_failure, lost, false, 0, true, true),
            (on_failure, Exit::code(1), true, 0, false, false),
            (twice, Exit::code(1), false, 1, true, true),
            (twice, Exit::code(1), false, 2, false, false),
            (Policy::Always, Exit::code(0), false, 0, true, true),
            (Policy::Always, signal(15), true, 0, false, true),
            (Policy::UnlessStopped, Exit::code(0), false, 0, true, true),
            (Policy::UnlessStopped, signal(15), true, 0, false, false),
        ] {
            let end = End { exit: &exit, is_by_hand, count };
            assert_eq!(policy.is_due(end), at_once, "{policy:?} {end:?}");
            assert_eq!(policy.is_due_anew(end), anew, "{policy:?} {end:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_run_of_ten_seconds() {
        let mut pause = Pause::default();
        let short = Duration::from_secs(1);
        let pauses: Vec<u128> = (0..12).map(|_| pause.after(short).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        assert_eq!(pause.after(Duration::from_secs(10)), FIRST);
        assert_eq!(pause.after(short), FIRST * 2);
    }
}
