//! Sources that are elsewhere: files of web servers and git repositories, as ADD and a build context name them.
//! A URL is taken apart here and nothing else happens: what it names is fetched by whoever has a network.

mod checksum;
mod git;
mod url;

use thiserror::Error;

pub use checksum::{Algorithm, Checksum, ChecksumError};
pub use git::{Git, GitFlags, MTime, is_commit};
pub use url::{Scheme, UserInfo, redact};

use url::Url;

/// A source that is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A file of a web server.
    Http(Http),
    /// A tree of a git repository.
    Git(Git),
}

/// A file of a web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// What is asked for: no credentials, no fragment.
    pub url: String,
    /// Name of the host, without a port.
    pub host: String,
    /// Name and password that the URL holds.
    pub user: Option<UserInfo>,
    /// Last component of its path, if that can name a file.
    pub file_name: Option<String>,
}

/// Why a source that is elsewhere is refused. No text of it holds a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RemoteError {
    /// Not a protocol for sources.
    #[error("protocol {protocol:?} of {url:?} is not one that sources have")]
    Protocol {
        /// The protocol.
        protocol: String,
        /// The URL.
        url: String,
    },
    /// Not a URL.
    #[error("{url:?} is not a URL: {problem}")]
    Malformed {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A part that git, or what git starts, would take for an option.
    #[error("the {part} of {url:?} starts with \"-\"")]
    Option {
        /// "host", "user", "path", "reference".
        part: &'static str,
        /// The URL.
        url: String,
    },
    /// A key that git URLs do not have.
    #[error("git URL {url:?} has an unknown key {key:?}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The URL.
        url: String,
    },
    /// A key that is there several times.
    #[error("git URL {url:?} has key {key:?} more than once")]
    Repeated {
        /// The key.
        key: String,
        /// The URL.
        url: String,
    },
    /// A key without its value.
    #[error("key {key:?} of git URL {url:?} has no value")]
    NoValue {
        /// The key.
        key: String,
        /// The URL.
        url: String,
    },
    /// A value that the key does not take.
    #[error("invalid value {value:?} of key {key:?} in a git URL: it must be {expected}")]
    InvalidValue {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Two values for one thing.
    #[error("two different {what} for one git source: {one:?} and {other:?}")]
    Conflict {
        /// "references", "directories", "checksums".
        what: &'static str,
        /// One of them.
        one: String,
        /// The other.
        other: String,
    },
    /// `--keep-git-dir` and the key of the URL contradict each other.
    #[error("--keep-git-dir and the key \"keep-git-dir\" of {url:?} contradict each other")]
    KeepGitDir {
        /// The URL.
        url: String,
    },
    /// A name that no branch, tag or commit can have.
    #[error("{name:?} is not the name of a branch, a tag or a commit")]
    Reference {
        /// The name.
        name: String,
    },
    /// `fetch-by-commit` without a commit.
    #[error("key \"fetch-by-commit\" of git URL {url:?} needs a whole commit, as its reference or as \"checksum\"")]
    NoCommit {
        /// The URL.
        url: String,
    },
}

impl RemoteError {
    /// What to do.
    pub fn advice(&self) -> Option<String> {
        match self {
            RemoteError::Protocol { .. } => Some("http, https, git and ssh are there".to_owned()),
            RemoteError::UnknownKey { key, .. } => {
                let near = crate::nearest(key, git::KEYS);
                Some(match near {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("there are {}", git::KEYS.join(", ")),
                })
            }
            RemoteError::NoCommit { .. } => Some("add checksum= with the 40 or 64 hex digits of the commit".to_owned()),
            _ => None,
        }
    }
}

/// Takes apart a source of ADD, or the value of a named context. `None`: it is a path.
///
/// `git@host:path`, `ssh://` and `git://` are git repositories, `http(s)://` are where their path ends with `.git`, else
/// files.
pub fn parse(source: &str) -> Result<Option<Remote>, RemoteError> {
    match Url::parse(source)? {
        None => Ok(None),
        Some(url) if url.is_web() && !url.path.ends_with(".git") => Ok(Some(Remote::Http(Http::new(url)))),
        Some(url) => Git::new(url).map(|git| Some(Remote::Git(git))),
    }
}

/// As [`parse`] for the context of a build, where `github.com/owner/name` is a repository too.
pub fn parse_context(source: &str) -> Result<Option<Remote>, RemoteError> {
    if source.starts_with("github.com/") {
        let Some(url) = Url::parse(&format!("https://{source}"))? else { return Ok(None) };
        return Git::new(url).map(|git| Some(Remote::Git(git)));
    }
    parse(source)
}

/// Whether a source looks as if it were elsewhere. What starts with a variable is known only after expansion.
pub fn is_remote(source: &str) -> bool {
    !matches!(parse(source), Ok(None))
}

impl Remote {
    /// The URL, without credentials.
    pub fn url(&self) -> &str {
        match self {
            Remote::Http(http) => &http.url,
            Remote::Git(git) => &git.remote,
        }
    }
}

impl Http {
    fn new(url: Url) -> Self {
        let name = url::decoded(url.path.rsplit('/').next().unwrap_or_default(), false);
        let can_name = !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']);
        Self {
            url: url.plain(true),
            host: url.host_name().to_owned(),
            user: url.user,
            file_name: can_name.then_some(name),
        }
    }
}

#[cfg(test)]
mod tests;
