//! The tree of a Dockerfile. Texts are as written: nothing is expanded, quotes and escapes are still there,
//! only line continuations and comments are gone. Spans are byte ranges of the original text.

use serde::Serialize;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Source};

/// A range of bytes of the original text, `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes from `start` up to `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }

    /// The smallest span that holds both.
    pub fn to(self, other: Span) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Joins a value with its place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// One argument, unexpanded.
pub type Word = Spanned<String>;

impl Word {
    /// The text of the word, unexpanded.
    pub fn as_str(&self) -> &str {
        &self.value
    }
}

/// A `--name=value` of an instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flag<T> {
    /// The value, parsed as far as it can be before expansion.
    pub value: T,
    /// The whole flag, from its first dash.
    pub span: Span,
    /// The part after `=`; the whole flag if there is none.
    pub value_span: Span,
}

/// A parsed Dockerfile.
#[derive(Debug, Clone, Serialize)]
pub struct Dockerfile {
    /// The text it came from, for [`Diagnostic::at`].
    #[serde(skip)]
    pub source: Source,
    /// `# syntax=`, `# escape=` and `# check=`.
    pub directives: Directives,
    /// `ARG`s before the first `FROM`, in order.
    pub global_args: Vec<ArgDeclaration>,
    /// At least one stage.
    pub stages: Vec<Stage>,
    /// What is accepted, but was probably not meant: duplicate stage names, empty continuation lines.
    pub warnings: Vec<Diagnostic>,
}

impl Dockerfile {
    /// A diagnostic that points at `span` of this file.
    pub fn diagnostic(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::at(&self.source, span, message)
    }

    /// The earlier stage that `FROM name` in stage `before` means, in any case: of equally named ones the last.
    pub fn stage_named(&self, name: &str, before: usize) -> Option<&Stage> {
        let earlier = &self.stages[..before.min(self.stages.len())];
        let wanted = name.to_lowercase();
        earlier.iter().rev().find(|stage| stage.name.as_ref().is_some_and(|n| n.value == wanted))
    }

    /// The earlier stage that `--from=name` in stage `before` means: by name or by number, which `FROM` does not
    /// take. Pass `stages.len()` for `--target`.
    pub fn stage(&self, name: &str, before: usize) -> Option<&Stage> {
        let is_number = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
        let numbered = || self.stages.get(name.parse::<usize>().ok().filter(|index| is_number && *index < before)?);
        self.stage_named(name, before).or_else(numbered)
    }
}

/// The parser directives at the top of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Directives {
    /// `# syntax=IMAGE`: the frontend asked for.
    pub syntax: Option<Word>,
    /// `# escape=`: a backslash or a backtick.
    pub escape: char,
    /// `# check=…`: settings of the linter.
    pub check: Option<Word>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: None }
    }
}

/// One name of an `ARG`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArgDeclaration {
    /// The variable.
    pub name: Word,
    /// The text after `=`, unexpanded; `None` without `=`.
    pub default: Option<Word>,
    /// `name[=default]`.
    pub span: Span,
    /// The comment `# <name> text` just above.
    pub description: Option<String>,
}

/// `FROM` and what follows up to the next one.
#[derive(Debug, Clone, Serialize)]
pub struct Stage {
    /// Position in the file, from 0.
    pub index: usize,
    /// `AS name`, in lower case.
    pub name: Option<Word>,
    /// The image or stage to start from, unexpanded.
    pub base: Word,
    /// `--platform`, unexpanded.
    pub platform: Option<Flag<String>>,
    /// The `FROM` instruction.
    pub span: Span,
    /// Line of `FROM`, from 1.
    pub line: usize,
    /// The `FROM` instruction as one line.
    pub original: String,
    /// The comment `# <name> text` just above.
    pub description: Option<String>,
    /// The instructions, in order.
    pub instructions: Vec<Instruction>,
}

/// One instruction, except `FROM`.
#[derive(Debug, Clone, Serialize)]
pub struct Instruction {
    /// What it says.
    pub kind: Kind,
    /// From its name to the end of its last line; bodies of heredocs included.
    pub span: Span,
    /// The name alone, to point at when the instruction as a whole is meant.
    pub name_span: Span,
    /// Its first line, from 1.
    pub line: usize,
    /// Its last line, from 1.
    pub end_line: usize,
    /// The instruction as one line, as the image history shows it.
    pub original: String,
}

/// The instructions and their arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// `ADD`
    Add(Add),
    /// `ARG`
    Arg(Vec<ArgDeclaration>),
    /// `CMD`
    Cmd(CommandForm),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`
    Entrypoint(CommandForm),
    /// `ENV`
    Env(Vec<KeyValue>),
    /// `EXPOSE`: words, unexpanded; each may expand to several ports.
    Expose(Vec<Word>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`; keys expand too.
    Label(Vec<KeyValue>),
    /// `MAINTAINER`
    Maintainer(Word),
    /// `ONBUILD`
    Onbuild(Onbuild),
    /// `RUN`
    Run(Run),
    /// `SHELL`, at least one word, never expanded.
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    Stopsignal(Word),
    /// `USER`
    User(Word),
    /// `VOLUME`
    Volume(Vec<Word>),
    /// `WORKDIR`
    Workdir(Word),
}

impl Kind {
    /// The name of the instruction, in upper case.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Add(_) => "ADD",
            Kind::Arg(_) => "ARG",
            Kind::Cmd(_) => "CMD",
            Kind::Copy(_) => "COPY",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Env(_) => "ENV",
            Kind::Expose(_) => "EXPOSE",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            Kind::Label(_) => "LABEL",
            Kind::Maintainer(_) => "MAINTAINER",
            Kind::Onbuild(_) => "ONBUILD",
            Kind::Run(_) => "RUN",
            Kind::Shell(_) => "SHELL",
            Kind::Stopsignal(_) => "STOPSIGNAL",
            Kind::User(_) => "USER",
            Kind::Volume(_) => "VOLUME",
            Kind::Workdir(_) => "WORKDIR",
        }
    }
}

/// A command line: for the shell, or a list of arguments. Never expanded by the builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum CommandForm {
    /// Text for the shell of the stage.
    Shell(String),
    /// Arguments of `execve`.
    Exec(Vec<String>),
}

/// A here-document: lines of the file that belong to an instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heredoc {
    /// The delimiter, without quotes.
    pub name: String,
    /// The number before `<<`.
    pub file_descriptor: Option<u32>,
    /// The delimiter was not quoted: COPY and ADD expand variables in the body.
    pub expand: bool,
    /// `<<-`: leading tabs do not count.
    pub strip_tabs: bool,
    /// The body as in the file, each line with its end.
    pub content: String,
    /// Where the body is.
    pub span: Span,
    /// Where the `<<NAME` is.
    pub marker_span: Span,
}

impl Heredoc {
    /// The body without what `<<-` removes.
    pub fn text(&self) -> String {
        if !self.strip_tabs {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The command as written, heredoc bodies apart; see [`Run::script`].
    pub form: CommandForm,
    /// Bodies in the order of their markers.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order; see [`crate::mount`].
    pub mounts: Vec<Flag<String>>,
    /// `--network`: `default`, `none` or `host`.
    pub network: Option<Flag<String>>,
    /// `--security`: `sandbox` or `insecure`.
    pub security: Option<Flag<String>>,
    /// `--device`, in order.
    pub devices: Vec<Flag<String>>,
}

/// What a [`Run`] executes, heredocs resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Script {
    /// Arguments of `execve`.
    Exec(Vec<String>),
    /// Text for the shell of the stage.
    Shell(String),
    /// A file (mode 0755) to be mounted as `/dev/pipes/<name>` and executed: a heredoc that starts with `#!`.
    File {
        /// Last component of its path.
        name: String,
        /// Its bytes.
        content: String,
    },
}

impl Run {
    /// What is to be executed: a lone heredoc is the script itself, others are put back for the shell to read.
    pub fn script(&self) -> Script {
        let line = match &self.form {
            CommandForm::Exec(words) => return Script::Exec(words.clone()),
            CommandForm::Shell(line) => line,
        };
        let Some(first) = self.heredocs.first() else { return Script::Shell(line.clone()) };
        if crate::heredoc::is_marker(line) {
            let content = first.text();
            return match content.starts_with("#!") {
                true => Script::File { name: first.name.clone(), content },
                false => Script::Shell(content),
            };
        }
        let mut whole = line.clone();
        for heredoc in &self.heredocs {
            whole.push('\n');
            whole.push_str(&heredoc.content);
            whole.push_str(&heredoc.name);
        }
        Script::Shell(whole)
    }
}

/// `COPY`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// Paths and patterns, unexpanded; may be empty if there are heredocs.
    pub sources: Vec<Word>,
    /// Files whose content is in the Dockerfile; the name of the heredoc is the name of the file.
    pub heredocs: Vec<Heredoc>,
    /// Where to, unexpanded.
    pub destination: Word,
    /// `--from`: stage, number, image or context; not expanded.
    pub from: Option<Flag<String>>,
    /// `--chown`, unexpanded.
    pub chown: Option<Flag<String>>,
    /// `--chmod`, unexpanded; see [`crate::meta::parse_chmod`].
    pub chmod: Option<Flag<String>>,
    /// `--link`
    pub link: Option<Flag<bool>>,
    /// `--parents`
    pub parents: Option<Flag<bool>>,
    /// `--exclude`, in order, unexpanded.
    pub exclude: Vec<Flag<String>>,
}

/// `ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Add {
    /// Paths, patterns, URLs and git repositories, unexpanded; may be empty if there are heredocs.
    pub sources: Vec<Word>,
    /// Files whose content is in the Dockerfile; the name of the heredoc is the name of the file.
    pub heredocs: Vec<Heredoc>,
    /// Where to, unexpanded.
    pub destination: Word,
    /// `--chown`, unexpanded.
    pub chown: Option<Flag<String>>,
    /// `--chmod`, unexpanded; see [`crate::meta::parse_chmod`].
    pub chmod: Option<Flag<String>>,
    /// `--link`
    pub link: Option<Flag<bool>>,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<Flag<bool>>,
    /// `--checksum`, unexpanded.
    pub checksum: Option<Flag<String>>,
    /// `--unpack`
    pub unpack: Option<Flag<bool>>,
    /// `--exclude`, in order, unexpanded.
    pub exclude: Vec<Flag<String>>,
}

/// One pair of `ENV` or `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyValue {
    /// The key, unexpanded.
    pub key: Word,
    /// The value, unexpanded, with its quotes.
    pub value: Word,
    /// Written as `ENV key value`.
    pub is_legacy: bool,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Healthcheck {
    /// `NONE`: no check, not even the base image's.
    None,
    /// `CMD …`
    Probe(Box<ProbeCommand>),
}

/// `HEALTHCHECK … CMD …`; what is absent has its default when the container runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeCommand {
    /// The command.
    pub command: CommandForm,
    /// `--interval`
    pub interval: Option<Flag<Duration>>,
    /// `--timeout`
    pub timeout: Option<Flag<Duration>>,
    /// `--start-period`
    pub start_period: Option<Flag<Duration>>,
    /// `--start-interval`
    pub start_interval: Option<Flag<Duration>>,
    /// `--retries`
    pub retries: Option<Flag<u32>>,
}

/// `ONBUILD`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Onbuild {
    /// What the image config keeps; [`crate::parse_trigger`] reads it back in the downstream build.
    pub expression: String,
    /// The name of the instruction that is to run, in upper case.
    pub trigger: &'static str,
}
