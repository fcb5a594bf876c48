//! Registries as the store uses them: images that come from there and go there. The protocol is strata-registry's;
//! here is what becomes of it in the store. Credentials come with each request and end with it.

mod again;
pub(crate) mod documents;
mod outgoing;
mod pull;
mod push;
mod resolve;

use std::sync::{Arc, OnceLock};

use strata_registry::{
    Client, CredentialSource, Credentials, Document, Found, Given, Host, Registries, Repository, Target,
};
use strata_types::{Descriptor, Digest, Reference};
use tokio::sync::mpsc;

use crate::{Error, Result, Store};

pub(crate) use again::{Elsewhere, again, elsewhere};
pub use pull::{Pull, Pulled, pull};
pub(crate) use pull::{Source, reporter};
pub(crate) use push::rewritten;
pub use push::{Form, Push, Pushed, push};
pub use resolve::{Resolved, resolve};

/// Events that may wait: half of them are room for what must not be missed, a few for each layer of the largest image.
const EVENTS: usize = 16_384;

/// The way to all registries.
#[derive(Debug)]
pub struct Remotes {
    registries: Registries,
    // Made at the first use: a malformed proxy in the environment must not keep a store from starting.
    client: OnceLock<Client>,
}

/// Who we are at registries, for the time of one request.
#[derive(Clone, Debug, Default)]
pub struct Identity(Vec<Arc<dyn CredentialSource>>);

/// How far a blob is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waits for its turn.
    Waiting,
    /// Is compressed.
    Compressing,
    /// Is on its way.
    Moving,
    /// Is there; what is left of it is unpacked.
    Unpacking,
    /// Was taken from a neighbouring repository of the registry.
    Mounted,
    /// Was there already.
    Exists,
    /// Is there.
    Done,
}

/// What happens during a pull or a push.
#[derive(Clone, Debug)]
pub enum Event {
    /// A reference is resolved.
    Resolved {
        /// What it stands for.
        target: Descriptor,
        /// The layers that are needed, bottom first, each once.
        layers: Vec<Descriptor>,
    },
    /// Containers can start from the image; it is not on disk for sure.
    Usable,
    /// A blob came further.
    Transfer {
        /// The blob.
        digest: Digest,
        /// How far it is.
        stage: Stage,
        /// Bytes that are there.
        offset: u64,
        /// Bytes in all; 0 while that is not known.
        size: u64,
    },
}

/// Where events go. Nobody needs to listen.
#[derive(Clone, Debug)]
pub struct Events(mpsc::Sender<Event>);

impl Events {
    /// Events, and the end where they come out.
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(EVENTS);
        (Self(sender), receiver)
    }

    /// Tells what must not be missed.
    pub async fn tell(&self, event: Event) {
        // Who listens no longer will cancel the work, or does not care.
        let _ = self.0.send(event).await;
    }

    /// Tells without waiting what is told a few times per blob; there is room for that.
    pub fn note(&self, event: Event) {
        let _ = self.0.try_send(event);
    }

    /// Tells what the next such event would tell as well, while there is much room: a slow listener holds nothing up.
    pub fn hint(&self, event: Event) {
        if self.0.capacity() > self.0.max_capacity() / 2 {
            let _ = self.0.try_send(event);
        }
    }
}

impl Identity {
    /// Credentials from these sources, the first that knows a host.
    pub(crate) fn of(sources: Vec<Arc<dyn CredentialSource>>) -> Self {
        Self(sources)
    }

    /// These credentials, each for its host alone.
    pub fn new(given: Vec<(Host, Credentials)>) -> Self {
        let source = |(host, credentials)| Arc::new(Given { host, credentials }) as Arc<dyn CredentialSource>;
        Self(given.into_iter().map(source).collect())
    }
}

impl Remotes {
    /// Registries with these settings.
    pub fn new(registries: Registries) -> Self {
        Self { registries, client: OnceLock::new() }
    }

    /// The settings.
    pub fn settings(&self) -> &Registries {
        &self.registries
    }

    /// A client for whoever has these credentials; all share connections and their limits.
    pub fn client(&self, identity: &Identity) -> Result<Client> {
        let client = match self.client.get() {
            Some(client) => client,
            None => {
                let nobody = Arc::new(Vec::<Arc<dyn CredentialSource>>::new());
                let made = Client::new(self.registries.clone(), nobody);
                let made = made.map_err(|source| Error::RegistrySettings { source: Box::new(source) })?;
                self.client.get_or_init(|| made)
            }
        };
        Ok(client.with_credentials(Arc::new(identity.0.clone())))
    }

    /// A repository for whoever has these credentials.
    pub fn repository(&self, reference: &Reference, identity: &Identity) -> Result<Repository> {
        Ok(self.client(identity)?.repository(reference)?)
    }
}

/// What a reference names in its repository: the digest, where it has one, whatever its tag.
pub(crate) fn target(reference: &Reference) -> Target {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => Target::Digest(*digest),
        (None, Some(tag)) => Target::Tag(tag.to_owned()),
        // A reference without both does not parse.
        (None, None) => Target::Tag("latest".to_owned()),
    }
}

/// Fetches the manifest or index that a reference names.
pub async fn manifest(store: &Store, reference: &Reference, identity: &Identity) -> Result<Document> {
    let repository = store.remotes.repository(reference, identity)?;
    Ok(repository.manifest(&target(reference)).await?)
}

/// Looks for repositories in a registry, at most so many.
pub async fn search(store: &Store, host: &Host, term: &str, most: usize, identity: &Identity) -> Result<Vec<Found>> {
    Ok(store.remotes.client(identity)?.search(host, term, most).await?)
}

/// Tries credentials; answers with what should be kept of them.
pub async fn login(store: &Store, host: &Host, credentials: Credentials) -> Result<Credentials> {
    Ok(store.remotes.client(&Identity::default())?.login(host, credentials).await?)
}

/// Compression as settings name it.
fn compression(setting: strata_registry::Compression) -> strata_archive::Compression {
    match setting {
        strata_registry::Compression::Gzip => strata_archive::Compression::Gzip,
        strata_registry::Compression::Zstd => strata_archive::Compression::Zstd,
        strata_registry::Compression::None => strata_archive::Compression::None,
    }
}
