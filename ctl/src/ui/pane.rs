//! What the lower pane has, and which part of it is in sight.

use std::ops::Range;

use super::log::{Log, contains};
use super::update::Content;

/// Lines of a log, or lines that come anew as a whole.
#[derive(Debug)]
pub struct Shown {
    /// The lines are a log's.
    is_log: bool,
    /// The log.
    pub log: Log,
    /// Other lines.
    pub lines: Vec<String>,
    /// Why there is nothing, or nothing new.
    pub note: Option<String>,
    /// Something has come.
    pub is_there: bool,
    /// The container has ended: its log is whole.
    pub has_ended: bool,
    /// Number of the first line in sight.
    pub top: usize,
    /// Letters at the beginning of lines that are out of sight.
    pub left: usize,
    /// The end of a log stays in sight while it grows.
    pub is_following: bool,
    /// Text that is searched for. Empty: none.
    pub search: String,
    /// Number of the line where it was found last.
    pub found: Option<usize>,
}

impl Shown {
    /// Nothing yet.
    pub fn new(is_log: bool) -> Self {
        Self {
            is_log,
            log: Log::default(),
            lines: Vec::new(),
            note: None,
            is_there: false,
            has_ended: false,
            top: 0,
            left: 0,
            is_following: true,
            search: String::new(),
            found: None,
        }
    }

    /// Takes what has come.
    pub fn take(&mut self, content: Content) {
        match content {
            Content::LogBegins => {
                (self.log, self.is_there, self.has_ended, self.note) = (Log::default(), true, false, None);
                self.found = None;
            }
            Content::Log(entries) => entries.iter().for_each(|entry| self.log.add(entry)),
            Content::LogEnds => self.has_ended = true,
            Content::Lines(lines) => (self.lines, self.is_there, self.note) = (lines, true, None),
            Content::Failed(why) => (self.is_there, self.note) = (true, Some(why)),
        }
    }

    /// Numbers of the lines that there are.
    pub fn numbers(&self) -> Range<usize> {
        if self.is_log { self.log.first()..self.log.end() } else { 0..self.lines.len() }
    }

    /// A line by its number.
    pub fn text(&self, number: usize) -> Option<&str> {
        match self.is_log {
            true => self.log.line(number).map(|line| line.text.as_str()),
            false => self.lines.get(number).map(String::as_str),
        }
    }

    /// Whether a line has what is searched for.
    pub fn is_found(&self, number: usize) -> bool {
        !self.search.is_empty() && self.text(number).is_some_and(|text| contains(text, &self.search))
    }

    /// Keeps what is in sight within what there is.
    pub fn fit(&mut self, height: usize) {
        let (start, last) = self.bounds(height);
        self.top = if self.is_log && self.is_following { last } else { self.top.clamp(start, last) };
    }

    /// Moves by lines; negative is up. At its end, a log is followed again.
    pub fn step(&mut self, by: isize, height: usize) {
        let (start, last) = self.bounds(height);
        self.top = self.top.saturating_add_signed(by).clamp(start, last);
        self.is_following = self.top == last;
    }

    /// Goes to the nearest line with the text that is searched for. Returns whether there is one.
    pub fn find(&mut self, is_upward: bool, height: usize) -> bool {
        let from = self.found.unwrap_or(if is_upward { self.top + height } else { self.top });
        let found = self.log.find(&self.search, from, is_upward);
        if let Some(number) = found {
            let (start, last) = self.bounds(height);
            self.found = Some(number);
            self.is_following = false;
            self.top = number.saturating_sub(height / 2).clamp(start, last);
        }
        found.is_some()
    }

    /// The first and the last line that can be the first in sight.
    fn bounds(&self, height: usize) -> (usize, usize) {
        let numbers = self.numbers();
        (numbers.start, numbers.end.saturating_sub(height).max(numbers.start))
    }
}

#[cfg(test)]
mod tests {
    use strata_proto::runtime::v1 as pb;

    use super::*;

    fn log(lines: Range<usize>) -> Content {
        let entry = |number: usize| pb::ReadLogsResponse {
            chunk: format!("line {number}\n").into_bytes().into(),
            ..Default::default()
        };
        Content::Log(lines.map(entry).collect())
    }

    #[test]
    fn a_log_is_followed_until_somebody_looks_back_and_again_at_its_end() {
        let mut shown = Shown::new(true);
        shown.take(Content::LogBegins);
        shown.take(log(0..100));
        shown.fit(10);
        assert_eq!(shown.top, 90);

        shown.step(-5, 10);
        shown.take(log(100..200));
        shown.fit(10);
        assert_eq!((shown.top, shown.is_following), (85, false));
        shown.step(isize::MAX, 10);
        shown.take(log(200..300));
        shown.fit(10);
        assert_eq!((shown.top, shown.is_following), (290, true));
        shown.take(log(300..20_000));
        shown.step(isize::MIN, 10);
        shown.fit(10);
        assert_eq!(shown.top, shown.log.first());
    }

    #[test]
    fn a_search_goes_from_line_to_line() {
        let mut shown = Shown::new(true);
        shown.take(Content::LogBegins);
        shown.take(log(0..100));
        shown.fit(10);
        shown.search = "line 5".to_owned();

        assert!(shown.find(true, 10));
        assert_eq!((shown.found, shown.top, shown.is_following), (Some(59), 54, false));
        assert!(shown.find(true, 10));
        assert_eq!(shown.found, Some(58));
        assert!(shown.find(false, 10) && !shown.find(false, 10));
        assert_eq!(shown.found, Some(59));
    }
}
