//! The protocol of docker-credential-* programs: a verb as argument, the server or a JSON document on standard input.
//!
//! A helper gets a small environment, a time limit and no terminal. What it prints on failure is shown to the user, cut
//! and cleaned, as it holds no secret; what it prints on success never is.

use std::{process::Stdio, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use super::{Credentials, Error, Secret};
use crate::answer::clean;

/// How long a helper may take: some ask the user to unlock a keyring.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that a helper may print, in bytes.
const MOST: u64 = 256 * 1024;
/// The name that stands for "the secret is a refresh token".
const TOKEN_USER: &str = "<token>";
/// What helpers print when they know nothing of a server.
const UNKNOWN: &str = "credentials not found in native keychain";
/// Variables that a helper gets.
const KEPT: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "DBUS_SESSION_BUS_ADDRESS",
    "XDG_RUNTIME_DIR",
    "GNUPGHOME",
    "GPG_TTY",
    "PASSWORD_STORE_DIR",
    "DOCKER_CONFIG",
];
/// Beginnings of further ones: the helpers of clouds are configured by them.
const KEPT_PREFIXES: [&str; 7] = ["XDG_", "AWS_", "GOOGLE_", "CLOUDSDK_", "AZURE_", "HTTP", "NO_PROXY"];

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

/// A helper program.
#[derive(Clone, Debug)]
pub(super) struct Helper {
    program: String,
    patience: Duration,
}

impl Helper {
    /// The helper that the configuration calls `name`. A name with a slash would run any program.
    pub(super) fn new(name: &str) -> Result<Self, Error> {
        let program = format!("docker-credential-{name}");
        let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !is_plain {
            let problem = "has a name that is not made of letters, digits, \"-\", \"_\" and \".\"".to_owned();
            return Err(Error::Helper { program: clean(&program), problem });
        }
        Ok(Self { program, patience: PATIENCE })
    }

    /// The credentials for a server; none where the helper knows none.
    pub(super) async fn get(&self, server: &str) -> Result<Option<Credentials>, Error> {
        let (succeeded, printed) = self.run("get", server.as_bytes()).await?;
        if !succeeded {
            let text = String::from_utf8_lossy(&printed);
            return if text.trim() == UNKNOWN { Ok(None) } else { Err(self.failed(&text)) };
        }
        let document: Document = serde_json::from_slice(&printed)
            .map_err(|_| self.problem("printed something other than credentials".to_owned()))?;
        Ok(match document.username.as_str() {
            // An entry without a secret is none: anonymous access is not what somebody logged in for.
            _ if document.secret.is_empty() => None,
            TOKEN_USER => Some(Credentials::IdentityToken(Secret::new(document.secret))),
            _ => Some(Credentials::Password { username: document.username, password: Secret::new(document.secret) }),
        })
    }

    /// Keeps credentials.
    pub(super) async fn store(&self, server: &str, credentials: &Credentials) -> Result<(), Error> {
        let (username, secret) = match credentials {
            Credentials::Password { username, password } => (username.as_str(), password),
            Credentials::IdentityToken(token) => (TOKEN_USER, token),
            Credentials::RegistryToken(_) => {
                return Err(self.problem("cannot keep access tokens".to_owned()));
            }
        };
        let document = Document {
            server_url: server.to_owned(),
            username: username.to_owned(),
            secret: secret.reveal().to_owned(),
        };
        let json = serde_json::to_vec(&document).expect("three texts are JSON");
        let (succeeded, printed) = self.run("store", &json).await?;
        if succeeded { Ok(()) } else { Err(self.failed(&String::from_utf8_lossy(&printed))) }
    }

    /// Forgets the credentials for a server; they need not exist.
    pub(super) async fn erase(&self, server: &str) -> Result<(), Error> {
        let (succeeded, printed) = self.run("erase", server.as_bytes()).await?;
        let text = String::from_utf8_lossy(&printed);
        if succeeded || text.trim() == UNKNOWN { Ok(()) } else { Err(self.failed(&text)) }
    }

    /// Runs the program; answers whether it succeeded and what it printed.
    async fn run(&self, verb: &str, input: &[u8]) -> Result<(bool, Vec<u8>), Error> {
        let spawn = |source| Error::Spawn { program: self.program.clone(), source };
        let kept = |name: &str| KEPT.contains(&name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let environment = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(kept));
        let mut child = Command::new(&self.program)
            .arg(verb)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(spawn)?;
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let talk = async {
            // A helper that reads nothing is no failure yet: its status says.
            let _ = stdin.write_all(input).await;
            drop(stdin);
            let mut printed = Vec::new();
            stdout.take(MOST).read_to_end(&mut printed).await?;
            Ok((child.wait().await?.success(), printed))
        };
        match tokio::time::timeout(self.patience, talk).await {
            Ok(done) => done.map_err(spawn),
            Err(_) => Err(self.problem(format!("did not answer within {} s", self.patience.as_secs()))),
        }
    }

    fn failed(&self, text: &str) -> Error {
        self.problem(format!("failed: {}", clean(text)))
    }

    fn problem(&self, problem: String) -> Error {
        Error::Helper { program: self.program.clone(), problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A script of ours; it is never written here, as a file that another thread writes cannot be run.
    fn script() -> Helper {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker-credential-test").to_owned();
        Helper { program, patience: Duration::from_secs(60) }
    }

    #[tokio::test]
    async fn credentials_go_in_and_come_out() {
        let dir = tempfile::tempdir().unwrap();
        let server = dir.path().join("kept").to_str().unwrap().to_owned();
        let password = Credentials::Password { username: "me".into(), password: Secret::new("pa\"ss") };
        let token = Credentials::IdentityToken(Secret::new("refresh"));

        for credentials in [password, token] {
            script().store(&server, &credentials).await.unwrap();
            assert_eq!(script().get(&server).await.unwrap(), Some(credentials));
        }

        script().erase(&server).await.unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn an_unknown_server_is_none_and_any_other_failure_an_error() {
        assert_eq!(script().get("unknown.example").await.unwrap(), None);
        script().erase("unknown.example").await.unwrap();
        for server in ["locked.example", "nonsense.example"] {
            assert!(script().get(server).await.is_err(), "{server}");
        }
        let text = script().get("locked.example").await.unwrap_err().to_string();
        assert!(text.contains("the keyring is locked"), "{text}");
    }

    #[tokio::test]
    async fn a_missing_helper_and_a_slow_one_are_errors() {
        let missing = Helper::new("surely-not-installed-anywhere").unwrap().get("a.example").await;
        assert!(matches!(missing, Err(Error::Spawn { .. })), "{missing:?}");
        let slow = Helper { patience: Duration::from_millis(50), ..script() };
        let text = slow.get("slow.example").await.unwrap_err().to_string();
        assert!(text.contains("did not answer"), "{text}");
    }

    /// CVE-2021-41092, row 121: what a config calls a helper is looked for on PATH alone.
    #[test]
    fn a_name_cannot_be_a_path() {
        for bad in ["", "../x", "/bin/sh", "a b", "a;b"] {
            assert!(Helper::new(bad).is_err(), "{bad:?} was taken");
        }
    }
}
