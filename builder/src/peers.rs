//! The two services that a build works with: the store keeps what it makes, the runtime runs its steps.
//! Only these files and `grpc` mention generated types.

mod runtime;
mod store;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strata_rpc::Endpoint;
use strata_rpc::identity::ClientTls;
use strata_rpc::spans::{Channel, traced};
use strata_rpc::spawn::OnDemand;

use crate::config::{Config, StepNetwork};
use crate::error::Error;

pub use runtime::{
    Device, Devices, MountPoint, MountSource, Network, Output, RunStep, Runtime, StepLimits, StepMount, Ulimit,
};
pub use store::{
    BaseImage, ByContent, CacheMount, Credentials, Entries, Entry, Feed, HeldMount, Identity, Lease, Listed, Lookup,
    Made, Manifest, Outcome, Placement, Resolved, Sharing, Store, Tree, feed,
};

/// How long a connection to the store is kept for another build.
const KEPT: Duration = Duration::from_secs(10);

/// How to reach the two services; those of this host are started when they do not run.
pub struct Peers {
    store: Option<Endpoint>,
    runtime: Option<Endpoint>,
    tls: Option<ClientTls>,
    step_network: Option<StepNetwork>,
    kept: Mutex<Option<(Store, Instant)>>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("store", &self.store).field("runtime", &self.runtime).finish_non_exhaustive()
    }
}

impl Peers {
    /// Reads the endpoints of a configuration.
    pub fn new(config: Config) -> Result<Self, Error> {
        let endpoint = |peer: &'static str, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => {
                Endpoint::parse(&text).map(Some).map_err(|source| Error::Unreachable { peer, source: Box::new(source) })
            }
        };
        let tls = match config.tls {
            None => None,
            Some(tls) => Some(
                ClientTls::load(&tls.ca, &tls.cert, &tls.key)
                    .map_err(|source| Error::Unreachable { peer: "store", source: Box::new(source) })?,
            ),
        };
        Ok(Self {
            store: endpoint("store", config.store)?,
            runtime: endpoint("runtime", config.runtime)?,
            tls,
            step_network: config.steps.network,
            kept: Mutex::default(),
        })
    }

    /// Whether the runtime is on this host, so that it finds sockets of ours.
    pub fn has_local_runtime(&self) -> bool {
        !matches!(self.runtime, Some(Endpoint::Tcp { .. }))
    }

    /// A connection to the store, and a lease there. The connection of a build before is taken up; where it is broken, since
    /// the store was started again, another is made.
    pub async fn hold(&self, holder: &str) -> Result<(Store, Lease), Error> {
        let kept = self.kept().take();
        if let Some((store, _)) = kept {
            match store.hold(holder).await {
                Err(Error::Unreachable { .. }) => {}
                held => return held.map(|lease| (store, lease)),
            }
        }
        let store = Store::new(self.connect("store", &self.store).await?);
        let lease = store.hold(holder).await?;
        Ok((store, lease))
    }

    /// Keeps a connection for the next build, for a moment: while there is one, the store does not stop by itself.
    pub fn keep(self: &Arc<Self>, store: Store) {
        *self.kept() = Some((store, Instant::now()));
        let peers = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            if let Some(peers) = peers.upgrade() {
                peers.kept().take_if(|(_, since)| since.elapsed() >= KEPT);
            }
        });
    }

    fn kept(&self) -> MutexGuard<'_, Option<(Store, Instant)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runtime, connected to once it is needed.
    pub fn runtime(self: &Arc<Self>) -> Runtime {
        Runtime::new(self.clone(), self.step_network)
    }

    async fn connect(&self, peer: &'static str, endpoint: &Option<Endpoint>) -> Result<Channel, Error> {
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unreachable { peer, source };
        let connected = match endpoint {
            Some(endpoint) => strata_rpc::connect_eager(endpoint, self.tls.as_ref())
                .await
                .map_err(|source| unreachable(Box::new(source))),
            None => {
                let service = OnDemand::service(peer).map_err(|source| unreachable(Box::new(source)))?;
                strata_rpc::spawn::ensure(service).await.map_err(|source| unreachable(Box::new(source)))
            }
        };
        connected.map(traced)
    }
}
