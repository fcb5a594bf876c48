//! The last lines of a log, as text that is safe to show.

use std::collections::VecDeque;

use strata_proto::runtime::v1 as pb;

use crate::explore::text;

/// Lines that are kept, and asked for at first.
pub const MOST_LINES: usize = 5000;
/// Bytes of one line that are kept.
const MOST_BYTES: usize = 16 << 10;

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// What it says, without its end.
    pub text: String,
    /// It came from standard error.
    pub is_stderr: bool,
}

/// The last lines. A line has a number that stays while others come and go.
#[derive(Debug, Default)]
pub struct Log {
    lines: VecDeque<Line>,
    /// Number of the first line that is kept.
    first: usize,
    /// Lines of standard output and of standard error whose end has not come.
    open: [Option<usize>; 2],
}

impl Log {
    /// Number of the first line that is kept.
    pub fn first(&self) -> usize {
        self.first
    }

    /// Number of the line behind the last one.
    pub fn end(&self) -> usize {
        self.first + self.lines.len()
    }

    /// A line by its number.
    pub fn line(&self, number: usize) -> Option<&Line> {
        self.lines.get(number.checked_sub(self.first)?)
    }

    /// Takes a line, or a part of one. What is too much is forgotten from the front.
    pub fn add(&mut self, entry: &pb::ReadLogsResponse) {
        let chunk = String::from_utf8_lossy(&entry.chunk);
        let (is_whole, chunk) = match chunk.strip_suffix('\n') {
            Some(line) => (true, line),
            None => (false, chunk.as_ref()),
        };
        let stream = usize::from(entry.is_stderr);
        let number = match self.open[stream] {
            Some(number) => number,
            None => {
                self.lines.push_back(Line { text: String::new(), is_stderr: entry.is_stderr });
                self.end() - 1
            }
        };
        let safe = safe(chunk);
        if let Some(line) = number.checked_sub(self.first).and_then(|at| self.lines.get_mut(at)) {
            let room = MOST_BYTES.saturating_sub(line.text.len());
            line.text.push_str(&safe[..safe.floor_char_boundary(room)]);
        }
        self.open[stream] = (!is_whole).then_some(number);
        while self.lines.len() > MOST_LINES {
            self.lines.pop_front();
            self.first += 1;
        }
        for open in &mut self.open {
            *open = open.filter(|number| *number >= self.first);
        }
    }

    /// The nearest line with a text in it, upward or downward from a line, this one not included.
    pub fn find(&self, wanted: &str, from: usize, is_upward: bool) -> Option<usize> {
        let has = |number: &usize| self.line(*number).is_some_and(|line| contains(&line.text, wanted));
        match is_upward {
            true => (self.first..from.min(self.end())).rev().find(has),
            false => (from.saturating_add(1).max(self.first)..self.end()).find(has),
        }
    }
}

/// Whether a text has another in it; capital letters count only where the wanted one has some.
pub fn contains(text: &str, wanted: &str) -> bool {
    if wanted.chars().any(char::is_uppercase) { text.contains(wanted) } else { text.to_lowercase().contains(wanted) }
}

/// Without what a terminal would act on: colours go, of what was written over itself the last is left.
fn safe(chunk: &str) -> String {
    let plain = anstream::adapter::strip_str(chunk).to_string();
    let last = plain.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    text::line(&last.replace('\t', "    "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(chunk: &str, is_stderr: bool) -> pb::ReadLogsResponse {
        pb::ReadLogsResponse {
            is_stderr,
            written_at: None,
            chunk: chunk.as_bytes().to_vec().into(),
            ..Default::default()
        }
    }

    fn texts(log: &Log) -> Vec<&str> {
        (log.first()..log.end()).filter_map(|number| log.line(number)).map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn parts_of_lines_are_put_together_by_stream() {
        let mut log = Log::default();

        for (chunk, is_stderr) in [("out ", false), ("err\n", true), ("of one\n", false), ("next\n", false)] {
            log.add(&entry(chunk, is_stderr));
        }

        assert_eq!(texts(&log), ["out of one", "err", "next"]);
        assert!(log.line(1).unwrap().is_stderr && !log.line(0).unwrap().is_stderr);
    }

    #[test]
    fn only_the_last_lines_are_kept_and_their_numbers_stay() {
        let mut log = Log::default();
        log.add(&entry("never ends", true));

        for number in 0..MOST_LINES + 10 {
            log.add(&entry(&format!("line {number}\n"), false));
        }
        log.add(&entry("a new one", true));

        assert_eq!(log.end() - log.first(), MOST_LINES);
        assert_eq!(log.line(log.end() - 2).unwrap().text, format!("line {}", MOST_LINES + 9));
        assert_eq!(log.line(log.end() - 1).unwrap().text, "a new one");
        assert_eq!(log.line(log.first() - 1), None);
    }

    #[test]
    fn a_line_without_an_end_does_not_grow_for_ever() {
        let mut log = Log::default();

        for _ in 0..100 {
            log.add(&entry(&"é".repeat(1000), false));
        }

        assert_eq!(log.end(), 1);
        assert!(log.line(0).unwrap().text.len() <= MOST_BYTES);
    }

    #[test]
    fn lines_cannot_write_to_the_terminal() {
        let mut log = Log::default();

        log.add(&entry("\u{1b}[31mred\u{1b}[0m\ttab \u{1b}]0;title\u{7}\u{202e}\r\n", false));
        log.add(&entry("10 %\r50 %\r100 %\n", false));

        let all = texts(&log).join("\n");
        assert!(all.contains("red    tab"), "{all:?}");
        assert!(all.ends_with("\n100 %"), "{all:?}");
        assert!(!all.chars().any(|letter| letter.is_control() && letter != '\n' || letter == '\u{202e}'), "{all:?}");
    }

    #[test]
    fn a_search_goes_both_ways_and_capital_letters_count_when_there_are_some() {
        let mut log = Log::default();
        for line in ["Error one\n", "fine\n", "error two\n"] {
            log.add(&entry(line, false));
        }

        assert_eq!(log.find("error", log.end(), true), Some(2));
        assert_eq!(log.find("error", 2, true), Some(0));
        assert_eq!(log.find("error", 0, false), Some(2));
        assert_eq!(log.find("Error", 2, true), Some(0));
        assert_eq!(log.find("nothing", log.end(), true), None);
    }
}
