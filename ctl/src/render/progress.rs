//! The progress of a build, in the views that BuildKit has. A view draws in a thread of its own: however slow a terminal
//! or a reader of standard error is, the build does not wait for it.

mod clean;
mod colours;
mod live;
mod plain;
mod rawjson;
mod step;
#[cfg(test)]
mod story;

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use strata_proto::builder::v1 as pb;

use crate::args::ProgressMode;
use crate::error::{Error, Result};
use crate::render::note;
use crate::terminal;
use live::Live;
use plain::Plain;
use rawjson::RawJson;

/// How often a view is redrawn, unless `TTY_DISPLAY_RATE` says otherwise in milliseconds.
const RATE: Duration = Duration::from_millis(100);

/// Bytes of output that wait for a view at most.
const BACKLOG: usize = 16 << 20;

/// How long a view that cannot write may take to show the end of a build that was given up.
const PATIENCE: Duration = Duration::from_millis(300);

/// Numbers of steps that happen on this side start here.
pub const OWN: u32 = 1 << 31;

/// Begins the name of the step that reads the Dockerfile.
pub const DEFINITION: &str = "[internal] load build definition";

/// What a view is told.
#[derive(Debug)]
pub enum Told {
    /// A step changed.
    Step(pb::StepProgress),
    /// A part of a step came further.
    Part(pb::StepPart),
    /// A step printed something.
    Output(pb::StepOutput),
    /// Something to tell.
    Warning(pb::Warning),
    /// The build is over; nothing follows.
    End(End),
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is done, or failed.
    Over,
    /// It was given up.
    Cancelled,
}

/// One way to show a build. Times are passed in; what there is to show is written to `out`.
trait View: Send {
    /// Takes in what is told.
    fn told(&mut self, told: Told, now: Timestamp, out: &mut Vec<u8>);
    /// Time passes.
    fn tick(&mut self, now: Timestamp, out: &mut Vec<u8>);
}

/// A build that is shown.
pub struct Progress {
    sender: Sender<Told>,
    /// Bytes of output that wait for the view.
    waiting: Arc<AtomicUsize>,
    left_out: usize,
    is_live: bool,
    thread: JoinHandle<()>,
}

impl Progress {
    /// Starts the view for this mode and this terminal.
    pub fn start(mode: ProgressMode) -> Result<Self> {
        let is_live = match mode {
            ProgressMode::Auto => terminal::is_live(),
            ProgressMode::Tty if !terminal::is_live() => {
                let error = Error::usage("--progress tty needs a terminal, and standard error is none");
                return Err(error.hint("`--progress plain` shows lines"));
            }
            ProgressMode::Tty => true,
            _ => false,
        };
        let view: Box<dyn View> = match mode {
            ProgressMode::Quiet | ProgressMode::None => Box::new(Plain::quiet()),
            ProgressMode::Rawjson => Box::new(RawJson::default()),
            _ if is_live => Box::new(Live::new(Timestamp::now())),
            _ => Box::new(Plain::new()),
        };
        let (sender, receiver) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let taken = waiting.clone();
        let thread = std::thread::Builder::new().name("progress".to_owned());
        let thread = thread.spawn(move || show(view, &receiver, &taken)).map_err(|error| Error::of(&error))?;
        Ok(Self { sender, waiting, left_out: 0, is_live, thread })
    }

    /// A step changed.
    pub fn step(&mut self, step: pb::StepProgress) {
        self.tell(Told::Step(step));
    }

    /// A part of a step came further.
    pub fn part(&mut self, part: pb::StepPart) {
        self.tell(Told::Part(part));
    }

    /// A step printed something.
    pub fn output(&mut self, mut output: pb::StepOutput) {
        let size = output.chunk.len();
        if self.waiting.load(Ordering::Relaxed) + size > BACKLOG {
            self.left_out += size;
            return;
        }
        if self.left_out > 0 {
            let mut chunk = format!("\n[{} bytes of output left out: they were not read in time]\n", self.left_out);
            chunk.push_str(&String::from_utf8_lossy(&output.chunk));
            output.chunk = chunk.into();
            self.left_out = 0;
        }
        self.waiting.fetch_add(output.chunk.len(), Ordering::Relaxed);
        self.tell(Told::Output(output));
    }

    /// Something to tell.
    pub fn warning(&mut self, warning: pb::Warning) {
        self.tell(Told::Warning(warning));
    }

    /// Shows the end, and stays on the screen.
    pub async fn finish(self, end: End) {
        // A live view draws over ^C; elsewhere what is shown next does not continue its line.
        if end == End::Cancelled && !self.is_live && std::io::stderr().is_terminal() {
            note("");
        }
        self.tell(Told::End(end));
        let shown = tokio::task::spawn_blocking(move || self.thread.join());
        match end {
            End::Over => drop(shown.await),
            // Who gave up does not wait for a terminal that is stuck.
            End::Cancelled => drop(tokio::time::timeout(PATIENCE, shown).await),
        }
    }

    fn tell(&self, told: Told) {
        // A view that is gone had a reader who is gone.
        let _ = self.sender.send(told);
    }
}

/// A step on this side: what it is called, and when it works.
#[derive(Debug, Clone)]
pub struct Own {
    step: pb::StepProgress,
}

impl Own {
    /// A step that starts now. Its number is told from those of the builder.
    pub fn start(number: u32, name: impl Into<String>) -> Self {
        let started_at = Some(wire(Timestamp::now()));
        let state = pb::StepState::Running.into();
        Self {
            step: pb::StepProgress { step: OWN + number, name: name.into(), state, started_at, ..Default::default() },
        }
    }

    /// It is over.
    pub fn end(mut self, state: pb::StepState) -> pb::StepProgress {
        let took = Timestamp::now().duration_since(step::time(self.step.started_at.as_ref()).unwrap_or_default());
        self.step.took = Some(prost_types::Duration { seconds: took.as_secs(), nanos: took.subsec_nanos() });
        self.step.state = state.into();
        self.step
    }

    /// It failed.
    pub fn fail(mut self, error: &Error) -> pb::StepProgress {
        self.step.error = error.message.clone();
        self.end(pb::StepState::Failed)
    }

    /// It works.
    pub fn running(&self) -> pb::StepProgress {
        self.step.clone()
    }

    /// A part of it starts.
    pub fn begin(&self, name: impl Into<String>) -> OwnPart {
        let started_at = Some(wire(Timestamp::now()));
        OwnPart { part: pb::StepPart { step: self.step.step, name: name.into(), started_at, ..Default::default() } }
    }
}

/// A part of a step on this side.
#[derive(Debug, Clone)]
pub struct OwnPart {
    part: pb::StepPart,
}

impl OwnPart {
    /// How far it is.
    pub fn at(&self, current_bytes: u64, total_bytes: u64, is_over: bool) -> pb::StepPart {
        let at = Some(wire(Timestamp::now()));
        pb::StepPart { current_bytes, total_bytes, completed_at: at.filter(|_| is_over), at, ..self.part.clone() }
    }
}

/// A time as the wire has it.
fn wire(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// The step reads the Dockerfile: what warnings are about.
fn is_definition(name: &str) -> bool {
    name.starts_with(DEFINITION)
}

/// The last lines of a step that failed, as BuildKit shows them.
fn print_failed<'a>(name: &str, lines: impl Iterator<Item = &'a String>, out: &mut Vec<u8>) {
    let mut text = format!("------\n > {name}:\n");
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str("------\n");
    out.extend_from_slice(text.as_bytes());
}

/// What there was to tell that was no failure, all together.
fn print_warnings(warnings: &[pb::Warning], out: &mut Vec<u8>) {
    if warnings.is_empty() {
        return;
    }
    let plural = if warnings.len() == 1 { "" } else { "s" };
    let mut text = format!("\n {} warning{plural} found:\n", warnings.len());
    for warning in warnings {
        let place = if warning.line == 0 { String::new() } else { format!(" (line {})", warning.line) };
        text.push_str(&format!(" - {}{place}\n", clean::line(warning.text.as_bytes())));
    }
    out.extend_from_slice(text.as_bytes());
}

/// The life of a view: until the end, or until nobody reads.
fn show(mut view: Box<dyn View>, receiver: &Receiver<Told>, waiting: &AtomicUsize) {
    let rate = std::env::var("TTY_DISPLAY_RATE").ok().and_then(|text| text.parse().ok());
    let rate = rate.map_or(RATE, Duration::from_millis).max(Duration::from_millis(1));
    let mut out = Vec::new();
    let mut is_over = false;
    let mut drawn = std::time::Instant::now();
    while !is_over {
        match receiver.recv_timeout(rate.saturating_sub(drawn.elapsed())) {
            Ok(told) => {
                if let Told::Output(output) = &told {
                    waiting.fetch_sub(output.chunk.len(), Ordering::Relaxed);
                }
                is_over = matches!(told, Told::End(_));
                view.told(told, Timestamp::now(), &mut out);
            }
            Err(RecvTimeoutError::Timeout) => {
                drawn = std::time::Instant::now();
                view.tick(Timestamp::now(), &mut out);
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if !out.is_empty() {
            if std::io::stderr().lock().write_all(&out).is_err() {
                return;
            }
            out.clear();
        }
    }
}
