//! Trying credentials before they are kept.

use reqwest::Method;

use crate::{
    Client, Host,
    auth::Scopes,
    credentials::{Credentials, Given},
    endpoint::Endpoint,
    error::{Cause, Error, Item, Result, Subject},
    session::{Call, Session},
};

impl Client {
    /// Tries credentials at a registry. Answers with what should be kept: a refresh token in place of the password where
    /// the registry gives one, else the credentials themselves.
    pub async fn login(&self, host: &Host, credentials: Credentials) -> Result<Credentials> {
        let subject = Subject { registry: host.clone(), repository: String::new(), item: Item::Registry };
        self.try_login(host, credentials).await.map_err(|cause| Error::request("log in to", subject, cause))
    }

    async fn try_login(&self, host: &Host, credentials: Credentials) -> Result<Credentials, Cause> {
        let given = Given { host: host.clone(), credentials: credentials.clone() };
        let session = Session::new(self.session.connections.clone(), std::sync::Arc::new(given));
        let endpoint = Endpoint::of_host(&session.connections.registries, host)?;
        let call = Call::new(&endpoint, Method::GET, endpoint.root(), Scopes::default());
        let authenticator = session.authenticator(host);
        let answer = session.fetch(&call, &[200], crate::answer::MOST).await;
        // A registry may refuse its root to a token without scopes, though the token server took the password.
        let token_server = authenticator.token_server().await;
        match answer {
            Ok(_) => {}
            Err(Cause::Unauthorized { .. } | Cause::NotFound { .. }) if token_server.is_some() => {}
            Err(cause) => return Err(cause),
        }
        let Some((realm, service)) = token_server else { return Ok(credentials) };
        authenticator.check_realm(&realm, &session.means(host))?;
        let refresh = session.refresh_token(host, realm, service, &credentials).await?;
        Ok(match (&credentials, refresh) {
            (Credentials::Password { .. }, Some(token)) => Credentials::IdentityToken(token),
            _ => credentials,
        })
    }
}
