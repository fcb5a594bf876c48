//! Registries as this side knows them: the shared settings, and the credentials of whoever calls.
//!
//! A registry's credentials are read here, where the user is, and go with the request to the service that needs them.

use strata_proto::types::v1 as pb;
use strata_registry::{Credentials, Host, Keychain, Secret, Shared};
use strata_rpc::{config, paths};
use strata_types::Reference;

use crate::contexts;
use crate::error::{Error, Result};

/// Settings and credentials.
#[derive(Debug)]
pub struct Registries {
    settings: strata_registry::Registries,
    keychain: Option<Keychain>,
}

impl Registries {
    /// Reads the settings; credentials are read when they are needed.
    pub fn load() -> Result<Self> {
        let path = paths::shared_config();
        let keychain = match contexts::chosen_directory() {
            Some(directory) => Some(Keychain::new(directory.join("config.json"))),
            None => Keychain::of_user(),
        };
        let shared: Shared = config::load(Some(path.as_path()).filter(|path| path.exists()))
            .map_err(|error: config::Error| Error::of(&error))?;
        Ok(Self { settings: shared.registries, keychain })
    }

    /// Where credentials are kept.
    pub fn keychain(&self) -> Result<&Keychain> {
        let none = || Error::new("neither DOCKER_CONFIG nor HOME is set: no place for credentials");
        self.keychain.as_ref().ok_or_else(none)
    }

    /// The credentials that a request about an image needs: for its registry and for the mirrors of that.
    pub async fn credentials(&self, reference: &Reference) -> Result<Vec<pb::RegistryCredentials>> {
        self.credentials_for(&Host::of(reference)).await
    }

    /// The same for a registry.
    pub async fn credentials_for(&self, registry: &Host) -> Result<Vec<pb::RegistryCredentials>> {
        let Some(keychain) = &self.keychain else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for host in self.settings.hosts(registry) {
            let found = keychain.get(&host).await.map_err(|error| Error::of(&error))?;
            all.extend(found.map(|found| message(&host, &found)));
        }
        Ok(all)
    }
}

/// Credentials as a request holds them.
pub fn message(host: &Host, credentials: &Credentials) -> pb::RegistryCredentials {
    use pb::registry_credentials::Proof;
    let proof = match credentials {
        Credentials::Password { username, password } => {
            Proof::Password(pb::RegistryPassword { username: username.clone(), password: password.reveal().to_owned() })
        }
        Credentials::IdentityToken(token) => Proof::IdentityToken(token.reveal().to_owned()),
        Credentials::RegistryToken(token) => Proof::RegistryToken(token.reveal().to_owned()),
    };
    pb::RegistryCredentials { registry: host.to_string(), proof: Some(proof) }
}

/// Credentials that a service answered with.
pub fn credentials(message: pb::RegistryCredentials) -> Option<Credentials> {
    use pb::registry_credentials::Proof;
    Some(match message.proof? {
        Proof::Password(pb::RegistryPassword { username, password }) => {
            Credentials::Password { username, password: Secret::new(password) }
        }
        Proof::IdentityToken(token) => Credentials::IdentityToken(Secret::new(token)),
        Proof::RegistryToken(token) => Credentials::RegistryToken(Secret::new(token)),
    })
}

/// The image that a user names.
pub fn reference(text: &str) -> Result<Reference> {
    Reference::parse(text).map_err(|error| Error::new(error.to_string()))
}

/// The registry that a user names, as Docker takes it: a host, or a URL whose host is meant. Nothing is Docker Hub.
pub fn registry(text: Option<&str>) -> Result<Host> {
    let text = text.filter(|text| !text.is_empty()).unwrap_or("docker.io");
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let host = rest.split('/').next().unwrap_or_default();
    Host::parse(host).map_err(|error| Error::usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_may_be_written_as_a_url() {
        for (text, host) in [
            (None, "docker.io"),
            (Some(""), "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("reg.example:5000"), "reg.example:5000"),
            (Some("http://localhost:5000/"), "localhost:5000"),
        ] {
            assert_eq!(registry(text).unwrap().as_str(), host);
        }
        for bad in ["user@reg.example", "reg example", "ftp://x"] {
            assert!(registry(Some(bad)).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn credentials_survive_the_request() {
        let host = Host::parse("reg.example").unwrap();
        for kept in [
            Credentials::Password { username: "me".into(), password: Secret::new("p:w") },
            Credentials::IdentityToken(Secret::new("t")),
            Credentials::RegistryToken(Secret::new("t")),
        ] {
            let sent = message(&host, &kept);
            assert_eq!(sent.registry, "reg.example");
            assert_eq!(credentials(sent), Some(kept));
        }
        assert_eq!(credentials(pb::RegistryCredentials::default()), None);
    }
}
