//! What can go wrong with images and the archives that carry them, with the document or member where it did.

use std::io;

use strata_types::{Digest, Platform};

/// Result of what is done with images.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image could not be read, checked, moved or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A document is not the JSON that its media type promises.
    #[error("{what} is malformed")]
    Json {
        /// Which document: "manifest sha256:...", "index.json".
        what: String,
        /// What the parser found.
        source: serde_json::Error,
    },
    /// A document is well-formed but says something that is refused.
    #[error("{what} is refused: {reason}")]
    Document {
        /// Which document.
        what: String,
        /// Why.
        reason: String,
    },
    /// A document could be read as a manifest and as an index, or differs from what was announced (CVE-2021-41190).
    #[error("{what} is ambiguous: {reason}")]
    Confused {
        /// Which document.
        what: String,
        /// What contradicts what.
        reason: String,
    },
    /// Something is larger than allowed.
    #[error("{what} exceeds the limit of {limit} {unit}; an image of that size needs a higher limit in the settings")]
    Limit {
        /// What is too large.
        what: String,
        /// What was counted.
        unit: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Bytes do not have the digest they go by.
    #[error("{what} has digest {actual}, not {expected}; its source is damaged or lies, fetch it again")]
    DigestMismatch {
        /// Which blob, and where it was found.
        what: String,
        /// Announced.
        expected: Digest,
        /// Found.
        actual: Digest,
    },
    /// A blob does not have the size that a descriptor gives it.
    #[error("blob {digest} has {actual} bytes, not {expected}; its source is damaged or lies, fetch it again")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// Announced.
        expected: u64,
        /// Found; "more than" is counted as one more.
        actual: u64,
    },
    /// A blob that an image needs is not in its source.
    #[error("{needed_by} needs blob {digest}, which is not there")]
    BlobMissing {
        /// The blob.
        digest: Digest,
        /// What refers to it.
        needed_by: String,
    },
    /// Nothing of the wanted platform.
    #[error("{what} has no image for {wanted}; it has {}", list(.available))]
    NoPlatform {
        /// Which root.
        what: String,
        /// What was wanted.
        wanted: Platform,
        /// What there is.
        available: Vec<Platform>,
    },
    /// A root holds no image at all.
    #[error("{what} holds no complete image")]
    NoImage {
        /// Which root.
        what: String,
    },
    /// A layer of a kind that cannot be unpacked here.
    #[error("{what} has a layer of media type {media_type:?}, which is not supported")]
    LayerType {
        /// Which manifest.
        what: String,
        /// The type.
        media_type: String,
    },
    /// The archive is neither an OCI layout nor a docker-archive.
    #[error("this is no image archive: {reason}")]
    NotAnArchive {
        /// What is missing, and what to do.
        reason: &'static str,
    },
    /// A member of an archive is refused.
    #[error("archive member {name:?} is refused: {reason}")]
    Member {
        /// Its name, shown safely.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// The tar form of an archive is damaged.
    #[error("cannot use the tar archive")]
    Tar {
        /// Where and why.
        #[from]
        source: strata_archive::Error,
    },
    /// A file of ours, a directory or the source of an archive failed.
    #[error("cannot {attempt} {what}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A source of blobs failed.
    #[error("cannot read blob {digest}")]
    Source {
        /// The blob.
        digest: Digest,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(attempt: &'static str, what: impl std::fmt::Display, source: impl Into<io::Error>) -> Self {
        Self::Io { attempt, what: what.to_string(), source: source.into() }
    }

    pub(crate) fn document(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Document { what: what.into(), reason: reason.into() }
    }

    pub(crate) fn member(name: &[u8], reason: &'static str) -> Self {
        Self::Member { name: strata_archive::Name(name.to_vec()).to_string(), reason }
    }

    pub(crate) fn limit(what: impl Into<String>, unit: &'static str, limit: u64) -> Self {
        Self::Limit { what: what.into(), unit, limit }
    }

    /// The error that a reader or sink carried through `std::io`, or `otherwise` around it.
    pub(crate) fn unwrap_io(error: io::Error, otherwise: impl FnOnce(io::Error) -> Self) -> Self {
        match error.downcast::<Self>() {
            Ok(inner) => inner,
            Err(error) => otherwise(error),
        }
    }
}

fn list(platforms: &[Platform]) -> String {
    match platforms {
        [] => "none that is named".to_owned(),
        // A hostile index may name thousands.
        many => many.iter().take(32).map(Platform::to_string).collect::<Vec<_>>().join(", "),
    }
}
