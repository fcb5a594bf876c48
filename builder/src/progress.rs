//! What a build tells its client while it works. Telling never fails: a client that is gone cancels the build elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;

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
    /// Something that is no failure.
    Warning {
        /// One sentence.
        text: String,
        /// Line in the Dockerfile.
        line: u32,
    },
}

/// Where events go.
#[derive(Debug, Clone)]
pub struct Progress {
    events: mpsc::Sender<Event>,
}

/// A step that works.
#[derive(Debug)]
pub struct Running {
    progress: Progress,
    step: u32,
    name: Arc<str>,
    line: u32,
    started: Timestamp,
    since: Instant,
}

impl Progress {
    /// Events go to `events`.
    pub fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events }
    }

    /// Tells one event.
    pub async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await;
    }

    /// Announces a step.
    pub async fn waiting(&self, step: u32, name: &str, line: u32) {
        let (name, state) = (name.into(), StepState::Waiting);
        self.tell(Event::Step { step, name, state, started: None, took: None, line, reason: String::new() }).await;
    }

    /// A step starts to work.
    pub fn running(&self, step: u32, name: &str, line: u32) -> Running {
        let (started, since) = (Timestamp::now(), Instant::now());
        Running { progress: self.clone(), step, name: name.into(), line, started, since }
    }
}

impl Running {
    /// Number of the step.
    pub fn step(&self) -> u32 {
        self.step
    }

    /// Where events go.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Tells that it works, and why it must.
    pub async fn begin(&self, reason: &str) {
        self.say(StepState::Running, None, reason).await;
    }

    /// Tells that it is over.
    pub async fn end(&self, state: StepState) {
        self.say(state, Some(self.since.elapsed()), "").await;
    }

    async fn say(&self, state: StepState, took: Option<Duration>, reason: &str) {
        let event = Event::Step {
            step: self.step,
            name: self.name.clone(),
            state,
            started: Some(self.started),
            took,
            line: self.line,
            reason: reason.to_owned(),
        };
        self.progress.tell(event).await;
    }
}
