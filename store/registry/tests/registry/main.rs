//! The client against registries that misbehave: every test runs its own small server on this machine.

mod auth;
mod lists;
mod mirrors;
mod model;
mod pull;
mod push;
mod search;
mod server;
mod tls;

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use strata_registry::{
    Client, CredentialSource, Credentials, Given, Host, Progress, Registries, Repository, Result, Secret,
};
use strata_types::{Descriptor, Digest, Reference, media_type};

/// Settings for tests: short waits, and no certificates of this machine.
pub(crate) fn settings(text: &str) -> Registries {
    let mut registries: Registries = toml::from_str(text).unwrap();
    registries.certificates.clear();
    registries.backoff_milliseconds = 1;
    registries
}

/// Nobody.
pub(crate) fn anonymous() -> Arc<dyn CredentialSource> {
    Arc::new(Vec::<Arc<dyn CredentialSource>>::new())
}

/// "me" with the password "canary-4711" at one host.
pub(crate) fn password_at(host: &str) -> Arc<dyn CredentialSource> {
    let credentials = Credentials::Password { username: "me".into(), password: Secret::new("canary-4711") };
    Arc::new(Given { host: Host::parse(host).unwrap(), credentials })
}

/// The repository "a/b" at a registry.
pub(crate) fn repository(host: &str, text: &str, credentials: Arc<dyn CredentialSource>) -> Repository {
    let client = Client::new(settings(text), credentials).unwrap();
    client.repository(&Reference::parse(&format!("{host}/a/b")).unwrap()).unwrap()
}

/// Bytes without a pattern that a cut could hide in.
pub(crate) fn sample(length: usize) -> Bytes {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256_bytes(Sha256::digest(bytes).into())
}

pub(crate) fn layer(bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER_GZIP, digest_of(bytes), bytes.len() as u64)
}

/// Fetches a blob to its end.
pub(crate) async fn fetch(repository: &Repository, descriptor: &Descriptor, progress: Progress) -> Result<Vec<u8>> {
    let mut reader = repository.blob(descriptor, progress);
    let mut all = Vec::new();
    while let Some(bytes) = reader.next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// An error with its causes, as users see it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
