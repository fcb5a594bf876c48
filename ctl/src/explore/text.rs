//! Names of files as text that is safe to show: what a terminal would act on, or nobody can read, is escaped.
//! The escapes are unique: `\\` is a backslash, `\xHH` a byte that is no UTF-8, `\u{H}` a character that is not shown.

use std::fmt::Write;

/// The text of a name. Control characters, those that reorder or hide text, and bytes that are no UTF-8 are escaped.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                letter if is_hostile(letter) => {
                    // Writing to a String does not fail.
                    let _ = write!(text, "\\u{{{:x}}}", u32::from(letter));
                }
                letter => text.push(letter),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Text of an image's config as one safe line. Blanks stay, backslashes too: it is prose.
pub fn line(text: &str) -> String {
    let safe = |letter: char| match letter {
        '\n' | '\t' => ' ',
        letter if is_hostile(letter) => '\u{fffd}',
        letter => letter,
    };
    text.chars().map(safe).collect()
}

/// Control characters, format characters that reorder text or take no room, other blanks than the space.
fn is_hostile(letter: char) -> bool {
    letter.is_control()
        || (letter.is_whitespace() && letter != ' ')
        || unicode_width::UnicodeWidthChar::width(letter).is_none_or(|width| width == 0) && !is_combining(letter)
        || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

/// Marks that belong to the letter before them, in the blocks that names of files really use.
fn is_combining(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{34e}' | '\u{350}'..='\u{36f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        for (name, expected) in [
            (&b"plain name.txt"[..], "plain name.txt"),
            (b"\x1b[31mred\x07", "\\u{1b}[31mred\\u{7}"),
            (b"a\nb\tc\rd", "a\\nb\\tc\\rd"),
            (b"\xff\xfe ok", "\\xff\\xfe ok"),
            (b"back\\slash", "back\\\\slash"),
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
            ("evil\u{202e}txt.exe".as_bytes(), "evil\\u{202e}txt.exe"),
            ("zero\u{200b}width\u{feff}".as_bytes(), "zero\\u{200b}width\\u{feff}"),
            ("e\u{301}t\u{e9} 日本 \u{1f600}".as_bytes(), "e\u{301}t\u{e9} 日本 \u{1f600}"),
        ] {
            assert_eq!(escaped(name), expected);
        }
    }

    #[test]
    fn different_names_look_different() {
        assert_ne!(escaped(b"\\xff"), escaped(b"\xff"));
        assert_ne!(escaped(b"\\n"), escaped(b"\n"));
        assert_ne!(escaped("\u{fffd}".as_bytes()), escaped(b"\xff"));
    }

    #[test]
    fn lines_of_a_config_stay_one_line() {
        assert_eq!(line("RUN a \\\n\tb \x1b[2J"), "RUN a \\  b \u{fffd}[2J");
    }
}
