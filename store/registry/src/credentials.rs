//! Who we are at a registry. Credentials belong to exactly one [`Host`] and are never offered to another.

mod file;
mod program;

use std::{fmt, io, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;

pub use file::Keychain;

use crate::Host;

/// A text that no log and no error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one who needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What proves who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password (or an access token that stands for one).
    Password {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, which the token server turns into access tokens.
    IdentityToken(Secret),
    /// An access token that is sent as it is.
    RegistryToken(Secret),
}

/// Where credentials come from.
pub trait CredentialSource: fmt::Debug + Send + Sync {
    /// The credentials for a host; none where there are none. An error is never taken for "none".
    fn credentials<'a>(&'a self, host: &'a Host) -> BoxFuture<'a, Result<Option<Credentials>, Error>>;
}

/// Credentials that came with a request: for one host, and for no other.
#[derive(Clone, Debug)]
pub struct Given {
    /// The host they belong to.
    pub host: Host,
    /// What proves who we are there.
    pub credentials: Credentials,
}

impl CredentialSource for Given {
    fn credentials<'a>(&'a self, host: &'a Host) -> BoxFuture<'a, Result<Option<Credentials>, Error>> {
        let found = (*host == self.host).then(|| self.credentials.clone());
        Box::pin(async move { Ok(found) })
    }
}

/// Several sources; the first that knows a host decides.
impl CredentialSource for Vec<Arc<dyn CredentialSource>> {
    fn credentials<'a>(&'a self, host: &'a Host) -> BoxFuture<'a, Result<Option<Credentials>, Error>> {
        Box::pin(async move {
            for source in self {
                if let Some(found) = source.credentials(host).await? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        })
    }
}

/// Why credentials cannot be had, or not be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("cannot {attempt} {}", path.display())]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no configuration of Docker's.
    #[error("{} is not valid JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Something in the file cannot be understood.
    #[error("{}: {problem}; log in again with `ctl login {host}`", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The host it is about.
        host: Host,
        /// What is wrong.
        problem: &'static str,
    },
    /// A credential helper cannot be run.
    #[error("cannot run the credential helper {program}; is it installed, and on PATH?")]
    Spawn {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A credential helper failed.
    #[error("the credential helper {program} {problem}")]
    Helper {
        /// Its name.
        program: String,
        /// What happened.
        problem: String,
    },
}
