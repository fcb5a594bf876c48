//! Why a registry was not of use. Every error names the registry, the repository and what was wanted of it; its source
//! says what happened and, where there is one, the next step. No error holds a password, a token or the query of a URL.

use std::{fmt, io, path::PathBuf, time::Duration};

use reqwest::StatusCode;
use strata_types::{Digest, Reference};

use crate::{Host, answer::Codes, credentials};

/// Result of operations on registries.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One place failed.
    #[error("cannot {attempt} {subject}")]
    Request {
        /// "fetch", "push", ...
        attempt: &'static str,
        /// What of which repository of which registry.
        subject: Box<Subject>,
        /// What happened.
        source: Box<Cause>,
    },
    /// A registry and its mirrors all failed.
    #[error("cannot {attempt} {subject}{}", list(failures))]
    Sources {
        /// "fetch".
        attempt: &'static str,
        /// What, of the registry that the mirrors stand for.
        subject: Box<Subject>,
        /// What each said, in the order in which they were asked.
        failures: Vec<(Host, Cause)>,
    },
}

fn list(failures: &[(Host, Cause)]) -> String {
    failures.iter().map(|(host, cause)| format!("; {host}: {}", cause.chain())).collect()
}

/// What a request was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The registry, as users name it.
    pub registry: Host,
    /// The repository there; empty where the whole registry is meant.
    pub repository: String,
    /// What of it.
    pub item: Item,
}

/// A thing in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The registry itself.
    Registry,
    /// A manifest by tag or digest.
    Manifest(String),
    /// A blob.
    Blob(Digest),
    /// The list of tags.
    Tags,
    /// What refers to a manifest.
    Referrers(Digest),
}

impl Subject {
    /// A thing in the repository of a reference.
    pub(crate) fn new(reference: &Reference, item: Item) -> Self {
        Self { registry: Host::of(reference), repository: reference.path().to_owned(), item }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.item {
            Item::Registry => return write!(f, "registry {}", self.registry),
            Item::Manifest(name) => write!(f, "manifest {name}")?,
            Item::Blob(digest) => write!(f, "blob {digest}")?,
            Item::Tags => write!(f, "the tags")?,
            Item::Referrers(digest) => write!(f, "the referrers of {digest}")?,
        }
        write!(f, " of {}/{}", self.registry, self.repository)
    }
}

/// What happened to one request.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Credentials are missing, or not the right ones.
    #[error("{host} does not accept {}{codes}; log in with `ctl login {host}`", if *known { "the credentials" } else { "anonymous access" })]
    Unauthorized {
        /// Who asks.
        host: Host,
        /// Were credentials sent?
        known: bool,
        /// What the registry says.
        codes: Codes,
    },
    /// The credentials are right and do not suffice.
    #[error(
        "{host} denies access{codes}; does the repository exist, and may this account use it? `ctl login {host}` changes the account"
    )]
    Denied {
        /// Who denies.
        host: Host,
        /// What the registry says.
        codes: Codes,
    },
    /// There is no such thing.
    #[error("{host} does not have it{codes}")]
    NotFound {
        /// Who was asked.
        host: Host,
        /// What the registry says.
        codes: Codes,
    },
    /// There is no way to look for anything.
    #[error("{host} neither searches nor lists its repositories{codes}; its pages on the web may")]
    Unsearchable {
        /// Who was asked.
        host: Host,
        /// What the registry says.
        codes: Codes,
    },
    /// The registry wants fewer requests.
    #[error(
        "{host} accepts no more requests for now{}{codes}; wait, or log in with `ctl login {host}` for a higher limit",
        wait(retry_after)
    )]
    RateLimited {
        /// Who.
        host: Host,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
        /// What the registry says.
        codes: Codes,
    },
    /// Another status than the specification names.
    #[error("{host} answers {status}{codes}")]
    Status {
        /// Who.
        host: Host,
        /// The status.
        status: StatusCode,
        /// What the registry says.
        codes: Codes,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// No connection.
    #[error("cannot connect to {host}; check its name, the network, the proxy and, for https, its certificate")]
    Connect {
        /// To whom.
        host: Host,
        /// Why.
        source: reqwest::Error,
    },
    /// The host answers in the clear where TLS is spoken.
    #[error(
        "{host} does not speak https; if plain http is right there, `plain_http = true` in the table of that host among \
         the registries of the settings allows it"
    )]
    PlainHttp {
        /// Who.
        host: Host,
    },
    /// The connection broke.
    #[error("the connection to {host} broke")]
    Lost {
        /// To whom.
        host: Host,
        /// Why.
        source: reqwest::Error,
    },
    /// Nothing came, or nothing was taken, for too long.
    #[error("{host} was silent for {} s (registries.idle_seconds)", silence.as_secs())]
    Stalled {
        /// Who.
        host: Host,
        /// For how long.
        silence: Duration,
    },
    /// A body ended before its end, and no error said so.
    #[error("{host} sent only {got} of {expected} bytes")]
    Cut {
        /// Who.
        host: Host,
        /// The size that the descriptor states.
        expected: u64,
        /// What is there.
        got: u64,
    },
    /// The content has another size.
    #[error("{host} has {got} bytes instead of {expected}")]
    WrongLength {
        /// Who.
        host: Host,
        /// The size that the descriptor states.
        expected: u64,
        /// What came, or was announced.
        got: u64,
    },
    /// The bytes are not those that were asked for.
    #[error("{host} sent bytes with digest {got} instead of {expected}")]
    WrongDigest {
        /// Who.
        host: Host,
        /// What was asked for.
        expected: Digest,
        /// What came.
        got: Digest,
    },
    /// The header Docker-Content-Digest is not that of the content.
    #[error("{host} names the digest {named} for content with digest {expected}")]
    WrongName {
        /// Who.
        host: Host,
        /// Of the content.
        expected: Digest,
        /// In the header.
        named: String,
    },
    /// A document is larger than is taken.
    #[error("{host} sends more than {limit} bytes for a document")]
    TooLarge {
        /// Who.
        host: Host,
        /// The most that is taken.
        limit: usize,
    },
    /// A document is not of a kind that is known, or not of the kind that it is said to be.
    #[error("{host} sent a document that is refused: {problem}")]
    Document {
        /// Who.
        host: Host,
        /// What is wrong.
        problem: String,
    },
    /// An answer does not follow the specification.
    #[error("{host} breaks the protocol: {problem}")]
    Protocol {
        /// Who.
        host: Host,
        /// What is wrong.
        problem: String,
    },
    /// A redirect that is not followed.
    #[error("{host} redirects to {target}: {problem}")]
    Redirect {
        /// Who.
        host: Host,
        /// Where to, without path and query.
        target: String,
        /// Why it is not followed.
        problem: &'static str,
    },
    /// The token server is not one that may see the credentials.
    #[error(
        "{host} asks to send its credentials to {realm}; if that is right, add \"{realm}\" to token_realms of registries.host.\"{host}\""
    )]
    Realm {
        /// The registry.
        host: Host,
        /// The token server.
        realm: Host,
    },
    /// A new token is there; what was being sent has to be sent again.
    #[error("the token for {host} expired in the middle")]
    Renewed {
        /// The registry.
        host: Host,
    },
    /// The registry forgot the upload, or disagrees about how much of it there is.
    #[error("{host} lost the upload{codes}")]
    UploadLost {
        /// Who.
        host: Host,
        /// What the registry says.
        codes: Codes,
    },
    /// What was to be sent cannot be read.
    #[error("cannot read what is to be sent")]
    Source {
        /// Why.
        source: io::Error,
    },
    /// A setting of the configuration cannot be used.
    #[error("cannot use {setting}")]
    Setting {
        /// Which.
        setting: String,
        /// Why.
        source: reqwest::Error,
    },
    /// A file that the configuration names cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The credentials of the registry cannot be had. Nothing was sent without them.
    #[error("cannot get the credentials for {host}")]
    Credentials {
        /// The registry.
        host: Host,
        /// Why.
        source: credentials::Error,
    },
}

fn wait(retry_after: &Option<Duration>) -> String {
    retry_after.map(|wait| format!(" (for {} s)", wait.as_secs())).unwrap_or_default()
}

/// What kind of failure it was: all that decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No such thing.
    NotFound,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// Not with these credentials.
    Denied,
    /// Too many requests.
    RateLimited,
    /// The network or the registry is down; trying later may help.
    Unavailable,
    /// What came is not what was asked for.
    Corrupt,
    /// The registry refuses what it was asked, or does not follow the specification.
    Refused,
    /// Settings, files or credentials on this side are wrong.
    Local,
}

impl Cause {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Unauthorized { .. } => Kind::Unauthorized,
            Self::Denied { .. } => Kind::Denied,
            Self::RateLimited { .. } => Kind::RateLimited,
            Self::Connect { .. } | Self::Lost { .. } | Self::Stalled { .. } | Self::Cut { .. } => Kind::Unavailable,
            Self::PlainHttp { .. } => Kind::Unavailable,
            Self::Renewed { .. } | Self::UploadLost { .. } => Kind::Unavailable,
            Self::Status { status, .. } if status.is_server_error() => Kind::Unavailable,
            Self::Status { .. } | Self::Protocol { .. } | Self::Redirect { .. } | Self::Realm { .. } => Kind::Refused,
            Self::Unsearchable { .. } => Kind::Refused,
            Self::WrongLength { .. } | Self::WrongDigest { .. } | Self::WrongName { .. } => Kind::Corrupt,
            Self::TooLarge { .. } | Self::Document { .. } => Kind::Corrupt,
            Self::Source { .. } | Self::Setting { .. } | Self::File { .. } | Self::Credentials { .. } => Kind::Local,
        }
    }

    /// May the same request succeed in a moment, at the same place?
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Connect { source, .. } => !is_certificate(source),
            Self::Status { status, .. } => matches!(status.as_u16(), 408 | 425 | 500 | 502 | 503 | 504),
            Self::RateLimited { .. } | Self::Lost { .. } | Self::Stalled { .. } | Self::Cut { .. } => true,
            Self::Renewed { .. } | Self::UploadLost { .. } => true,
            Self::Unauthorized { .. } | Self::Denied { .. } | Self::NotFound { .. } => false,
            Self::WrongLength { .. } | Self::WrongDigest { .. } | Self::WrongName { .. } => false,
            Self::TooLarge { .. } | Self::Document { .. } | Self::Protocol { .. } | Self::Redirect { .. } => false,
            Self::PlainHttp { .. } | Self::Unsearchable { .. } => false,
            Self::Realm { .. } | Self::Source { .. } | Self::Setting { .. } => false,
            Self::File { .. } | Self::Credentials { .. } => false,
        }
    }

    /// How long the registry asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The codes that the registry answered with.
    pub fn codes(&self) -> Option<&Codes> {
        match self {
            Self::Unauthorized { codes, .. }
            | Self::Denied { codes, .. }
            | Self::NotFound { codes, .. }
            | Self::RateLimited { codes, .. }
            | Self::Unsearchable { codes, .. }
            | Self::UploadLost { codes, .. }
            | Self::Status { codes, .. } => Some(codes),
            _ => None,
        }
    }

    fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

/// Did TLS fail for a reason that stays?
fn is_certificate(error: &reqwest::Error) -> bool {
    is_caused(error, |cause| cause.to_string().contains("certificate"))
}

/// Was what came no TLS at all?
pub(crate) fn is_in_the_clear(error: &reqwest::Error) -> bool {
    // The type of rustls stands behind those of the connector; its name is what is left of it.
    is_caused(error, |cause| cause.to_string().contains("InvalidContentType"))
}

fn is_caused(error: &reqwest::Error, is_it: impl Fn(&(dyn std::error::Error + 'static)) -> bool) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if is_it(cause) {
            return true;
        }
        next = cause.source();
    }
    false
}

impl Error {
    /// An error of one request.
    pub(crate) fn request(attempt: &'static str, subject: Subject, cause: Cause) -> Self {
        Self::Request { attempt, subject: Box::new(subject), source: Box::new(cause) }
    }

    /// An error of several places, the last of which decides its kind.
    pub(crate) fn sources(attempt: &'static str, subject: Subject, mut failures: Vec<(Host, Cause)>) -> Self {
        match failures.pop() {
            Some((_, cause)) if failures.is_empty() => Self::request(attempt, subject, cause),
            Some(last) => {
                failures.push(last);
                Self::Sources { attempt, subject: Box::new(subject), failures }
            }
            None => Self::Sources { attempt, subject: Box::new(subject), failures },
        }
    }

    /// The cause that decides: of several places, that of the last one asked.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Request { source, .. } => Some(source),
            Self::Sources { failures, .. } => failures.last().map(|(_, cause)| cause),
        }
    }

    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        self.cause().map_or(Kind::Unavailable, Cause::kind)
    }

    /// What the request was about.
    pub fn subject(&self) -> &Subject {
        match self {
            Self::Request { subject, .. } | Self::Sources { subject, .. } => subject,
        }
    }
}
