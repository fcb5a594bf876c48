//! What a registry says when it refuses: the error document of the distribution specification, cut and cleaned.

use std::fmt;

use serde::Deserialize;

/// The most of an error's body that is read, in bytes.
pub(crate) const MOST: usize = 64 * 1024;
/// How many errors of one answer are kept.
const KEPT: usize = 4;
/// How long a text of a registry may get, in characters.
const LONGEST: usize = 240;

/// Error codes of a registry with their messages.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Codes(Vec<(String, String)>);

#[derive(Deserialize)]
struct Document {
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

/// What token servers say instead (RFC 6749, 5.2).
#[derive(Deserialize)]
struct OauthError {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

impl Codes {
    /// Reads the body of an answer; what is no error document is nothing.
    pub(crate) fn parse(body: &[u8]) -> Self {
        if let Ok(document) = serde_json::from_slice::<Document>(body) {
            let entry = |entry: Entry| (clean(&entry.code), clean(&entry.message.unwrap_or_default()));
            return Self(document.errors.into_iter().take(KEPT).map(entry).collect());
        }
        match serde_json::from_slice::<OauthError>(body) {
            Ok(error) => Self(vec![(clean(&error.error), clean(&error.error_description.unwrap_or_default()))]),
            Err(_) => Self::default(),
        }
    }

    /// Is this code among them?
    pub fn contains(&self, code: &str) -> bool {
        self.0.iter().any(|(known, _)| known.eq_ignore_ascii_case(code))
    }

    /// Codes and messages, in the order of the answer.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(code, message)| (code.as_str(), message.as_str()))
    }
}

/// A text of a registry as it may stand in a message: one line, printable, short.
pub(crate) fn clean(text: &str) -> String {
    text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// Empty, or " (CODE: message)".
impl fmt::Display for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let one = |(code, message): &(String, String)| match (code.is_empty(), message.is_empty()) {
            (false, false) => format!("{code}: {message}"),
            _ => format!("{code}{message}"),
        };
        write!(f, " ({})", self.0.iter().map(one).collect::<Vec<_>>().join("; "))
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_and_shown() {
        let codes = Codes::parse(
            br#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such name","detail":{"a":1}},{"code":"X"}]}"#,
        );
        assert_eq!(codes.to_string(), " (NAME_UNKNOWN: no such name; X)");
        assert!(codes.contains("NAME_UNKNOWN") && !codes.contains("DENIED"));
        assert_eq!(
            Codes::parse(br#"{"error":"invalid_grant","error_description":"old"}"#).to_string(),
            " (invalid_grant: old)"
        );
    }

    #[test]
    fn what_is_no_error_document_is_nothing() {
        for body in ["", "<html>", "[]", "{}", "{\"errors\":7}", "null"] {
            assert_eq!(Codes::parse(body.as_bytes()).to_string(), "", "{body}");
        }
    }

    #[test]
    fn hostile_texts_are_cut_and_cleaned() {
        let long = format!(r#"{{"errors":[{{"code":"A","message":"{}\u001b[2J\nx"}}]}}"#, "m".repeat(300));
        assert!(Codes::parse(long.as_bytes()).to_string().len() < 260);
        let escape = Codes::parse(br#"{"errors":[{"code":"A","message":"\u001b[2J\nx"}]}"#);
        assert_eq!(escape.to_string(), " (A: [2J x)");
        let many = format!(r#"{{"errors":[{}]}}"#, vec![r#"{"code":"A"}"#; 1000].join(","));
        assert_eq!(Codes::parse(many.as_bytes()).iter().count(), KEPT);
    }
}
