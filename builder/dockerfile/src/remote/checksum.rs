//! What a file must hash to: `--checksum=sha256:…`.

use thiserror::Error;

/// How it is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256
    Sha256,
    /// SHA-384
    Sha384,
    /// SHA-512
    Sha512,
}

/// A digest that a file must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// How it is hashed.
    pub algorithm: Algorithm,
    /// The digest, in lower-case hex.
    pub hex: String,
}

/// Why a text is no checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChecksumError {
    /// Without an algorithm, or with an unknown one.
    #[error("checksum {text:?} is none of a file: it must be sha256:, sha384: or sha512: and a digest")]
    Algorithm {
        /// The text.
        text: String,
    },
    /// Not as many hex digits as the algorithm has.
    #[error("checksum {text:?} must have {digits} lower-case hex digits after its \":\"")]
    Digits {
        /// The text.
        text: String,
        /// How many there must be.
        digits: usize,
    },
}

impl Algorithm {
    /// Its name, as a checksum starts.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn digits(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha384 => 96,
            Algorithm::Sha512 => 128,
        }
    }
}

impl Checksum {
    /// Reads `algorithm:digits`.
    pub fn parse(text: &str) -> Result<Self, ChecksumError> {
        let known = [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];
        let found = text
            .split_once(':')
            .and_then(|(name, hex)| Some((known.into_iter().find(|algorithm| algorithm.name() == name)?, hex)));
        let Some((algorithm, hex)) = found else { return Err(ChecksumError::Algorithm { text: text.to_owned() }) };
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() != algorithm.digits() || !hex.bytes().all(is_digit) {
            return Err(ChecksumError::Digits { text: text.to_owned(), digits: algorithm.digits() });
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}
