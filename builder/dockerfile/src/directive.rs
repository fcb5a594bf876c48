//! Parser directives: `# key=value` lines at the very top of the file, before anything else. `//` may stand for `#`.

use crate::ast::{Directives, Span, Spanned};
use crate::check::Check;
use crate::diagnostic::{Diagnostic, Source};
use crate::line::{Lines, PhysicalLine};

/// Reads the directives and leaves `lines` at the first line that is none.
pub(crate) fn read(lines: &mut Lines<'_>, source: &Source) -> Result<Directives, Diagnostic> {
    let mut directives = Directives::default();
    let mut seen: Vec<&'static str> = Vec::new();
    while let Some(line) = lines.peek() {
        if lines.number == 0 && line.text.starts_with("#!") {
            lines.next();
            continue;
        }
        let Some(Found { key, value, span, value_span }) = find(line) else { break };
        if seen.contains(&key) {
            return Err(Diagnostic::at(source, span, format!("only one {key} directive can be used")));
        }
        seen.push(key);
        match key {
            "syntax" => {
                let image = value.split(' ').next().unwrap_or(value);
                let span = Span::new(value_span.start, value_span.start + image.len());
                directives.syntax = Some(Spanned::new(image.to_owned(), span));
            }
            "check" => {
                // As in the reference frontend, what follows a blank does not count.
                let options = value.split(' ').next().unwrap_or(value);
                Check::parse(options).map_err(|error| Diagnostic::at(source, value_span, error.to_string()))?;
                let span = Span::new(value_span.start, value_span.start + options.len());
                directives.check = Some(Spanned::new(options.to_owned(), span));
            }
            _ => {
                directives.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    other => {
                        let message = format!("invalid escape character {other:?}: it must be \\ or `");
                        return Err(Diagnostic::at(source, value_span, message));
                    }
                };
            }
        }
        lines.next();
    }
    Ok(directives)
}

/// The frontend that a definition in JSON names: `{"syntax": …}`. There is no Dockerfile in such a text.
pub(crate) fn json_syntax(text: &str) -> Option<String> {
    if !text.starts_with('{') {
        return None;
    }
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    object.get("syntax")?.as_str().map(str::to_owned)
}

struct Found<'a> {
    key: &'static str,
    value: &'a str,
    span: Span,
    value_span: Span,
}

fn find(line: PhysicalLine<'_>) -> Option<Found<'_>> {
    let content = line.content();
    let offset_of = |part: &str| line.start + (part.as_ptr() as usize - content.as_ptr() as usize);
    let whole = content.trim();
    let text = whole.strip_prefix('#').or_else(|| whole.strip_prefix("//"))?.trim_start();
    let (key, value) = text.split_once('=')?;
    let key = ["syntax", "escape", "check"].into_iter().find(|known| known.eq_ignore_ascii_case(key.trim_end()))?;
    let value = value.trim();
    if value.is_empty() {
        return None;
    }
    let span = Span::new(offset_of(whole), offset_of(whole) + whole.len());
    let value_span = Span::new(offset_of(value), offset_of(value) + value.len());
    Some(Found { key, value, span, value_span })
}
