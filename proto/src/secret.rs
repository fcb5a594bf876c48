//! How messages look that hold secrets: whoever prints a request, in a log or in a test, prints no password.
//! build.rs lists these messages; tests/house/protos.rs prints them.

use std::fmt;

use crate::types::v1::{RegistryCredentials, RegistryPassword, registry_credentials::Proof};

/// What stands for a secret.
const HIDDEN: &str = "***";

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryCredentials").field("registry", &self.registry).field("proof", &self.proof).finish()
    }
}

impl fmt::Debug for RegistryPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryPassword").field("username", &self.username).field("password", &HIDDEN).finish()
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password(password) => password.fmt(f),
            Self::IdentityToken(_) => f.debug_tuple("IdentityToken").field(&HIDDEN).finish(),
            Self::RegistryToken(_) => f.debug_tuple("RegistryToken").field(&HIDDEN).finish(),
        }
    }
}
