//! Why a source that is elsewhere could not be had. No text of it holds a credential.

use std::io;
use std::path::PathBuf;

use crate::error::Error;

/// Why it could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server said something else than "here it is".
    #[error("the server says {status}")]
    Status {
        /// The code and its name.
        status: String,
    },
    /// The server cannot be reached, or broke off.
    #[error("{problem}")]
    Network {
        /// What happened.
        problem: String,
    },
    /// Nothing came for this long.
    #[error("the server has been silent for {seconds} seconds")]
    Silent {
        /// How long.
        seconds: u64,
    },
    /// The server sends elsewhere, and nobody should follow.
    #[error("it is moved to {to}: {problem}")]
    Redirect {
        /// Where to, without credentials and query.
        to: String,
        /// Why nobody follows.
        problem: &'static str,
    },
    /// More than a source may have.
    #[error("it has more than {limit} bytes, the most that a source may have")]
    TooLarge {
        /// The most.
        limit: u64,
    },
    /// Not what it was said to be.
    #[error("it is not what --checksum says: expected {expected}, found {found}")]
    Checksum {
        /// What it was said to be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// It was one thing when it was looked at, and another when it was needed.
    #[error("it has changed while the build went on; build again")]
    Changed,
    /// There is no `git` to fetch with.
    #[error(
        "the program `git` is not on this machine, and fetching from a repository needs it; install the package git"
    )]
    NoGit,
    /// `git` failed.
    #[error("git cannot {action}: {said}")]
    Git {
        /// What was asked of it.
        action: &'static str,
        /// Its last words.
        said: String,
    },
    /// The repository has no such reference.
    #[error("the repository has no branch or tag {name:?}")]
    NoReference {
        /// The name.
        name: String,
    },
    /// The repository's HEAD leads nowhere.
    #[error("the repository says of no branch that it is the default; name one: URL#BRANCH")]
    NoDefault,
    /// The repository answers with what cannot be.
    #[error("the repository answers with {what} that cannot be: {found:?}")]
    Nonsense {
        /// What of the answer.
        what: &'static str,
        /// What came.
        found: String,
    },
    /// The directory is not in the tree.
    #[error("the repository has no directory {path:?} there")]
    NoDirectory {
        /// The directory.
        path: String,
    },
    /// A part of the path of the directory is a symbolic link or a file.
    #[error("directory {path:?} of the repository leads through {part:?}, which is no directory")]
    NotADirectory {
        /// The directory.
        path: String,
        /// The part.
        part: String,
    },
    /// This machine's disk, mostly.
    #[error("cannot {attempt} {}: {source}", path.display())]
    Local {
        /// What was attempted.
        attempt: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The store refused, or the client is gone.
    #[error(transparent)]
    Build(#[from] Error),
}

impl Failure {
    /// A failure of the network, in words: all its causes, no URL.
    pub fn network(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut problem = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            problem = format!("{problem}: {next}");
            cause = next.source();
        }
        Self::Network { problem }
    }

    /// What to do.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Failure::Status { status } if status.starts_with("401") || status.starts_with("403") => {
                Some("credentials are secrets: --secret id=HTTP_AUTH_TOKEN_<host>,env=NAME")
            }
            Failure::Checksum { .. } => {
                Some("is the source the one that is meant? then --checksum takes what was found")
            }
            Failure::Git { said, .. } if said.contains("Authentication failed") || said.contains("could not read") => {
                Some("credentials are secrets: --secret id=GIT_AUTH_TOKEN,env=NAME")
            }
            Failure::Git { said, .. } if said.contains("Permission denied (") => {
                Some("`ctl build --ssh default` lends the keys of the agent, `--ssh default=KEY` that of a file")
            }
            _ => None,
        }
    }
}
