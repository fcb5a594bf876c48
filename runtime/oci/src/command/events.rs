//! `events`: usage and out-of-memory events of a container, one JSON document a line, in runc's form.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use strata_oci::cgroup::{OomNotice, OomWatch};

use crate::state::{State, Status, describe};

/// How often the container's end is looked for.
const LOOK: Duration = Duration::from_millis(500);

/// Prints usage and out-of-memory events of a container as JSON lines.
#[derive(clap::Args)]
pub struct Events {
    /// Prints the usage once and ends.
    #[arg(long)]
    stats: bool,
    /// Time between two prints of the usage, as 5s, 500ms, 1m.
    #[arg(long, default_value = "5s", value_parser = duration)]
    interval: Duration,
    /// Name of the container.
    id: String,
}

impl Events {
    pub fn run(&self, root: &Path) -> Result<(), String> {
        let state = State::load(root, &self.id)?;
        if state.status() == Status::Stopped {
            return Err(format!("container {} is not running", self.id));
        }
        if self.stats {
            return self.print_usage(&state);
        }
        let mut watch = state.cgroup()?.watch_oom().map_err(|error| describe(&error))?;
        let mut next = Instant::now() + self.interval;
        while state.status() != Status::Stopped {
            // A container's end makes no event everywhere, so it is looked for.
            wait(&watch, next.saturating_duration_since(Instant::now()).min(LOOK))?;
            match watch.take() {
                OomNotice::OutOfMemory => super::say(&format!("{}\n", json!({"type": "oom", "id": self.id})))?,
                OomNotice::Gone => return Ok(()),
                OomNotice::Nothing => {}
            }
            if Instant::now() >= next {
                next += self.interval;
                self.print_usage(&state)?;
            }
        }
        Ok(())
    }

    fn print_usage(&self, state: &State) -> Result<(), String> {
        let data = state.cgroup()?.document();
        super::say(&format!("{}\n", json!({"type": "stats", "id": self.id, "data": data})))
    }
}

fn wait(watch: &OomWatch, limit: Duration) -> Result<(), String> {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
    match poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(format!("cannot wait for events: {error}")),
    }
}

/// Parses Go's durations of one unit.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration as 5s, 500ms or 1m");
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let count: u64 = number.parse().map_err(|_| bad())?;
    let unit = match &text[number.len()..] {
        "ms" => Duration::from_millis(1),
        "s" | "" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        _ => return Err(bad()),
    };
    let count = u32::try_from(count).map_err(|_| bad())?;
    unit.checked_mul(count).filter(|time| !time.is_zero()).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_durations_of_one_unit_above_zero() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "0s", "-1s", "5x", "s", "99999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
