//! Failures as people see them: one sentence, what helps, and the exit code that Docker users expect.

use strata_rpc::fault;
use tonic::Code;

use crate::render;

/// Exit code of usage errors and of Strata's own failures in `run`.
pub const STRATA_FAILED: u8 = 125;

/// A failed command.
#[derive(Debug)]
pub struct Error {
    /// One sentence.
    pub message: String,
    /// The Dockerfile line with a caret. Empty: none.
    pub excerpt: String,
    /// What to do next, one line each.
    pub hints: Vec<String>,
    /// Exit code of `ctl`.
    pub code: u8,
    /// Reason of the service that refused. Empty: none.
    pub reason: String,
}

/// Result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), excerpt: String::new(), hints: Vec::new(), code: 1, reason: String::new() }
    }

    /// An end that needs no words.
    pub fn silent(code: u8) -> Self {
        Self::new("").with_code(code)
    }

    /// A mistake in how the command was called.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: STRATA_FAILED, ..Self::new(message) }
    }

    /// An error with its causes, on one line.
    pub fn of(error: &dyn std::error::Error) -> Self {
        Self::new(fault::chain(error))
    }

    /// Adds what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Sets the exit code.
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// In `run` and `exec`: what is Strata's own fault is 125, what the container's start says is kept.
    pub fn in_run(self) -> Self {
        if self.code == 1 { self.with_code(STRATA_FAILED) } else { self }
    }

    /// Prints it to standard error.
    pub fn print(&self) {
        let text = if self.excerpt.is_empty() { &self.message } else { &self.excerpt };
        if !text.is_empty() {
            render::note(format!("ctl: {text}"));
        }
        for hint in &self.hints {
            render::note(format!("hint: {hint}"));
        }
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let reason = fault::reason_of(&status).unwrap_or_default();
        let facts = fault::metadata_of(&status);
        let message = match (status.code(), status.message()) {
            (_, text) if fault::is_lost(&status) => format!("the service went away or cannot be reached: {text}"),
            (Code::Unimplemented, text) => format!("not available: {text}"),
            (code, "") => format!("the service failed with {code:?}"),
            (_, text) => text.to_owned(),
        };
        let mut error = Self::new(message);
        error.excerpt = facts.get("excerpt").cloned().unwrap_or_default();
        if let Some(code) = facts.get("exit_code").and_then(|code| code.parse().ok())
            && reason == "FAULT_START_FAILED"
        {
            error.code = code;
        }
        error.hints.extend(hint(&reason).map(ToOwned::to_owned));
        error.reason = reason;
        error
    }
}

fn hint(reason: &str) -> Option<&'static str> {
    match reason {
        "FAULT_IMAGE_NOT_FOUND" => Some(
            "`ctl images` lists what is there, `ctl build` and `ctl import` make images; pulling is not available yet",
        ),
        "FAULT_CONTAINER_NOT_FOUND" => Some("`ctl ps -a` lists all containers"),
        "FAULT_NAME_TAKEN" => Some("`ctl rm NAME` frees the name, `--name` chooses another"),
        "FAULT_RUNNING" => Some("`ctl stop` it first, or use `ctl rm -f`"),
        "FAULT_NOT_RUNNING" => Some("`ctl start` starts it"),
        "FAULT_IMAGE_IN_USE" => Some("remove the containers that use it, or use `ctl rmi -f`"),
        "FAULT_DISK_FULL" => Some("`ctl system prune` frees what nothing uses"),
        "FAULT_CORRUPT" | "FAULT_DIGEST_MISMATCH" => Some("`ctl system verify` names everything that is damaged"),
        "FAULT_STEP_FAILED" => Some("the output of the step is above"),
        _ => None,
    }
}

impl From<strata_rpc::endpoint::Error> for Error {
    fn from(error: strata_rpc::endpoint::Error) -> Self {
        Self::of(&error)
    }
}

impl From<strata_rpc::spawn::Error> for Error {
    fn from(error: strata_rpc::spawn::Error) -> Self {
        Self::of(&error)
    }
}
