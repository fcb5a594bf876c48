//! Asking a token server: GET with Basic (the distribution project's token specification), or POST with a refresh token
//! (its OAuth2 specification).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{
    Method, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;

use super::{Scopes, sensitive};
use crate::{
    Host,
    answer::{self, Codes},
    backoff::retry_after,
    connections::Connections,
    credentials::{Credentials, Secret},
    error::Cause,
};

/// Who asks, as token servers see it.
const CLIENT: &str = "strata";
/// The most of an answer that is read, in bytes.
const MOST: usize = 1 << 20;
/// How long a token lives that does not say so (token specification, "expires_in").
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// No token is kept for longer.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A wish for a token.
pub(crate) struct Wish<'a> {
    pub(crate) host: &'a Host,
    pub(crate) realm: Url,
    pub(crate) service: Option<String>,
    pub(crate) scopes: &'a Scopes,
    pub(crate) credentials: Option<&'a Credentials>,
}

/// A token.
pub(crate) struct Grant {
    pub(crate) token: Secret,
    pub(crate) lifetime: Duration,
    /// A refresh token, where one was asked for and given.
    pub(crate) refresh: Option<Secret>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    refresh_token: Option<String>,
}

impl Wish<'_> {
    /// Fetches a token.
    pub(crate) async fn fetch(&self, connections: &Connections) -> Result<Grant, Cause> {
        match self.credentials {
            Some(Credentials::IdentityToken(token)) => self.post(token, connections).await,
            _ => self.get(connections, false).await,
        }
    }

    /// Fetches a token and asks for a refresh token too, as a login does.
    pub(crate) async fn fetch_offline(&self, connections: &Connections) -> Result<Grant, Cause> {
        self.get(connections, true).await
    }

    async fn get(&self, connections: &Connections, offline: bool) -> Result<Grant, Cause> {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &self.service {
                query.append_pair("service", service);
            }
            for scope in self.scopes.texts() {
                query.append_pair("scope", &scope);
            }
            if offline {
                query.append_pair("offline_token", "true").append_pair("client_id", CLIENT);
            }
            if let Some(Credentials::Password { username, .. }) = self.credentials {
                query.append_pair("account", username);
            }
        }
        let mut request = connections.client(&self.realm_host()?, &url)?.request(Method::GET, url);
        if let Some(Credentials::Password { username, password }) = self.credentials {
            let text = format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.reveal())));
            request = request.header(AUTHORIZATION, sensitive(&text).expect("base64 fits in a header"));
        }
        self.read(request, connections).await
    }

    async fn post(&self, refresh: &Secret, connections: &Connections) -> Result<Grant, Cause> {
        // A form has the syntax of a query; the encoder of URLs writes it.
        let mut form = Url::parse("http://form/").expect("this text is a URL");
        {
            let mut pairs = form.query_pairs_mut();
            pairs.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT);
            pairs.append_pair("refresh_token", refresh.reveal());
            if let Some(service) = &self.service {
                pairs.append_pair("service", service);
            }
            // One parameter, unlike in the query of GET.
            pairs.append_pair("scope", &self.scopes.texts().join(" "));
        }
        let body = form.query().unwrap_or_default().to_owned();
        let request = connections
            .client(&self.realm_host()?, &self.realm)?
            .request(Method::POST, self.realm.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
            .body(body);
        self.read(request, connections).await
    }

    fn realm_host(&self) -> Result<Host, Cause> {
        Host::of_url(&self.realm).ok_or_else(|| self.protocol("the realm of its tokens names no host"))
    }

    fn protocol(&self, problem: &str) -> Cause {
        Cause::Protocol { host: self.host.clone(), problem: problem.to_owned() }
    }

    async fn read(&self, request: reqwest::RequestBuilder, connections: &Connections) -> Result<Grant, Cause> {
        let realm = self.realm_host()?;
        let mut response = connections.head(&realm, request).await?;
        let status = response.status();
        let asked = retry_after(response.headers(), std::time::SystemTime::now());
        let most = if status.is_success() { MOST } else { answer::MOST };
        let body = connections.body(&realm, &mut response, most).await;
        if status == StatusCode::OK {
            let document: Document = serde_json::from_slice(&body?)
                .map_err(|_| self.protocol("its token server answers without a token"))?;
            return self.grant(document);
        }
        let codes = Codes::parse(&body.unwrap_or_default());
        Err(match status.as_u16() {
            // A refresh token that has ended is 400 "invalid_grant".
            400 | 401 if self.credentials.is_some() => {
                Cause::Unauthorized { host: self.host.clone(), known: true, codes }
            }
            401 => Cause::Unauthorized { host: self.host.clone(), known: false, codes },
            403 => Cause::Denied { host: self.host.clone(), codes },
            429 => Cause::RateLimited { host: realm, retry_after: asked, codes },
            // Redirects of a token server are not followed: they would carry credentials elsewhere.
            _ => Cause::Status { host: realm, status, codes, retry_after: asked },
        })
    }

    fn grant(&self, document: Document) -> Result<Grant, Cause> {
        let token = document.token.or(document.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| self.protocol("its token server answers without a token"))?;
        let lifetime = document.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs).min(LONGEST_LIFETIME);
        let refresh = document.refresh_token.filter(|token| !token.is_empty()).map(Secret::new);
        Ok(Grant { token: Secret::new(token), lifetime, refresh })
    }
}
