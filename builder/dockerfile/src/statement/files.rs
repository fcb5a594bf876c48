//! `COPY` and `ADD`: sources, heredocs among them, and a destination.

use super::{Result, Scope, json_or_words, usage};
use crate::ast::{Add, Copy, Flag, Heredoc, Kind, Word};
use crate::diagnostic::Diagnostic;
use crate::flag::Flags;
use crate::{expand, heredoc, meta};

struct Files {
    sources: Vec<Word>,
    heredocs: Vec<Heredoc>,
    destination: Word,
}

fn files(scope: &Scope<'_>, mut heredocs: Vec<Heredoc>) -> Result<Files> {
    let name = scope.name;
    let mut pieces = json_or_words(scope)?;
    let destination = match pieces.pop() {
        Some(piece) if !pieces.is_empty() => piece,
        Some(only) => {
            let message = format!("{name} requires at least one source and a destination, but has one argument");
            return Err(scope.error(only.start, only.end, message).with_suggestion(usage(name)));
        }
        None => {
            let message = format!("{name} requires at least one source and a destination");
            return Err(scope.error_at_name(message).with_suggestion(usage(name)));
        }
    };
    if heredoc::is_marker(&destination.text) {
        let message = format!("{name} cannot write to a heredoc: it can only be a source");
        return Err(scope.error(destination.start, destination.end, message).with_suggestion(usage(name)));
    }
    let mut sources = Vec::new();
    let mut inline = Vec::new();
    for piece in pieces {
        let word = scope.word(piece);
        match heredocs.iter().position(|heredoc| heredoc.marker_span == word.span) {
            Some(index) => inline.push(heredocs.remove(index)),
            None => sources.push(word),
        }
    }
    if let Some(left) = heredocs.first() {
        let message = format!("{name} cannot use this heredoc");
        let advice = "write it as one word without blanks, such as <<EOF";
        return Err(Diagnostic::at(scope.source, left.marker_span, message).with_suggestion(advice));
    }
    Ok(Files { sources, heredocs: inline, destination: scope.word(destination) })
}

pub(super) fn copy(scope: &Scope<'_>, flags: &Flags, heredocs: Vec<Heredoc>) -> Result<Kind> {
    let Files { sources, heredocs, destination } = files(scope, heredocs)?;
    // Without a value it means the build context, as without the flag.
    let from = flags.text("from").filter(|flag| !flag.value.is_empty());
    if let Some(flag) = &from {
        if !expand::references(&flag.value, scope.escape).is_empty() {
            let advice = "name a stage with FROM … AS, where global ARGs expand, and copy from that";
            let message = "variables do not expand in --from";
            return Err(Diagnostic::at(scope.source, flag.value_span, message).with_suggestion(advice));
        }
        if let Some(heredoc) = heredocs.first() {
            let message = "a heredoc cannot be a source together with --from";
            return Err(Diagnostic::at(scope.source, heredoc.marker_span, message));
        }
    }
    Ok(Kind::Copy(Copy {
        sources,
        heredocs,
        destination,
        from,
        chown: flags.text("chown"),
        chmod: checked_chmod(scope, flags)?,
        link: flags.boolean("link"),
        parents: flags.boolean("parents"),
        exclude: flags.list("exclude"),
    }))
}

pub(super) fn add(scope: &Scope<'_>, flags: &Flags, heredocs: Vec<Heredoc>) -> Result<Kind> {
    let Files { sources, heredocs, destination } = files(scope, heredocs)?;
    Ok(Kind::Add(Add {
        sources,
        heredocs,
        destination,
        chown: flags.text("chown"),
        chmod: checked_chmod(scope, flags)?,
        link: flags.boolean("link"),
        keep_git_dir: flags.boolean("keep-git-dir"),
        checksum: flags.text("checksum"),
        unpack: flags.boolean("unpack"),
        exclude: flags.list("exclude"),
    }))
}

/// A mode without variables can be refused at once; others after expansion.
fn checked_chmod(scope: &Scope<'_>, flags: &Flags) -> Result<Option<Flag<String>>> {
    let flag = flags.text("chmod");
    if let Some(flag) = flag.as_ref().filter(|flag| expand::references(&flag.value, scope.escape).is_empty()) {
        meta::parse_chmod(&flag.value)
            .map_err(|error| Diagnostic::at(scope.source, flag.value_span, error.to_string()))?;
    }
    Ok(flag)
}
