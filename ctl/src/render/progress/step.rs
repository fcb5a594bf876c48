//! A step as the views know it: its state, its times, its parts.

use std::time::Duration;

use jiff::Timestamp;
use strata_proto::builder::v1 as pb;

use super::clean;

/// A step.
#[derive(Debug)]
pub struct Step {
    /// Its name, one line.
    pub name: String,
    /// Its state.
    pub state: pb::StepState,
    /// When it started last, by the clock of who does it.
    pub started: Option<Timestamp>,
    /// When that was seen here.
    pub seen: Timestamp,
    /// What it took before it started last, or took in all once it is over.
    pub took: Duration,
    /// Why it failed.
    pub error: String,
    /// Its parts, in the order in which they started.
    pub parts: Vec<Part>,
}

/// A part of a step.
#[derive(Debug)]
pub struct Part {
    /// Its name, one line.
    pub name: String,
    /// "1.20MB / 3.40MB"
    pub amount: String,
    /// How much of it there is, of 1; where that is known.
    pub share: Option<f64>,
    /// When it was seen here first.
    pub seen: Timestamp,
    /// When it started, by the clock of who does it.
    pub started: Timestamp,
    /// The state told last was so then.
    pub at: Timestamp,
    /// When it was over.
    pub completed: Option<Timestamp>,
}

/// A time of the wire.
pub fn time(at: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok())
}

/// A duration of the wire.
fn span(took: Option<&prost_types::Duration>) -> Option<Duration> {
    let took = took?;
    Some(Duration::new(u64::try_from(took.seconds).ok()?, u32::try_from(took.nanos).ok()?))
}

/// What passed from one time to another; nothing, if they are the wrong way round.
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

impl Step {
    /// Nothing is known but its name.
    pub fn new(name: &str, now: Timestamp) -> Self {
        Self {
            name: clean::line(name.replace(['\n', '\r'], " ").as_bytes()),
            state: pb::StepState::Waiting,
            started: None,
            seen: now,
            took: Duration::ZERO,
            error: String::new(),
            parts: Vec::new(),
        }
    }

    /// Takes in what is told of it.
    pub fn take(&mut self, told: &pb::StepProgress, now: Timestamp) {
        let started = time(told.started_at.as_ref());
        if started.is_some() && started != self.started {
            self.started = started;
            self.seen = now;
        }
        if let Some(took) = span(told.took.as_ref()) {
            self.took += took;
        }
        if !told.name.is_empty() {
            self.name = clean::line(told.name.replace(['\n', '\r'], " ").as_bytes());
        }
        self.state = told.state();
        self.error = clean::line(told.error.replace('\n', " ").as_bytes());
    }

    /// Takes in what is told of one of its parts, and tells which that is.
    pub fn take_part(&mut self, told: &pb::StepPart, now: Timestamp) -> usize {
        let name = clean::line(told.name.replace(['\n', '\r'], " ").as_bytes());
        let started = time(told.started_at.as_ref()).unwrap_or(now);
        let at = self.parts.iter().position(|part| part.name == name).unwrap_or_else(|| {
            let (amount, share) = (String::new(), None);
            self.parts.push(Part { name, amount, share, seen: now, started, at: now, completed: None });
            self.parts.len() - 1
        });
        let part = &mut self.parts[at];
        part.amount = clean::amount(told.current_bytes, told.total_bytes);
        part.share = (told.total_bytes > 0).then(|| told.current_bytes as f64 / told.total_bytes as f64);
        part.at = time(told.at.as_ref()).unwrap_or(now);
        part.completed = time(told.completed_at.as_ref());
        at
    }

    /// The build was given up: so was this, if it worked.
    pub fn give_up(&mut self, now: Timestamp) {
        if self.state == pb::StepState::Running {
            self.took = self.elapsed(now);
            self.state = pb::StepState::Cancelled;
        }
    }

    /// It has started, and so is worth a line.
    pub fn is_shown(&self) -> bool {
        !matches!(self.state, pb::StepState::Unspecified | pb::StepState::Waiting)
    }

    /// It will not change any more.
    pub fn is_over(&self) -> bool {
        self.is_shown() && self.state != pb::StepState::Running
    }

    /// How long it works, or worked.
    pub fn elapsed(&self, now: Timestamp) -> Duration {
        match self.state {
            pb::StepState::Running => self.took + between(self.seen, now),
            _ => self.took,
        }
    }
}

impl Part {
    /// How long it is under way, or was.
    pub fn elapsed(&self, now: Timestamp) -> Duration {
        match self.completed {
            Some(completed) => between(self.started, completed),
            None => between(self.seen, now),
        }
    }
}

/// Lines of output, from chunks that end anywhere, each with the time at which it began.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
    begun: Option<Timestamp>,
}

/// Longest unfinished line that is kept.
const LINE: usize = 16 << 10;

impl Lines {
    /// The lines that end in this chunk, which came `at` this time from a step that `started`.
    pub fn take(&mut self, chunk: &[u8], at: Timestamp, started: Option<Timestamp>) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.begun.get_or_insert(at);
            self.rest.extend_from_slice(piece);
            if self.rest.last() == Some(&b'\n') {
                self.rest.pop();
                lines.push(self.line(started));
            }
        }
        self.bound();
        lines
    }

    /// What is left, as the last line.
    pub fn end(&mut self, started: Option<Timestamp>) -> Option<String> {
        (!self.rest.is_empty()).then(|| self.line(started))
    }

    fn line(&mut self, started: Option<Timestamp>) -> String {
        let since = started.zip(self.begun.take()).map_or(Duration::ZERO, |(started, begun)| between(started, begun));
        let line = format!("{} {}", stamp(since), clean::line(&self.rest));
        self.rest.clear();
        line
    }

    /// Keeps the end of a line that does not end, as progress bars are: from the last carriage return but one.
    fn bound(&mut self) {
        let before = |end: usize| self.rest[..end].iter().rposition(|byte| *byte == b'\r');
        let start = before(self.rest.len()).and_then(before).unwrap_or(0);
        let start = start.max(self.rest.len().saturating_sub(LINE));
        self.rest.drain(..start);
    }
}

/// When a line came, since its step started: "0.123", "12.34", "123.4".
fn stamp(since: Duration) -> String {
    let seconds = since.as_secs_f64();
    match seconds {
        0.0..10.0 => format!("{seconds:.3}"),
        10.0..100.0 => format!("{seconds:.2}"),
        _ => format!("{seconds:.1}"),
    }
}
