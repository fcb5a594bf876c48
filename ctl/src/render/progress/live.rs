//! The live view, as BuildKit's: a head, a line for each step and each of its parts, and below working steps the last
//! lines of what they print. A frame replaces the one before; the last one stays, with every step.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZero;

use jiff::Timestamp;
use strata_proto::builder::v1 as pb;
use unicode_width::UnicodeWidthStr;

use super::colours::{self, Colours};
use super::step::{Lines, Part, Step, between};
use super::{End, Told, View, clean};
use crate::terminal;

/// Lines of output below a working step, unless `BUILDKIT_TTY_LOG_LINES` says otherwise.
const LOG_LINES: NonZero<u16> = NonZero::new(6).expect("six is not zero");
/// Columns that output does not have: what stands before it, and air.
const MARGIN: u16 = 10;
/// Output of one step that is kept in case it fails, in bytes.
const KEPT: usize = 4 << 20;

/// The view.
pub struct Live {
    steps: BTreeMap<u32, Shown>,
    /// Steps in the order in which they started.
    order: Vec<u32>,
    warnings: Vec<pb::Warning>,
    begun: Timestamp,
    colours: Colours,
    log_lines: NonZero<u16>,
    /// Size of the terminal, when it is not asked for: columns and rows.
    fixed: Option<(u16, u16)>,
    /// Columns that each line of the frame on the screen takes.
    drawn: Vec<usize>,
}

struct Shown {
    step: Step,
    /// What it prints: a small screen, which output may go about on as it likes.
    screen: Option<Box<vt100::Parser>>,
    printed: usize,
    /// The last line on that screen has ended.
    is_line_over: bool,
    lines: Lines,
    kept: VecDeque<String>,
    kept_bytes: usize,
}

/// A line of a frame.
struct Row {
    text: String,
    colour: String,
    is_working: bool,
    /// The step whose output may follow.
    output_of: Option<u32>,
}

impl Live {
    /// Nothing yet.
    pub fn new(now: Timestamp) -> Self {
        let lines = std::env::var("BUILDKIT_TTY_LOG_LINES").ok().and_then(|text| text.parse().ok());
        let log_lines = lines.unwrap_or(LOG_LINES);
        Self {
            steps: BTreeMap::new(),
            order: Vec::new(),
            warnings: Vec::new(),
            begun: now,
            colours: Colours::of_environment(),
            log_lines,
            fixed: None,
            drawn: Vec::new(),
        }
    }

    fn size(&self) -> (u16, u16) {
        let ask =
            || terminal::size().and_then(|(columns, rows)| Some((columns.try_into().ok()?, rows.try_into().ok()?)));
        self.fixed.or_else(ask).unwrap_or((80, 24))
    }

    fn entry(&mut self, number: u32, name: &str, now: Timestamp) -> &mut Shown {
        self.steps.entry(number).or_insert_with(|| Shown {
            step: Step::new(name, now),
            screen: None,
            printed: 0,
            is_line_over: false,
            lines: Lines::default(),
            kept: VecDeque::new(),
            kept_bytes: 0,
        })
    }

    fn output(&mut self, output: &pb::StepOutput, now: Timestamp) {
        let (columns, rows) = (output_columns(self.size().0), self.log_lines);
        let Some(shown) = self.steps.get_mut(&output.step) else { return };
        let screen = shown.screen.get_or_insert_with(|| Box::new(vt100::Parser::new(rows, columns, 0)));
        for piece in output.chunk.split_inclusive(|byte| *byte == b'\n') {
            // A pipe has bare line feeds, a terminal expects to be told to go back too. The end of a line waits for the
            // next one: it would leave the lowest row empty.
            if std::mem::take(&mut shown.is_line_over) {
                screen.process(b"\r\n");
            }
            let line = piece.strip_suffix(b"\n");
            shown.is_line_over = line.is_some();
            screen.process(line.unwrap_or(piece));
        }
        shown.printed += output.chunk.len();
        let at = super::step::time(output.at.as_ref()).unwrap_or(now);
        for line in shown.lines.take(&output.chunk, at, shown.step.started) {
            shown.keep(line);
        }
    }

    /// The lines of a frame, at most as many as the terminal has rows; all of them at the end.
    fn rows(&self, now: Timestamp, columns: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        for number in &self.order {
            let shown = &self.steps[number];
            let step = &shown.step;
            let mark = match step.state {
                pb::StepState::Cached => "CACHED ",
                pb::StepState::Failed => "ERROR ",
                pb::StepState::Cancelled => "CANCELED ",
                _ => "",
            };
            let colour = match step.state {
                pb::StepState::Failed => &self.colours.error,
                pb::StepState::Cancelled => &self.colours.cancel,
                pb::StepState::Done | pb::StepState::Cached => &self.colours.run,
                _ => "",
            };
            rows.push(Row {
                text: line(&format!("{mark}{}", step.name), "", step.elapsed(now), columns),
                colour: colour.to_owned(),
                is_working: !step.is_over(),
                output_of: Some(*number).filter(|_| !step.is_over() && shown.printed > 0),
            });
            rows.extend(step.parts.iter().map(|part| self.part(part, step.is_over(), now, columns)));
            if super::is_definition(&step.name) {
                rows.extend(self.warnings.iter().map(|warning| Row {
                    text: line(&format!("WARN: {}", clean::line(warning.text.as_bytes())), "", step.took, columns),
                    colour: self.colours.warning.clone(),
                    is_working: false,
                    output_of: None,
                }));
            }
        }
        rows
    }

    fn part(&self, part: &Part, is_over: bool, now: Timestamp, columns: usize) -> Row {
        let is_over = is_over || part.completed.is_some();
        Row {
            text: line(&format!("=> {}", part.name), &part.amount, part.elapsed(now), columns),
            colour: if is_over { self.colours.run.clone() } else { String::new() },
            is_working: !is_over,
            output_of: None,
        }
    }

    fn head(&self, now: Timestamp, end: Option<End>) -> String {
        let over = self.steps.values().filter(|shown| shown.step.is_over()).count();
        let state = match end {
            Some(End::Cancelled) => " CANCELED",
            Some(End::Over) if over > 0 && over == self.steps.len() => " FINISHED",
            _ => "",
        };
        let seconds = between(self.begun, now).as_secs_f64();
        format!("[+] Building {seconds:.1}s ({over}/{}){state}", self.steps.len())
    }

    /// Rows and the output below them, within the height of the terminal.
    fn frame(&mut self, now: Timestamp, end: Option<End>) -> Vec<(String, String)> {
        let (columns, height) = self.size();
        let (columns, height) = (usize::from(columns), usize::from(height));
        let rows = self.rows(now, columns);
        let mut lines = vec![(clean::cut(&self.head(now, end), columns.saturating_sub(1)), String::new())];
        if end.is_some() {
            lines.extend(rows.into_iter().map(|row| (row.text, row.colour)));
            return lines;
        }
        let outputs = self.outputs(&rows, columns, height);
        let hidden: usize = outputs.values().map(Vec::len).sum();
        for row in fitting(rows, height.saturating_sub(2 + hidden)) {
            lines.push((row.text, row.colour));
            let output = row.output_of.and_then(|number| outputs.get(&number));
            for text in output.into_iter().flatten() {
                lines.push((
                    clean::cut(&format!(" => => # {text}"), columns.saturating_sub(1)),
                    self.colours.output.clone(),
                ));
            }
        }
        lines
    }

    /// What the busiest steps print, as far as there is room beside the steps that work.
    fn outputs(&mut self, rows: &[Row], columns: usize, height: usize) -> BTreeMap<u32, Vec<String>> {
        let most = usize::from(self.log_lines.get());
        let room = most.min(height.saturating_sub(7)).max(most.min(6));
        let mut free = height.saturating_sub(2 + rows.iter().filter(|row| row.is_working).count());
        let mut steps: Vec<u32> = rows.iter().filter_map(|row| row.output_of).collect();
        steps.sort_by_key(|number| std::cmp::Reverse(self.steps[number].printed));
        let mut outputs = BTreeMap::new();
        for number in steps {
            if free <= room + 3 {
                break;
            }
            free -= room + 3;
            let Some(screen) = self.steps.get_mut(&number).and_then(|shown| shown.screen.as_mut()) else { continue };
            let width = output_columns(u16::try_from(columns).unwrap_or(u16::MAX));
            screen.screen_mut().set_size(self.log_lines, width);
            let lines: Vec<String> =
                screen.screen().rows(0, width.get()).map(|row| clean::line(row.trim_end().as_bytes())).collect();
            let skip = lines.len().saturating_sub(room);
            let lines = lines.into_iter().filter(|row| !row.is_empty()).skip(skip);
            outputs.insert(number, lines.collect());
        }
        outputs
    }

    fn draw(&mut self, now: Timestamp, end: Option<End>, out: &mut Vec<u8>) {
        let columns = usize::from(self.size().0).max(1);
        let frame = self.frame(now, end);
        // A terminal that became narrower has broken what stands there into more lines.
        let above: usize = self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum();
        let mut text = String::from("\x1b[?25l");
        if above > 0 {
            text.push_str(&format!("\r\x1b[{above}A"));
        }
        self.drawn.clear();
        for (line, colour) in frame {
            self.drawn.push(line.width());
            match colour.is_empty() {
                true => text.push_str(&line),
                false => text.push_str(&format!("{colour}{line}{}", colours::END)),
            }
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J\x1b[?25h");
        out.extend_from_slice(text.as_bytes());
    }

    fn print_failed(&mut self, out: &mut Vec<u8>) {
        for number in &self.order {
            let Some(shown) = self.steps.get_mut(number) else { continue };
            if shown.step.state != pb::StepState::Failed {
                continue;
            }
            if let Some(rest) = shown.lines.end(shown.step.started) {
                shown.keep(rest);
            }
            super::print_failed(&shown.step.name, shown.kept.iter(), out);
        }
    }
}

impl Shown {
    fn keep(&mut self, line: String) {
        self.kept_bytes += line.len();
        self.kept.push_back(line);
        while self.kept_bytes > KEPT
            && let Some(first) = self.kept.pop_front()
        {
            self.kept_bytes -= first.len();
        }
    }
}

/// Columns that output has.
fn output_columns(columns: u16) -> NonZero<u16> {
    NonZero::new(columns.saturating_sub(MARGIN)).unwrap_or(NonZero::<u16>::MIN)
}

/// " => NAME   AMOUNT      1.2s"
fn line(name: &str, amount: &str, took: std::time::Duration, columns: usize) -> String {
    let seconds = Some(took.as_secs_f64()).filter(|seconds| *seconds >= 0.05).unwrap_or(0.0);
    let time = format!("{seconds:.1}s");
    let left = columns.saturating_sub(" => ".len() + time.len() + 2);
    let amount = if !amount.is_empty() && left > amount.width() + 20 { format!(" {amount}") } else { String::new() };
    let name = clean::cut(name, left.saturating_sub(amount.width()));
    let text = format!(" => {name}{amount}");
    let air = columns.saturating_sub(1 + text.width() + time.len());
    clean::cut(&format!("{text}{}{time}", " ".repeat(air)), columns.saturating_sub(1))
}

/// So many rows: those that work, and the newest of those that are over; in their order.
fn fitting(rows: Vec<Row>, most: usize) -> Vec<Row> {
    if rows.len() <= most {
        return rows;
    }
    let working = rows.iter().filter(|row| row.is_working).count();
    let (mut skip_working, mut skip_over) = match working > most {
        true => (working - most, rows.len()),
        false => (0, rows.len() - most),
    };
    let mut keep = |row: &Row| {
        let skip = if row.is_working { &mut skip_working } else { &mut skip_over };
        let keeps = *skip == 0;
        *skip = skip.saturating_sub(1);
        keeps
    };
    rows.into_iter().filter(|row| keep(row)).collect()
}

impl View for Live {
    fn told(&mut self, told: Told, now: Timestamp, out: &mut Vec<u8>) {
        match told {
            Told::Step(told) => {
                let shown = self.entry(told.step, &told.name, now);
                let was_shown = shown.step.is_shown();
                shown.step.take(&told, now);
                let (is_shown, state) = (shown.step.is_shown(), shown.step.state);
                if !was_shown && is_shown {
                    self.order.push(told.step);
                }
                // Only of what fails is the output wanted again.
                if matches!(state, pb::StepState::Done | pb::StepState::Cached | pb::StepState::Cancelled)
                    && let Some(shown) = self.steps.get_mut(&told.step)
                {
                    (shown.screen, shown.kept_bytes) = (None, 0);
                    shown.kept.clear();
                }
            }
            Told::Part(told) => {
                self.entry(told.step, "", now).step.take_part(&told, now);
            }
            Told::Output(told) => self.output(&told, now),
            Told::Warning(told) => self.warnings.push(told),
            Told::End(end) => {
                if end == End::Cancelled {
                    self.steps.values_mut().for_each(|shown| shown.step.give_up(now));
                }
                self.draw(now, Some(end), out);
                self.print_failed(out);
                super::print_warnings(&self.warnings, out);
            }
        }
    }

    fn tick(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        self.draw(now, None, out);
    }
}

#[cfg(test)]
mod tests;
