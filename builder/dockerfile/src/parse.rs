//! The whole file: directives, then statements one after another, each with its heredocs, into stages.

use crate::ast::{Dockerfile, Heredoc, Instruction, Kind, Onbuild, Span, Stage};
use crate::diagnostic::{Diagnostic, Source};
use crate::directive;
use crate::flag::Flags;
use crate::heredoc::{self, Marker};
use crate::line::{self, Lines, LogicalLine};
use crate::statement::{self, From, Scope};
use crate::word::{self, JsonForm};

type Result<T> = std::result::Result<T, Diagnostic>;

/// Parses a Dockerfile; `name` is what errors call it.
pub fn parse(text: &str, name: &str) -> Result<Dockerfile> {
    let source = Source::new(name, text);
    if let Some(frontend) = directive::json_syntax(text.trim_start_matches('\u{feff}')) {
        let message = format!("the file is a definition in JSON for the frontend {frontend:?}");
        let error = Diagnostic::at(&source, Span::new(0, 1), message);
        return Err(error.with_suggestion("write a Dockerfile: no other language is built here"));
    }
    if let Some(span) = line::too_long(text) {
        let message = format!("this line is longer than {} bytes", line::LONGEST);
        let error = Diagnostic::at(&source, span, message);
        return Err(error.with_suggestion("continue it on another line, with \\ at its end, or copy a file"));
    }
    let mut parser = Parser { source: &source, lines: Lines::new(text), escape: '\\', warnings: Vec::new() };
    let directives = directive::read(&mut parser.lines, &source)?;
    parser.escape = directives.escape;
    let mut global_args = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    while let Some(statement) = parser.statement()? {
        match statement {
            Statement::Stage(mut stage) => {
                stage.index = stages.len();
                parser.warn_about_name(&stage, &stages);
                stages.push(*stage);
            }
            Statement::Instruction(instruction) => match (stages.last_mut(), instruction.kind) {
                (None, Kind::Arg(declarations)) => global_args.extend(declarations),
                (None, kind) => {
                    let message = format!("{} before the first FROM: only ARG may stand there", kind.name());
                    return Err(Diagnostic::at(&source, instruction.name_span, message));
                }
                (Some(stage), kind) => stage.instructions.push(Instruction { kind, ..*instruction }),
            },
        }
    }
    if stages.is_empty() {
        let end = Span::new(text.len(), text.len());
        let message = if global_args.is_empty() { "the file holds no instructions" } else { "the file holds no FROM" };
        return Err(Diagnostic::at(&source, end, message).with_suggestion("a Dockerfile starts with FROM <image>"));
    }
    let warnings = parser.warnings;
    Ok(Dockerfile { source, directives, global_args, stages, warnings })
}

/// Parses a trigger that a base image carries ([`Onbuild::expression`]); the source is for [`Diagnostic::at`].
pub fn parse_trigger(expression: &str, name: &str) -> Result<(Source, Instruction)> {
    let source = Source::new(name, expression);
    let mut parser = Parser { source: &source, lines: Lines::new(expression), escape: '\\', warnings: Vec::new() };
    let instruction = match parser.statement()? {
        Some(Statement::Instruction(instruction)) if is_trigger(instruction.kind.name()) => *instruction,
        Some(Statement::Instruction(instruction)) => {
            return Err(Diagnostic::at(&source, instruction.name_span, not_a_trigger(instruction.kind.name())));
        }
        Some(Statement::Stage(stage)) => return Err(Diagnostic::at(&source, stage.span, not_a_trigger("FROM"))),
        None => return Err(Diagnostic::at(&source, Span::default(), "an ONBUILD trigger is empty")),
    };
    let after = parser.lines.offset();
    match parser.statement()? {
        None => Ok((source, instruction)),
        Some(_) => {
            let span = Span::new(after, expression.len());
            Err(Diagnostic::at(&source, span, "an ONBUILD trigger holds more than one instruction"))
        }
    }
}

fn is_trigger(name: &str) -> bool {
    !matches!(name, "FROM" | "ONBUILD" | "MAINTAINER")
}

fn not_a_trigger(name: &str) -> String {
    format!("{name} cannot be an ONBUILD trigger")
}

enum Statement {
    Stage(Box<Stage>),
    Instruction(Box<Instruction>),
}

struct Parser<'a> {
    source: &'a Source,
    lines: Lines<'a>,
    escape: char,
    warnings: Vec<Diagnostic>,
}

impl Parser<'_> {
    /// Reads the next statement; `None` at the end.
    fn statement(&mut self) -> Result<Option<Statement>> {
        let mut comments: Vec<String> = Vec::new();
        while let Some(first) = self.lines.next() {
            if let Some(comment) = first.comment() {
                match comment.is_empty() {
                    true => comments.clear(),
                    false => comments.push(comment.to_owned()),
                }
                continue;
            }
            let mut line = self.lines.join(first, self.escape);
            line.text.truncate(line.text.trim_end().len());
            let start = line.text.len() - line.text.trim_start().len();
            if start == line.text.len() {
                match first.content().trim().is_empty() {
                    true => continue,
                    false => {
                        let span = Span::new(first.start, first.start + first.content().len());
                        let error = Diagnostic::at(self.source, span, "a continued line without an instruction");
                        return Err(error.with_suggestion("an instruction must follow, or its \\ go"));
                    }
                }
            }
            if let Some(span) = line.empty_continuation {
                self.warnings.push(Diagnostic::at(self.source, span, "empty line inside a continued instruction"));
            }
            return self.command(&line, start, &comments).map(Some);
        }
        Ok(None)
    }

    fn command(&mut self, line: &LogicalLine, start: usize, comments: &[String]) -> Result<Statement> {
        let text = &line.text;
        let name_end = start + text[start..].find(word::is_blank).unwrap_or(text.len() - start);
        let name = statement::instruction_name(self.source, line, start, name_end)?;
        let (raw_flags, args) = word::take_flags(text, name_end, self.escape);
        let args = text.len() - text[args..].trim_start().len();
        let name_range = (start, name_end);
        let scope = Scope { source: self.source, line, name, name_range, args, escape: self.escape, comments };
        let flags = Flags::check(&scope, &raw_flags)?;
        let (span, original) = (line.span(start, text.len()), text[start..].to_owned());
        if name == "FROM" {
            let From { name, base, platform, description } = statement::from(&scope, &flags)?;
            let (line, instructions) = (line.first_line, Vec::new());
            let stage = Stage { index: 0, name, base, platform, span, line, original, description, instructions };
            return Ok(Statement::Stage(Box::new(stage)));
        }
        if name == "MAINTAINER" {
            let advice = "LABEL org.opencontainers.image.authors=… does the same";
            let warning = Diagnostic::at(self.source, line.span(start, name_end), "MAINTAINER is deprecated");
            self.warnings.push(warning.with_suggestion(advice));
        }
        let kind = match name {
            "ONBUILD" => self.onbuild(&scope)?,
            _ => {
                let heredocs = self.heredocs(&scope)?;
                statement::kind(&scope, &flags, heredocs)?
            }
        };
        // Heredocs end after the line.
        let has_body = self.lines.number > line.last_line;
        let end = if has_body { self.lines.last_end() } else { span.end };
        Ok(Statement::Instruction(Box::new(Instruction {
            kind,
            span: Span::new(span.start, end),
            name_span: line.span(start, name_end),
            line: line.first_line,
            end_line: self.lines.number,
            original,
        })))
    }

    fn onbuild(&mut self, scope: &Scope<'_>) -> Result<Kind> {
        let text = &scope.line.text;
        if scope.rest().is_empty() {
            let error = scope.error_at_name("ONBUILD requires an instruction");
            return Err(error.with_suggestion("write it like ONBUILD <instruction>"));
        }
        let name_end = scope.args + scope.rest().find(word::is_blank).unwrap_or(scope.rest().len());
        let trigger = statement::instruction_name(self.source, scope.line, scope.args, name_end)?;
        if !is_trigger(trigger) {
            let error = scope.error(scope.args, name_end, not_a_trigger(trigger));
            return Err(error.with_suggestion("any instruction but ONBUILD, FROM and MAINTAINER can"));
        }
        let mut expression = text[scope.args..].to_owned();
        if let Statement::Instruction(instruction) = self.command(scope.line, scope.args, &[])? {
            for heredoc in heredocs_of(&instruction.kind) {
                expression.push('\n');
                expression.push_str(&heredoc.content);
                expression.push_str(&heredoc.name);
            }
        }
        Ok(Kind::Onbuild(Onbuild { expression, trigger }))
    }

    /// Reads the bodies of the heredocs whose markers are on the line.
    fn heredocs(&mut self, scope: &Scope<'_>) -> Result<Vec<Heredoc>> {
        let can_have = matches!(scope.name, "RUN" | "COPY" | "ADD");
        if !can_have || word::json_list(&scope.line.text, scope.args) != JsonForm::No {
            return Ok(Vec::new());
        }
        let markers = heredoc::markers(scope.rest());
        markers.into_iter().map(|(marker, start, end)| self.heredoc(scope, marker, start, end)).collect()
    }

    fn heredoc(&mut self, scope: &Scope<'_>, marker: Marker, start: usize, end: usize) -> Result<Heredoc> {
        let marker_span = scope.line.span(scope.args + start, scope.args + end);
        let body_start = self.lines.offset();
        let mut content = String::new();
        while let Some(line) = self.lines.next() {
            let written = if marker.strip_tabs { line.content().trim_start_matches('\t') } else { line.content() };
            if written == marker.name {
                let Marker { name, file_descriptor, expand, strip_tabs } = marker;
                let span = Span::new(body_start, line.start);
                return Ok(Heredoc { name, file_descriptor, expand, strip_tabs, content, span, marker_span });
            }
            content.push_str(line.text);
        }
        let message = format!("this heredoc is never ended: no line is {:?}", marker.name);
        let error = Diagnostic::at(self.source, marker_span, message);
        let ended = content.lines().any(|line| line.trim() == marker.name);
        Err(match ended {
            true => error.with_suggestion(format!("{:?} must stand alone on its line, without blanks", marker.name)),
            false => error,
        })
    }

    fn warn_about_name(&mut self, stage: &Stage, earlier: &[Stage]) {
        let Some(name) = &stage.name else { return };
        let mut warn = |message: String| self.warnings.push(Diagnostic::at(self.source, name.span, message));
        if matches!(name.as_str(), "scratch" | "context") {
            warn(format!("{:?} is a reserved name: the stage cannot be used as a base", name.value));
        }
        let same = earlier.iter().find(|other| other.name.as_ref().is_some_and(|n| n.value == name.value));
        if let Some(other) = same {
            warn(format!("stage {:?} hides the one of line {}: names should be unique", name.value, other.line));
        }
    }
}

fn heredocs_of(kind: &Kind) -> &[Heredoc] {
    match kind {
        Kind::Add(add) => &add.heredocs,
        Kind::Copy(copy) => &copy.heredocs,
        Kind::Run(run) => &run.heredocs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests;
