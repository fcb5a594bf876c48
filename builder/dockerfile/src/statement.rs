//! One logical line to one typed statement: `FROM` or an instruction.
//! Every refusal points at the word it is about.

use crate::ast::{ArgDeclaration, CommandForm, Flag, Heredoc, KeyValue, Kind, Run, Spanned, Word};
use crate::diagnostic::{Diagnostic, Source};
use crate::flag::Flags;
use crate::line::LogicalLine;
use crate::suggest;
use crate::word::{self, JsonForm, Piece};

mod files;
mod healthcheck;

/// All instructions, in the order in which suggestions prefer them.
pub(crate) const INSTRUCTIONS: [&str; 18] = [
    "FROM",
    "RUN",
    "COPY",
    "ENV",
    "ARG",
    "ADD",
    "CMD",
    "ENTRYPOINT",
    "WORKDIR",
    "EXPOSE",
    "USER",
    "LABEL",
    "VOLUME",
    "HEALTHCHECK",
    "SHELL",
    "STOPSIGNAL",
    "ONBUILD",
    "MAINTAINER",
];

type Result<T> = std::result::Result<T, Diagnostic>;

/// How an instruction is written, for hints.
fn usage(name: &str) -> String {
    let form = match name {
        "ADD" | "COPY" => "<source>… <destination>",
        "ARG" => "<name>[=<default>]",
        "CMD" | "ENTRYPOINT" => "[\"<program>\", \"<argument>\"], or [] for none",
        "ENV" | "LABEL" => "<name>=<value>",
        "EXPOSE" => "<port>[/<protocol>]",
        "FROM" => "[--platform=<platform>] <image> [AS <name>]",
        "HEALTHCHECK" => "CMD <command>, or HEALTHCHECK NONE",
        "MAINTAINER" => "<name>",
        "ONBUILD" => "<instruction>",
        "RUN" => "<command>",
        "SHELL" => "[\"/bin/bash\", \"-c\"]",
        "STOPSIGNAL" => "SIGTERM",
        "USER" => "<user>[:<group>]",
        "VOLUME" => "<path>",
        _ => "<directory>",
    };
    format!("write it like {name} {form}")
}

/// What the functions that read one instruction share.
pub(crate) struct Scope<'a> {
    pub source: &'a Source,
    pub line: &'a LogicalLine,
    /// Upper-case name of the instruction.
    pub name: &'static str,
    /// Where the name is in the line.
    pub name_range: (usize, usize),
    /// Where the arguments start, after the flags.
    pub args: usize,
    pub escape: char,
    /// Comments just above.
    pub comments: &'a [String],
}

impl Scope<'_> {
    /// Points at a part of the line.
    pub fn error(&self, start: usize, end: usize, message: impl Into<String>) -> Diagnostic {
        Diagnostic::at(self.source, self.line.span(start, end), message)
    }

    /// Points at the name of the instruction.
    pub fn error_at_name(&self, message: impl Into<String>) -> Diagnostic {
        self.error(self.name_range.0, self.name_range.1, message)
    }

    fn error_at_args(&self, message: impl Into<String>) -> Diagnostic {
        self.error(self.args, self.line.text.len(), message)
    }

    fn missing_argument(&self) -> Diagnostic {
        self.error_at_name(format!("{} requires at least one argument", self.name)).with_suggestion(usage(self.name))
    }

    /// The arguments as written.
    pub fn rest(&self) -> &str {
        &self.line.text[self.args..]
    }

    fn word(&self, piece: Piece) -> Word {
        Spanned::new(piece.text, self.line.span(piece.start, piece.end))
    }

    fn description(&self, name: &str) -> Option<String> {
        let text = self.comments.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        text.map(str::to_owned)
    }
}

/// The upper-case name for what was written, or the error with a suggestion.
pub(crate) fn instruction_name(source: &Source, line: &LogicalLine, start: usize, end: usize) -> Result<&'static str> {
    let written = &line.text[start..end];
    let known = INSTRUCTIONS.into_iter().find(|name| name.eq_ignore_ascii_case(written));
    known.ok_or_else(|| {
        let shown: String = written.chars().take(40).collect();
        let error = Diagnostic::at(source, line.span(start, end), format!("unknown instruction {shown:?}"));
        if written.starts_with(|c: char| c.is_alphabetic()) {
            return error.did_you_mean(suggest::nearest(written, INSTRUCTIONS));
        }
        error.with_suggestion("does the line above lack its \\ at the end?")
    })
}

/// The parts of `FROM`.
pub(crate) struct From {
    pub name: Option<Word>,
    pub base: Word,
    pub platform: Option<Flag<String>>,
    pub description: Option<String>,
}

pub(crate) fn from(scope: &Scope<'_>, flags: &Flags) -> Result<From> {
    let mut words = word::split_blanks(&scope.line.text, scope.args).into_iter();
    let base = words
        .next()
        .ok_or_else(|| scope.error_at_name("FROM requires an image or a stage").with_suggestion(usage("FROM")))?;
    let name = match (words.next(), words.next(), words.next()) {
        (None, ..) => None,
        (Some(keyword), Some(name), None) if keyword.text.eq_ignore_ascii_case("as") => Some(stage_name(scope, name)?),
        (Some(extra), ..) => {
            let message = "FROM takes one image, or an image, AS and a name";
            return Err(scope.error(extra.start, scope.line.text.len(), message).with_suggestion(usage("FROM")));
        }
    };
    let description = name.as_ref().and_then(|name| scope.description(name.as_str()));
    Ok(From { name, base: scope.word(base), platform: flags.text("platform"), description })
}

fn stage_name(scope: &Scope<'_>, piece: Piece) -> Result<Word> {
    let name = piece.text.to_lowercase();
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(is_allowed) {
        let message = format!(
            "invalid stage name {:?}: it must start with a letter and hold only letters, digits, '-', '_' and '.'",
            piece.text
        );
        return Err(scope.error(piece.start, piece.end, message));
    }
    Ok(Spanned::new(name, scope.line.span(piece.start, piece.end)))
}

/// Every instruction but `FROM` and `ONBUILD`.
pub(crate) fn kind(scope: &Scope<'_>, flags: &Flags, heredocs: Vec<Heredoc>) -> Result<Kind> {
    Ok(match scope.name {
        "ADD" => files::add(scope, flags, heredocs)?,
        "ARG" => Kind::Arg(arguments(scope)?),
        "CMD" => Kind::Cmd(required_command(scope, scope.args)?),
        "COPY" => files::copy(scope, flags, heredocs)?,
        "ENTRYPOINT" => Kind::Entrypoint(required_command(scope, scope.args)?),
        "ENV" => Kind::Env(pairs(scope)?),
        "EXPOSE" => Kind::Expose(words(scope)?),
        "HEALTHCHECK" => Kind::Healthcheck(healthcheck::healthcheck(scope, flags)?),
        "LABEL" => Kind::Label(pairs(scope)?),
        "MAINTAINER" => Kind::Maintainer(text(scope)?),
        "RUN" => run(scope, flags, heredocs)?,
        "SHELL" => Kind::Shell(shell(scope)?),
        "STOPSIGNAL" => Kind::Stopsignal(text(scope)?),
        "USER" => Kind::User(text(scope)?),
        "VOLUME" => Kind::Volume(volumes(scope)?),
        "WORKDIR" => Kind::Workdir(text(scope)?),
        other => return Err(scope.error_at_name(format!("{other} is not possible here"))),
    })
}

fn text(scope: &Scope<'_>) -> Result<Word> {
    if scope.rest().is_empty() {
        let message = format!("{} requires exactly one argument", scope.name);
        return Err(scope.error_at_name(message).with_suggestion(usage(scope.name)));
    }
    Ok(Spanned::new(scope.rest().to_owned(), scope.line.span(scope.args, scope.line.text.len())))
}

fn words(scope: &Scope<'_>) -> Result<Vec<Word>> {
    let pieces = word::split_blanks(&scope.line.text, scope.args);
    if pieces.is_empty() {
        return Err(scope.missing_argument());
    }
    Ok(pieces.into_iter().map(|piece| scope.word(piece)).collect())
}

fn json(scope: &Scope<'_>, start: usize) -> Result<Option<Vec<Piece>>> {
    match word::json_list(&scope.line.text, start) {
        JsonForm::List(pieces) => Ok(Some(pieces)),
        JsonForm::No => Ok(None),
        JsonForm::NotStrings(piece) => {
            let error = scope.error(piece.start, piece.end, "a list in JSON form may hold strings only");
            Err(error.with_suggestion("put it in double quotes"))
        }
    }
}

fn json_or_words(scope: &Scope<'_>) -> Result<Vec<Piece>> {
    let pieces = json(scope, scope.args)?;
    Ok(pieces.unwrap_or_else(|| word::split_blanks(&scope.line.text, scope.args)))
}

fn command(scope: &Scope<'_>, start: usize) -> Result<Option<CommandForm>> {
    let text = &scope.line.text[start..];
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(match json(scope, start)? {
        Some(pieces) => CommandForm::Exec(pieces.into_iter().map(|piece| piece.text).collect()),
        None => CommandForm::Shell(text.to_owned()),
    }))
}

fn required_command(scope: &Scope<'_>, start: usize) -> Result<CommandForm> {
    command(scope, start)?.ok_or_else(|| scope.missing_argument())
}

fn run(scope: &Scope<'_>, flags: &Flags, heredocs: Vec<Heredoc>) -> Result<Kind> {
    let form = required_command(scope, scope.args)?;
    if matches!(&form, CommandForm::Exec(words) if words.is_empty()) {
        return Err(scope.error_at_args("RUN requires a command").with_suggestion(usage("RUN")));
    }
    let network = one_of(scope, flags.text("network"), "network", &["default", "none", "host"])?;
    let security = one_of(scope, flags.text("security"), "security", &["sandbox", "insecure"])?;
    let mounts = flags.list("mount");
    for flag in &mounts {
        crate::mount::check(&flag.value).map_err(|error| {
            let diagnostic = Diagnostic::at(scope.source, flag.value_span, error.to_string());
            match error.advice() {
                Some(advice) => diagnostic.with_suggestion(advice),
                None => diagnostic.did_you_mean(error.suggestion()),
            }
        })?;
    }
    let devices = flags.list("device");
    for flag in &devices {
        crate::device::parse(&flag.value).map_err(|error| {
            Diagnostic::at(scope.source, flag.value_span, error.to_string()).did_you_mean(error.suggestion())
        })?;
    }
    Ok(Kind::Run(Run { form, heredocs, mounts, network, security, devices }))
}

fn one_of(
    scope: &Scope<'_>,
    flag: Option<Flag<String>>,
    name: &str,
    allowed: &[&'static str],
) -> Result<Option<Flag<String>>> {
    let Some(flag) = flag else { return Ok(None) };
    if allowed.contains(&flag.value.as_str()) {
        return Ok(Some(flag));
    }
    let message = format!("invalid --{name}={}: it must be one of {}", flag.value, allowed.join(", "));
    let near = suggest::nearest(&flag.value, allowed.iter().copied());
    Err(Diagnostic::at(scope.source, flag.value_span, message).did_you_mean(near))
}

fn arguments(scope: &Scope<'_>) -> Result<Vec<ArgDeclaration>> {
    let pieces = word::split_quoted(&scope.line.text, scope.args, scope.escape);
    if pieces.is_empty() {
        return Err(scope.missing_argument());
    }
    pieces.into_iter().map(|piece| argument(scope, piece)).collect()
}

fn argument(scope: &Scope<'_>, piece: Piece) -> Result<ArgDeclaration> {
    let span = scope.line.span(piece.start, piece.end);
    let (name, default) = match split_pair(&piece) {
        Some((name, value)) => (name, Some(scope.word(value))),
        None => (piece, None),
    };
    if name.text.is_empty() {
        return Err(Diagnostic::at(scope.source, span, "the name of an ARG cannot be empty"));
    }
    let description = scope.description(&name.text);
    Ok(ArgDeclaration { name: scope.word(name), default, span, description })
}

/// Splits a word at its first `=`.
fn split_pair(piece: &Piece) -> Option<(Piece, Piece)> {
    let (key, value) = piece.text.split_once('=')?;
    let end = piece.start + key.len();
    let key = Piece { text: key.to_owned(), start: piece.start, end };
    Some((key, Piece { text: value.to_owned(), start: end + 1, end: piece.end }))
}

fn pairs(scope: &Scope<'_>) -> Result<Vec<KeyValue>> {
    let name = scope.name;
    let pieces = word::split_quoted(&scope.line.text, scope.args, scope.escape);
    let Some(first) = pieces.first() else { return Err(scope.missing_argument()) };
    if !first.text.contains('=') {
        return Ok(vec![legacy_pair(scope)?]);
    }
    let mut pairs = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let Some((key, value)) = split_pair(&piece) else {
            let message = format!("{:?} lacks a =: {name} takes name=value pairs", piece.text);
            let error = scope.error(piece.start, piece.end, message);
            return Err(error.with_suggestion("put a value with blanks in double quotes"));
        };
        if key.text.is_empty() {
            let message = format!("the name of {} cannot be empty", article(name));
            return Err(scope.error(piece.start, piece.end, message));
        }
        pairs.push(KeyValue { key: scope.word(key), value: scope.word(value), is_legacy: false });
    }
    Ok(pairs)
}

fn article(name: &str) -> String {
    format!("{} {name}", if name.starts_with(['A', 'E']) { "an" } else { "a" })
}

/// `ENV name the rest is the value`.
fn legacy_pair(scope: &Scope<'_>) -> Result<KeyValue> {
    let rest = scope.rest();
    let Some(at) = rest.find(word::is_blank) else {
        let message = format!("{} {rest:?} has no value: write {} {rest}=value", scope.name, scope.name);
        return Err(scope.error_at_args(message));
    };
    let value = rest[at..].trim_start_matches(word::is_blank);
    let value_start = scope.line.text.len() - value.len();
    let key = Piece { text: rest[..at].to_owned(), start: scope.args, end: scope.args + at };
    let value = Piece { text: value.to_owned(), start: value_start, end: scope.line.text.len() };
    Ok(KeyValue { key: scope.word(key), value: scope.word(value), is_legacy: true })
}

fn volumes(scope: &Scope<'_>) -> Result<Vec<Word>> {
    let pieces = json_or_words(scope)?;
    if pieces.is_empty() {
        return Err(scope.missing_argument());
    }
    if let Some(empty) = pieces.iter().find(|piece| piece.text.trim().is_empty()) {
        return Err(scope.error(empty.start, empty.end, "the path of a VOLUME cannot be empty"));
    }
    Ok(pieces.into_iter().map(|piece| scope.word(Piece { text: piece.text.trim().to_owned(), ..piece })).collect())
}

fn shell(scope: &Scope<'_>) -> Result<Vec<String>> {
    match json(scope, scope.args)? {
        Some(pieces) if !pieces.is_empty() => Ok(pieces.into_iter().map(|piece| piece.text).collect()),
        None if !scope.rest().is_empty() => {
            let error = scope.error_at_args("SHELL requires its arguments in JSON form");
            Err(error.with_suggestion("write it like SHELL [\"/bin/bash\", \"-c\"]"))
        }
        _ => Err(scope.missing_argument()),
    }
}
