//! Plain lines, as BuildKit's: each begins with the number of its step. Steps that work at once take turns, so that
//! their lines stand in blocks; a step that is over says so at once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use strata_proto::builder::v1 as pb;

use super::step::{Lines, Step, between};
use super::{End, Told, View, clean};

/// A block stays for a while, unless its step is over or says little.
const TURN: Duration = Duration::from_secs(5);
/// Nobody waits longer for a turn.
const WAIT: Duration = Duration::from_secs(10);
/// A part that is under way is told again after so much of it ...
const SHARE: f64 = 0.05;
/// ... or after this.
const PART: Duration = Duration::from_secs(5);
/// Lines of a failed step that are shown again at the end.
const LAST: usize = 10;

/// The view.
pub struct Plain {
    steps: BTreeMap<u32, Shown>,
    warnings: Vec<pb::Warning>,
    /// The step whose block is open, and since when.
    current: Option<(u32, Timestamp)>,
    /// The number given last.
    numbered: u32,
    /// Only what failed is shown, at the end.
    is_quiet: bool,
}

struct Shown {
    step: Step,
    /// The number that people see: in the order in which steps are shown. 0: none yet.
    number: u32,
    /// Lines that wait for the turn of this step.
    pending: Vec<String>,
    /// Since when something waits.
    waits: Option<Timestamp>,
    /// The end is shown.
    is_closed: bool,
    lines: Lines,
    last: VecDeque<String>,
    /// What was told of each part.
    parts: Vec<(f64, Timestamp)>,
}

impl Plain {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { steps: BTreeMap::new(), warnings: Vec::new(), current: None, numbered: 0, is_quiet: false }
    }

    /// Shows only the last lines of what fails.
    pub fn quiet() -> Self {
        Self { is_quiet: true, ..Self::new() }
    }

    fn entry(&mut self, number: u32, name: &str, now: Timestamp) -> &mut Shown {
        self.steps.entry(number).or_insert_with(|| Shown {
            step: Step::new(name, now),
            number: 0,
            pending: Vec::new(),
            waits: None,
            is_closed: false,
            lines: Lines::default(),
            last: VecDeque::new(),
            parts: Vec::new(),
        })
    }

    fn step(&mut self, told: &pb::StepProgress, now: Timestamp) {
        let shown = self.entry(told.step, &told.name, now);
        let was_running = shown.step.state == pb::StepState::Running;
        shown.step.take(told, now);
        match shown.step.state {
            pb::StepState::Running => {
                // What starts again opens a new block.
                shown.is_closed = false;
                if !was_running && !told.reason.is_empty() {
                    shown.say(format!("not cached: {}", clean::line(told.reason.as_bytes())), now);
                } else {
                    shown.waits.get_or_insert(now);
                }
            }
            _ if shown.step.is_over() => {
                shown.end_line(now);
                shown.waits.get_or_insert(now);
            }
            _ => {}
        }
    }

    fn part(&mut self, told: &pb::StepPart, now: Timestamp) {
        let shown = self.entry(told.step, "", now);
        let at = shown.step.take_part(told, now);
        let part = &shown.step.parts[at];
        let share = part.share.unwrap_or(0.0);
        let is_new = at >= shown.parts.len();
        let (said, when) = shown.parts.get(at).copied().unwrap_or((share, now));
        if !is_new && part.completed.is_none() && share - said < SHARE && between(when, part.at) < PART {
            return;
        }
        let amount = if part.amount.is_empty() { String::new() } else { format!(" {}", part.amount) };
        let took = between(part.started, part.completed.unwrap_or(part.at)).as_secs_f64();
        let took = if took > 0.01 { format!(" {took:.1}s") } else { String::new() };
        let done = if part.completed.is_some() { " done" } else { "" };
        let (text, told_at) = (format!("{}{amount}{took}{done}", part.name), part.at);
        match is_new {
            true => shown.parts.push((share, told_at)),
            false => shown.parts[at] = (share, told_at),
        }
        shown.say(text, now);
    }

    fn output(&mut self, told: &pb::StepOutput, now: Timestamp) {
        let shown = self.entry(told.step, "", now);
        let at = super::step::time(told.at.as_ref()).unwrap_or(now);
        for line in shown.lines.take(&told.chunk, at, shown.step.started) {
            shown.line(line, now);
        }
    }

    fn warning(&mut self, told: pb::Warning, now: Timestamp) {
        if let Some(shown) = self.steps.values_mut().find(|shown| super::is_definition(&shown.step.name)) {
            shown.say(format!("WARN: {}", clean::line(told.text.as_bytes())), now);
        }
        self.warnings.push(told);
    }

    /// Shows what it is time to show.
    fn flush(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        // Who is over goes first, the open block before the others.
        let current = self.current.map(|(number, _)| number);
        let mut over: Vec<u32> = self
            .steps
            .iter()
            .filter(|(_, s)| s.step.is_over() && s.waits.is_some())
            .map(|(number, _)| *number)
            .collect();
        over.sort_by_key(|number| (Some(*number) != current, self.steps[number].waits));
        for number in over {
            self.block(number, now, out);
        }
        match self.current {
            Some((number, since)) => {
                self.block(number, now, out);
                if let Some(next) = self.next(number, since, now) {
                    self.block(next, now, out);
                }
            }
            None => {
                if let Some(next) = self.busiest(None) {
                    self.block(next, now, out);
                }
            }
        }
    }

    /// Whose turn it is instead of the open block's, if it is somebody's.
    fn next(&self, current: u32, since: Timestamp, now: Timestamp) -> Option<u32> {
        let waits_long = |shown: &Shown| shown.waits.is_some_and(|since| between(since, now) > WAIT);
        let waiting = self.steps.iter().filter(|(number, _)| **number != current);
        if let Some((number, _)) = waiting.clone().find(|(_, shown)| waits_long(shown)) {
            return Some(*number);
        }
        (between(since, now) > TURN).then(|| self.busiest(Some(current))).flatten()
    }

    /// The step with the most to say.
    fn busiest(&self, but: Option<u32>) -> Option<u32> {
        let waiting = self.steps.iter().filter(|(number, shown)| Some(**number) != but && shown.waits.is_some());
        waiting
            .max_by_key(|(number, shown)| (shown.pending.len(), std::cmp::Reverse(**number)))
            .map(|(number, _)| *number)
    }

    /// Shows what a step has to say, in its block.
    fn block(&mut self, number: u32, now: Timestamp, out: &mut Vec<u8>) {
        let is_open = self.current.is_some_and(|(current, _)| current == number);
        let Some(shown) = self.steps.get(&number) else { return };
        if shown.waits.is_none() {
            return;
        }
        let mut text = String::new();
        if !is_open {
            if let Some(left) = self.current.and_then(|(current, _)| self.steps.get(&current)) {
                text.push_str(&format!("#{} ...\n\n", left.number));
            }
            self.current = Some((number, now));
        }
        let Some(shown) = self.steps.get_mut(&number) else { return };
        if shown.number == 0 {
            self.numbered += 1;
            shown.number = self.numbered;
        }
        if !is_open {
            text.push_str(&format!("#{} {}\n", shown.number, shown.step.name));
        }
        for line in shown.pending.drain(..) {
            text.push_str(&format!("#{} {line}\n", shown.number));
        }
        shown.waits = None;
        if shown.step.is_over() && !std::mem::replace(&mut shown.is_closed, true) {
            text.push_str(&format!("#{} {}\n\n", shown.number, shown.end(now)));
            self.current = None;
        }
        if !self.is_quiet {
            out.extend_from_slice(text.as_bytes());
        }
    }

    fn end(&mut self, end: End, now: Timestamp, out: &mut Vec<u8>) {
        for shown in self.steps.values_mut().filter(|shown| shown.step.is_shown()) {
            if end == End::Cancelled {
                shown.step.give_up(now);
            }
            if !shown.is_closed {
                shown.end_line(now);
                shown.waits.get_or_insert(now);
            }
        }
        for number in self.steps.keys().copied().collect::<Vec<_>>() {
            self.block(number, now, out);
        }
        for shown in self.steps.values() {
            if shown.step.state == pb::StepState::Failed {
                super::print_failed(&shown.step.name, shown.last.iter(), out);
            }
        }
        if !self.is_quiet {
            super::print_warnings(&self.warnings, out);
        }
    }
}

impl Shown {
    fn say(&mut self, line: String, now: Timestamp) {
        self.pending.push(line);
        self.waits.get_or_insert(now);
    }

    fn line(&mut self, line: String, now: Timestamp) {
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line.clone());
        self.say(line, now);
    }

    fn end_line(&mut self, now: Timestamp) {
        if let Some(rest) = self.lines.end(self.step.started) {
            self.line(rest, now);
        }
    }

    fn end(&self, now: Timestamp) -> String {
        match self.step.state {
            pb::StepState::Cached => "CACHED".to_owned(),
            pb::StepState::Failed if self.step.error.is_empty() => "ERROR".to_owned(),
            pb::StepState::Failed => format!("ERROR: {}", self.step.error),
            pb::StepState::Cancelled => "CANCELED".to_owned(),
            _ => format!("DONE {:.1}s", self.step.elapsed(now).as_secs_f64()),
        }
    }
}

impl View for Plain {
    fn told(&mut self, told: Told, now: Timestamp, out: &mut Vec<u8>) {
        match told {
            Told::Step(told) => self.step(&told, now),
            Told::Part(told) => self.part(&told, now),
            Told::Output(told) => self.output(&told, now),
            Told::Warning(told) => self.warning(told, now),
            Told::End(end) => return self.end(end, now, out),
        }
        self.flush(now, out);
    }

    fn tick(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        self.flush(now, out);
    }
}

#[cfg(test)]
mod tests;
