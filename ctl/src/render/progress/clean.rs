//! Output of steps as text that cannot drive the terminal.

use unicode_width::UnicodeWidthChar;

use crate::explore::text;

/// One line of output: without escape sequences, without what a carriage return overwrites, nothing that is not shown.
pub fn line(bytes: &[u8]) -> String {
    let plain = anstream::adapter::strip_bytes(bytes).into_vec();
    let shown = String::from_utf8_lossy(&plain);
    let last = shown.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    text::line(last)
}

/// Cuts a text to columns of a terminal.
pub fn cut(text: &str, columns: usize) -> String {
    let mut left = columns;
    let fits = |letter: &char| {
        let width = letter.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    text.chars().take_while(fits).collect()
}

/// Bytes as BuildKit's progress says them: "1.23MB", two digits behind the point, powers of a thousand.
pub fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count}B") } else { format!("{value:.2}{}", units[unit]) }
}

/// "1.20MB / 3.40MB", or only what there is of it.
pub fn amount(current: u64, total: u64) -> String {
    match (current, total) {
        (0, 0) => String::new(),
        (current, 0) => bytes(current),
        (current, total) => format!("{} / {}", bytes(current), bytes(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_drive_the_terminal() {
        for (bytes, expected) in [
            (&b"plain"[..], "plain"),
            (b"\x1b[31mred\x1b[0m and \x1b]0;title\x07bell\x07", "red and bell"),
            (b" 10%\r 50%\r100%\r", "100%"),
            (b"a\tb", "a b"),
            ("wide 日本 \u{202e}back".as_bytes(), "wide 日本 \u{fffd}back"),
            (b"latin \xe9", "latin \u{fffd}"),
            (b"\x1b[2J\x1b[1;1H", ""),
        ] {
            assert_eq!(line(bytes), expected);
        }
    }

    #[test]
    fn texts_are_cut_by_the_columns_they_take() {
        assert_eq!(cut("abcdef", 4), "abcd");
        assert_eq!(cut("日本語", 5), "日本");
        assert_eq!(cut("e\u{301}tude", 2), "e\u{301}t");
        assert_eq!(cut("ab", 80), "ab");
    }

    #[test]
    fn amounts_are_said_as_buildkit_says_them() {
        assert_eq!(amount(0, 0), "");
        assert_eq!(amount(123, 0), "123B");
        assert_eq!(amount(1_234_567, 31_400_000), "1.23MB / 31.40MB");
    }
}
