//! The progress of a build: plain lines, or a live view on a terminal that keeps what is finished above it.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use strata_proto::builder::v1 as pb;

use super::note;
use super::table;
use crate::terminal;

/// Lines of output shown below a working step.
const TAIL: usize = 6;

/// Longest unfinished line that is kept.
const LINE: usize = 16 << 10;

/// Output alone redraws the live view no more often.
const PAUSE: Duration = Duration::from_millis(50);

/// How a build is shown.
pub enum Progress {
    /// Not at all.
    Quiet,
    /// Line by line.
    Plain(Plain),
    /// A live view.
    Live(Box<Live>),
}

/// Plain lines, numbered by step.
#[derive(Default)]
pub struct Plain {
    steps: BTreeMap<u32, Shown>,
}

#[derive(Default)]
struct Shown {
    rest: Vec<u8>,
    is_named: bool,
}

/// The live view.
pub struct Live {
    steps: BTreeMap<u32, Step>,
    since: Instant,
    drawn: usize,
    drawn_at: Instant,
    is_over: bool,
}

struct Step {
    name: String,
    state: pb::StepState,
    since: Instant,
    took: Option<f64>,
    lines: Vec<String>,
    rest: Vec<u8>,
    all: Vec<String>,
}

impl Progress {
    /// The view for these flags and this terminal.
    pub fn new(quiet: bool, plain: bool) -> Self {
        match (quiet, plain || !terminal::is_live()) {
            (true, _) => Progress::Quiet,
            (false, true) => Progress::Plain(Plain::default()),
            (false, false) => Progress::Live(Box::new(Live {
                steps: BTreeMap::new(),
                since: Instant::now(),
                drawn: 0,
                drawn_at: Instant::now(),
                is_over: false,
            })),
        }
    }

    /// A step changed.
    pub fn step(&mut self, step: &pb::StepProgress) {
        match self {
            Progress::Quiet => {}
            Progress::Plain(plain) => plain.step(step),
            Progress::Live(live) => live.step(step),
        }
    }

    /// A step printed something.
    pub fn output(&mut self, output: &pb::StepOutput) {
        match self {
            Progress::Quiet => {}
            Progress::Plain(plain) => plain.output(output),
            Progress::Live(live) => live.output(output),
        }
    }

    /// Something to tell.
    pub fn warning(&mut self, warning: &pb::Warning) {
        match self {
            Progress::Quiet => {}
            Progress::Plain(_) => eprintln!("warning: {}", warning.text),
            Progress::Live(live) => {
                live.clear();
                note(format!("warning: {}", warning.text));
                live.draw();
            }
        }
    }

    /// Draws the passing of time.
    pub fn tick(&mut self) {
        if let Progress::Live(live) = self {
            live.draw();
        }
    }

    /// The build is over.
    pub fn finish(&mut self) {
        if let Progress::Live(live) = self {
            live.is_over = true;
            live.draw();
            live.print_failed();
        }
    }
}

fn seconds(step: &pb::StepProgress) -> Option<f64> {
    step.took.as_ref().map(|took| took.seconds as f64 + f64::from(took.nanos) / 1e9)
}

/// Text that cannot drive the terminal.
fn harmless(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    // What a carriage return overwrites is not worth a line.
    let last = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    last.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

/// Keeps the end of a line that does not end, as progress bars are: from the last carriage return but one.
fn bound(line: &mut Vec<u8>) {
    let before = |end: usize| line[..end].iter().rposition(|byte| *byte == b'\r');
    let start = before(line.len()).and_then(before).unwrap_or(0);
    let start = start.max(line.len().saturating_sub(LINE));
    line.drain(..start);
}

impl Plain {
    fn step(&mut self, step: &pb::StepProgress) {
        let number = step.step;
        let shown = self.steps.entry(number).or_default();
        let mut name = || {
            if !std::mem::replace(&mut shown.is_named, true) {
                note(format!("#{number} {}", step.name));
            }
        };
        match step.state() {
            pb::StepState::Running => {
                name();
                if !step.reason.is_empty() {
                    note(format!("#{number} not cached: {}", step.reason));
                }
            }
            pb::StepState::Cached => {
                name();
                note(format!("#{number} CACHED\n"));
            }
            pb::StepState::Done => {
                name();
                self.flush(number);
                note(format!("#{number} DONE {:.1}s\n", seconds(step).unwrap_or(0.0)));
            }
            pb::StepState::Failed => {
                name();
                self.flush(number);
                note(format!("#{number} ERROR\n"));
            }
            pb::StepState::Waiting | pb::StepState::Cancelled | pb::StepState::Unspecified => {}
        }
    }

    fn output(&mut self, output: &pb::StepOutput) {
        let shown = self.steps.entry(output.step).or_default();
        shown.rest.extend_from_slice(&output.chunk);
        let mut stderr = std::io::stderr().lock();
        while let Some(end) = shown.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = shown.rest.drain(..=end).collect();
            let _ = writeln!(stderr, "#{} {}", output.step, harmless(&line[..end]));
        }
        bound(&mut shown.rest);
    }

    fn flush(&mut self, number: u32) {
        if let Some(shown) = self.steps.get_mut(&number)
            && !shown.rest.is_empty()
        {
            note(format!("#{number} {}", harmless(&std::mem::take(&mut shown.rest))));
        }
    }
}

impl Live {
    fn step(&mut self, step: &pb::StepProgress) {
        let entry = self.steps.entry(step.step).or_insert_with(|| Step {
            name: step.name.clone(),
            state: step.state(),
            since: Instant::now(),
            took: None,
            lines: Vec::new(),
            rest: Vec::new(),
            all: Vec::new(),
        });
        if entry.state != pb::StepState::Running && step.state() == pb::StepState::Running {
            entry.since = Instant::now();
        }
        entry.state = step.state();
        entry.took = seconds(step);
        self.draw();
    }

    fn output(&mut self, output: &pb::StepOutput) {
        let Some(step) = self.steps.get_mut(&output.step) else { return };
        step.rest.extend_from_slice(&output.chunk);
        while let Some(end) = step.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = step.rest.drain(..=end).collect();
            let line = harmless(&line[..end]);
            step.lines.push(line.clone());
            step.all.push(line);
        }
        let extra = step.lines.len().saturating_sub(TAIL);
        step.lines.drain(..extra);
        let extra = step.all.len().saturating_sub(100);
        step.all.drain(..extra);
        bound(&mut step.rest);
        if self.drawn_at.elapsed() >= PAUSE {
            self.draw();
        }
    }

    fn clear(&mut self) {
        if self.drawn > 0 {
            let _ = write!(std::io::stderr(), "\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }

    fn draw(&mut self) {
        let (columns, rows) = terminal::size().unwrap_or((80, 24));
        let width = columns as usize;
        let over = self.steps.values().filter(|s| !matches!(s.state, pb::StepState::Waiting | pb::StepState::Running));
        let done = over.count();
        let total = self.steps.len();
        let state = if self.is_over { "" } else { " …" };
        let mut lines =
            vec![format!("[+] Building {:.1}s ({done}/{total}){state}", self.since.elapsed().as_secs_f64())];
        for step in self.steps.values() {
            let (mark, time) = match step.state {
                pb::StepState::Waiting | pb::StepState::Unspecified => continue,
                pb::StepState::Running => ("=>", format!("{:.1}s", step.since.elapsed().as_secs_f64())),
                pb::StepState::Cached => ("=> CACHED", "0.0s".to_owned()),
                pb::StepState::Failed => ("=> ERROR", format!("{:.1}s", step.took.unwrap_or(0.0))),
                pb::StepState::Done => ("=>", format!("{:.1}s", step.took.unwrap_or(0.0))),
                pb::StepState::Cancelled => ("=> CANCELED", String::new()),
            };
            let room = width.saturating_sub(time.len() + 2);
            let text = table::cut(&format!(" {mark} {}", step.name), room);
            lines.push(format!("{text:room$} {time}"));
            if step.state == pb::StepState::Running {
                let rest = Some(harmless(&step.rest)).filter(|rest| !rest.is_empty());
                let tail =
                    step.lines.iter().chain(&rest).skip((step.lines.len() + rest.iter().len()).saturating_sub(TAIL));
                lines.extend(tail.map(|line| table::cut(&format!(" => => # {line}"), width - 1)));
            }
        }
        // More than a screen cannot be taken back.
        let most = (rows as usize).saturating_sub(1).max(1);
        if lines.len() > most {
            let extra = lines.len() - most;
            lines.drain(1..=extra.min(lines.len() - 1));
        }
        self.clear();
        self.drawn_at = Instant::now();
        self.drawn = lines.len();
        note(lines.join("\n"));
    }

    fn print_failed(&self) {
        for step in self.steps.values().filter(|step| step.state == pb::StepState::Failed) {
            let rest = harmless(&step.rest);
            if step.all.is_empty() && rest.is_empty() {
                continue;
            }
            note(format!("------\n > {}:", step.name));
            for line in step.all.iter().rev().take(20).rev() {
                note(line);
            }
            if !rest.is_empty() {
                note(rest);
            }
            note("------");
        }
    }
}
