//! One request to an endpoint: authorization, redirects, and what its status means; and the same again while that may
//! help.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::SystemTime,
};

use bytes::Bytes;
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, LOCATION},
};

use crate::{
    Host,
    answer::{self, Codes},
    auth::{Authenticator, Means, Scopes, Wish},
    backoff::{Backoff, retry_after},
    connections::Connections,
    credentials::{CredentialSource, Credentials, Secret},
    endpoint::Endpoint,
    error::Cause,
};

/// How many redirects of one request are followed.
const MOST_REDIRECTS: usize = 8;
/// How often a request is repeated because of a challenge: to learn it, and to replace a token that expired.
const MOST_CHALLENGES: usize = 2;

/// What one user has to do with registries: connections, credentials, tokens.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connections: Arc<Connections>,
    pub(crate) credentials: Arc<dyn CredentialSource>,
    authenticators: Mutex<HashMap<Host, Arc<Authenticator>>>,
}

/// A request that can be repeated.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) scopes: Scopes,
}

/// A body that can be sent once, and how much of it was.
pub(crate) struct Outgoing {
    pub(crate) body: reqwest::Body,
    pub(crate) sent: Arc<AtomicU64>,
}

/// An answer whose body was read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(endpoint: &'a Endpoint, method: Method, url: Url, scopes: Scopes) -> Self {
        Self { endpoint, method, url, headers: HeaderMap::new(), body: Bytes::new(), scopes }
    }
}

impl Session {
    pub(crate) fn new(connections: Arc<Connections>, credentials: Arc<dyn CredentialSource>) -> Self {
        Self { connections, credentials, authenticators: Mutex::default() }
    }

    /// Who we are at a host.
    pub(crate) fn authenticator(&self, host: &Host) -> Arc<Authenticator> {
        let mut known = self.authenticators.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(host.clone()).or_insert_with(|| Arc::new(Authenticator::new(host.clone()))).clone()
    }

    /// What proving it needs.
    pub(crate) fn means<'a>(&'a self, host: &Host) -> Means<'a> {
        Means {
            credentials: &*self.credentials,
            connections: &self.connections,
            settings: self.connections.registries.settings(host),
        }
    }

    /// Asks a token server for a refresh token; none where it gives none.
    pub(crate) async fn refresh_token(
        &self,
        host: &Host,
        realm: Url,
        service: Option<String>,
        credentials: &Credentials,
    ) -> Result<Option<Secret>, Cause> {
        let scopes = Scopes::default();
        let wish = Wish { host, realm, service, scopes: &scopes, credentials: Some(credentials) };
        match credentials {
            Credentials::Password { .. } => Ok(wish.fetch_offline(&self.connections).await?.refresh),
            Credentials::IdentityToken(_) => Ok(wish.fetch(&self.connections).await?.refresh),
            Credentials::RegistryToken(_) => Ok(None),
        }
    }

    /// Sends a request once, following challenges and redirects; answers with whatever status comes.
    pub(crate) async fn once(&self, call: &Call<'_>, mut outgoing: Option<Outgoing>) -> Result<Response, Cause> {
        let endpoint = call.endpoint;
        let authenticator = self.authenticator(&endpoint.host);
        let means = self.means(&endpoint.host);
        let mut url = call.url.clone();
        let (mut redirects, mut challenges) = (0, 0);
        loop {
            let is_own = endpoint.owns(&url);
            let host = if is_own { Some(endpoint.host.clone()) } else { Host::of_url(&url) };
            let host = host.ok_or_else(|| protocol(endpoint, "an address without a host"))?;
            let authorization = if is_own { authenticator.header(&call.scopes, &means).await? } else { None };
            let client = self.connections.client(&host, &url)?;
            let mut request = client.request(call.method.clone(), url.clone()).headers(call.headers.clone());
            if let Some(header) = &authorization {
                request = request.header(AUTHORIZATION, header.clone());
            }
            let is_stream = outgoing.is_some();
            let response = match outgoing.take() {
                Some(Outgoing { body, sent }) => {
                    self.connections.head_of_stream(&host, request.body(body), &sent).await?
                }
                None if call.body.is_empty() => self.connections.head(&host, request).await?,
                None => self.connections.head(&host, request.body(call.body.clone())).await?,
            };
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && is_own && challenges < MOST_CHALLENGES {
                challenges += 1;
                if authenticator.challenged(response.headers(), authorization.as_ref(), endpoint.is_http()).await? {
                    if is_stream {
                        return Err(Cause::Renewed { host });
                    }
                    continue;
                }
            }
            let follows = call.method == Method::GET || call.method == Method::HEAD;
            if !(follows && matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)) {
                return Ok(response);
            }
            redirects += 1;
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let location = location.ok_or_else(|| protocol(endpoint, "a redirect to nowhere"))?;
            let next = endpoint.locate(&self.connections.registries, &url, location)?;
            if redirects > MOST_REDIRECTS {
                let target = Host::of_url(&next).map(String::from).unwrap_or_default();
                return Err(Cause::Redirect {
                    host: endpoint.host.clone(),
                    target,
                    problem: "there is no end of redirects",
                });
            }
            url = next;
        }
    }

    /// Sends a request until it is answered with a status that is wanted, and reads the body, at most `most` bytes.
    pub(crate) async fn fetch(&self, call: &Call<'_>, wanted: &[u16], most: usize) -> Result<Answer, Cause> {
        let mut backoff = self.connections.registries.backoff();
        loop {
            match self.fetch_once(call, wanted, most).await {
                Ok(answer) => return Ok(answer),
                Err(cause) => pause(&mut backoff, cause).await?,
            }
        }
    }

    async fn fetch_once(&self, call: &Call<'_>, wanted: &[u16], most: usize) -> Result<Answer, Cause> {
        let mut response = self.once(call, None).await?;
        if !wanted.contains(&response.status().as_u16()) {
            return Err(self.refusal(call.endpoint, response).await);
        }
        let body = if call.method == Method::HEAD {
            Vec::new()
        } else {
            self.connections.body(&call.endpoint.host, &mut response, most).await?
        };
        Ok(Answer { status: response.status(), headers: std::mem::take(response.headers_mut()), body })
    }

    /// What an answer means that is not what was hoped for.
    pub(crate) async fn refusal(&self, endpoint: &Endpoint, mut response: Response) -> Cause {
        let status = response.status();
        let retry_after = retry_after(response.headers(), SystemTime::now());
        // Who says it: after a redirect that is another host than the registry.
        let host = match endpoint.owns(response.url()) {
            true => endpoint.host.clone(),
            false => Host::of_url(response.url()).unwrap_or_else(|| endpoint.host.clone()),
        };
        // An error document that does not come whole is none.
        let body = self.connections.body(&host, &mut response, answer::MOST).await.unwrap_or_default();
        let codes = Codes::parse(&body);
        match status.as_u16() {
            401 => {
                let known = self.authenticator(&endpoint.host).has_credentials().await;
                Cause::Unauthorized { host, known, codes }
            }
            403 => Cause::Denied { host, codes },
            404 => Cause::NotFound { host, codes },
            429 => Cause::RateLimited { host, retry_after, codes },
            _ => Cause::Status { host, status, codes, retry_after },
        }
    }
}

/// Waits before the next try, or gives the cause back where there is none.
pub(crate) async fn pause(backoff: &mut Backoff, cause: Cause) -> Result<(), Cause> {
    if !cause.is_passing() {
        return Err(cause);
    }
    match backoff.next(cause.retry_after()) {
        Some(wait) => {
            tokio::time::sleep(wait).await;
            Ok(())
        }
        None => Err(cause),
    }
}

pub(crate) fn protocol(endpoint: &Endpoint, problem: impl Into<String>) -> Cause {
    Cause::Protocol { host: endpoint.host.clone(), problem: problem.into() }
}
