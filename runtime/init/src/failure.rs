//! What went wrong: the step that was attempted and its errno. It crosses the channel as a frame.

use crate::wire::Frame;
use std::fmt;
use std::io;

/// Why a process could not be made or executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was attempted.
    pub step: String,
    /// The error number, or 0.
    pub errno: i32,
    /// The cause in words.
    pub text: String,
    /// 126 (cannot be executed), 127 (not found) or 125 (anything else).
    pub code: i32,
}

impl Failure {
    /// Returns a failure that no system call reported.
    pub(crate) fn new(step: impl Into<String>, text: impl Into<String>) -> Self {
        Self { step: step.into(), errno: 0, text: text.into(), code: 125 }
    }

    pub(crate) fn of(step: impl Into<String>, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let errno = error.raw_os_error().unwrap_or(0);
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        Self { step: step.into(), errno, text, code: 125 }
    }

    /// Returns the failure to execute a program, with the status that shells give it.
    pub(crate) fn execute(program: &str, error: impl Into<io::Error>) -> Self {
        let mut failure = Self::of(format!("execute {program}"), error);
        failure.code = match failure.errno {
            libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG => 127,
            _ => 126,
        };
        failure
    }

    /// Returns the frame that reports it.
    pub fn to_frame(&self) -> Frame {
        Frame::Failed { step: self.step.clone(), errno: self.errno, text: self.text.clone(), code: self.code }
    }

    /// Returns the failure that a frame reports, if it reports one.
    pub fn from_frame(frame: Frame) -> Option<Self> {
        match frame {
            Frame::Failed { step, errno, text, code } => Some(Self { step, errno, text, code }),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot {}: {}", self.step, self.text)
    }
}

impl std::error::Error for Failure {}

/// Names the step that a system call belongs to.
pub(crate) trait Attempt<T> {
    fn attempt(self, step: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, step: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(step(), error))
    }
}
