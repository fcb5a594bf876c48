//! The networks of this runtime, as the engine asks for them: `strata-net` behind a lock, on threads for it.
//! Records of containers say who has which address; what is in memory here is made from them.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
};

use strata_net::{
    Attachment, Carrier, Endpoint, Namespace, Network, Place, Survivor, Wish, network::DEFAULT, watch::Watch,
};
use strata_rpc::events::{Kind, Log};
use strata_types::{ContainerId, NetworkId};

use crate::{
    config::{Config, DefaultNetwork},
    engine::{blocking, happened::of_network},
    error::Error,
    launch::Launcher,
    proxy::Proxy,
    record::{Record, State},
    spec,
};

mod ports;
mod tether;

pub use ports::survivor;

use tether::Tether;

/// All networks.
#[derive(Clone)]
pub struct Networks {
    all: Arc<Mutex<strata_net::Networks>>,
    default: DefaultNetwork,
    events: Log,
    place: Place,
    proxy: Proxy,
    /// The way to the world where the host's own is not theirs.
    tether: Option<Tether>,
}

/// What a container is about to have of a network.
pub type Reserved = (Endpoint, Network);

impl Networks {
    /// Takes up what the records below a root say, with what running containers have.
    pub fn open(config: &Config, launcher: &Launcher, running: &[Survivor], events: Log) -> Result<Self, Error> {
        let carrier = launcher.is_limited().then(|| Carrier::at(config.run.join("netns")));
        let place = carrier.clone().map_or(Place::Host, Place::Carrier);
        let settings = &config.file.networks;
        let tether = carrier.clone().map(|carrier| Tether::new(carrier, settings.helper, launcher.clone()));
        let (mut all, complaints) = strata_net::Networks::open(&config.root, place.clone(), running)?;
        all.set_publish_addresses(settings.publish.addresses().to_vec());
        for error in complaints {
            tracing::error!(error = strata_rpc::fault::chain(&error), "a network is not as its record says");
        }
        let table = all.table().to_owned();
        let (all, default) = (Arc::new(Mutex::new(all)), settings.default);
        let proxy = Proxy::new(config, carrier, all.clone());
        if matches!(place, Place::Host) {
            // In a carrier nobody else makes rules.
            watch(table, Arc::downgrade(&all));
        }
        Ok(Self { all, default, events, place, proxy, tether })
    }

    /// The network of a container, where nothing was said the default.
    pub fn settle(&self, network: spec::Network) -> spec::Network {
        match network {
            spec::Network::Default if self.default_name() == DEFAULT => {
                let bridge = Attachment { network: DEFAULT.to_owned(), ..Attachment::default() };
                spec::Network::Networks(vec![bridge])
            }
            spec::Network::Default => spec::Network::None,
            said => said,
        }
    }

    /// The name of the default network; "none" where there is none, as far as can be known.
    pub fn default_name(&self) -> &'static str {
        let is_possible = || self.tether.as_ref().is_none_or(Tether::is_possible);
        match self.default {
            DefaultNetwork::Bridge if is_possible() => DEFAULT,
            DefaultNetwork::Bridge | DefaultNetwork::None => "none",
        }
    }

    /// Who keeps names and ports of running containers.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Does something where networks are. Blocks.
    pub fn within<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, strata_net::Error> + Send,
    ) -> Result<T, strata_net::Error> {
        self.place.within(work)
    }

    /// Name of the table of nftables.
    pub fn table(&self) -> String {
        self.lock().table().to_owned()
    }

    fn lock(&self) -> MutexGuard<'_, strata_net::Networks> {
        lock(&self.all)
    }

    /// Does something with all networks, on a thread for it.
    async fn with<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut strata_net::Networks) -> Result<T, strata_net::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let all = self.all.clone();
        blocking(what, move || work(&mut lock(&all)).map_err(Error::from)).await
    }

    /// Makes a network.
    pub async fn create(&self, wish: Wish) -> Result<Network, Error> {
        let made = self.with("making the network", |all| all.create(wish)).await?;
        self.events.tell(Kind::Network, "create", made.id.to_string(), of_network(&made));
        Ok(made)
    }

    /// Finds a network by id, name or unique id prefix.
    pub fn find(&self, text: &str) -> Result<Network, Error> {
        Ok(self.lock().find(text)?.clone())
    }

    /// The name of a network that a container can have. The default one need not be there: it is made when it is needed.
    pub fn known(&self, text: &str) -> Result<String, Error> {
        match self.find(text) {
            Ok(network) => Ok(network.name.to_string()),
            Err(_) if text == DEFAULT => Ok(text.to_owned()),
            Err(error) => Err(error),
        }
    }

    /// A page of networks with ids above `after`.
    pub fn page(&self, after: &str, size: usize) -> Vec<Network> {
        self.lock().after(after).take(size).cloned().collect()
    }

    /// Removes a network that no running container uses.
    pub async fn delete(&self, id: NetworkId) -> Result<(), Error> {
        let network = self.find(id.as_str())?;
        self.with("removing the network", move |all| all.delete(&id)).await?;
        self.events.tell(Kind::Network, "destroy", network.id.to_string(), of_network(&network));
        Ok(())
    }

    /// Removes every network, the default one too, which the next container makes anew. Returns how many.
    pub async fn clear(&self) -> Result<usize, Error> {
        self.with("removing the networks", strata_net::Networks::clear).await
    }

    /// Takes addresses for a container that is about to start.
    pub async fn reserve(&self, record: &Record) -> Result<Vec<Reserved>, Error> {
        match record.spec.network.attachments() {
            [] => Ok(Vec::new()),
            attachments => self.reserve_more(record, attachments.to_vec()).await,
        }
    }

    /// Takes addresses for further networks of a container.
    pub async fn reserve_more(&self, record: &Record, attachments: Vec<Attachment>) -> Result<Vec<Reserved>, Error> {
        let id = record.id.clone();
        let interfaces: BTreeSet<String> = record.endpoints.iter().map(|end| end.interface.clone()).collect();
        self.with("taking addresses", move |all| all.reserve(&id, &attachments, &interfaces)).await
    }

    /// Makes the way to the world where it is this service's to make, unless it is there. Returns why there is none.
    pub async fn obstacle(&self) -> Option<String> {
        Some(self.tether.as_ref()?.make().await.err()?.to_string())
    }

    /// The same. Without it containers reach each other; it is in the log.
    pub async fn lead_out(&self) {
        if let Some(obstacle) = self.obstacle().await {
            tracing::warn!(obstacle, "containers have no way to the world");
        }
    }

    /// Makes the interfaces of a container, whose process is held. Nothing is left on failure.
    pub async fn attach(&self, pid: u32, reserved: Vec<Reserved>) -> Result<(), Error> {
        if reserved.is_empty() {
            return Ok(());
        }
        let place = self.place.clone();
        blocking("connecting the container", move || {
            let path = format!("/proc/{pid}/ns/net");
            let namespace = Namespace::of(pid).map_err(|e| Error::io("open", path, e))?;
            for (index, (endpoint, network)) in reserved.iter().enumerate() {
                endpoint.attach(&place, network, &namespace).inspect_err(|_| {
                    let _first_error_is_told =
                        reserved[..index].iter().try_for_each(|(made, _)| made.detach(&place, Some(&namespace)));
                })?;
            }
            Ok(())
        })
        .await
    }

    /// Removes the interfaces of an endpoint and gives its addresses back. What remains may get a new way out.
    pub async fn detach(
        &self,
        record: &Record,
        endpoint: Endpoint,
        way_out: Option<(u32, Endpoint)>,
    ) -> Result<(), Error> {
        let (all, id, place) = (self.all.clone(), record.id.clone(), self.place.clone());
        let pid = match &record.state {
            State::Running(running) => Some(running.init.pid),
            _ => None,
        };
        blocking("disconnecting the container", move || {
            // One that has ended meanwhile has taken its interfaces with it.
            let namespace = pid.and_then(|pid| Namespace::of(pid).ok());
            endpoint.detach(&place, namespace.as_ref())?;
            lock(&all).give_back(&id, [&endpoint].into_iter());
            if let Some((pid, other)) = way_out {
                let path = format!("/proc/{pid}/ns/net");
                let namespace = Namespace::of(pid).map_err(|e| Error::io("open", path, e))?;
                other.lead_out(&namespace)?;
            }
            Ok(())
        })
        .await
    }

    /// Removes interfaces of a container that has ended. The process with this id keeps its network namespace.
    pub async fn remove(&self, endpoints: Vec<Endpoint>, keeper: u32) -> Result<(), Error> {
        let place = self.place.clone();
        let remove = move || {
            // Who has ended meanwhile kept nothing.
            let namespace = Namespace::of(keeper).ok();
            Ok(endpoints.iter().try_for_each(|endpoint| endpoint.detach(&place, namespace.as_ref()))?)
        };
        blocking("removing interfaces", remove).await
    }

    /// Gives back the addresses of one endpoint of a container.
    pub fn give_back(&self, id: &ContainerId, endpoint: &Endpoint) {
        self.lock().give_back(id, [endpoint].into_iter());
    }

    /// Gives back what a container has: ports first, since they lead to its addresses.
    pub async fn release(&self, id: &ContainerId) {
        self.close_ports(id).await;
        self.lock().release(id);
    }

    /// Whether a network is internal.
    pub fn is_internal(&self, id: &NetworkId) -> bool {
        self.lock().find(id.as_str()).is_ok_and(|network| network.is_internal)
    }
}

fn lock(all: &Mutex<strata_net::Networks>) -> MutexGuard<'_, strata_net::Networks> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the firewall's table again whenever somebody removed it. The thread waits in the kernel until the service ends.
fn watch(table: String, all: Weak<Mutex<strata_net::Networks>>) {
    let listen = move || {
        let watch = Watch::open()?;
        loop {
            watch.until_gone(&table)?;
            let Some(all) = all.upgrade() else { return Ok(()) };
            let all = lock(&all);
            if all.is_empty() {
                continue;
            }
            match all.apply_firewall() {
                Ok(()) => tracing::warn!(table, "somebody removed the table of the firewall: it is made again"),
                Err(error) => tracing::error!(error = strata_rpc::fault::chain(&error), "cannot make the table again"),
            }
        }
    };
    let body = move || {
        let ended: std::io::Result<()> = listen();
        if let Err(error) = ended {
            tracing::error!(%error, "cannot watch the firewall");
        }
    };
    if let Err(error) = thread::Builder::new().name("firewall".to_owned()).spawn(body) {
        tracing::error!(%error, "cannot watch the firewall");
    }
}
