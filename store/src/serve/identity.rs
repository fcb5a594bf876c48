//! Who asks, and what they may. Deny by default: a client certificate, a secret of the configuration (as password, or
//! for a token of ours), or, without TLS, being a process of our own user on this machine. See the README.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Fault;
use super::config::{Anonymous, Permission, Settings};
use super::listen::Connection;
use super::local;
use super::name::{Repository, path_of};

/// How long a token is good for.
const LIFETIME: Duration = Duration::from_secs(300);
/// Tokens at a time; the oldest goes first.
const TOKENS: usize = 10_000;

/// Something that is permitted somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    permission: Permission,
    /// Paths of repositories; one that ends in "*" is a beginning.
    repositories: Vec<String>,
}

impl Grant {
    fn everywhere(permissions: &[Permission]) -> Vec<Self> {
        Self::list(permissions, &["*".to_owned()])
    }

    fn list(permissions: &[Permission], repositories: &[String]) -> Vec<Self> {
        // Whoever may push may look at what is there: every client does.
        let is_pusher = permissions.contains(&Permission::Push);
        let implied = is_pusher && !permissions.contains(&Permission::Pull);
        let all = permissions.iter().copied().chain(implied.then_some(Permission::Pull));
        all.map(|permission| Self { permission, repositories: repositories.to_vec() }).collect()
    }

    fn covers(&self, permission: Permission, repository: Option<&Repository>) -> bool {
        let is_covered = |pattern: &String| match (pattern.strip_suffix('*'), repository) {
            (Some(""), _) => true,
            (_, None) => false,
            (Some(beginning), Some(repository)) => {
                path_of(repository.store_name()).unwrap_or_default().starts_with(beginning)
            }
            (None, Some(repository)) => {
                Repository::parse(pattern, None).is_ok_and(|named| named.store_name() == repository.store_name())
            }
        };
        self.permission == permission && self.repositories.iter().any(is_covered)
    }
}

/// How somebody showed who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Nothing.
    Nothing,
    /// A token of ours, which may be exchanged for one that permits more.
    Token,
    /// Something that says all there is to say.
    Identity,
}

/// Whoever sent a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// For the log.
    pub name: String,
    shown: Shown,
    grants: Vec<Grant>,
    origin: String,
}

impl Caller {
    /// May they do this there? Without a repository: everywhere?
    pub fn may(&self, permission: Permission, repository: Option<&Repository>) -> bool {
        self.grants.iter().any(|grant| grant.covers(permission, repository))
    }

    /// Refuses what they may not.
    pub fn must(&self, permission: Permission, repository: Option<&Repository>) -> Result<(), Fault> {
        if self.may(permission, repository) {
            return Ok(());
        }
        if self.shown == Shown::Identity {
            return Err(Fault::Denied { problem: "you are known, and may not do this here" });
        }
        let scope = match repository {
            Some(repository) => {
                let actions = if permission == Permission::Push { "pull,push" } else { "pull" };
                format!("repository:{}:{actions}", repository.path())
            }
            None => "registry:catalog:*".to_owned(),
        };
        Err(self.challenge(Some(&scope)))
    }

    /// Refuses those who have shown nothing where nothing is permitted without.
    pub fn must_be_known(&self, settings: &Settings) -> Result<(), Fault> {
        // Docker looks here, and only here, for how to log in: with secrets in use it must be told, even where
        // anonymous callers may pull. They get a token for nothing.
        let is_open = settings.token.is_empty() && !self.grants.is_empty();
        if self.shown != Shown::Nothing || is_open { Ok(()) } else { Err(self.challenge(None)) }
    }

    fn challenge(&self, scope: Option<&str>) -> Fault {
        let mut challenge = format!("Bearer realm=\"{}/v2/token\",service=\"strata\"", self.origin);
        if let Some(scope) = scope {
            challenge.push_str(&format!(",scope=\"{scope}\""));
        }
        if self.shown == Shown::Token {
            challenge.push_str(",error=\"insufficient_scope\"");
        }
        Fault::Unauthorized { challenge }
    }
}

/// Tokens that were given out.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    given: Mutex<HashMap<[u8; 32], Given>>,
}

#[derive(Debug)]
struct Given {
    name: String,
    grants: Vec<Grant>,
    ends: Instant,
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Finds out who sent a request. Credentials that are shown and wrong are refused, whatever would go without.
pub(super) fn caller(
    settings: &Settings,
    tokens: &Tokens,
    connection: &Connection,
    headers: &HeaderMap,
) -> Result<Caller, Fault> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let host = text(header::HOST).filter(|host| is_plain(host)).unwrap_or_default();
    let host = if host.is_empty() { connection.local.to_string() } else { host.to_owned() };
    let origin = format!("{}://{host}", if connection.is_tls { "https" } else { "http" });
    let caller = |name: &str, shown, grants| Caller { name: name.to_owned(), shown, grants, origin: origin.clone() };
    if let Some(authorization) = text(header::AUTHORIZATION) {
        let refused = || caller("", Shown::Nothing, Vec::new()).challenge(None);
        let (scheme, value) = authorization.split_once(' ').ok_or_else(refused)?;
        let (name, shown, grants) = match scheme.to_ascii_lowercase().as_str() {
            "basic" => of_password(settings, value).map(|(name, grants)| (name, Shown::Identity, grants)),
            "bearer" => of_bearer(settings, tokens, value.trim()),
            _ => None,
        }
        .ok_or_else(refused)?;
        return Ok(caller(&name, shown, grants));
    }
    if let Some(name) = &connection.common_name {
        return Ok(caller(name, Shown::Identity, of_certificate(settings, name)));
    }
    if connection.is_ours {
        // A web page can make a browser of this user send requests here, but not by a name of this machine, or not
        // without saying where it comes from.
        if !local::is_name_of_loopback(&host, &settings.hosts) || headers.contains_key(header::ORIGIN) {
            return Err(Fault::Denied { problem: "requests of web pages, or by a name that is not this machine's" });
        }
        let all = Grant::everywhere(&[Permission::Pull, Permission::Push]);
        return Ok(caller("a process of this user", Shown::Identity, all));
    }
    Ok(caller("anonymous", Shown::Nothing, of_anonymous(settings)))
}

/// Nothing that could end a quoted text, or begin another header.
fn is_plain(host: &str) -> bool {
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

fn of_anonymous(settings: &Settings) -> Vec<Grant> {
    match settings.anonymous {
        Anonymous::None => Vec::new(),
        Anonymous::Pull => Grant::everywhere(&[Permission::Pull]),
        Anonymous::Push => Grant::everywhere(&[Permission::Pull, Permission::Push]),
    }
}

fn of_certificate(settings: &Settings, name: &str) -> Vec<Grant> {
    if settings.client.is_empty() {
        return Grant::everywhere(&[Permission::Pull, Permission::Push]);
    }
    let listed = settings.client.iter().filter(|client| client.common_name == name);
    listed.flat_map(|client| Grant::list(&client.permissions, &client.repositories)).collect()
}

fn of_secret(settings: &Settings, name: Option<&str>, secret: &str) -> Option<(String, Vec<Grant>)> {
    // What is compared are hashes: how long it takes says nothing about the secret.
    let shown = hex::encode(hash(secret));
    let fits = |token: &&super::config::Token| {
        name.is_none_or(|name| token.name == name) && token.sha256.eq_ignore_ascii_case(&shown)
    };
    let token = settings.token.iter().find(fits)?;
    Some((token.name.clone(), Grant::list(&token.permissions, &token.repositories)))
}

fn of_password(settings: &Settings, value: &str) -> Option<(String, Vec<Grant>)> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(value.trim()).ok()?).ok()?;
    let (name, secret) = decoded.split_once(':')?;
    of_secret(settings, Some(name), secret)
}

fn of_bearer(settings: &Settings, tokens: &Tokens, value: &str) -> Option<(String, Shown, Vec<Grant>)> {
    if let Some((name, grants)) = of_secret(settings, None, value) {
        return Some((name, Shown::Identity, grants));
    }
    let given = tokens.given.lock().unwrap_or_else(PoisonError::into_inner);
    let found = given.get(&hash(value)).filter(|given| given.ends > Instant::now())?;
    Some((found.name.clone(), Shown::Token, found.grants.clone()))
}

/// Answers `GET /v2/token`: a token for what is asked for and permitted of that, which may be nothing.
pub(super) fn give(tokens: &Tokens, caller: &Caller, scopes: &[&str]) -> Value {
    let mut grants = Vec::new();
    for scope in scopes.iter().flat_map(|scopes| scopes.split(' ')) {
        let mut parts = scope.splitn(2, ':');
        let (kind, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let Some((name, actions)) = rest.rsplit_once(':') else { continue };
        match kind {
            "repository" => {
                let Ok(repository) = Repository::parse(name, None) else { continue };
                for action in actions.split(',') {
                    let permission = match action {
                        "pull" => Permission::Pull,
                        "push" | "delete" | "*" => Permission::Push,
                        _ => continue,
                    };
                    if caller.may(permission, Some(&repository)) {
                        let pattern = path_of(repository.store_name()).unwrap_or_default();
                        grants.extend(Grant::list(&[permission], &[pattern]));
                    }
                }
            }
            "registry" if name == "catalog" && caller.may(Permission::Pull, None) => {
                grants.extend(Grant::everywhere(&[Permission::Pull]));
            }
            _ => {}
        }
    }
    let token = crate::lease::random_text(48);
    let ends = Instant::now() + LIFETIME;
    let mut given = tokens.given.lock().unwrap_or_else(PoisonError::into_inner);
    if given.len() >= TOKENS {
        let now = Instant::now();
        given.retain(|_, token| token.ends > now);
        if let Some(oldest) = given.iter().min_by_key(|(_, token)| token.ends).map(|(key, _)| *key)
            && given.len() >= TOKENS
        {
            given.remove(&oldest);
        }
    }
    given.insert(hash(&token), Given { name: caller.name.clone(), grants, ends });
    json!({"token": token, "access_token": token, "expires_in": LIFETIME.as_secs()})
}
