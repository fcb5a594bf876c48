//! What can go wrong with secrets. No text of it holds a value.

use tonic::Code;

/// Why something about a secret was refused.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No secret has this name or id.
    #[error("no such secret: {name}")]
    NotFound {
        /// As asked for.
        name: String,
    },
    /// Several ids start so.
    #[error("{prefix:?} is the start of several secret ids")]
    Ambiguous {
        /// As asked for.
        prefix: String,
    },
    /// There is one of this name, and nobody said that it may get another value.
    #[error("there is a secret {name} already")]
    Exists {
        /// The name.
        name: String,
    },
    /// Containers have the secret.
    #[error("secret {name} is in use by {}", super::words::holders_of(holders))]
    InUse {
        /// The name.
        name: String,
        /// Ids and names of the containers.
        holders: Vec<(String, String)>,
    },
    /// A value cannot be a variable.
    #[error("secret {name} cannot be the variable {variable}: {problem}")]
    Unfit {
        /// Name of the secret.
        name: String,
        /// Name of the variable.
        variable: String,
        /// Why, without the value.
        problem: &'static str,
    },
}

impl SecretError {
    /// The code on the wire.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::NotFound,
            Self::Ambiguous { .. } => Code::InvalidArgument,
            Self::Exists { .. } => Code::AlreadyExists,
            Self::InUse { .. } | Self::Unfit { .. } => Code::FailedPrecondition,
        }
    }

    /// The reason on the wire.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "FAULT_SECRET_NOT_FOUND",
            Self::Ambiguous { .. } => "FAULT_SECRET_AMBIGUOUS",
            Self::Exists { .. } => "FAULT_NAME_TAKEN",
            Self::InUse { .. } => "FAULT_SECRET_IN_USE",
            Self::Unfit { .. } => "FAULT_SECRET_UNFIT",
        }
    }

    /// What a program needs to know.
    pub(super) fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::NotFound { .. } | Self::Ambiguous { .. } | Self::Exists { .. } => Vec::new(),
            Self::InUse { holders, .. } => {
                let ids: Vec<&str> = holders.iter().map(|(id, _)| id.as_str()).collect();
                vec![("holders", ids.join(","))]
            }
            Self::Unfit { name, variable, .. } => vec![("secret", name.clone()), ("variable", variable.clone())],
        }
    }

    /// The name that is missing or in the way.
    pub(super) fn resource(&self) -> Option<&str> {
        match self {
            Self::NotFound { name } | Self::Exists { name } => Some(name),
            Self::Ambiguous { .. } | Self::InUse { .. } | Self::Unfit { .. } => None,
        }
    }
}
