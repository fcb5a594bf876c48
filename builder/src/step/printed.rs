//! Values as Go prints them: entries of the history are to be those of the reference frontend, letter by letter.

use std::fmt::Write as _;

use strata_types::Healthcheck;

/// A list of words as `%q` prints it: `["python3" "app.py"]`.
pub fn quoted_list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(" "))
}

/// A text as `strconv.Quote` does it.
fn quoted(text: &str) -> String {
    let mut result = String::from("\"");
    for c in text.chars() {
        let escape = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\u{c}' => "\\f",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{b}' => "\\v",
            c => {
                let number = u32::from(c);
                let _ = match number {
                    _ if is_printable(c) => write!(result, "{c}"),
                    0..0x80 => write!(result, "\\x{number:02x}"),
                    0x80..0x1_0000 => write!(result, "\\u{number:04x}"),
                    _ => write!(result, "\\U{number:08x}"),
                };
                continue;
            }
        };
        result.push_str(escape);
    }
    result.push('"');
    result
}

/// Letters, marks, numbers, punctuation, symbols and the ASCII space: what the standard library leaves alone in quotes
/// where something stands before it.
fn is_printable(c: char) -> bool {
    if c.is_ascii() { c == ' ' || c.is_ascii_graphic() } else { format!("a{c}").escape_debug().count() == 2 }
}

/// A health check as `%+v` prints the struct.
pub fn healthcheck(check: &Healthcheck) -> String {
    let Healthcheck { test, interval, timeout, start_period, start_interval, retries } = check;
    format!(
        "{{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{retries}}}",
        test.join(" "),
        duration(*interval),
        duration(*timeout),
        duration(*start_period),
        duration(*start_interval),
    )
}

/// Nanoseconds as `Duration.String` writes them: `1m30s`, `1.5s`, `500ms`, `0s`.
fn duration(nanos: i64) -> String {
    let (hours, minutes) = (nanos / 3_600_000_000_000, nanos / 60_000_000_000 % 60);
    match nanos {
        0 => "0s".to_owned(),
        ..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let mut text = String::new();
            if hours > 0 {
                let _ = write!(text, "{hours}h");
            }
            if hours > 0 || minutes > 0 {
                let _ = write!(text, "{minutes}m");
            }
            let _ = write!(text, "{}s", decimal(nanos % 60_000_000_000, 1_000_000_000));
            text
        }
    }
}

/// `value / unit`, without zeros at its end.
fn decimal(value: i64, unit: i64) -> String {
    let digits = unit.to_string().len() - 1;
    let fraction = format!("{:0digits$}", value % unit);
    match fraction.trim_end_matches('0') {
        "" => (value / unit).to_string(),
        fraction => format!("{}.{fraction}", value / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_go_quotes_them() {
        let cases = [
            ("", r#""""#),
            ("it's \"a\" \\", r#""it's \"a\" \\""#),
            ("\u{7}\u{8}\u{c}\n\r\t\u{b}\0\u{1b}\u{7f}", r#""\a\b\f\n\r\t\v\x00\x1b\x7f""#),
            ("é日\u{1f600}", "\"é日\u{1f600}\""),
            ("e\u{301}", "\"e\u{301}\""),
            ("\u{a0}\u{ad}\u{200b}\u{2028}\u{feff}", r#""\u00a0\u00ad\u200b\u2028\ufeff""#),
            ("\u{e0001}\u{10ffff}", r#""\U000e0001\U0010ffff""#),
        ];
        for (text, expected) in cases {
            assert_eq!(quoted(text), expected);
        }
        assert_eq!(quoted_list(&["a b".to_owned(), String::new()]), r#"["a b" ""]"#);
        assert_eq!(quoted_list(&[]), "[]");
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (500_000_000, "500ms"),
            (3_300_000_000, "3.3s"),
            (30_000_000_000, "30s"),
            (60_000_000_000, "1m0s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (3_600_000_000_000, "1h0m0s"),
            (i64::MAX, "2562047h47m16.854775807s"),
        ];
        for (nanos, expected) in cases {
            assert_eq!(duration(nanos), expected, "{nanos}");
        }
    }

    #[test]
    fn health_checks_are_printed_with_all_fields() {
        let check = Healthcheck {
            test: vec!["CMD-SHELL".to_owned(), "curl x".to_owned()],
            interval: 90_000_000_000,
            retries: 3,
            ..Healthcheck::default()
        };

        assert_eq!(
            healthcheck(&check),
            "{Test:[CMD-SHELL curl x] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}"
        );
    }
}
