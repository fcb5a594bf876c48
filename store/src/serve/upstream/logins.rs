//! Who we are at the registries that ours answers for: credentials that the configuration points at and does not hold.
//! They are read when they are needed, belong to one host each, and no log, error or answer shows them.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use strata_registry::{Client, CredentialSource, Credentials, CredentialsError, Host, Keychain, Secret};

use crate::remote::Identity;
use crate::serve::config;
use crate::{Result, Store};

/// Bytes of the longest password.
const LONGEST: u64 = 64 << 10;

/// The client for all registries that ours answers for.
#[derive(Debug)]
pub(in crate::serve) struct Logins {
    identity: Identity,
    // Kept for its tokens.
    client: Mutex<Option<Client>>,
}

impl Logins {
    /// With these entries of the configuration.
    pub fn new(entries: &[config::Upstream]) -> Self {
        let source = |entry: &config::Upstream| {
            let login = Login { host: entry.host.clone(), place: entry.credentials.clone() };
            Arc::new(login) as Arc<dyn CredentialSource>
        };
        Self { identity: Identity::of(entries.iter().map(source).collect()), client: Mutex::default() }
    }

    /// The client.
    pub fn client(&self, store: &Store) -> Result<Client> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made = store.remotes.client(&self.identity)?;
        Ok(client.insert(made).clone())
    }

    /// The credentials were refused: they are read again for the next request.
    pub fn renew(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The credentials of one host.
#[derive(Debug)]
struct Login {
    host: Host,
    place: config::Place,
}

impl CredentialSource for Login {
    fn credentials<'a>(&'a self, host: &'a Host) -> BoxFuture<'a, Result<Option<Credentials>, CredentialsError>> {
        Box::pin(async move {
            if *host != self.host {
                return Ok(None);
            }
            match &self.place {
                config::Place::DockerConfig(path) => Keychain::new(path).get(host).await,
                config::Place::PasswordFile { username, path } => {
                    let username = username.clone();
                    let password = Secret::new(read(path.clone()).await?);
                    Ok(Some(Credentials::Password { username, password }))
                }
            }
        })
    }
}

/// The first line of a file.
async fn read(path: PathBuf) -> Result<String, CredentialsError> {
    crate::catalog::blocking(move || {
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
        match read {
            Ok(_) => Ok(text.lines().next().unwrap_or_default().to_owned()),
            Err(source) => Err(CredentialsError::File { attempt: "read", path, source }),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    async fn found(login: &Login, asked: &str) -> Result<Option<Credentials>, CredentialsError> {
        login.credentials(&host(asked)).await
    }

    #[tokio::test]
    async fn a_password_is_the_first_line_of_its_file_and_of_one_host_alone() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("password");
        std::fs::write(&file, "canary-4711\nnot this\n").unwrap();
        let place = config::Place::PasswordFile { username: "me".to_owned(), path: file.clone() };
        let login = Login { host: host("hub.example"), place };

        let mine = found(&login, "hub.example").await.unwrap();

        let password = Secret::new("canary-4711");
        assert_eq!(mine, Some(Credentials::Password { username: "me".to_owned(), password }));
        assert!(!format!("{mine:?}").contains("canary"));
        assert_eq!(found(&login, "other.example").await.unwrap(), None);
        std::fs::remove_file(&file).unwrap();
        let error = found(&login, "hub.example").await.unwrap_err();
        assert!(matches!(error, CredentialsError::File { path, .. } if path == file), "what is absent is not nobody");
    }

    #[tokio::test]
    async fn dockers_own_file_is_read_with_each_request() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("config.json");
        let login = Login { host: host("docker.io"), place: config::Place::DockerConfig(file.clone()) };
        assert_eq!(found(&login, "docker.io").await.unwrap(), None);
        std::fs::write(&file, r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2VjcmV0"}}}"#).unwrap();

        let mine = found(&login, "docker.io").await.unwrap();

        let password = Secret::new("secret");
        assert_eq!(mine, Some(Credentials::Password { username: "me".to_owned(), password }));
    }
}
