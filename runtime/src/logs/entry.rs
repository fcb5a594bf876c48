//! One entry of a log: a line of JSON, as Docker's json-file driver has it.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::Timestamp;
use serde::Deserialize;

/// A line of the log with its end, or a part of a long one; several, where they were joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// It came from standard error.
    pub is_stderr: bool,
    /// When it was written. Unknown of what is damaged.
    pub written_at: Option<Timestamp>,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What the log's options say of it.
    pub attributes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// What a crash of the host leaves of a block that was not written: it is no text.
fn text(raw: &[u8]) -> &[u8] {
    let start = raw.iter().position(|&byte| byte != 0).unwrap_or(raw.len());
    &raw[start..]
}

/// Parses an entry. What is no JSON is passed on as it is; `None`: there is nothing.
pub fn parse(raw: &[u8]) -> Option<Line> {
    let raw = text(raw);
    if raw.is_empty() || raw == b"\n" {
        return None;
    }
    Some(match serde_json::from_slice::<Entry<'_>>(raw) {
        Ok(entry) => Line {
            is_stderr: entry.stream == "stderr",
            written_at: entry.time.parse().ok(),
            bytes: entry.log.into_owned().into_bytes(),
            attributes: entry.attrs,
        },
        Err(_) => Line { is_stderr: false, written_at: None, bytes: raw.to_vec(), attributes: BTreeMap::new() },
    })
}

/// When an entry was written, if it says so.
pub fn time(raw: &[u8]) -> Option<Timestamp> {
    let entry: Entry<'_> = serde_json::from_slice(text(raw)).ok()?;
    entry.time.parse().ok()
}

/// Whether an entry ends a line of the container's output; `None`: there is none in it.
pub fn ends_line(raw: &[u8]) -> Option<bool> {
    let raw = text(raw);
    if raw.is_empty() || raw == b"\n" {
        return None;
    }
    Some(serde_json::from_slice::<Entry<'_>>(raw).map_or(true, |entry| entry.log.ends_with('\n')))
}
