//! Saying where in a file something is wrong: file, line, column, the line itself and a caret.
//! Texts of the file are shown with control characters replaced, so that a file cannot drive the terminal.

use serde::Serialize;
use std::fmt;
use std::sync::Arc;

use crate::ast::Span;

/// Longest part of a line that is shown, in characters.
const SNIPPET_WIDTH: usize = 160;

/// A text and its name; cheap to clone.
#[derive(Debug, Clone)]
pub struct Source {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    text: String,
    /// Offset of the first byte of each line.
    lines: Vec<usize>,
}

impl Source {
    /// Names `text` and finds its lines.
    pub fn new(name: &str, text: &str) -> Self {
        let mut lines = vec![0];
        lines.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        Self { inner: Arc::new(Inner { name: name.to_owned(), text: text.to_owned(), lines }) }
    }

    /// The name shown to people, such as `Dockerfile`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.inner.text
    }

    /// Line and column of a byte, both from 1; columns count characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.floor(offset);
        let line = self.inner.lines.partition_point(|&start| start <= offset);
        let start = self.inner.lines[line - 1];
        let before = self.inner.text[start..offset].trim_start_matches('\u{feff}');
        (line, before.chars().count() + 1)
    }

    /// The text of `line` (from 1) without its end.
    pub fn line(&self, line: usize) -> &str {
        let lines = &self.inner.lines;
        let Some(&start) = line.checked_sub(1).and_then(|index| lines.get(index)) else { return "" };
        let end = lines.get(line).copied().unwrap_or(self.inner.text.len());
        self.inner.text[start..end].trim_end_matches(['\n', '\r']).trim_start_matches('\u{feff}')
    }

    fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.inner.text.len());
        while !self.inner.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Name of the file.
    pub file: Box<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The bytes meant.
    pub span: Span,
    /// Lower case, one line.
    pub message: String,
    /// What was probably meant: `did you mean "RUN"?`
    pub suggestion: Option<String>,
    /// The line of the file.
    pub snippet: Box<str>,
    /// How many characters of the line are meant.
    pub width: usize,
}

impl Diagnostic {
    /// Points at `span` of `source`.
    pub fn at(source: &Source, span: Span, message: impl Into<String>) -> Self {
        let (line, column) = source.position(span.start);
        let (end_line, end_column) = source.position(span.end.max(span.start));
        let snippet = source.line(line);
        let rest = (snippet.chars().count() + 1).saturating_sub(column);
        let width = if end_line == line { end_column.saturating_sub(column) } else { rest };
        let width = width.min(rest).max(1);
        let file = source.name().into();
        Self { file, line, column, span, message: message.into(), suggestion: None, snippet: snippet.into(), width }
    }

    /// Adds `did you mean "…"?` if there is something to mean.
    pub fn did_you_mean(mut self, candidate: Option<impl fmt::Display>) -> Self {
        if let Some(candidate) = candidate {
            self.suggestion = Some(format!("did you mean \"{candidate}\"?"));
        }
        self
    }

    /// Adds advice: one sentence.
    pub fn with_suggestion(mut self, text: impl Into<String>) -> Self {
        self.suggestion = Some(text.into());
        self
    }

    /// The message, the line with a caret, and the suggestion, each on its line; no line end at the end.
    pub fn render(&self) -> String {
        let (shown, caret, width) = self.window();
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let mut text = format!("{self}\n {number} | {shown}\n {gutter} | {}{}", " ".repeat(caret), "^".repeat(width));
        if let Some(suggestion) = &self.suggestion {
            text.push('\n');
            text.push_str(suggestion);
        }
        text
    }

    /// The part of the line to show, and where in it the caret is, and how wide.
    fn window(&self) -> (String, usize, usize) {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let line: Vec<char> = self.snippet.chars().map(plain).collect();
        let caret = (self.column - 1).min(line.len());
        let start = if caret < SNIPPET_WIDTH { 0 } else { caret - SNIPPET_WIDTH / 2 };
        let end = line.len().min(start + SNIPPET_WIDTH);
        let width = self.width.min(end.saturating_sub(caret)).max(1);
        (line[start..end].iter().collect(), caret - start, width)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

impl std::error::Error for Diagnostic {}
