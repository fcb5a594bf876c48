//! Text and actions of a template, and the words of an action.

use std::iter::Peekable;
use std::str::CharIndices;

use serde_json::Value;

use super::Problem;

/// A part of a template.
#[derive(Debug)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// What stands between braces.
    Action(Vec<Token>, usize),
}

/// A word of an action.
#[derive(Debug, Clone)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Bytes of the template before it.
    pub at: usize,
    /// Nothing stands between it and the word before.
    pub is_glued: bool,
}

/// Kinds of words.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Assign,
    Comma,
    Declare,
    Dot,
    Field(String),
    Literal(Value),
    Name(String),
    Open,
    Close,
    Pipe,
    /// With the dollar; "$" is the whole.
    Variable(String),
}

/// Cuts a template. A shell leaves `\t` and `\n` of a text as they are: they are a tab and a line break, as Docker has it.
pub fn pieces(source: &str) -> Result<Vec<Piece>, Problem> {
    let mut pieces = Vec::new();
    let (mut at, mut trims) = (0, false);
    while let Some(start) = source[at..].find("{{").map(|found| at + found) {
        let after = start + 2;
        let trims_before = is_trim(source[after..].chars());
        push_text(&mut pieces, &source[at..start], trims, trims_before);
        let inside = if trims_before { after + 1 } else { after };
        let (tokens, end) = match comment(source, inside)? {
            Some(end) => (None, end),
            None => {
                let (tokens, end) = words(source, inside, start)?;
                (Some(tokens), end)
            }
        };
        pieces.extend(tokens.map(|tokens| Piece::Action(tokens, start)));
        trims = end.trims;
        at = end.at;
    }
    push_text(&mut pieces, &source[at..], trims, false);
    Ok(pieces)
}

/// Where an action ends, and whether it takes the blanks behind it away.
struct End {
    at: usize,
    trims: bool,
}

/// A minus with a blank behind it.
fn is_trim(mut letters: impl Iterator<Item = char>) -> bool {
    letters.next() == Some('-') && letters.next().is_some_and(char::is_whitespace)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trims_start: bool, trims_end: bool) {
    let text = text.replace("\\t", "\t").replace("\\n", "\n");
    let text = if trims_start { text.trim_start() } else { &text };
    let text = if trims_end { text.trim_end() } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// The end of an action that is a comment; none: it is not.
fn comment(source: &str, inside: usize) -> Result<Option<End>, Problem> {
    let text = &source[inside..];
    let Some(body) = text.trim_start().strip_prefix("/*") else { return Ok(None) };
    let start = source.len() - body.len();
    let close = body.find("*/").ok_or_else(|| Problem::new(start - 2, "a comment is never closed with */"))?;
    let rest = start + close + 2;
    match closed(source, rest) {
        Some(end) => Ok(Some(end)),
        None => Err(Problem::new(rest, "a comment is an action of its own: }} is expected")),
    }
}

/// The end of an action, where it is here.
fn closed(source: &str, at: usize) -> Option<End> {
    let rest = &source[at..];
    let bare = rest.trim_start();
    let blanks = rest.len() - bare.len();
    if blanks > 0 && bare.starts_with("-}}") {
        return Some(End { at: at + blanks + 3, trims: true });
    }
    bare.starts_with("}}").then(|| End { at: at + blanks + 2, trims: false })
}

fn words(source: &str, inside: usize, start: usize) -> Result<(Vec<Token>, End), Problem> {
    let mut tokens = Vec::new();
    let mut at = inside;
    loop {
        if let Some(end) = closed(source, at) {
            return Ok((tokens, end));
        }
        let rest = &source[at..];
        let bare = rest.trim_start();
        if bare.is_empty() {
            return Err(Problem::new(start, "a {{ is never closed with }}"));
        }
        let here = source.len() - bare.len();
        let (kind, length) = word(bare).map_err(|what| Problem::new(here, what))?;
        tokens.push(Token { kind, at: here, is_glued: here == at && here > inside });
        at = here + length;
    }
}

/// The word that a text starts with, and its bytes.
fn word(text: &str) -> Result<(Kind, usize), String> {
    let mut letters = text.char_indices().peekable();
    let first = text.chars().next().unwrap_or_default();
    let second = text[first.len_utf8()..].chars().next();
    let name_from = |from: usize| {
        let length = text[from..].find(|c: char| !is_letter(c)).unwrap_or(text.len() - from);
        (text[from..from + length].to_owned(), from + length)
    };
    match (first, second) {
        ('|', _) => Ok((Kind::Pipe, 1)),
        ('(', _) => Ok((Kind::Open, 1)),
        (')', _) => Ok((Kind::Close, 1)),
        (',', _) => Ok((Kind::Comma, 1)),
        (':', Some('=')) => Ok((Kind::Declare, 2)),
        ('=', _) => Ok((Kind::Assign, 1)),
        ('.', Some(c)) if is_letter(c) && !c.is_ascii_digit() => {
            let (name, length) = name_from(1);
            Ok((Kind::Field(name), length))
        }
        ('.', Some(c)) if c.is_ascii_digit() => number(text),
        ('.', _) => Ok((Kind::Dot, 1)),
        ('$', _) => {
            let (_, length) = name_from(1);
            Ok((Kind::Variable(text[..length].to_owned()), length))
        }
        ('"', _) => quoted(&mut letters),
        ('`', _) => match text[1..].find('`') {
            Some(end) => Ok((Kind::Literal(text[1..=end].into()), end + 2)),
            None => Err("a ` is never closed".to_owned()),
        },
        ('\'', _) => character(text),
        (c, _) if c.is_ascii_digit() => number(text),
        ('-' | '+', Some(c)) if c.is_ascii_digit() || c == '.' => number(text),
        (c, _) if is_letter(c) => {
            let (name, length) = name_from(0);
            let kind = match name.as_str() {
                "true" => Kind::Literal(true.into()),
                "false" => Kind::Literal(false.into()),
                "nil" => Kind::Literal(Value::Null),
                _ => Kind::Name(name),
            };
            Ok((kind, length))
        }
        (c, _) => Err(format!("{c:?} means nothing here")),
    }
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A text in double quotes, with Go's escapes.
fn quoted(letters: &mut Peekable<CharIndices<'_>>) -> Result<(Kind, usize), String> {
    let mut text = String::new();
    letters.next();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((Kind::Literal(text.into()), at + 1)),
            '\\' => text.push(escape(letters)?),
            '\n' => break,
            other => text.push(other),
        }
    }
    Err("a \" is never closed".to_owned())
}

fn escape(letters: &mut Peekable<CharIndices<'_>>) -> Result<char, String> {
    let (_, letter) = letters.next().ok_or("a \\ has nothing behind it")?;
    let digits = match letter {
        'a' => return Ok('\u{7}'),
        'b' => return Ok('\u{8}'),
        'f' => return Ok('\u{c}'),
        'n' => return Ok('\n'),
        'r' => return Ok('\r'),
        't' => return Ok('\t'),
        'v' => return Ok('\u{b}'),
        '\\' | '"' | '\'' => return Ok(letter),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        other => return Err(format!("\\{other} is no escape")),
    };
    let mut number = 0;
    for _ in 0..digits {
        let digit = letters.next().and_then(|(_, digit)| digit.to_digit(16));
        number = number * 16 + digit.ok_or_else(|| format!("\\{letter} needs {digits} digits"))?;
    }
    char::from_u32(number).ok_or_else(|| format!("\\{letter} names no character"))
}

/// 'a': its number.
fn character(text: &str) -> Result<(Kind, usize), String> {
    let mut letters = text.char_indices().peekable();
    letters.next();
    let letter = match letters.next() {
        Some((_, '\\')) => escape(&mut letters)?,
        Some((_, letter)) if letter != '\'' => letter,
        _ => return Err("'' holds no character".to_owned()),
    };
    match letters.next() {
        Some((at, '\'')) => Ok((Kind::Literal(u32::from(letter).into()), at + 1)),
        _ => Err("a ' is never closed".to_owned()),
    }
}

/// A number as Go writes it: decimal, 0x, 0o, 0b, with underscores; or one with a fraction.
fn number(text: &str) -> Result<(Kind, usize), String> {
    let is_exponent = |at: usize| at > 0 && matches!(text.as_bytes()[at - 1], b'e' | b'E') && !text.contains("0x");
    let length = text
        .char_indices()
        .find(|&(at, c)| !(is_letter(c) || c == '.' || (matches!(c, '-' | '+') && (at == 0 || is_exponent(at)))))
        .map_or(text.len(), |(at, _)| at);
    let written = &text[..length];
    let bad = || format!("{written:?} is no number");
    let plain = written.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = |prefix: &str, radix| digits.strip_prefix(prefix).map(|digits| i64::from_str_radix(digits, radix));
    let whole = radix("0x", 16)
        .or_else(|| radix("0X", 16))
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0b", 2))
        .unwrap_or_else(|| digits.parse());
    if let Ok(whole) = whole {
        return Ok((Kind::Literal((sign * whole).into()), length));
    }
    let broken: f64 = plain.parse().map_err(|_| bad())?;
    let value = serde_json::Number::from_f64(broken).ok_or_else(bad)?;
    Ok((Kind::Literal(Value::Number(value)), length))
}
