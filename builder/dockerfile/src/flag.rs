//! Flags of instructions: which there are, and the checks that all share.
//! Names are exact; booleans may lack a value; only list flags may be repeated.

use crate::ast::Flag;
use crate::diagnostic::Diagnostic;
use crate::statement::Scope;
use crate::suggest;
use crate::word::RawFlag;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlagType {
    Boolean,
    List,
    Text,
}

use FlagType::{Boolean, List, Text};

/// The flags of an instruction, by its upper-case name.
pub(crate) fn known(instruction: &str) -> &'static [(&'static str, FlagType)] {
    match instruction {
        "FROM" => &[("platform", Text)],
        "RUN" => &[("mount", List), ("network", Text), ("security", Text), ("device", List)],
        "COPY" => &[
            ("from", Text),
            ("chown", Text),
            ("chmod", Text),
            ("link", Boolean),
            ("parents", Boolean),
            ("exclude", List),
        ],
        "ADD" => &[
            ("chown", Text),
            ("chmod", Text),
            ("link", Boolean),
            ("keep-git-dir", Boolean),
            ("checksum", Text),
            ("unpack", Boolean),
            ("exclude", List),
        ],
        "HEALTHCHECK" => &[
            ("interval", Text),
            ("timeout", Text),
            ("start-period", Text),
            ("start-interval", Text),
            ("retries", Text),
        ],
        _ => &[],
    }
}

/// The checked flags of one instruction.
pub(crate) struct Flags {
    given: Vec<(&'static str, Flag<String>)>,
}

impl Flags {
    /// Refuses unknown and repeated flags and values that cannot be.
    pub fn check(scope: &Scope<'_>, raw: &[RawFlag]) -> Result<Self, Diagnostic> {
        let known = known(scope.name);
        let mut given: Vec<(&'static str, Flag<String>)> = Vec::new();
        for flag in raw {
            let (name, value) = match flag.text[2..].split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (&flag.text[2..], None),
            };
            let name_end = flag.value_start.map_or(flag.end, |at| at - 1);
            let Some(&(name, kind)) = known.iter().find(|(known, _)| *known == name) else {
                return Err(unknown(scope, name, flag.start, name_end));
            };
            if kind != List && given.iter().any(|(other, _)| *other == name) {
                let error = scope.error(flag.start, flag.end, format!("flag --{name} is given twice"));
                return Err(error.with_suggestion("it counts once: take the other one away"));
            }
            let value_start = flag.value_start.unwrap_or(flag.start);
            let value = match (kind, value) {
                (Boolean, None) => "true".to_owned(),
                (_, None) => {
                    let error = scope.error(flag.start, flag.end, format!("flag --{name} needs a value"));
                    return Err(error.with_suggestion(format!("write it like --{name}=VALUE")));
                }
                (Boolean, Some("")) => {
                    let error = scope.error(flag.start, flag.end, format!("flag --{name} needs a value after ="));
                    return Err(error.with_suggestion(format!("write it like --{name}, or --{name}=false")));
                }
                (Boolean, Some(text)) => match text.to_lowercase() {
                    lower if lower == "true" || lower == "false" => lower,
                    _ => {
                        let message = format!("flag --{name} must be true or false, not {text:?}");
                        let error = scope.error(value_start, flag.end, message);
                        return Err(error.with_suggestion(format!("write it like --{name}, or --{name}=false")));
                    }
                },
                (_, Some(text)) => text.to_owned(),
            };
            let span = scope.line.span(flag.start, flag.end);
            given.push((name, Flag { value, span, value_span: scope.line.span(value_start, flag.end) }));
        }
        Ok(Self { given })
    }

    /// A text flag, if given.
    pub fn text(&self, name: &str) -> Option<Flag<String>> {
        self.given.iter().find(|(given, _)| *given == name).map(|(_, flag)| flag.clone())
    }

    /// All values of a list flag.
    pub fn list(&self, name: &str) -> Vec<Flag<String>> {
        self.given.iter().filter(|(given, _)| *given == name).map(|(_, flag)| flag.clone()).collect()
    }

    /// A boolean flag, if given.
    pub fn boolean(&self, name: &str) -> Option<Flag<bool>> {
        let flag = self.text(name)?;
        Some(Flag { value: flag.value == "true", span: flag.span, value_span: flag.value_span })
    }
}

fn unknown(scope: &Scope<'_>, name: &str, start: usize, end: usize) -> Diagnostic {
    let flags = known(scope.name).iter().map(|(name, _)| *name);
    let near = suggest::nearest(name, flags).map(|name| format!("--{name}"));
    let error = scope.error(start, end, format!("unknown flag {:?} of {}", format!("--{name}"), scope.name));
    if near.is_some() {
        return error.did_you_mean(near);
    }
    let flags: Vec<String> = known(scope.name).iter().map(|(name, _)| format!("--{name}")).collect();
    error.with_suggestion(match flags.is_empty() {
        true => format!("{} takes no flags", scope.name),
        false => format!("{} takes {}", scope.name, flags.join(", ")),
    })
}
