//! What people type to name an image: a name in short or full form, an id, or the start of one.

use strata_image::Platforms;
use strata_types::{Digest, Invalid, Reference};

use crate::{Error, Result};

/// The readings of such a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// As it was typed.
    pub text: String,
    /// The name in full form, if the text can be one.
    pub name: Option<String>,
    /// "name@sha256:...": the manifest that the image must have.
    pub manifest: Option<Digest>,
    /// Hex digits that the id starts with, if the text can be that.
    pub prefix: Option<String>,
    /// Which image of several is meant.
    pub platforms: Platforms,
}

impl Wanted {
    /// Reads the text; one that can be neither name nor id is refused.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let hex = text.strip_prefix("sha256:");
        let digits = hex.unwrap_or(text);
        let is_hex = !digits.is_empty()
            && digits.len() <= 64
            && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let prefix = is_hex.then(|| digits.to_owned());
        // With the prefix of a digest, a text is an id and no name, whatever it could be else; 64 digits are as well.
        if hex.is_some() || (is_hex && digits.len() == 64) {
            if prefix.is_none() {
                let rule = "after \"sha256:\" up to 64 lower-case hexadecimal digits of an image's id must follow";
                return Err(Error::field("reference")(Invalid::new("reference", text, rule)));
            }
            return Ok(Self { text: text.to_owned(), name: None, manifest: None, prefix, platforms: Platforms::Host });
        }
        let reference = Reference::parse(text).map_err(Error::field("reference"))?;
        let name = reference.digest().is_none().then(|| reference.to_string());
        let manifest = reference.digest().copied();
        Ok(Self { text: text.to_owned(), name, manifest, prefix, platforms: Platforms::Host })
    }

    /// The same for other platforms than this host's.
    pub(crate) fn on(self, platforms: Platforms) -> Self {
        Self { platforms, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_name_as_id_or_as_both() {
        let long = "a".repeat(64);
        for (text, name, prefix) in [
            ("debian", Some("docker.io/library/debian:latest"), None),
            ("debian:bookworm", Some("docker.io/library/debian:bookworm"), None),
            ("abc", Some("docker.io/library/abc:latest"), Some("abc")),
            ("sha256:abc", None, Some("abc")),
            (long.as_str(), None, Some(long.as_str())),
        ] {
            let wanted = Wanted::parse(text).expect(text);
            assert_eq!((wanted.name.as_deref(), wanted.prefix.as_deref()), (name, prefix), "{text}");
        }
    }

    #[test]
    fn a_text_that_can_be_neither_is_refused() {
        for text in ["", "a/UPPER", "sha256:xyz", "a b", "../x"] {
            assert!(matches!(Wanted::parse(text), Err(Error::Invalid { .. })), "{text}");
        }
    }
}
