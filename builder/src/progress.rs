//! What a build tells its client while it works. Telling never fails and never waits: a client that is gone cancels the
//! build elsewhere, and one that reads slowly holds no step up. What waits for it is bounded: of what moves bytes only
//! the newest state is kept, of output no more than [`clip`] lets through.

mod clip;
mod queue;
mod share;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use strata_rpc::spans::{self, Place, Span, otlp::Kind};

use crate::error::Error;

pub use queue::{Told, channel};
pub use share::Sharing;

use queue::Sender;

/// State of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// Waits for what it needs.
    Waiting,
    /// Works.
    Running,
    /// Ended well.
    Done,
    /// Its result was in the cache.
    Cached,
    /// Failed.
    Failed,
    /// Given up.
    Cancelled,
}

/// Something to tell.
#[derive(Debug, Clone)]
pub enum Event {
    /// A step and its state.
    Step {
        /// Number of the step, from 1.
        step: u32,
        /// Its name.
        name: Arc<str>,
        /// Its state.
        state: StepState,
        /// When it started.
        started: Option<Timestamp>,
        /// How long it took.
        took: Option<Duration>,
        /// Its line in the Dockerfile.
        line: u32,
        /// Why it was not cached.
        reason: String,
        /// Why it failed.
        error: String,
        /// The steps that it builds on.
        inputs: Vec<u32>,
    },
    /// Output of a step.
    Output {
        /// Number of the step.
        step: u32,
        /// It came from standard error.
        is_stderr: bool,
        /// The bytes.
        chunk: bytes::Bytes,
    },
    /// A part of a step that moves bytes, or takes its time.
    Part(Part),
    /// Something that is no failure.
    Warning {
        /// One sentence.
        text: String,
        /// Line in the Dockerfile.
        line: u32,
    },
}

/// How far a part of a step is.
#[derive(Debug, Clone)]
pub struct Part {
    /// Number of the step.
    pub step: u32,
    /// What is done: its name within the step.
    pub name: Arc<str>,
    /// Bytes so far.
    pub current: u64,
    /// Bytes in all. 0: unknown, or nothing is counted.
    pub total: u64,
    /// When it started.
    pub started: Timestamp,
    /// When it was over.
    pub completed: Option<Timestamp>,
}

/// Where events go.
#[derive(Debug, Clone)]
pub struct Progress {
    events: Sender,
}

/// The longest name of a step in a trace: that of a RUN may be a whole script.
const LONGEST_NAME: usize = 256;

/// A step that works. Dropped before its end it was given up. In a trace it is a part of the build, and what is done
/// [`within`](Running::within) it is a part of it.
#[derive(Debug)]
pub struct Running {
    progress: Progress,
    step: u32,
    name: Arc<str>,
    line: u32,
    begun: Mutex<Option<(Timestamp, Instant)>>,
    inputs: Mutex<Vec<u32>>,
    sharing: Mutex<Option<Sharing>>,
    is_over: AtomicBool,
    /// Where it is in a trace, if the build belongs to one.
    place: Option<Place>,
    /// What the trace knows of it, until it is over.
    span: Mutex<Option<Span>>,
}

impl Progress {
    /// Tells one event.
    pub fn tell(&self, event: Event) {
        self.events.send(event);
    }

    /// Announces a step.
    pub fn waiting(&self, step: u32, name: &str, line: u32) {
        self.events.send(Event::Step {
            step,
            name: name.into(),
            state: StepState::Waiting,
            started: None,
            took: None,
            line,
            reason: String::new(),
            error: String::new(),
            inputs: Vec::new(),
        });
    }

    /// A step that starts to work with `begin`.
    pub fn running(&self, step: u32, name: &str, line: u32) -> Running {
        let above = spans::here();
        let mut span = Span::begin(name.chars().take(LONGEST_NAME).collect::<String>(), Kind::Internal, above);
        if let Some(span) = &mut span {
            span.note("strata.step", step.to_string());
        }
        Running {
            progress: self.clone(),
            step,
            name: name.into(),
            line,
            begun: Mutex::new(None),
            inputs: Mutex::new(Vec::new()),
            sharing: Mutex::new(None),
            is_over: AtomicBool::new(false),
            place: span.as_ref().map(Span::place).or(above),
            span: Mutex::new(span),
        }
    }
}

impl Running {
    /// Does a part of its work. The calls that are made for it are below the step in a trace.
    pub async fn within<F: Future>(&self, work: F) -> F::Output {
        spans::within(self.place, work).await
    }

    /// Tells something that is no failure.
    pub fn warn(&self, text: String) {
        self.progress.tell(Event::Warning { text, line: self.line });
    }

    /// A step whose result it uses; `None`: what it uses is no step's.
    pub fn builds_on(&self, step: Option<u32>) {
        let mut inputs = self.inputs.lock().expect("no holder of this lock panics");
        if let Some(step) = step.filter(|step| !inputs.contains(step)) {
            inputs.push(step);
        }
    }

    /// Tells that it works, and why it must.
    pub fn begin(&self, reason: &str) {
        self.start();
        self.say(StepState::Running, None, reason, "");
    }

    /// What it prints is told to these, too.
    pub fn share(&self, sharing: Sharing) {
        *self.sharing.lock().expect("no holder of this lock panics") = Some(sharing);
    }

    /// Tells what it prints.
    pub fn output(&self, is_stderr: bool, chunk: bytes::Bytes) {
        if let Some(sharing) = &*self.sharing.lock().expect("no holder of this lock panics") {
            sharing.tell(is_stderr, &chunk);
        }
        self.progress.tell(Event::Output { step: self.step, is_stderr, chunk });
    }

    /// Tells that it is over.
    pub fn end(&self, state: StepState) {
        self.over(state, "");
    }

    /// Tells that it is over, and why it failed.
    pub fn fail(&self, error: &Error) {
        match error {
            // What has not begun stays announced: it was never work.
            Error::Cancelled if !self.has_begun() => {}
            Error::Cancelled => self.over(StepState::Cancelled, ""),
            error => self.over(StepState::Failed, &error.short()),
        }
    }

    /// A part of it starts.
    pub fn part(&self, name: impl Into<Arc<str>>) -> Moving {
        let (name, started) = (name.into(), Timestamp::now());
        let part = Part { step: self.step, name, current: 0, total: 0, started, completed: None };
        let moving = Moving { progress: self.progress.clone(), part };
        moving.say();
        moving
    }

    fn has_begun(&self) -> bool {
        self.begun.lock().is_ok_and(|begun| begun.is_some())
    }

    fn start(&self) -> (Timestamp, Instant) {
        let mut begun = self.begun.lock().expect("no holder of this lock panics");
        *begun.get_or_insert_with(|| (Timestamp::now(), Instant::now()))
    }

    fn over(&self, state: StepState, error: &str) {
        if self.is_over.swap(true, Ordering::Relaxed) {
            return;
        }
        self.progress.events.end_output(self.step);
        let took = self.start().1.elapsed();
        self.say(state, Some(took), "", error);
        self.end_span(state, error);
    }

    fn end_span(&self, state: StepState, error: &str) {
        let Some(mut span) = self.span.lock().expect("no holder of this lock panics").take() else { return };
        span.note("strata.step.cached", (state == StepState::Cached).to_string());
        match state {
            StepState::Failed => span.fail(error),
            StepState::Cancelled => span.fail("given up"),
            StepState::Waiting | StepState::Running | StepState::Done | StepState::Cached => {}
        }
    }

    fn say(&self, state: StepState, took: Option<Duration>, reason: &str, error: &str) {
        self.progress.events.send(Event::Step {
            step: self.step,
            name: self.name.clone(),
            state,
            started: Some(self.start().0),
            took,
            line: self.line,
            reason: reason.to_owned(),
            error: error.to_owned(),
            inputs: self.inputs.lock().expect("no holder of this lock panics").clone(),
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.has_begun() {
            self.over(StepState::Cancelled, "");
        }
        // Of what has not begun only the trace knows.
        self.end_span(StepState::Cancelled, "");
    }
}

/// A part of a step that is under way.
#[derive(Debug)]
pub struct Moving {
    progress: Progress,
    part: Part,
}

impl Moving {
    /// So many bytes of so many.
    pub fn at(&mut self, current: u64, total: u64) {
        (self.part.current, self.part.total) = (current, total);
        self.say();
    }

    /// It is over.
    pub fn done(mut self) {
        self.part.completed = Some(Timestamp::now());
        if self.part.total > 0 {
            self.part.current = self.part.total;
        }
        self.say();
    }

    fn say(&self) {
        self.progress.events.send(Event::Part(self.part.clone()));
    }
}
