//! Parser directives: `# key=value` lines at the very top of the file, before anything else.

use crate::ast::{Directives, Span, Spanned};
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
        let word = Spanned::new(value.to_owned(), value_span);
        match key {
            "syntax" => {
                let image = value.split(' ').next().unwrap_or(value);
                let span = Span::new(value_span.start, value_span.start + image.len());
                directives.syntax = Some(Spanned::new(image.to_owned(), span));
            }
            "check" => directives.check = Some(word),
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
    let text = whole.strip_prefix('#')?.trim_start();
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
