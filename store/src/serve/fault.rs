//! Why a request is refused: the status, and the code of the distribution specification, chosen in one place.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::json;
use strata_registry::Kind;
use strata_rpc::fault::chain;

use crate::Error;

/// A refusal.
#[derive(Debug)]
pub(super) enum Fault {
    /// No such blob in this repository.
    BlobUnknown { digest: String },
    /// A blob that a manifest needs is not deleted.
    BlobNeeded { digest: String, manifest: String },
    /// An upload's request is malformed.
    UploadInvalid { problem: &'static str },
    /// An upload is written by another request right now.
    UploadBusy,
    /// No such upload in this repository.
    UploadUnknown,
    /// A chunk does not begin where the last one ended.
    OutOfOrder { location: String, written: u64 },
    /// A digest is malformed, or of an algorithm that is not known.
    DigestInvalid { digest: String, problem: &'static str },
    /// The bytes have another digest.
    DigestMismatch { expected: String, actual: String },
    /// A manifest names content that this repository does not have.
    ManifestBlobUnknown { missing: Vec<String> },
    /// A manifest is not one.
    ManifestInvalid { problem: String },
    /// A manifest is too large.
    ManifestTooLarge { limit: u64 },
    /// No such manifest in this repository.
    ManifestUnknown { reference: String },
    /// A repository cannot have this name.
    NameInvalid { name: String },
    /// No such repository.
    NameUnknown { name: String },
    /// A list cannot have so many entries.
    PageInvalid,
    /// A body has not the length it was announced with.
    SizeInvalid { problem: String },
    /// A blob is larger than this registry takes.
    BlobTooLarge { limit: u64 },
    /// A part of a blob that is beyond its end.
    RangeInvalid { size: u64 },
    /// Nobody has shown who asks.
    Unauthorized { challenge: String },
    /// Whoever asks may not.
    Denied { problem: &'static str },
    /// There is no such operation; there are these.
    Unsupported { allowed: &'static str },
    /// There is no such place.
    NotFound,
    /// Too many uploads are under way.
    TooManyUploads,
    /// The client's stream broke off.
    BodyLost { problem: String },
    /// The registry that this one asks refuses, or cannot be reached.
    Upstream(Arc<Error>),
    /// The store failed.
    Store(Arc<Error>),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// What kind of refusal another registry's is.
fn kind(error: &Error) -> Kind {
    match error {
        Error::Registry(error) => error.kind(),
        _ => Kind::Local,
    }
}

impl Fault {
    fn status(&self) -> StatusCode {
        match self {
            Self::BlobUnknown { .. }
            | Self::UploadUnknown
            | Self::ManifestUnknown { .. }
            | Self::NameUnknown { .. }
            | Self::NotFound => StatusCode::NOT_FOUND,
            Self::ManifestBlobUnknown { .. } => StatusCode::NOT_FOUND,
            Self::BlobNeeded { .. } | Self::Unsupported { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::UploadBusy => StatusCode::CONFLICT,
            Self::UploadInvalid { .. }
            | Self::DigestInvalid { .. }
            | Self::DigestMismatch { .. }
            | Self::ManifestInvalid { .. }
            | Self::NameInvalid { .. }
            | Self::PageInvalid
            | Self::SizeInvalid { .. }
            | Self::BodyLost { .. } => StatusCode::BAD_REQUEST,
            Self::OutOfOrder { .. } | Self::RangeInvalid { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::ManifestTooLarge { .. } | Self::BlobTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::Denied { .. } => StatusCode::FORBIDDEN,
            Self::TooManyUploads => StatusCode::TOO_MANY_REQUESTS,
            Self::Upstream(error) => match kind(error) {
                Kind::NotFound => StatusCode::NOT_FOUND,
                Kind::Unauthorized | Kind::Denied => StatusCode::FORBIDDEN,
                Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
                Kind::Unavailable | Kind::Corrupt | Kind::Refused | Kind::Local => StatusCode::BAD_GATEWAY,
            },
            Self::Store(error) if error.is_disk_full() => StatusCode::INSUFFICIENT_STORAGE,
            Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The code of the specification; "UNKNOWN" is Docker's for what has none.
    fn code(&self) -> &'static str {
        match self {
            Self::BlobUnknown { .. } => "BLOB_UNKNOWN",
            Self::BlobNeeded { .. } | Self::Unsupported { .. } => "UNSUPPORTED",
            Self::UploadInvalid { .. } | Self::UploadBusy | Self::OutOfOrder { .. } | Self::BodyLost { .. } => {
                "BLOB_UPLOAD_INVALID"
            }
            Self::UploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid { .. } | Self::DigestMismatch { .. } => "DIGEST_INVALID",
            Self::ManifestBlobUnknown { .. } => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid { .. } => "MANIFEST_INVALID",
            Self::ManifestUnknown { .. } => "MANIFEST_UNKNOWN",
            Self::NameInvalid { .. } => "NAME_INVALID",
            Self::NameUnknown { .. } | Self::NotFound => "NAME_UNKNOWN",
            Self::PageInvalid => "PAGINATION_NUMBER_INVALID",
            Self::SizeInvalid { .. }
            | Self::ManifestTooLarge { .. }
            | Self::BlobTooLarge { .. }
            | Self::RangeInvalid { .. } => "SIZE_INVALID",
            Self::Unauthorized { .. } => "UNAUTHORIZED",
            Self::Denied { .. } => "DENIED",
            Self::TooManyUploads => "TOOMANYREQUESTS",
            Self::Upstream(error) => match kind(error) {
                Kind::NotFound => "MANIFEST_UNKNOWN",
                Kind::Unauthorized | Kind::Denied => "DENIED",
                Kind::RateLimited => "TOOMANYREQUESTS",
                Kind::Unavailable | Kind::Corrupt | Kind::Refused | Kind::Local => "UNKNOWN",
            },
            Self::Store(_) => "UNKNOWN",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::BlobUnknown { digest } => format!("no blob {digest} in this repository"),
            Self::BlobNeeded { digest, manifest } => {
                format!("blob {digest} is needed by manifest {manifest}; delete that first")
            }
            Self::UploadInvalid { problem } => (*problem).to_owned(),
            Self::UploadBusy => "another request writes to this upload".to_owned(),
            Self::UploadUnknown => "no such upload in this repository, or it has expired; begin a new one".to_owned(),
            Self::OutOfOrder { written, .. } => format!("the next chunk of this upload begins at byte {written}"),
            Self::DigestInvalid { digest, problem } => format!("{digest:?} is no digest: {problem}"),
            Self::DigestMismatch { expected, actual } => format!("the bytes have digest {actual}, not {expected}"),
            Self::ManifestBlobUnknown { .. } => {
                "the manifest names content that this repository does not have; push that first".to_owned()
            }
            Self::ManifestInvalid { problem } => problem.clone(),
            Self::ManifestTooLarge { limit } => format!("a manifest has at most {limit} bytes"),
            Self::ManifestUnknown { reference } => format!("no manifest {reference} in this repository"),
            Self::NameInvalid { name } => format!("{name:?} is no name of a repository"),
            Self::NameUnknown { name } => format!("no repository {name}"),
            Self::PageInvalid => "n must be a number that is not negative".to_owned(),
            Self::SizeInvalid { problem } => problem.clone(),
            Self::BlobTooLarge { limit } => format!("this registry takes blobs of at most {limit} bytes"),
            Self::RangeInvalid { size } => format!("the blob has {size} bytes"),
            Self::Unauthorized { .. } => "authentication is required".to_owned(),
            Self::Denied { problem } => (*problem).to_owned(),
            Self::Unsupported { allowed } => format!("there is no such operation; there are {allowed}"),
            Self::NotFound => "there is nothing here; the registry is below /v2/".to_owned(),
            Self::TooManyUploads => "too many uploads are under way; try again later".to_owned(),
            Self::BodyLost { problem } => format!("the request's body broke off: {problem}"),
            Self::Upstream(_) => "the registry that this one asks refuses, or cannot be reached".to_owned(),
            Self::Store(error) if error.is_disk_full() => "the disk of this registry is full".to_owned(),
            // The cause is for the log, not for whoever asks.
            Self::Store(_) => "the registry failed; its log says why".to_owned(),
        }
    }

    fn detail(&self) -> serde_json::Value {
        match self {
            Self::BlobUnknown { digest } => json!({"digest": digest}),
            Self::BlobNeeded { digest, manifest } => json!({"digest": digest, "manifest": manifest}),
            Self::ManifestUnknown { reference } => json!({"reference": reference}),
            Self::NameUnknown { name } | Self::NameInvalid { name } => json!({"name": name}),
            Self::DigestMismatch { expected, actual } => json!({"expected": expected, "actual": actual}),
            _ => serde_json::Value::Null,
        }
    }

    fn errors(&self) -> Vec<serde_json::Value> {
        if let Self::ManifestBlobUnknown { missing } = self {
            let error = |digest| json!({"code": self.code(), "message": self.message(), "detail": {"digest": digest}});
            return missing.iter().take(100).map(error).collect();
        }
        let mut error = json!({"code": self.code(), "message": self.message()});
        if !self.detail().is_null() {
            error["detail"] = self.detail();
        }
        vec![error]
    }

    /// Headers that belong to this refusal.
    fn headers(&self) -> Vec<(HeaderName, String)> {
        match self {
            Self::Unauthorized { challenge } => vec![(header::WWW_AUTHENTICATE, challenge.clone())],
            // RFC 9110, 15.5.6: a 405 says what is allowed.
            Self::Unsupported { allowed } => vec![(header::ALLOW, (*allowed).to_owned())],
            Self::BlobNeeded { .. } => vec![(header::ALLOW, "GET, HEAD".to_owned())],
            Self::RangeInvalid { size } => vec![(header::CONTENT_RANGE, format!("bytes */{size}"))],
            Self::OutOfOrder { location, written } => {
                vec![(header::LOCATION, location.clone()), (header::RANGE, progress(*written))]
            }
            Self::TooManyUploads | Self::Upstream(_) => vec![(header::RETRY_AFTER, "10".to_owned())],
            _ => Vec::new(),
        }
    }
}

/// How far an upload is, as the specification says it: the position of its last byte. Nothing is "0-0", as Docker has it.
pub(super) fn progress(written: u64) -> String {
    format!("0-{}", written.saturating_sub(1))
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response<Body> {
        if let Self::Store(error) = &self {
            tracing::error!("the registry cannot answer: {}", chain(error.as_ref()));
        }
        if let Self::Upstream(error) = &self {
            tracing::warn!("the registry cannot pull through: {}", chain(error.as_ref()));
        }
        let body = json!({"errors": self.errors()}).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers() {
            // Locations, numbers and our own texts are visible ASCII.
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}
