//! Errors as statuses: one code, one reason, one line for people; the whole cause chain for the log alone.

use std::error::Error;

use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt};

/// Domain of every ErrorInfo.
pub const DOMAIN: &str = "strata";

/// Carries the cause chain from [`to_status`] to the request log, which takes it out of the answer.
pub(crate) const CAUSE_KEY: &str = "strata-cause-bin";

/// What an error is to a caller. Implemented once per error enum, without a `_` arm.
pub trait Fault {
    /// Canonical code.
    fn code(&self) -> Code;

    /// Name of a value of the service's `Fault` enum.
    fn reason(&self) -> &'static str;

    /// Facts for programs, put into ErrorInfo.
    fn metadata(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The malformed field of the request, and why: becomes a BadRequest.
    fn field(&self) -> Option<(String, String)> {
        None
    }

    /// The thing that is missing or in the way, (type, name): becomes a ResourceInfo.
    fn resource(&self) -> Option<(String, String)> {
        None
    }
}

/// The name of a code, as the protocol has it.
pub(crate) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Most bytes of a message.
const LONGEST_MESSAGE: usize = 2048;

/// Most bytes of a name or a fact in the details of a status. All of a status is a header of HTTP/2, of which clients take
/// 16 KiB: a longer one would reach nobody.
const LONGEST_DETAIL: usize = 512;

/// The status of an error. Its message holds the cause chain, except for internal errors, whose causes only the log gets.
/// What a caller sent comes back cut, however long it was.
pub fn to_status(err: &(impl Error + Fault)) -> Status {
    let whole = chain(err);
    let message =
        if err.code() == Code::Internal { cut(&one_line(&err.to_string()), LONGEST_MESSAGE) } else { whole.clone() };
    let detail = |text: &str| cut(text, LONGEST_DETAIL);
    let facts = err.metadata().into_iter().map(|(key, value)| (key, detail(&value)));
    let mut details =
        ErrorDetails::with_error_info(err.reason(), DOMAIN, facts.collect::<std::collections::HashMap<_, _>>());
    if let Some((field, description)) = err.field() {
        details.add_bad_request_violation(field, detail(&description));
    }
    if let Some((kind, name)) = err.resource() {
        details.set_resource_info(kind, detail(&name), "", detail(&message));
    }
    let mut status = Status::with_error_details(err.code(), message, details);
    status.metadata_mut().insert_bin(CAUSE_KEY, MetadataValue::from_bytes(whole.as_bytes()));
    status
}

/// The error and its causes on one line, joined with ": ". A cause that its parent already quotes is not repeated.
pub fn chain(err: &dyn Error) -> String {
    let mut text = one_line(&err.to_string());
    let mut next = err.source();
    while let Some(cause) = next {
        let part = one_line(&cause.to_string());
        if !part.is_empty() && !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = cause.source();
    }
    cut(&text, LONGEST_MESSAGE)
}

/// The reason of a status that a Strata service sent.
pub fn reason_of(status: &Status) -> Option<String> {
    status.get_details_error_info().filter(|info| info.domain == DOMAIN).map(|info| info.reason)
}

/// The service did not answer: it cannot be reached, or it went away in the middle of the call. No service says that of
/// itself without a reason, and only a connection that broke is the source of a status.
pub fn is_lost(status: &Status) -> bool {
    let is_broken = status.code() == Code::Unavailable || status.source().is_some();
    is_broken && reason_of(status).is_none()
}

/// Facts of a status that a Strata service sent.
pub fn metadata_of(status: &Status) -> std::collections::HashMap<String, String> {
    status.get_details_error_info().filter(|info| info.domain == DOMAIN).map(|info| info.metadata).unwrap_or_default()
}

/// Kind and name of what a status says is missing or in the way: "container", "web".
pub fn resource_of(status: &Status) -> Option<(String, String)> {
    let info = status.get_details_resource_info()?;
    Some((info.resource_type, info.resource_name))
}

fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Sample {
        #[error("no image has the name {name:?}")]
        Missing { name: String },
        #[error("cannot read /x")]
        Broken { source: io::Error },
        #[error("cannot write /y")]
        Full { source: io::Error },
    }

    impl Fault for Sample {
        fn code(&self) -> Code {
            match self {
                Self::Missing { .. } => Code::NotFound,
                Self::Broken { .. } => Code::Internal,
                Self::Full { .. } => Code::ResourceExhausted,
            }
        }
        fn reason(&self) -> &'static str {
            "FAULT_SAMPLE"
        }
        fn resource(&self) -> Option<(String, String)> {
            match self {
                Self::Missing { name } => Some(("image".into(), name.clone())),
                Self::Broken { .. } | Self::Full { .. } => None,
            }
        }
    }

    #[test]
    fn a_caller_gets_code_reason_resource_and_one_line() {
        let status = to_status(&Sample::Missing { name: "a\nb".into() });
        assert_eq!((status.code(), status.message()), (Code::NotFound, "no image has the name \"a\\nb\""));
        assert_eq!(reason_of(&status).as_deref(), Some("FAULT_SAMPLE"));
        assert_eq!(status.get_details_resource_info().unwrap().resource_type, "image");
    }

    #[test]
    fn causes_are_told_unless_the_fault_is_internal() {
        let full = to_status(&Sample::Full { source: io::Error::other("line one\nline two") });
        assert_eq!(full.message(), "cannot write /y: line one; line two");
        let broken = to_status(&Sample::Broken { source: io::Error::other("secret") });
        assert_eq!(broken.message(), "cannot read /x");
        let cause = broken.metadata().get_bin(CAUSE_KEY).unwrap().to_bytes().unwrap();
        assert_eq!(&cause[..], b"cannot read /x: secret");
    }

    /// CVE-2014-9358, row 56: whoever sends a name of a megabyte is told so.
    #[test]
    fn a_status_fits_into_a_header_whatever_was_sent() {
        for name in ["x".repeat(1 << 20), "é".repeat(1 << 20), "\u{1b}".repeat(1 << 20)] {
            let status = to_status(&Sample::Missing { name });
            let mut sent = tonic::codegen::http::HeaderMap::new();
            let cause = status.metadata().get_bin(CAUSE_KEY).map_or(0, |cause| cause.as_encoded_bytes().len());
            status.add_header(&mut sent).unwrap();
            let length: usize = sent.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
            assert!(length - cause < 16 * 1024, "{length} bytes");
            assert_eq!(reason_of(&status).as_deref(), Some("FAULT_SAMPLE"));
        }
    }

    #[test]
    fn a_status_of_somebody_else_has_no_reason() {
        assert_eq!(reason_of(&Status::internal("x")), None);
    }
}
