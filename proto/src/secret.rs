//! How messages look that hold secrets: whoever prints a request, in a log or in a test, prints no password.
//! build.rs lists these messages; tests/house/protos.rs prints them.

use std::fmt;

use crate::builder::v1::BuildSecret;
use crate::runtime::v1::{BytesSource, CreateSecretRequest, ReadSecretResponse, SecretVariable};
use crate::types::v1::{RegistryCredentials, RegistryPassword, registry_credentials::Proof};

/// What stands for a secret.
const HIDDEN: &str = "***";

impl fmt::Debug for BuildSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_ref().map(|_| HIDDEN);
        let mut shown = f.debug_struct("BuildSecret");
        shown.field("number", &self.number).field("value", &value).field("problem", &self.problem).finish()
    }
}

impl fmt::Debug for BytesSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("BytesSource");
        shown.field("data", &HIDDEN).field("mode", &self.mode).field("uid", &self.uid).field("gid", &self.gid).finish()
    }
}

impl fmt::Debug for CreateSecretRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("CreateSecretRequest");
        shown.field("name", &self.name).field("value", &HIDDEN).field("labels", &self.labels);
        shown.field("replace", &self.replace).finish()
    }
}

impl fmt::Debug for ReadSecretResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadSecretResponse").field("value", &HIDDEN).finish()
    }
}

impl fmt::Debug for SecretVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretVariable").field("name", &self.name).field("value", &HIDDEN).finish()
    }
}

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
