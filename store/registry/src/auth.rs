//! Proving to one registry who we are: Basic, or tokens of a token server.
//!
//! Credentials go to the registry itself, and to a token server only if [`may_see`] says so. A token is kept until shortly
//! before it expires, by the scopes that it covers; one request for it is under way at a time.

mod challenge;
mod scope;
mod token;

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderValue},
};
use tokio::sync::Mutex;

pub(crate) use challenge::Challenge;
pub(crate) use scope::{Access, Scopes};
pub(crate) use token::Wish;

use crate::{
    Host,
    config::HostSettings,
    connections::Connections,
    credentials::{CredentialSource, Credentials, Secret},
    error::Cause,
};

/// The most tokens that are kept for one registry.
const MOST_TOKENS: usize = 256;

/// What one registry knows of us.
#[derive(Debug)]
pub(crate) struct Authenticator {
    host: Host,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    scheme: Scheme,
    /// Read once, and again after they were refused.
    credentials: Option<Option<Credentials>>,
    /// There were some, refused or not.
    had_credentials: bool,
    tokens: Vec<(Scopes, Token)>,
    /// What the registry asked for beyond what we knew.
    further: Scopes,
}

/// How the registry wants to be spoken to.
#[derive(Debug, Default)]
enum Scheme {
    /// Nothing asked for yet.
    #[default]
    Open,
    Basic,
    Bearer {
        realm: Url,
        service: Option<String>,
    },
}

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    good_until: Instant,
}

/// What is needed to prove it: where credentials are, and how token servers are reached.
pub(crate) struct Means<'a> {
    pub(crate) credentials: &'a dyn CredentialSource,
    pub(crate) connections: &'a Connections,
    pub(crate) settings: &'a HostSettings,
}

impl Authenticator {
    pub(crate) fn new(host: Host) -> Self {
        Self { host, state: Mutex::new(State::default()) }
    }

    /// The Authorization header for a request that needs `scopes`; none where the registry has not asked for one.
    pub(crate) async fn header(&self, scopes: &Scopes, means: &Means<'_>) -> Result<Option<HeaderValue>, Cause> {
        // Held while a token is fetched: those who wait want the same one.
        let mut state = self.state.lock().await;
        if matches!(state.scheme, Scheme::Open) {
            return Ok(None);
        }
        let credentials = match &state.credentials {
            Some(known) => known.clone(),
            None => {
                let failed = |source| Cause::Credentials { host: self.host.clone(), source };
                let found = means.credentials.credentials(&self.host).await.map_err(failed)?;
                state.credentials = Some(found.clone());
                state.had_credentials = found.is_some();
                found
            }
        };
        let (realm, service) = match &state.scheme {
            Scheme::Bearer { realm, service } => (realm.clone(), service.clone()),
            _ => return Ok(credentials.as_ref().and_then(basic)),
        };
        if let Some(Credentials::RegistryToken(token)) = &credentials {
            return Ok(bearer(token));
        }
        let now = Instant::now();
        state.tokens.retain(|(_, token)| token.good_until > now);
        if let Some((_, token)) = state.tokens.iter().find(|(known, _)| known.covers(scopes)) {
            return Ok(Some(token.header.clone()));
        }
        if credentials.is_some() {
            self.check_realm(&realm, means)?;
        }
        let wanted = state.further.texts().iter().fold(scopes.clone(), |all, text| all.with_challenge(text));
        let request = Wish { host: &self.host, realm, service, scopes: &wanted, credentials: credentials.as_ref() };
        let grant = request.fetch(means.connections).await?;
        let header = bearer(&grant.token).ok_or_else(|| Cause::Protocol {
            host: self.host.clone(),
            problem: "the token server gave a token that fits in no header".into(),
        })?;
        if state.tokens.len() >= MOST_TOKENS {
            state.tokens.remove(0);
        }
        // The scopes as they were asked for: what the server left out of them shows in the registry's answer.
        state.tokens.push((wanted, Token { header: header.clone(), good_until: now + shorten(grant.lifetime) }));
        Ok(Some(header))
    }

    /// Learns from a 401 to a request that was sent with `used`. Answers whether trying once more makes sense.
    pub(crate) async fn challenged(
        &self,
        headers: &HeaderMap,
        used: Option<&HeaderValue>,
        is_http: bool,
    ) -> Result<bool, Cause> {
        let mut state = self.state.lock().await;
        let before = state.tokens.len();
        state.tokens.retain(|(_, token)| Some(&token.header) != used);
        let was_token = state.tokens.len() < before;
        let challenges = Challenge::parse(headers);
        let bearers = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        match bearers.or_else(|| challenges.first()) {
            Some(Challenge::Bearer { realm, service, scope }) => {
                let realm = self.realm(realm, is_http)?;
                if let Some(scope) = scope {
                    state.further = Scopes::default().with_challenge(scope);
                }
                let is_new = !matches!(&state.scheme, Scheme::Bearer { realm: known, service: old } if *known == realm && old == service);
                state.scheme = Scheme::Bearer { realm, service: service.clone() };
                Ok(is_new || was_token || used.is_none())
            }
            Some(Challenge::Basic) => {
                let is_new = !matches!(state.scheme, Scheme::Basic);
                state.scheme = Scheme::Basic;
                if used.is_some() && !is_new {
                    // They were refused: the next request reads them anew.
                    state.credentials = None;
                }
                Ok(is_new)
            }
            None => Ok(was_token),
        }
    }

    /// Were there credentials to send?
    pub(crate) async fn has_credentials(&self) -> bool {
        self.state.lock().await.had_credentials
    }

    /// The token server of the registry, and the service it names, where it has asked for tokens.
    pub(crate) async fn token_server(&self) -> Option<(Url, Option<String>)> {
        match &self.state.lock().await.scheme {
            Scheme::Bearer { realm, service } => Some((realm.clone(), service.clone())),
            _ => None,
        }
    }

    /// The URL of a token server, checked: https, or http where the registry itself is spoken to so, on the same host.
    fn realm(&self, text: &str, is_http: bool) -> Result<Url, Cause> {
        let bad = |problem: &str| Cause::Protocol { host: self.host.clone(), problem: problem.to_owned() };
        let url = Url::parse(text).map_err(|_| bad("the realm of its tokens is no URL"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("the realm of its tokens has a user in it"));
        }
        let realm = Host::of_url(&url).ok_or_else(|| bad("the realm of its tokens names no host"))?;
        match url.scheme() {
            "https" => Ok(url),
            "http" if is_http && (realm.name() == self.host.name() || realm.is_loopback()) => Ok(url),
            _ => Err(bad("its tokens would be fetched in the clear")),
        }
    }

    /// Refuses to show credentials to a token server that has no business with them.
    pub(crate) fn check_realm(&self, realm: &Url, means: &Means<'_>) -> Result<(), Cause> {
        let target = Host::of_url(realm).ok_or_else(|| Cause::Protocol {
            host: self.host.clone(),
            problem: "the realm of its tokens names no host".into(),
        })?;
        if may_see(&self.host, &target, &means.settings.token_realms) {
            return Ok(());
        }
        Err(Cause::Realm { host: self.host.clone(), realm: target })
    }
}

/// May the token server `realm` see the credentials of `host`? The host itself may, a domain that it lies in (who owns
/// gitlab.com owns registry.gitlab.com; the reverse does not follow), Docker Hub's own, and those that are configured.
fn may_see(host: &Host, realm: &Host, configured: &[Host]) -> bool {
    let is_parent = realm.name().contains('.')
        && host.name().strip_suffix(realm.name()).is_some_and(|rest| rest.ends_with('.'))
        && realm.name().parse::<std::net::IpAddr>().is_err();
    realm.name() == host.name()
        || is_parent
        || (host.is_hub() && realm.as_str() == "auth.docker.io")
        || configured.contains(realm)
}

/// A Basic header, where there is a password.
fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials::Password { username, password } = credentials else { return None };
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.reveal()))))
}

fn bearer(token: &Secret) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {}", token.reveal()))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// A token is renewed a little before its end, as clocks and networks are not exact.
fn shorten(lifetime: Duration) -> Duration {
    lifetime.saturating_sub((lifetime / 5).min(Duration::from_secs(15)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    /// CVE-2020-15157, row 120: the rule for token servers at other hosts.
    #[test]
    fn token_servers_that_may_see_credentials_are_few() {
        for (registry, realm, expected) in [
            ("docker.io", "auth.docker.io", true),
            ("quay.io", "quay.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("reg.example:5000", "reg.example:5001", true),
            ("reg.example", "auth.other.example", true),
            ("gitlab.com", "registry.gitlab.com", false),
            ("docker.example.co", "auth.example.co", false),
            ("reg.example", "evil.test", false),
            ("notgitlab.com", "gitlab.com", false),
            ("quay.io", "auth.docker.io", false),
            ("reg.com", "com", false),
        ] {
            let configured = [host("auth.other.example")];
            assert_eq!(may_see(&host(registry), &host(realm), &configured), expected, "{registry} -> {realm}");
        }
    }

    /// CVE-2019-10214, row 121: no token over http.
    #[test]
    fn realms_in_the_clear_or_with_a_user_are_refused() {
        let authenticator = Authenticator::new(host("reg.example"));
        for (realm, is_http, expected) in [
            ("https://auth.example/token", false, true),
            ("http://auth.example/token", false, false),
            ("http://reg.example/token", false, false),
            ("http://reg.example:81/token", true, true),
            ("http://auth.example/token", true, false),
            ("https://user@auth.example/token", false, false),
            ("ftp://reg.example/token", true, false),
            ("/token", true, false),
        ] {
            assert_eq!(authenticator.realm(realm, is_http).is_ok(), expected, "{realm}");
        }
    }

    /// CVE-2019-13509, row 123.
    #[test]
    fn secrets_are_not_shown_in_headers() {
        let header = basic(&Credentials::Password { username: "u".into(), password: Secret::new("canary") }).unwrap();
        assert_eq!(format!("{header:?}"), "Sensitive");
    }
}
