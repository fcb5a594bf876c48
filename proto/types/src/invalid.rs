//! The one error of this crate: a text that is not the noun it should be.

/// A text that breaks the rules of a noun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {noun} {text:?}: {rule}")]
pub struct Invalid {
    /// What the text should have been: "digest", "reference", ...
    pub noun: &'static str,
    /// The text itself, cut to a length that fits in a message.
    pub text: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl Invalid {
    /// An error about `text`; long texts are cut.
    pub fn new(noun: &'static str, text: &str, rule: &'static str) -> Self {
        const SHOWN: usize = 160;
        let mut shown: String = text.chars().take(SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Self { noun, text: shown, rule }
    }
}
