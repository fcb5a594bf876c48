//! Logical lines: physical lines joined at continuations, comments between them dropped,
//! every byte still traceable to the original text.

use crate::ast::Span;

/// The longest line that is read, in bytes.
pub(crate) const LONGEST: usize = 65_535;

/// The first line of a text that is too long, without its end.
pub(crate) fn too_long(text: &str) -> Option<Span> {
    let mut start = 0;
    for line in text.split('\n') {
        if line.len() > LONGEST {
            return Some(Span::new(start, start + line.trim_end_matches('\r').len()));
        }
        start += line.len() + 1;
    }
    None
}

/// One instruction's line.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogicalLine {
    pub text: String,
    /// Where runs of `text` came from: (offset in `text`, offset in the original), ascending.
    runs: Vec<(usize, usize)>,
    pub first_line: usize,
    pub last_line: usize,
    /// A blank line inside the continuation.
    pub empty_continuation: Option<Span>,
}

impl LogicalLine {
    /// Where the bytes `start..end` of the line are in the original text.
    pub fn span(&self, start: usize, end: usize) -> Span {
        match end > start {
            true => Span::new(self.source_of(start), self.source_of(end - 1) + 1),
            false => Span::new(self.source_of(start), self.source_of(start)),
        }
    }

    fn source_of(&self, at: usize) -> usize {
        let index = self.runs.partition_point(|&(start, _)| start <= at);
        let Some(&(start, source)) = index.checked_sub(1).and_then(|i| self.runs.get(i)) else { return 0 };
        source + (at - start)
    }

    fn push(&mut self, text: &str, source: usize) {
        self.runs.push((self.text.len(), source));
        self.text.push_str(text);
    }
}

/// A physical line: its text with its end, and where it starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PhysicalLine<'a> {
    pub text: &'a str,
    pub start: usize,
}

impl<'a> PhysicalLine<'a> {
    /// The text without its end.
    pub fn content(&self) -> &'a str {
        self.text.trim_end_matches(['\n', '\r'])
    }

    /// The comment without `#`, trimmed, if the line is one.
    pub fn comment(&self) -> Option<&'a str> {
        Some(self.content().trim_start().strip_prefix('#')?.trim())
    }

    /// The line without what is blank at its start, and where that starts.
    fn trimmed_start(&self) -> PhysicalLine<'a> {
        let text = self.content().trim_start();
        PhysicalLine { text, start: self.start + (self.content().len() - text.len()) }
    }
}

/// Reads a text line by line.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    at: usize,
    /// Number of the line read last, from 1.
    pub number: usize,
}

impl<'a> Lines<'a> {
    /// Starts after the byte order mark, if there is one.
    pub fn new(text: &'a str) -> Self {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, at, number: 0 }
    }

    /// Offset of the next byte to read.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Offset after the text of the line read last, without its end.
    pub fn last_end(&self) -> usize {
        self.text[..self.at].trim_end_matches(['\n', '\r']).len()
    }

    /// The next line without reading it.
    pub fn peek(&self) -> Option<PhysicalLine<'a>> {
        let rest = &self.text[self.at..];
        let length = rest.find('\n').map_or(rest.len(), |at| at + 1);
        (length > 0).then(|| PhysicalLine { text: &rest[..length], start: self.at })
    }

    /// Reads a line.
    pub fn next(&mut self) -> Option<PhysicalLine<'a>> {
        let line = self.peek()?;
        self.at += line.text.len();
        self.number += 1;
        Some(line)
    }

    /// Reads the rest of the logical line that begins with `first`, the line read last.
    pub fn join(&mut self, first: PhysicalLine<'a>, escape: char) -> LogicalLine {
        let mut joined = LogicalLine { first_line: self.number, ..LogicalLine::default() };
        let first = first.trimmed_start();
        let (text, mut continues) = cut_continuation(first.text, escape);
        joined.push(text, first.start);
        while continues && let Some(line) = self.next() {
            if line.comment().is_some() {
                continue;
            }
            if line.content().trim().is_empty() {
                joined.empty_continuation.get_or_insert(Span::new(line.start, line.start));
                continue;
            }
            let (text, more) = cut_continuation(line.content(), escape);
            joined.push(text, line.start);
            continues = more;
        }
        joined.last_line = self.number;
        joined
    }
}

/// Removes the escape character at the end of a line; not if another one precedes it.
fn cut_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(text: &str) -> (LogicalLine, Option<&str>) {
        let mut lines = Lines::new(text);
        let first = lines.next().unwrap();
        let joined = lines.join(first, '\\');
        let rest = lines.peek().map(|line| line.content());
        (joined, rest)
    }

    #[test]
    fn continuations_are_joined_and_comments_between_them_dropped() {
        let cases = [
            ("RUN a\nb", "RUN a", Some("b")),
            ("  RUN a \\\n  b\nc", "RUN a   b", Some("c")),
            ("RUN a\\  \t\n# no\n  # no\n b", "RUN a b", None),
            ("RUN a \\\r\nb\r\nc", "RUN a b", Some("c")),
            ("RUN a \\\n\n\nb\nc", "RUN a b", Some("c")),
            ("RUN a \\\\\nb", "RUN a \\\\", Some("b")),
            ("RUN a \\", "RUN a ", None),
            ("\\\nRUN a", "RUN a", None),
        ];
        for (text, expected, rest) in cases {
            let (joined, left) = join(text);
            assert_eq!((joined.text.as_str(), left), (expected, rest), "{text:?}");
        }
    }

    #[test]
    fn every_byte_is_found_again() {
        let text = "  RUN alpha \\\r\n# comment\r\n  bravo \\\n\ncharlie";
        let (joined, _) = join(text);

        for word in ["RUN", "alpha", "bravo", "charlie"] {
            let at = joined.text.find(word).unwrap();
            let span = joined.span(at, at + word.len());
            assert_eq!(&text[span.start..span.end], word);
        }
    }
}
