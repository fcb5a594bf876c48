//! Splitting the arguments of an instruction: words at blanks, words with quotes kept, JSON lists, flags.
//! Offsets are bytes of the logical line.

use serde_json::value::RawValue;

/// A piece of a logical line; `text` may lack quotes and escapes that `start..end` covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub text: String,
    pub start: usize,
    pub end: usize,
}

/// A flag as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawFlag {
    /// `--name=value`, quotes and escapes removed.
    pub text: String,
    pub start: usize,
    pub end: usize,
    /// Where the value starts; `None` without `=`.
    pub value_start: Option<usize>,
}

/// The blanks that separate words; not all that Unicode knows.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Words of `line[start..]` separated by blanks.
pub(crate) fn split_blanks(line: &str, start: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = start;
    for part in line[start..].split(is_blank) {
        if !part.is_empty() {
            pieces.push(Piece { text: part.to_owned(), start: at, end: at + part.len() });
        }
        // Every blank is one byte.
        at += part.len() + 1;
    }
    pieces
}

/// Words of `line[start..]` separated by blanks outside quotes; quotes and escapes stay.
pub(crate) fn split_quoted(line: &str, start: usize, escape: char) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut piece: Option<Piece> = None;
    let mut quote = None;
    let mut chars = line[start..].char_indices();
    while let Some((at, c)) = chars.next() {
        let at = start + at;
        if quote.is_none() && c.is_whitespace() {
            pieces.extend(piece.take());
            continue;
        }
        let current = piece.get_or_insert_with(|| Piece { text: String::new(), start: at, end: at });
        current.end = at + c.len_utf8();
        if c == escape && quote != Some('\'') {
            // An escape at the very end escapes nothing and is dropped.
            if let Some((next_at, next)) = chars.next() {
                current.text.extend([c, next]);
                current.end = start + next_at + next.len_utf8();
            }
            continue;
        }
        match quote {
            Some(open) if open == c => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => {}
        }
        current.text.push(c);
    }
    pieces.extend(piece);
    pieces.retain(|piece| !piece.text.is_empty());
    pieces
}

/// What a text that may be a JSON list is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JsonForm {
    /// A list of strings.
    List(Vec<Piece>),
    /// A list with something else in it: the piece is the first such element.
    NotStrings(Piece),
    /// Not a JSON list; the reference frontend then takes the text as it is.
    No,
}

/// Reads `line[start..]` as a JSON list of strings.
pub(crate) fn json_list(line: &str, start: usize) -> JsonForm {
    let text = &line[start..];
    if !text.trim_start().starts_with('[') {
        return JsonForm::No;
    }
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) else { return JsonForm::No };
    let mut pieces = Vec::with_capacity(elements.len());
    for element in elements {
        let raw = element.get();
        // `raw` borrows from `text`.
        let from = start + (raw.as_ptr() as usize - text.as_ptr() as usize);
        let piece = |text: String| Piece { text, start: from, end: from + raw.len() };
        match serde_json::from_str::<String>(raw) {
            Ok(value) => pieces.push(piece(value)),
            // A string that is no text because of a lone surrogate: as in Go, it has a replacement character there.
            Err(_) if raw.starts_with('"') => match serde_json::from_str::<String>(&without_surrogates(raw)) {
                Ok(value) => pieces.push(piece(value)),
                Err(_) => return JsonForm::No,
            },
            Err(_) => return JsonForm::NotStrings(piece(raw.to_owned())),
        }
    }
    JsonForm::List(pieces)
}

/// A JSON string whose lone surrogates are `\ufffd`.
fn without_surrogates(raw: &str) -> String {
    let mut text = String::new();
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        text.push_str(before);
        let unit = |escape: &str| u32::from_str_radix(escape.strip_prefix("\\u")?.get(..4)?, 16).ok();
        let length = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                text.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            _ => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        text.push_str(&escape[..length]);
        rest = &escape[length..];
    }
    text + rest
}

/// Takes the flags at the start of `line[start..]`; returns them and where the arguments begin.
pub(crate) fn take_flags(line: &str, start: usize, escape: char) -> (Vec<RawFlag>, usize) {
    let mut flags = Vec::new();
    let mut at = start;
    loop {
        at += line[at..].len() - line[at..].trim_start().len();
        if !line[at..].starts_with("--") {
            return (flags, at);
        }
        let flag = take_flag(line, at, escape);
        at = flag.end;
        if flag.text == "--" {
            return (flags, at);
        }
        flags.push(flag);
    }
}

fn take_flag(line: &str, start: usize, escape: char) -> RawFlag {
    let mut flag = RawFlag { text: String::new(), start, end: line.len(), value_start: None };
    let mut quote = None;
    let mut chars = line[start..].char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                flag.end = start + at;
                break;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ if c == escape => flag.text.extend(chars.next().map(|(_, c)| c)),
            _ => {
                flag.text.push(c);
                if c == '=' && flag.value_start.is_none() {
                    flag.value_start = Some(start + at + 1);
                }
            }
        }
    }
    flag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pieces: &[Piece]) -> Vec<&str> {
        pieces.iter().map(|piece| piece.text.as_str()).collect()
    }

    #[test]
    fn quoted_words_keep_quotes_and_escapes() {
        let cases: &[(&str, &[&str])] = &[
            ("a=b c=d", &["a=b", "c=d"]),
            ("a='b c' d", &["a='b c'", "d"]),
            ("a=\"b \\\" c\" d", &["a=\"b \\\" c\"", "d"]),
            ("a=b\\ c d", &["a=b\\ c", "d"]),
            ("a='b\\' c", &["a='b\\'", "c"]),
            ("a=\"open b", &["a=\"open b"]),
            ("a=''", &["a=''"]),
            ("a \\", &["a"]),
            ("é=ü 'ß x'", &["é=ü", "'ß x'"]),
        ];
        for (line, expected) in cases {
            let pieces = split_quoted(line, 0, '\\');
            assert_eq!(texts(&pieces), *expected, "{line}");
        }
    }

    #[test]
    fn elements_of_json_lists_know_their_place() {
        let line = "CMD [ \"a\", \"b\\n\" ]";

        let JsonForm::List(pieces) = json_list(line, 4) else { panic!("{line} is a list") };

        assert_eq!(texts(&pieces), ["a", "b\n"]);
        assert_eq!(&line[pieces[1].start..pieces[1].end], "\"b\\n\"");
    }

    #[test]
    fn what_is_no_list_of_strings_is_told_apart() {
        assert_eq!(json_list("['a']", 0), JsonForm::No);
        assert_eq!(json_list("[ -f x ]", 0), JsonForm::No);
        assert_eq!(json_list("[\"a\"] x", 0), JsonForm::No);
        assert!(matches!(json_list("[\"a\", 1]", 0), JsonForm::NotStrings(piece) if piece.text == "1"));
        assert!(matches!(json_list("[[]]", 0), JsonForm::NotStrings(_)));
        assert_eq!(json_list("[]", 0), JsonForm::List(vec![]));
        assert_eq!(json_list("[\"\\x\"]", 0), JsonForm::No);
    }

    #[test]
    fn lone_surrogates_in_json_are_replaced_as_go_does() {
        let cases = [
            (r#"["\ud800"]"#, "\u{fffd}"),
            (r#"["a\ud800b\udc00\\"]"#, "a\u{fffd}b\u{fffd}\\"),
            (r#"["\ud83d\ude00\ud83d"]"#, "\u{1f600}\u{fffd}"),
            (r#"["\\ud800"]"#, "\\ud800"),
        ];
        for (text, expected) in cases {
            let JsonForm::List(pieces) = json_list(text, 0) else { panic!("{text} is a list") };
            assert_eq!(texts(&pieces), [expected], "{text}");
        }
    }

    #[test]
    fn flags_end_at_the_first_other_word_or_two_dashes() {
        let cases: &[(&str, &[&str], &str)] = &[
            ("--from=a b c", &["--from=a"], "b c"),
            ("--a --b=\"x y\" c", &["--a", "--b=x y"], "c"),
            ("--a=x\\ y c", &["--a=x y"], "c"),
            ("--a -- --b c", &["--a"], " --b c"),
            ("-x y", &[], "-x y"),
            ("--a", &["--a"], ""),
        ];
        for (line, expected, rest) in cases {
            let (flags, at) = take_flags(line, 0, '\\');
            assert_eq!(flags.iter().map(|flag| flag.text.as_str()).collect::<Vec<_>>(), *expected, "{line}");
            assert_eq!(&line[at..], *rest, "{line}");
        }
    }
}
