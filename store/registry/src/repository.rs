//! The door: a client for all registries, and one repository of one of them, with its mirrors in order.

use std::sync::{Arc, Mutex, PoisonError};

use strata_types::{Digest, Reference};

use crate::{
    Host, Registries,
    connections::Connections,
    credentials::CredentialSource,
    endpoint::Endpoint,
    error::{Cause, Error, Item, Result, Subject},
    session::Session,
};

/// A client for registries. Cheap to clone; clones share connections and tokens.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) session: Arc<Session>,
}

/// A repository. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(crate) session: Arc<Session>,
    pub(crate) reference: Reference,
    /// Where to fetch from, in order.
    pub(crate) sources: Arc<Vec<Endpoint>>,
    /// Where to push to: the registry itself, never a mirror.
    pub(crate) own: Arc<Endpoint>,
    /// What sources gave wrong bytes for.
    lied: Arc<Mutex<Vec<(usize, Digest)>>>,
}

/// How many wrong answers are remembered.
const MOST_LIES: usize = 256;

impl Client {
    /// A client with these settings for whoever has these credentials.
    ///
    /// # Errors
    /// A proxy of the settings or of the environment is no URL.
    pub fn new(registries: Registries, credentials: Arc<dyn CredentialSource>) -> Result<Self, Cause> {
        let connections = Arc::new(Connections::new(Arc::new(registries))?);
        Ok(Self { session: Arc::new(Session::new(connections, credentials)) })
    }

    /// The same for somebody else: connections and their limits are shared, tokens are not.
    pub fn with_credentials(&self, credentials: Arc<dyn CredentialSource>) -> Self {
        Self { session: Arc::new(Session::new(self.session.connections.clone(), credentials)) }
    }

    /// The settings.
    pub fn registries(&self) -> &Registries {
        &self.session.connections.registries
    }

    /// The repository of a reference; its tag and digest do not matter.
    ///
    /// # Errors
    /// The host of the registry, or of one of its mirrors, has a port that is none.
    pub fn repository(&self, reference: &Reference) -> Result<Repository> {
        let registries = self.registries();
        let failed = |cause| Error::request("reach", Subject::new(reference, Item::Registry), cause);
        Ok(Repository {
            session: self.session.clone(),
            reference: reference.clone(),
            sources: Arc::new(Endpoint::sources(registries, reference).map_err(failed)?),
            own: Arc::new(Endpoint::own(registries, reference).map_err(failed)?),
            lied: Arc::default(),
        })
    }
}

/// What the sources said that were asked, in order, for one thing.
pub(crate) struct Tries<'a> {
    repository: &'a Repository,
    attempt: &'static str,
    item: Item,
    failures: Vec<(Host, Cause)>,
}

impl Tries<'_> {
    /// Notes a failure; an error where asking the next source makes no sense.
    pub(crate) fn failed(&mut self, endpoint: &Endpoint, cause: Cause) -> Result<()> {
        if matches!(cause, Cause::Credentials { .. }) {
            return Err(Error::request(self.attempt, self.repository.subject(self.item.clone()), cause));
        }
        self.failures.push((endpoint.host.clone(), cause));
        Ok(())
    }

    /// All were asked in vain.
    pub(crate) fn end(self) -> Error {
        Error::sources(self.attempt, self.repository.subject(self.item), self.failures)
    }
}

impl Repository {
    /// Nothing tried yet.
    pub(crate) fn tries(&self, attempt: &'static str, item: Item) -> Tries<'_> {
        Tries { repository: self, attempt, item, failures: Vec::new() }
    }

    /// The registry, as users name it.
    pub fn registry(&self) -> Host {
        Host::of(&self.reference)
    }

    /// The repository's name in its registry.
    pub fn name(&self) -> &str {
        self.reference.path()
    }

    pub(crate) fn subject(&self, item: Item) -> Subject {
        Subject::new(&self.reference, item)
    }

    /// Remembers that a source gave wrong bytes: it is not asked for them again.
    pub(crate) fn distrust(&self, source: usize, digest: Digest) {
        let mut lied = self.lied.lock().unwrap_or_else(PoisonError::into_inner);
        if lied.len() < MOST_LIES && !lied.contains(&(source, digest)) {
            lied.push((source, digest));
        }
    }

    /// May the source be asked for these bytes? Where all lied, all may be asked again.
    pub(crate) fn trusts(&self, source: usize, digest: Digest) -> bool {
        let lied = self.lied.lock().unwrap_or_else(PoisonError::into_inner);
        let all = (0..self.sources.len()).all(|other| lied.contains(&(other, digest)));
        all || !lied.contains(&(source, digest))
    }
}
