//! Which code and reason each error is to a client. The only place that decides it.

use strata_archive::Error as Archive;
use strata_image::Error as Image;
use strata_proto::store::v1::Fault as Reason;
use strata_registry::{Item, Kind};
use strata_rpc::Fault;
use tonic::Code;

use crate::{Error, content, tree};

/// Code and reason.
fn classify(error: &Error) -> (Code, Reason) {
    if error.is_disk_full() {
        return (Code::ResourceExhausted, Reason::DiskFull);
    }
    match error {
        Error::Invalid { .. } => (Code::InvalidArgument, Reason::InvalidArgument),
        Error::BlobNotFound { .. } => (Code::NotFound, Reason::BlobNotFound),
        Error::BlobDamaged { .. } | Error::LayerDamaged { .. } | Error::Document { .. } => {
            (Code::DataLoss, Reason::Corrupt)
        }
        Error::BlobGone { source, .. } => classify(source),
        Error::DigestMismatch { .. } => (Code::DataLoss, Reason::DigestMismatch),
        Error::DiffIdMismatch { .. } => (Code::DataLoss, Reason::DigestMismatch),
        Error::Interrupted => (Code::Unavailable, Reason::Interrupted),
        Error::Transfer { .. } => (Code::InvalidArgument, Reason::TransferInvalid),
        Error::SameStore => (Code::FailedPrecondition, Reason::SameStore),
        Error::PartialBusy { .. } => (Code::Aborted, Reason::Busy),
        Error::LeaseNotFound { .. } => (Code::NotFound, Reason::LeaseNotFound),
        Error::ImageNotFound { .. }
        | Error::ImageNotUnpacked { .. }
        | Error::PlatformNotHere { .. }
        | Error::ImageIncomplete { .. }
        | Error::DocumentNotFound { .. } => (Code::NotFound, Reason::ImageNotFound),
        Error::NameMoved { .. } => (Code::Aborted, Reason::NameMoved),
        Error::ImageAmbiguous { .. } => (Code::InvalidArgument, Reason::ImageAmbiguous),
        Error::ImageInUse { .. } => (Code::FailedPrecondition, Reason::ImageInUse),
        Error::LayerNotFound { .. } => (Code::NotFound, Reason::LayerNotFound),
        Error::CacheMountNotFound { .. } => (Code::NotFound, Reason::CacheMountNotFound),
        Error::CacheMountInUse { .. } => (Code::FailedPrecondition, Reason::CacheMountInUse),
        Error::SnapshotNotFound { .. } => (Code::NotFound, Reason::SnapshotNotFound),
        Error::SnapshotExists { .. } => (Code::AlreadyExists, Reason::SnapshotExists),
        Error::SnapshotHeld { .. } => (Code::FailedPrecondition, Reason::SnapshotHeld),
        Error::SnapshotCommitted { .. } => (Code::FailedPrecondition, Reason::SnapshotCommitted),
        Error::UnsupportedAttribute { .. } => (Code::FailedPrecondition, Reason::UnsupportedAttribute),
        Error::Quota(_) => (Code::FailedPrecondition, Reason::QuotaUnavailable),
        Error::ContentNotFound { .. } => (Code::NotFound, Reason::ContentNotFound),
        Error::RootLocked { .. } => (Code::FailedPrecondition, Reason::RootLocked),
        Error::Registry(error) => registry(error.kind()),
        Error::RegistrySettings { .. } => (Code::FailedPrecondition, Reason::RegistrySettings),
        Error::Image(error) => image(error),
        Error::FileUnreachable { .. } => (Code::FailedPrecondition, Reason::FileUnreachable),
        Error::StreamEnded { source } => (source.code(), Reason::InvalidArgument),
        Error::Archive { source } => archive(source),
        Error::LayerImage { source: strata_erofs::Error::TooLarge { .. }, .. } => {
            (Code::InvalidArgument, Reason::ArchiveInvalid)
        }
        Error::LayerImage { .. } => (Code::Internal, Reason::Internal),
        Error::NoImages { .. } => (Code::FailedPrecondition, Reason::Internal),
        Error::Tree(error) => in_tree(error),
        Error::Content(content::Error::DigestMismatch { .. }) => (Code::DataLoss, Reason::DigestMismatch),
        Error::Content(content::Error::Io { .. } | content::Error::Index { .. })
        | Error::Io { .. }
        | Error::Sql(_)
        | Error::Catalog { .. }
        | Error::CatalogVersion { .. }
        | Error::CatalogCorrupt { .. } => (Code::Internal, Reason::Internal),
    }
}

fn archive(error: &Archive) -> (Code, Reason) {
    match error {
        Archive::Read { .. }
        | Archive::Truncated { .. }
        | Archive::Header { .. }
        | Archive::Entry { .. }
        | Archive::Overwrite { .. }
        | Archive::LinkTarget { .. }
        | Archive::Limit { .. } => (Code::InvalidArgument, Reason::ArchiveInvalid),
        Archive::Recipe { .. } => (Code::InvalidArgument, Reason::TransferInvalid),
        Archive::Unarchivable { .. } => (Code::FailedPrecondition, Reason::UnsupportedAttribute),
        Archive::Damaged { .. } | Archive::Toc { .. } => (Code::DataLoss, Reason::Corrupt),
        Archive::Write { .. } | Archive::Disk { .. } => (Code::Internal, Reason::Internal),
    }
}

fn registry(kind: Kind) -> (Code, Reason) {
    match kind {
        Kind::NotFound => (Code::NotFound, Reason::RegistryNotFound),
        Kind::Unauthorized => (Code::Unauthenticated, Reason::RegistryUnauthorized),
        Kind::Denied => (Code::PermissionDenied, Reason::RegistryDenied),
        Kind::RateLimited => (Code::ResourceExhausted, Reason::RegistryLimited),
        Kind::Unavailable => (Code::Unavailable, Reason::RegistryUnavailable),
        Kind::Corrupt => (Code::DataLoss, Reason::RegistryCorrupt),
        Kind::Refused => (Code::FailedPrecondition, Reason::RegistryRefused),
        Kind::Local => (Code::FailedPrecondition, Reason::RegistrySettings),
    }
}

fn image(error: &Image) -> (Code, Reason) {
    match error {
        Image::Json { .. }
        | Image::Document { .. }
        | Image::Confused { .. }
        | Image::Limit { .. }
        | Image::NoImage { .. }
        | Image::LayerType { .. }
        | Image::NotAnArchive { .. }
        | Image::Member { .. } => (Code::InvalidArgument, Reason::ImageInvalid),
        Image::DigestMismatch { .. } | Image::SizeMismatch { .. } => (Code::DataLoss, Reason::DigestMismatch),
        Image::BlobMissing { .. } => (Code::NotFound, Reason::BlobNotFound),
        Image::NoPlatform { .. } => (Code::NotFound, Reason::PlatformNotFound),
        Image::Tar { source } => archive(source),
        // What the store's own reader or writer met travels inside.
        Image::Io { source, .. } | Image::Source { source, .. } => {
            match source.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                Some(inner) => classify(inner),
                None => (Code::Internal, Reason::Internal),
            }
        }
    }
}

fn in_tree(error: &tree::Error) -> (Code, Reason) {
    match error {
        tree::Error::PathNotFound { .. } => (Code::NotFound, Reason::PathNotFound),
        tree::Error::NotADirectory { .. } | tree::Error::LinkInTheWay { .. } => {
            (Code::FailedPrecondition, Reason::NotADirectory)
        }
        tree::Error::NotAFile { .. } => (Code::FailedPrecondition, Reason::NotAFile),
        tree::Error::TooLarge { .. } => (Code::ResourceExhausted, Reason::TooLarge),
        tree::Error::InvalidPath { .. } => (Code::InvalidArgument, Reason::InvalidArgument),
        tree::Error::ContentNotFound { .. } => (Code::NotFound, Reason::ContentNotFound),
        tree::Error::Archive { source, .. } => archive(source),
        tree::Error::Io { .. } => (Code::Internal, Reason::Internal),
    }
}

impl Fault for Error {
    fn code(&self) -> Code {
        classify(self).0
    }

    fn reason(&self) -> &'static str {
        classify(self).1.as_str_name()
    }

    fn metadata(&self) -> Vec<(String, String)> {
        let error = match self {
            Self::Registry(error) => error,
            Self::BlobGone { source, .. } => return source.metadata(),
            _ => return Vec::new(),
        };
        let subject = error.subject();
        let item = match &subject.item {
            Item::Registry => String::new(),
            Item::Manifest(name) => name.clone(),
            Item::Blob(digest) | Item::Referrers(digest) => digest.to_string(),
            Item::Tags => "tags".to_owned(),
        };
        [("registry", subject.registry.to_string()), ("repository", subject.repository.clone()), ("item", item)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    fn field(&self) -> Option<(String, String)> {
        match self {
            Self::Invalid { field, problem } => Some(((*field).to_owned(), problem.clone())),
            _ => None,
        }
    }

    fn resource(&self) -> Option<(String, String)> {
        let (kind, name) = match self {
            Self::BlobNotFound { digest } | Self::BlobGone { digest, .. } => ("blob", digest.to_string()),
            Self::ImageNotFound { reference }
            | Self::ImageNotUnpacked { reference, .. }
            | Self::PlatformNotHere { reference, .. }
            | Self::ImageIncomplete { reference, .. }
            | Self::DocumentNotFound { reference } => ("image", reference.clone()),
            Self::LayerNotFound { id } => ("layer", id.to_string()),
            Self::LeaseNotFound { id } => ("lease", id.to_string()),
            Self::SnapshotNotFound { key } | Self::SnapshotExists { key } => ("snapshot", key.to_string()),
            Self::CacheMountNotFound { key } => ("cache mount", key.clone()),
            Self::ContentNotFound { blake3 } => ("content", blake3.clone()),
            _ => return None,
        };
        Some((kind.to_owned(), name))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_full_disk_is_told_wherever_it_shows() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        for error in [
            Error::io("write", "/x", full()),
            Error::Archive { source: Archive::Write { source: full() } },
            Error::Tree(tree::Error::Io { attempt: "write", path: "/x".into(), source: full() }),
        ] {
            assert_eq!((error.code(), error.reason()), (Code::ResourceExhausted, "FAULT_DISK_FULL"), "{error}");
        }
    }

    #[test]
    fn a_malformed_field_is_named() {
        let error = Error::invalid("lease_id", "it is empty");

        assert_eq!(error.field(), Some(("lease_id".to_owned(), "it is empty".to_owned())));
        assert_eq!(error.reason(), "FAULT_INVALID_ARGUMENT");
    }
}
