//! What can go wrong in a build, and the code that each failure has on the wire.

use strata_dockerfile::{Diagnostic, Dockerfile, Span};
use tonic::Code;

use crate::source::Failure;

/// A failed build.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Dockerfile has a mistake.
    #[error("{0}")]
    Dockerfile(Box<Diagnostic>),
    /// The Dockerfile asks for what is not there yet.
    #[error("{0}")]
    Unsupported(Box<Diagnostic>),
    /// A build argument asks for what is not there yet.
    #[error("build argument {name}: {problem}")]
    UnsupportedArgument {
        /// The argument.
        name: String,
        /// What it asks for.
        problem: String,
    },
    /// The image of a FROM or `--from` is not in the store.
    #[error("{diagnostic}")]
    BaseImage {
        /// The image.
        image: String,
        /// Where it is named.
        diagnostic: Box<Diagnostic>,
    },
    /// The source of a COPY or ADD does not exist.
    #[error("{diagnostic}")]
    Source {
        /// The source as written.
        path: String,
        /// The pattern of the ignore file that excluded it.
        ignored_by: Option<String>,
        /// Where it is named.
        diagnostic: Box<Diagnostic>,
    },
    /// A RUN ended with a code other than 0.
    #[error("{diagnostic}")]
    Step {
        /// Its exit code; 128 + n for a signal.
        exit_code: u32,
        /// Where it stands.
        diagnostic: Box<Diagnostic>,
    },
    /// A step failed in another service.
    #[error("{diagnostic}")]
    StepRefused {
        /// Where it stands.
        diagnostic: Box<Diagnostic>,
        /// The refusal.
        source: Box<Error>,
    },
    /// A source that is elsewhere cannot be had.
    #[error("{}", diagnostic.as_ref().map_or_else(|| unfetched(url, problem), ToString::to_string))]
    Remote {
        /// The source, without credentials.
        url: String,
        /// Why.
        problem: String,
        /// What to do.
        advice: Option<&'static str>,
        /// Where it is named, if that is in the Dockerfile.
        diagnostic: Option<Box<Diagnostic>>,
    },
    /// A context that is elsewhere has no Dockerfile.
    #[error("{context} has no file {path:?}")]
    NoDockerfile {
        /// The context.
        context: String,
        /// Path of the Dockerfile.
        path: String,
    },
    /// The client sent a context that contradicts itself.
    #[error("the build context is not valid: {problem}")]
    Context {
        /// What is wrong with it.
        problem: String,
    },
    /// The client cannot get the credentials for a registry.
    #[error("cannot get the credentials for {registry}: {problem}")]
    Credentials {
        /// The registry.
        registry: String,
        /// What the client says.
        problem: String,
    },
    /// A step needs something of the client that was not given.
    #[error("{diagnostic}")]
    NotGiven {
        /// Where it is named.
        diagnostic: Box<Diagnostic>,
    },
    /// A step needs a device that the host of the runtime does not have.
    #[error("{diagnostic}")]
    NoDevice {
        /// Where it is named.
        diagnostic: Box<Diagnostic>,
    },
    /// A step wants to do what is not allowed.
    #[error("{diagnostic}")]
    NotAllowed {
        /// Where it says so.
        diagnostic: Box<Diagnostic>,
    },
    /// The client cannot get something that it said it would give.
    #[error("the client cannot give {what}: {problem}")]
    Client {
        /// What it was asked for.
        what: String,
        /// What it says.
        problem: String,
    },
    /// The socket of an agent cannot be made.
    #[error("cannot listen at {}", .path.display())]
    Socket {
        /// The socket.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A field of the request is malformed.
    #[error("invalid {field}: {problem}")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A peer cannot be reached.
    #[error("cannot reach the {peer}")]
    Unreachable {
        /// "store" or "runtime".
        peer: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A peer refused.
    #[error("the {peer} refused to {action}: {}", .status.message())]
    Peer {
        /// "store" or "runtime".
        peer: &'static str,
        /// What was asked.
        action: &'static str,
        /// Its answer.
        status: Box<tonic::Status>,
    },
    /// A peer's answer lacks what it must hold.
    #[error("the {peer} gave an answer without {what}")]
    Answer {
        /// "store" or "runtime".
        peer: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// A JSON document of a peer cannot be read.
    #[error("cannot read the config of image {image}")]
    ImageConfig {
        /// The image.
        image: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The build was cancelled.
    #[error("the build was cancelled")]
    Cancelled,
}

fn unfetched(url: &str, problem: &str) -> String {
    format!("cannot fetch {url}: {problem}")
}

impl Error {
    /// A source that is elsewhere and cannot be had.
    pub fn unfetched(url: &str, failure: Failure) -> Self {
        let (problem, advice) = (failure.to_string(), failure.advice());
        match failure {
            Failure::Build(error) => error,
            _ => Error::Remote { url: strata_dockerfile::remote::redact(url), problem, advice, diagnostic: None },
        }
    }

    /// The same, named at this place of the Dockerfile, unless it has a place.
    pub fn at(mut self, file: &Dockerfile, span: Span) -> Self {
        if let Error::Remote { url, problem, advice, diagnostic: diagnostic @ None } = &mut self {
            let at = file.diagnostic(span, unfetched(url, problem));
            *diagnostic = Some(Box::new(match advice {
                Some(advice) => at.with_suggestion(*advice),
                None => at,
            }));
        }
        self
    }

    /// A peer's refusal.
    pub fn peer(peer: &'static str, action: &'static str, status: tonic::Status) -> Self {
        if strata_rpc::fault::is_lost(&status) {
            return Error::Unreachable { peer, source: Box::new(status) };
        }
        Error::Peer { peer, action, status: Box::new(status) }
    }

    /// Exit code and cause, when the runtime could not start the program of a step.
    pub fn not_started(&self) -> Option<(u32, String)> {
        let Error::Peer { status, .. } = self else { return None };
        if strata_rpc::reason_of(status).as_deref() != Some("FAULT_START_FAILED") {
            return None;
        }
        let exit_code = strata_rpc::fault::metadata_of(status).get("exit_code")?.parse().ok()?;
        Some((exit_code, status.message().to_owned()))
    }

    /// The same failure, shown at another place.
    pub fn point_at(mut self, place: impl FnOnce(&Diagnostic) -> Diagnostic) -> Self {
        match &mut self {
            Error::Dockerfile(diagnostic) | Error::Unsupported(diagnostic) => **diagnostic = place(diagnostic),
            Error::BaseImage { diagnostic, .. }
            | Error::Source { diagnostic, .. }
            | Error::Step { diagnostic, .. }
            | Error::NotGiven { diagnostic }
            | Error::NoDevice { diagnostic }
            | Error::Remote { diagnostic: Some(diagnostic), .. }
            | Error::NotAllowed { diagnostic }
            | Error::StepRefused { diagnostic, .. } => **diagnostic = place(diagnostic),
            _ => {}
        }
        self
    }

    /// What happened, without the place: that of the step is known.
    pub fn short(&self) -> String {
        self.diagnostic().map_or_else(|| self.to_string(), |diagnostic| diagnostic.message.clone())
    }

    /// Where in the Dockerfile it happened.
    pub fn diagnostic(&self) -> Option<&Diagnostic> {
        match self {
            Error::Dockerfile(diagnostic) | Error::Unsupported(diagnostic) => Some(diagnostic),
            Error::BaseImage { diagnostic, .. }
            | Error::Source { diagnostic, .. }
            | Error::Step { diagnostic, .. }
            | Error::NotGiven { diagnostic }
            | Error::NoDevice { diagnostic }
            | Error::Remote { diagnostic: Some(diagnostic), .. }
            | Error::NotAllowed { diagnostic }
            | Error::StepRefused { diagnostic, .. } => Some(diagnostic),
            Error::Remote { diagnostic: None, .. } | Error::NoDockerfile { .. } => None,
            Error::UnsupportedArgument { .. }
            | Error::Context { .. }
            | Error::Credentials { .. }
            | Error::Client { .. }
            | Error::Socket { .. }
            | Error::Invalid { .. }
            | Error::Unreachable { .. }
            | Error::Peer { .. }
            | Error::Answer { .. }
            | Error::ImageConfig { .. }
            | Error::Cancelled => None,
        }
    }
}

impl strata_rpc::fault::Fault for Error {
    fn code(&self) -> Code {
        match self {
            Error::Dockerfile(_)
            | Error::Unsupported(_)
            | Error::UnsupportedArgument { .. }
            | Error::Context { .. }
            | Error::Invalid { .. } => Code::InvalidArgument,
            Error::BaseImage { .. }
            | Error::Source { .. }
            | Error::NoDockerfile { .. }
            | Error::NotGiven { .. }
            | Error::NoDevice { .. } => Code::NotFound,
            Error::Step { .. } | Error::Remote { .. } | Error::Credentials { .. } | Error::Client { .. } => {
                Code::FailedPrecondition
            }
            Error::NotAllowed { .. } => Code::PermissionDenied,
            Error::StepRefused { source, .. } => source.code(),
            Error::Unreachable { .. } => Code::Unavailable,
            Error::Peer { status, .. } => status.code(),
            Error::Answer { .. } | Error::ImageConfig { .. } | Error::Socket { .. } => Code::Internal,
            Error::Cancelled => Code::Cancelled,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Error::Dockerfile(_) => "FAULT_DOCKERFILE_INVALID",
            Error::Unsupported(_) | Error::UnsupportedArgument { .. } => "FAULT_UNSUPPORTED",
            Error::BaseImage { .. } => "FAULT_BASE_IMAGE_NOT_FOUND",
            Error::Source { .. } | Error::NoDockerfile { .. } => "FAULT_SOURCE_NOT_FOUND",
            Error::Remote { .. } => "FAULT_SOURCE_UNAVAILABLE",
            Error::Step { .. } => "FAULT_STEP_FAILED",
            Error::StepRefused { source, .. } => source.reason(),
            Error::Context { .. } => "FAULT_CONTEXT_INVALID",
            Error::Credentials { .. } => "FAULT_CREDENTIALS_UNAVAILABLE",
            Error::NotGiven { .. } => "FAULT_NOT_GIVEN",
            Error::NoDevice { .. } => "FAULT_DEVICE_NOT_FOUND",
            Error::NotAllowed { .. } => "FAULT_NOT_ALLOWED",
            Error::Client { .. } => "FAULT_CLIENT_FAILED",
            Error::Invalid { .. } => "FAULT_INVALID_ARGUMENT",
            Error::Unreachable { .. } => "FAULT_PEER_UNAVAILABLE",
            Error::Peer { .. } => "FAULT_PEER_REFUSED",
            Error::Answer { .. } | Error::ImageConfig { .. } | Error::Socket { .. } => "FAULT_INTERNAL",
            Error::Cancelled => "FAULT_CANCELLED",
        }
    }

    fn metadata(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let mut put = |key: &str, value: String| pairs.push((key.to_owned(), value));
        if let Some(diagnostic) = self.diagnostic() {
            put("file", diagnostic.file.to_string());
            put("line", diagnostic.line.to_string());
            put("column", diagnostic.column.to_string());
            put("excerpt", diagnostic.render());
            if let Some(suggestion) = &diagnostic.suggestion {
                put("suggestion", suggestion.clone());
            }
        }
        match self {
            Error::BaseImage { image, .. } => put("image", image.clone()),
            Error::Source { path, ignored_by, .. } => {
                put("path", path.clone());
                if let Some(pattern) = ignored_by {
                    put("ignored_by", pattern.clone());
                }
            }
            Error::Remote { url, advice, diagnostic, .. } => {
                put("url", url.clone());
                if let (Some(advice), None) = (advice, diagnostic) {
                    put("suggestion", (*advice).to_owned());
                }
            }
            Error::NoDockerfile { path, .. } => {
                put("path", path.clone());
                put("suggestion", "`-f PATH` names another file of the context".to_owned());
            }
            Error::Step { exit_code, .. } => put("exit_code", exit_code.to_string()),
            Error::Peer { peer, status, .. } => {
                put("peer", (*peer).to_owned());
                if let Some(reason) = strata_rpc::reason_of(status) {
                    put("reason", reason);
                }
            }
            Error::StepRefused { source, .. } => pairs.extend(source.metadata()),
            _ => {}
        }
        pairs
    }

    fn field(&self) -> Option<(String, String)> {
        match self {
            Error::Invalid { field, problem } => Some(((*field).to_owned(), problem.clone())),
            _ => None,
        }
    }

    fn resource(&self) -> Option<(String, String)> {
        match self {
            Error::BaseImage { image, .. } => Some(("image".to_owned(), image.clone())),
            Error::Source { path, .. } => Some(("path".to_owned(), path.clone())),
            _ => None,
        }
    }
}
