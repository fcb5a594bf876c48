//! Why the store refuses or fails, and which fault and code a client gets for it.

use std::io;
use std::path::{Path, PathBuf};

use strata_types::{Digest, Invalid, LayerId, LeaseId, Platform, SnapshotKey};

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of a request is malformed or missing.
    #[error("invalid {field}: {problem}")]
    Invalid {
        /// Field, with its path in the request.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The kernel refused.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The catalog failed.
    #[error("the catalog failed")]
    Sql(#[from] rusqlite::Error),
    /// The catalog failed in an operation.
    #[error("cannot {attempt} in the catalog")]
    Catalog {
        /// What was attempted.
        attempt: &'static str,
        /// The cause.
        source: rusqlite::Error,
    },
    /// The catalog was made by another version.
    #[error("catalog {} has schema version {found}, and this service knows up to {known}: {advice}", path.display())]
    CatalogVersion {
        /// The catalog.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
        /// Who wrote it, and what to do.
        advice: String,
    },
    /// A row of the catalog holds what never was written.
    #[error("the catalog holds a malformed {noun}: {text}")]
    CatalogCorrupt {
        /// What it should be.
        noun: &'static str,
        /// What it is.
        text: String,
    },
    /// A document of the store cannot be read.
    #[error("{what} {digest} is not valid")]
    Document {
        /// "config" or "manifest".
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// The cause.
        source: serde_json::Error,
    },
    /// No blob has this digest.
    #[error("no blob {digest}")]
    BlobNotFound {
        /// The digest.
        digest: Digest,
    },
    /// A blob's file is not what its row says.
    #[error("blob {digest} is damaged: {problem}")]
    BlobDamaged {
        /// The digest.
        digest: Digest,
        /// What is wrong.
        problem: String,
    },
    /// A compressed layer is not here, and where it came from does not give it again.
    #[error("layer blob {digest} is not kept here, and cannot be fetched again from {repository}")]
    BlobGone {
        /// The digest.
        digest: Digest,
        /// The repository that it came from or went to, with its registry.
        repository: String,
        /// Why.
        source: Box<Error>,
    },
    /// Bytes do not have the digest that they should have.
    #[error("the bytes have digest {actual}, not {expected}")]
    DigestMismatch {
        /// What was promised.
        expected: String,
        /// What came.
        actual: String,
    },
    /// A compressed layer is not what its image's config says.
    #[error("layer blob {blob} inflates to {actual}, not to {expected} as the config of its image says")]
    DiffIdMismatch {
        /// The blob, whose own digest is right.
        blob: Digest,
        /// What the config says.
        expected: Digest,
        /// What it inflates to.
        actual: String,
    },
    /// The service stops, or nobody waits for the work any more.
    #[error("the work was given up before its end; what has come is kept for the next try")]
    Interrupted,
    /// Another store sends what was not asked for, or what makes no sense.
    #[error("the other store does not send what it should: {problem}")]
    Transfer {
        /// What is wrong.
        problem: String,
    },
    /// An image would be sent to where it is.
    #[error("source and target of the transfer are the same store")]
    SameStore,
    /// Somebody else sends the same blob.
    #[error("{name} is being written by another request; try again when that is over")]
    PartialBusy {
        /// Which blob or upload.
        name: String,
    },
    /// No such lease, or it has ended.
    #[error("no lease {id}")]
    LeaseNotFound {
        /// The lease.
        id: LeaseId,
    },
    /// No image has this name or id.
    #[error("no such image: {reference}")]
    ImageNotFound {
        /// As it was asked for.
        reference: String,
    },
    /// A name leads to documents of which no image is unpacked here.
    #[error("image {reference} is known, but no platform of it is unpacked; pull it")]
    ImageNotUnpacked {
        /// As it was asked for.
        reference: String,
        /// The document that it leads to.
        target: Digest,
    },
    /// An index has an image for a platform, which is not here.
    #[error("image {reference} is not here for {wanted}{}; pull it", here(.available))]
    PlatformNotHere {
        /// As it was asked for.
        reference: String,
        /// The platform.
        wanted: Platform,
        /// The platforms that it is here for.
        available: Vec<Platform>,
    },
    /// Several images of an index are here, but not all.
    #[error("image {reference} is not here for all its platforms; choose one, or pull the others")]
    ImageIncomplete {
        /// As it was asked for.
        reference: String,
        /// The document that it leads to.
        target: Digest,
    },
    /// No manifest or index has this digest or name.
    #[error("no manifest or index {reference}")]
    DocumentNotFound {
        /// Its digest or name.
        reference: String,
    },
    /// A name does not point at what the caller saw.
    #[error("{name} was changed by somebody else: it stands for {}", found.map_or("nothing".to_owned(), |found| found.to_string()))]
    NameMoved {
        /// The name.
        name: String,
        /// What it points at; none: nothing.
        found: Option<Digest>,
    },
    /// Several images have ids that start so.
    #[error("several images have ids that start with {prefix}: {candidates}")]
    ImageAmbiguous {
        /// The prefix.
        prefix: String,
        /// Short ids of some of them.
        candidates: String,
    },
    /// A container, or a further name, uses the image.
    #[error("cannot remove image {reference}: {reason}")]
    ImageInUse {
        /// As it was asked for.
        reference: String,
        /// Who uses it.
        reason: String,
    },
    /// No such layer.
    #[error("no layer {id}")]
    LayerNotFound {
        /// The layer.
        id: LayerId,
    },
    /// The layer is not what it was, or its description was never made.
    #[error("layer {id} is damaged: {problem}")]
    LayerDamaged {
        /// The layer.
        id: LayerId,
        /// What is wrong.
        problem: String,
    },
    /// No such cache mount.
    #[error("no cache mount {key}")]
    CacheMountNotFound {
        /// The key.
        key: String,
    },
    /// A step of a build has the cache mount.
    #[error("a build uses the cache mount {id:?}")]
    CacheMountInUse {
        /// Its id.
        id: String,
    },
    /// No such snapshot.
    #[error("no snapshot {key}")]
    SnapshotNotFound {
        /// The key.
        key: SnapshotKey,
    },
    /// The key is taken.
    #[error("snapshot {key} exists already")]
    SnapshotExists {
        /// The key.
        key: SnapshotKey,
    },
    /// Somebody holds the snapshot.
    #[error("snapshot {key} is held by {holder}")]
    SnapshotHeld {
        /// The key.
        key: SnapshotKey,
        /// Who holds it.
        holder: String,
    },
    /// The snapshot becomes a layer, or has become one.
    #[error("snapshot {key} is committed")]
    SnapshotCommitted {
        /// The key.
        key: SnapshotKey,
    },
    /// A file of a snapshot cannot be expressed in a layer.
    #[error("snapshot {key} cannot become a layer")]
    UnsupportedAttribute {
        /// The key.
        key: SnapshotKey,
        /// Which file, and why.
        source: strata_archive::Error,
    },
    /// What is written to a snapshot cannot be limited.
    #[error(transparent)]
    Quota(#[from] strata_init::quota::Refusal),
    /// The store does not hold this content.
    #[error("no content {blake3}")]
    ContentNotFound {
        /// blake3 in hex.
        blake3: String,
    },
    /// A tree could not be read or written.
    #[error(transparent)]
    Tree(#[from] crate::tree::Error),
    /// Contents could not be stored or found.
    #[error(transparent)]
    Content(#[from] crate::content::Error),
    /// A manifest, an index, a config or an archive of images is refused.
    #[error(transparent)]
    Image(#[from] strata_image::Error),
    /// An archive is truncated, malformed or hostile, or its tree cannot be written.
    #[error("cannot unpack the archive")]
    Archive {
        /// The cause.
        source: strata_archive::Error,
    },
    /// A layer's image cannot be written or used.
    #[error("cannot use the layer image {}", path.display())]
    LayerImage {
        /// The image.
        path: PathBuf,
        /// The cause.
        source: strata_erofs::Error,
    },
    /// This host cannot use images as layers, which the configuration asks for.
    #[error("layer_backend = \"erofs\" does not work here; set it to \"dirs\"")]
    NoImages {
        /// What did not work.
        #[source]
        reason: Box<Error>,
    },
    /// A registry was of no use.
    #[error(transparent)]
    Registry(#[from] strata_registry::Error),
    /// The settings of registries cannot be used.
    #[error("cannot use the settings of registries")]
    RegistrySettings {
        /// Which, and why.
        source: Box<strata_registry::Cause>,
    },
    /// Another service works on this root.
    #[error("another store service (process {pid}) works on {}", root.display())]
    RootLocked {
        /// The root.
        root: PathBuf,
        /// Process id in the lock file, "unknown" while it is being written.
        pid: String,
    },
    /// An open file of the caller cannot be used from here.
    #[error("cannot use the open file of the caller; stream it instead")]
    FileUnreachable {
        /// Why.
        source: strata_rpc::handed::Error,
    },
    /// The client went away in the middle of a stream.
    #[error("the client ended the stream early")]
    StreamEnded {
        /// What the transport says.
        source: Box<tonic::Status>,
    },
}

/// Result of operations of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is here in place of what is not.
fn here(platforms: &[Platform]) -> String {
    match platforms {
        [] => String::new(),
        // A hostile index may name thousands.
        many => format!(", but for {}", many.iter().take(32).map(Platform::to_string).collect::<Vec<_>>().join(", ")),
    }
}

impl Error {
    /// Wraps an error of the kernel.
    pub fn io(attempt: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { attempt, path: path.as_ref().to_path_buf(), source: source.into() }
    }

    /// A malformed field.
    pub fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { field, problem: problem.into() }
    }

    /// A field that the parser of its type refuses.
    pub fn field(field: &'static str) -> impl Fn(Invalid) -> Self {
        move |invalid| Self::invalid(field, invalid.to_string())
    }

    /// Names the operation of the catalog that failed.
    pub(crate) fn during(self, attempt: &'static str) -> Self {
        match self {
            Self::Sql(source) => Self::Catalog { attempt, source },
            other => other,
        }
    }

    /// Says whether a blob is not here that a document refers to.
    pub fn is_missing_blob(&self) -> bool {
        matches!(self, Self::BlobNotFound { .. } | Self::Image(strata_image::Error::BlobMissing { .. }))
    }

    /// Says whether the disk, or a quota on it, is full.
    pub fn is_disk_full(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            }
            if let Some(rusqlite::Error::SqliteFailure(failure, _)) = error.downcast_ref() {
                return failure.code == rusqlite::ErrorCode::DiskFull;
            }
            cause = error.source();
        }
        false
    }
}
