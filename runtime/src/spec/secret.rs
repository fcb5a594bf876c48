//! Secrets that a container has: which, and how. Their values are not here.

use serde::{Deserialize, Serialize};

/// Where secrets are files, unless said otherwise.
pub const DIRECTORY: &str = "/run/secrets";

/// The most secrets of a container.
pub const MAX_SECRETS: usize = 256;

/// A secret that a container has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// Its name; its id or the start of it too, until the container is made.
    pub secret: String,
    /// How the container has it.
    pub form: SecretForm,
}

/// How a container has a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretForm {
    /// As a read-only file in memory.
    File(SecretFile),
    /// As a variable of its environment. Empty, until the container is made: by the name of the secret.
    Variable(String),
}

/// A secret as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFile {
    /// Absolute path in the container. Empty, until the container is made: the name of the secret below [`DIRECTORY`].
    pub target: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, never 0.
    pub mode: u32,
}

impl SecretUse {
    /// The path where it is a file.
    pub fn target(&self) -> Option<&str> {
        match &self.form {
            SecretForm::File(file) => Some(&file.target),
            SecretForm::Variable(_) => None,
        }
    }
}
