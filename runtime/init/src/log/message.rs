//! What a receiver gets of a line: fields of journald's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), or a message of
//! syslog, in the forms that Docker's driver has.

use super::Stream;
use crate::plan::{MessageForm, SyslogLayout};
use crate::record::rfc3339;
use std::io::Write as _;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A line of output, or a part of a long one.
pub(super) struct Line<'a> {
    /// Without its newline.
    pub(super) text: &'a [u8],
    pub(super) stream: Stream,
    /// Whether nothing follows that belongs to it.
    pub(super) is_whole: bool,
    /// RFC 3339 with nanoseconds, UTC.
    pub(super) time: &'a str,
}

impl Line<'_> {
    /// "info" or "error", as syslog(3) counts them.
    fn severity(&self) -> u8 {
        if self.stream == Stream::Stdout { 6 } else { 3 }
    }
}

/// Returns the message of a line; `None`: it is not worth one.
pub(super) fn encode(form: &MessageForm, line: &Line<'_>, process: u32, now_nanos: u64) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(256 + line.text.len());
    // Writing to memory does not fail.
    let _ = match form {
        MessageForm::Journal { fields } => {
            out.extend_from_slice(fields);
            if !line.is_whole {
                out.extend_from_slice(b"CONTAINER_PARTIAL_MESSAGE=true\n");
            }
            // A line has no newline in it, so the short form of the field will do.
            write!(out, "PRIORITY={}\nSYSLOG_TIMESTAMP={}\nMESSAGE=", line.severity(), line.time)
        }
        MessageForm::Syslog { .. } if line.text.is_empty() => return None,
        MessageForm::Syslog { facility, layout, host, tag, offset_seconds } => {
            let priority = facility * 8 + line.severity();
            let local = rfc3339(now_nanos.saturating_add_signed(i64::from(*offset_seconds) * 1_000_000_000));
            match layout {
                SyslogLayout::Unix => write!(out, "<{priority}>{} {tag}[{process}]: ", stamp(&local)),
                SyslogLayout::Rfc3164 => write!(out, "<{priority}>{} {host} {tag}[{process}]: ", stamp(&local)),
                SyslogLayout::Rfc5424 => {
                    write!(out, "<{priority}>1 {}Z {host} {tag} {process} {tag} - ", &line.time[..19])
                }
                SyslogLayout::Rfc5424Micro => {
                    write!(out, "<{priority}>1 {}Z {host} {tag} {process} {tag} - ", &line.time[..26])
                }
            }
        }
    };
    out.extend_from_slice(line.text);
    out.push(b'\n');
    Some(out)
}

/// "Jan  2 03:04:05" of "2026-01-02T03:04:05.000000000Z": RFC 3164, 4.1.2.
fn stamp(time: &str) -> String {
    let month = time[5..7].parse().ok().and_then(|month: usize| MONTHS.get(month.wrapping_sub(1)));
    format!("{} {:>2} {}", month.unwrap_or(&"Jan"), time[8..10].trim_start_matches('0'), &time[11..19])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-02T03:04:05.123456789Z
    const NOW: u64 = 1_767_323_045_123_456_789;

    fn encoded(form: &MessageForm, text: &str, stream: Stream, is_whole: bool) -> Option<String> {
        let line = Line { text: text.as_bytes(), stream, is_whole, time: &rfc3339(NOW) };
        encode(form, &line, 42, NOW).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn syslog(layout: SyslogLayout, offset_seconds: i32) -> MessageForm {
        MessageForm::Syslog { facility: 3, layout, host: "box".into(), tag: "web".into(), offset_seconds }
    }

    #[test]
    fn messages_of_syslog_have_the_form_that_was_chosen() {
        for (layout, expected) in [
            (SyslogLayout::Unix, "<30>Jan  2 03:04:05 web[42]: hello\n"),
            (SyslogLayout::Rfc3164, "<30>Jan  2 03:04:05 box web[42]: hello\n"),
            (SyslogLayout::Rfc5424, "<30>1 2026-01-02T03:04:05Z box web 42 web - hello\n"),
            (SyslogLayout::Rfc5424Micro, "<30>1 2026-01-02T03:04:05.123456Z box web 42 web - hello\n"),
        ] {
            assert_eq!(encoded(&syslog(layout, 0), "hello", Stream::Stdout, true).unwrap(), expected);
        }
        let error = encoded(&syslog(SyslogLayout::Unix, -7200), "no", Stream::Stderr, true).unwrap();
        assert_eq!(error, "<27>Jan  2 01:04:05 web[42]: no\n");
        assert_eq!(encoded(&syslog(SyslogLayout::Unix, 0), "", Stream::Stdout, true), None);
    }

    #[test]
    fn messages_of_the_journal_are_its_fields() {
        let form = MessageForm::Journal { fields: b"CONTAINER_NAME=web\n".to_vec() };

        let whole = encoded(&form, "hello", Stream::Stderr, true).unwrap();
        let part = encoded(&form, "hel", Stream::Stdout, false).unwrap();

        let time = "2026-01-02T03:04:05.123456789Z";
        assert_eq!(whole, format!("CONTAINER_NAME=web\nPRIORITY=3\nSYSLOG_TIMESTAMP={time}\nMESSAGE=hello\n"));
        assert!(part.contains("\nCONTAINER_PARTIAL_MESSAGE=true\nPRIORITY=6\n") && part.ends_with("\nMESSAGE=hel\n"));
    }
}
