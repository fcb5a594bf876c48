//! Docker's config.json: credentials by server, and the programs that keep them instead.
//!
//! What this file does not understand in it is kept as it is. It is written beside itself and renamed, mode 0600.

use std::{
    env, fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::{CredentialSource, Credentials, Error, Secret, program::Helper};
use crate::Host;

/// Under which Docker keeps the credentials of Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The most of the file that is read, in bytes.
const MOST: u64 = 4 << 20;

/// The credentials of a user, as Docker keeps them.
#[derive(Clone, Debug)]
pub struct Keychain {
    path: PathBuf,
}

impl Keychain {
    /// Reads and writes the file at `path`; it need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The user's own: config.json in $DOCKER_CONFIG, else in ~/.docker. None where there is no home directory.
    pub fn of_user() -> Option<Self> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let dir = set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")))?;
        Some(Self::new(dir.join("config.json")))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The credentials for a host.
    pub async fn get(&self, host: &Host) -> Result<Option<Credentials>, Error> {
        let document = self.load()?;
        if let Some(helper) = helper_for(&document, host)? {
            return helper.get(server_key(host)).await;
        }
        let Some(auths) = document.get("auths").and_then(Value::as_object) else { return Ok(None) };
        // The exact key first: other spellings of the same host are read as Docker reads them.
        let exact = auths.get(server_key(host));
        let found = exact.or_else(|| auths.iter().find(|(key, _)| key_names(key, host)).map(|(_, value)| value));
        found.map_or(Ok(None), |entry| self.read(host, entry))
    }

    /// Keeps credentials for a host, with the helper that is configured for it, else in the file, in the clear. Answers
    /// whether it was the file.
    pub async fn put(&self, host: &Host, credentials: &Credentials) -> Result<bool, Error> {
        let mut document = self.load()?;
        let helper = helper_for(&document, host)?;
        if let Some(helper) = &helper {
            helper.store(server_key(host), credentials).await?;
            // Docker's own mark that there is something to ask the helper for.
            self.change(&mut document, host, Some(json!({})));
        } else {
            self.change(&mut document, host, Some(entry(credentials)));
        }
        self.save(&document)?;
        Ok(helper.is_none())
    }

    /// Forgets the credentials for a host. Answers whether the file or a helper may have had some.
    pub async fn remove(&self, host: &Host) -> Result<bool, Error> {
        let mut document = self.load()?;
        let helper = helper_for(&document, host)?;
        if let Some(helper) = &helper {
            helper.erase(server_key(host)).await?;
        }
        let was_there = self.change(&mut document, host, None);
        if was_there {
            self.save(&document)?;
        }
        Ok(was_there || helper.is_some())
    }

    /// Replaces all entries of a host by one or none. Answers whether there was one.
    fn change(&self, document: &mut Map<String, Value>, host: &Host, new: Option<Value>) -> bool {
        let auths = document.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        let auths = auths.as_object_mut().expect("the line above made it one");
        let before = auths.len();
        auths.retain(|key, _| !key_names(key, host));
        let was_there = auths.len() < before;
        if let Some(new) = new {
            auths.insert(server_key(host).to_owned(), new);
        }
        was_there
    }

    fn read(&self, host: &Host, entry: &Value) -> Result<Option<Credentials>, Error> {
        let bad = |problem| Error::Entry { path: self.path.clone(), host: host.clone(), problem };
        let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credentials::IdentityToken(Secret::new(token))));
        }
        if let Some(token) = text("registrytoken") {
            return Ok(Some(Credentials::RegistryToken(Secret::new(token))));
        }
        if let Some(auth) = text("auth") {
            let bytes = STANDARD.decode(auth.trim()).map_err(|_| bad("an \"auth\" is not base64"))?;
            let plain = String::from_utf8(bytes).map_err(|_| bad("an \"auth\" is not UTF-8"))?;
            let (username, password) = plain.split_once(':').ok_or_else(|| bad("an \"auth\" is not user:password"))?;
            // Docker pads some passwords with NUL.
            let password = Secret::new(password.trim_end_matches('\0'));
            return Ok(Some(Credentials::Password { username: username.to_owned(), password }));
        }
        let pair = text("username").zip(text("password"));
        Ok(pair.map(|(username, password)| Credentials::Password {
            username: username.to_owned(),
            password: Secret::new(password),
        }))
    }

    fn load(&self) -> Result<Map<String, Value>, Error> {
        let failed = |source| Error::File { attempt: "read", path: self.path.clone(), source };
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() > MOST => return Err(failed(io::ErrorKind::FileTooLarge.into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
            Err(error) => return Err(failed(error)),
        }
        let bytes = fs::read(&self.path).map_err(failed)?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Map::new());
        }
        serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: self.path.clone(), source })
    }

    fn save(&self, document: &Map<String, Value>) -> Result<(), Error> {
        let failed = |source| Error::File { attempt: "write", path: self.path.clone(), source };
        // A link to the file stays one: many keep it among their dotfiles.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let dir = path.parent().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        fs::create_dir_all(dir).map_err(failed)?;
        let temporary = dir.join(format!(".config.json.{}", std::process::id()));
        let write = || {
            // What a process of the same id left behind is not followed.
            let _ = fs::remove_file(&temporary);
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            let mut text = serde_json::to_vec_pretty(document)?;
            text.push(b'\n');
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|source| {
            let _ = fs::remove_file(&temporary);
            failed(source)
        })
    }
}

impl CredentialSource for Keychain {
    fn credentials<'a>(&'a self, host: &'a Host) -> BoxFuture<'a, Result<Option<Credentials>, Error>> {
        Box::pin(self.get(host))
    }
}

/// The key of a host in the file, and its name for helpers.
fn server_key(host: &Host) -> &str {
    if host.is_hub() { HUB_KEY } else { host.as_str() }
}

/// Does a key of the file name exactly this host? Docker writes hosts, but reads URLs too.
fn key_names(key: &str, host: &Host) -> bool {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    // "quay.io/me" is podman's key for one repository, not for the host.
    let is_whole = matches!(path.trim_end_matches('/'), "" | "v1" | "v2");
    is_whole && Host::parse(name).is_ok_and(|named| named == *host)
}

/// The program that keeps the credentials of a host, where one is configured.
fn helper_for(document: &Map<String, Value>, host: &Host) -> Result<Option<Helper>, Error> {
    let helpers = document.get("credHelpers").and_then(Value::as_object);
    let own = helpers.and_then(|helpers| helpers.iter().find(|(key, _)| key_names(key, host)).map(|(_, name)| name));
    let name = own.or_else(|| document.get("credsStore")).and_then(Value::as_str).filter(|name| !name.is_empty());
    name.map(Helper::new).transpose()
}

/// An entry as Docker writes it.
fn entry(credentials: &Credentials) -> Value {
    match credentials {
        Credentials::Password { username, password } => {
            json!({ "auth": STANDARD.encode(format!("{username}:{}", password.reveal())) })
        }
        Credentials::IdentityToken(token) => json!({ "identitytoken": token.reveal() }),
        Credentials::RegistryToken(token) => json!({ "registrytoken": token.reveal() }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn keychain(text: &str) -> (tempfile::TempDir, Keychain) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/config.json");
        if !text.is_empty() {
            fs::create_dir(dir.path().join("sub")).unwrap();
            fs::write(&path, text).unwrap();
        }
        (dir, Keychain::new(path))
    }

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    fn password(username: &str, password: &str) -> Credentials {
        Credentials::Password { username: username.into(), password: Secret::new(password) }
    }

    #[tokio::test]
    async fn entries_are_read_as_docker_writes_them() {
        // "me:pa:ss"
        let (_dir, keychain) = keychain(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6cGE6c3M="},"https://old.example/v1/":{"auth":"bWU6cGE6c3M="},
            "token.example:5000":{"identitytoken":"refresh"},"plain.example":{"username":"u","password":"p"},
            "empty.example":{},"quay.io/me":{"auth":"bWU6cGE6c3M="}}}"#,
        );
        for (name, expected) in [
            ("docker.io", Some(password("me", "pa:ss"))),
            ("old.example", Some(password("me", "pa:ss"))),
            ("token.example:5000", Some(Credentials::IdentityToken(Secret::new("refresh")))),
            ("token.example", None),
            ("plain.example", Some(password("u", "p"))),
            ("empty.example", None),
            ("quay.io", None),
            ("evil.example", None),
            ("docker.io.evil.example", None),
        ] {
            assert_eq!(keychain.get(&host(name)).await.unwrap(), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_put_is_got_and_removed_and_the_rest_stays() {
        let (_dir, keychain) =
            keychain(r#"{"auths":{"http://a.example":{"auth":"eDp5"},"b.example":{"auth":"eDp5"}},"psFormat":"x"}"#);
        let a = host("a.example");

        keychain.put(&a, &password("me", "secret")).await.unwrap();
        assert_eq!(keychain.get(&a).await.unwrap(), Some(password("me", "secret")));
        assert!(keychain.remove(&a).await.unwrap());

        assert_eq!(keychain.get(&a).await.unwrap(), None);
        assert!(!keychain.remove(&a).await.unwrap());
        let left: Value = serde_json::from_slice(&fs::read(keychain.path()).unwrap()).unwrap();
        assert_eq!(left, json!({ "auths": { "b.example": { "auth": "eDp5" } }, "psFormat": "x" }));
    }

    #[tokio::test]
    async fn a_new_file_is_for_its_owner_alone() {
        let (_dir, keychain) = keychain("");
        assert_eq!(keychain.get(&host("docker.io")).await.unwrap(), None);
        keychain.put(&host("docker.io"), &password("me", "secret")).await.unwrap();
        assert_eq!(fs::metadata(keychain.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(keychain.path()).unwrap();
        assert!(text.contains(HUB_KEY), "{text}");
        assert_eq!(fs::read_dir(keychain.path().parent().unwrap()).unwrap().count(), 1, "a temporary file is left");
    }

    /// CVE-2021-41092, row 121.
    #[tokio::test]
    async fn a_helper_that_is_missing_is_an_error_and_never_anonymous_access() {
        let (_dir, keychain) = keychain(
            r#"{"credsStore":"surely-not-installed","credHelpers":{"own.example":"also-not-installed"},"auths":{"a.example":{"auth":"eDp5"}}}"#,
        );
        for (name, program) in [("a.example", "surely-not-installed"), ("own.example", "also-not-installed")] {
            let error = keychain.get(&host(name)).await.unwrap_err();
            assert!(error.to_string().contains(program), "{error}");
        }
    }

    #[tokio::test]
    async fn malformed_files_are_refused_and_not_overwritten() {
        for text in [
            "{",
            "[]",
            r#"{"auths":{"a.example":{"auth":"%%%"}}}"#,
            r#"{"auths":{"a.example":{"auth":"bm9jb2xvbg=="}}}"#,
        ] {
            let (_dir, keychain) = keychain(text);
            let error = keychain.get(&host("a.example")).await.unwrap_err();
            assert!(error.to_string().contains("config.json"), "{error}");
        }
        let (_dir, keychain) = keychain("{");
        assert!(keychain.put(&host("a.example"), &password("u", "p")).await.is_err());
        assert_eq!(fs::read_to_string(keychain.path()).unwrap(), "{");
    }

    /// CVE-2019-13509, row 123.
    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", password("me", "canary-4711"));
        assert!(shown.contains("me") && !shown.contains("canary-4711"), "{shown}");
    }
}
