//! Content digests. Only SHA-256 exists here: it is the one algorithm that every registry speaks.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// A SHA-256 content digest, written "sha256:<64 lower-case hex>".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// A digest from the 32 bytes that a SHA-256 hasher gives.
    pub fn from_sha256_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Parses "sha256:<64 lower-case hex>".
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let bad = |rule| Invalid::new("digest", text, rule);
        let hex = text.strip_prefix("sha256:").ok_or_else(|| bad("it must start with \"sha256:\""))?;
        Self::from_hex(hex).ok_or_else(|| bad("64 lower-case hexadecimal digits must follow \"sha256:\""))
    }

    /// A digest from its 64 lower-case hexadecimal digits alone.
    pub fn from_hex(hex_digits: &str) -> Option<Self> {
        if hex_digits.len() != 64 || hex_digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(hex_digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The 64 hexadecimal digits, without the algorithm.
    pub fn as_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The first 12 hexadecimal digits: an image id as people see it.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.as_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Digest {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_digest_survives_its_text(bytes: [u8; 32]) {
            let digest = Digest::from_sha256_bytes(bytes);
            prop_assert_eq!(Digest::parse(&digest.to_string()).unwrap(), digest);
            prop_assert_eq!(Digest::from_hex(&digest.as_hex()), Some(digest));
        }
    }

    /// CVE-2021-21285, row 71: forty texts that are no digest, each an error and no panic.
    #[test]
    fn what_is_no_digest_is_refused() {
        let hex = "ab".repeat(32);
        assert!(Digest::parse(&format!("sha256:{hex}")).is_ok());
        let short = ["", "sha256", "sha256:", ":", "::", "sha256::", "sha256:0", "sha256:latest", "latest", "\0", "é"];
        let climbing = ["..", "/", "sha256:..", "sha256:../../etc/passwd", "sha256:/etc/passwd", "../sha256:", "./"];
        let prefixes = [
            "",
            ":",
            " sha256:",
            "\0sha256:",
            "SHA256:",
            "Sha256:",
            "sha-256:",
            "sha256",
            "sha256::",
            "sha256: ",
            "sha256:0x",
            "sha512:",
            "sha1:",
            "md5:",
            "sha256+b64:",
            "blake3:",
            "../sha256:",
            "sha256:../",
            "sha256/",
        ];
        let lasts = ["0", "00", "\n", "\0", " ", "é", "@", "/..", ":", ":sha256"];
        let texts = [short.as_slice(), &climbing].concat().into_iter().map(str::to_owned);
        let texts = texts.chain(prefixes.map(|prefix| format!("{prefix}{hex}")));
        let texts = texts.chain(lasts.map(|last| format!("sha256:{hex}{last}")));
        let texts =
            texts.chain(lasts.map(|last| format!("sha256:{}{last}", &hex[..64 - last.len()])).into_iter().skip(2));
        let texts = texts.chain(["A", "g", "-", "+"].map(|digit| format!("sha256:{}{digit}", &hex[1..])));
        let texts: Vec<_> = texts.chain([hex.to_uppercase(), format!("sha256:{}", "é".repeat(32))]).collect();
        assert!(texts.len() >= 40, "{}", texts.len());
        for bad in texts {
            assert!(Digest::parse(&bad).is_err(), "{bad:?} was taken");
        }
    }
}
