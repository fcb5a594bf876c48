//! What can go wrong with an image.

use std::io;

/// Why an image could not be written, read or mounted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive is refused, or cannot be read, or not be copied into the image.
    #[error(transparent)]
    Archive(#[from] strata_archive::Error),
    /// The image cannot be written or read.
    #[error("cannot {attempt} an image")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The format has no room for it.
    #[error("an image cannot hold {what}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
    },
    /// The bytes of an image are not those of one.
    #[error("cannot read an image: {problem}")]
    Damaged {
        /// What is wrong.
        problem: &'static str,
    },
    /// The kernel refuses the image.
    #[error("cannot mount an image: the kernel would not {attempt}{}", text(log))]
    Mount {
        /// What was attempted.
        attempt: &'static str,
        /// What the kernel says about it, if it does.
        log: String,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(attempt: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { attempt, source }
    }
}

fn text(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(" ({log})") }
}
