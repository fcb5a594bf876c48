//! `events`: usage and out-of-memory events of a container, one JSON document a line, in runc's form.

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    fs::inotify,
};
use serde_json::json;

use crate::{
    state::{State, Status, describe},
    usage,
};

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
        let cgroup = state.cgroup()?;
        let kills = || Ok::<_, String>(cgroup.memory_events().map_err(|error| describe(&error))?.unwrap_or_default());
        let watch = Watch::new(cgroup.directories().map(Path::to_path_buf).collect())?;
        let (mut seen, mut next) = (kills()?.oom_kill, Instant::now() + self.interval);
        while state.status() != Status::Stopped {
            // A container's end makes no event everywhere, so it is looked for.
            watch.wait(next.saturating_duration_since(Instant::now()).min(Duration::from_millis(500)))?;
            // Its cgroup goes away with the container.
            let now = kills().map_or(seen, |events| events.oom_kill);
            if now > seen {
                seen = now;
                super::say(&format!("{}\n", json!({"type": "oom", "id": self.id})))?;
            }
            if Instant::now() >= next {
                next += self.interval;
                self.print_usage(&state)?;
            }
        }
        Ok(())
    }

    fn print_usage(&self, state: &State) -> Result<(), String> {
        let cgroup = state.cgroup()?;
        let data = usage::document(&cgroup.directories().collect::<Vec<_>>());
        super::say(&format!("{}\n", json!({"type": "stats", "id": self.id, "data": data})))
    }
}

/// Wakes when the out-of-memory killer was in the cgroup.
struct Watch {
    event: Option<OwnedFd>,
    _control: Option<fs::File>,
}

impl Watch {
    fn new(directories: Vec<PathBuf>) -> Result<Self, String> {
        let find = |file: &str| directories.iter().map(|directory| directory.join(file)).find(|path| path.exists());
        if let Some(control) = find("memory.oom_control") {
            return Self::v1(&control).map_err(|error| format!("cannot watch {}: {error}", control.display()));
        }
        let Some(events) = find("memory.events") else { return Ok(Self { event: None, _control: None }) };
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK);
        let watch =
            watch.and_then(|watch| inotify::add_watch(&watch, &events, inotify::WatchFlags::MODIFY).map(|_| watch));
        let watch = watch.map_err(|error| format!("cannot watch {}: {error}", events.display()))?;
        Ok(Self { event: Some(watch), _control: None })
    }

    /// cgroup-v1/memory.rst, "OOM Control": an eventfd and the file, registered by their numbers.
    fn v1(control: &Path) -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let file = fs::File::open(control)?;
        let line = format!("{} {}", event.as_raw_fd(), file.as_raw_fd());
        fs::write(control.with_file_name("cgroup.event_control"), line)?;
        Ok(Self { event: Some(event), _control: Some(file) })
    }

    fn wait(&self, limit: Duration) -> Result<(), String> {
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        let mut fds: Vec<PollFd<'_>> = self.event.iter().map(|event| PollFd::new(event, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("cannot wait for events: {error}")),
        }
        if let Some(event) = &self.event {
            // Emptied, so that the next wait waits.
            let _ = rustix::io::read(event, &mut [0; 4096]);
        }
        Ok(())
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
