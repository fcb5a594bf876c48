//! Names of containers in their networks: what `strata-dns` is told, and its servers, one for each container that needs one.
//! The records say who has which name; what is in memory here is made from them.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use strata_dns::{Directory, Host, Limits, Member, Server, Sockets, View};
use strata_net::{Endpoint, Namespace};
use strata_types::{ContainerId, NetworkId};

use crate::{engine::blocking, error::Error, record::Record};

/// All names and servers.
#[derive(Debug, Default)]
pub struct Resolver {
    directory: Arc<Directory>,
    host: Arc<Host>,
    limits: Limits,
    containers: Mutex<HashMap<ContainerId, Known>>,
}

/// What is known of a running container.
#[derive(Debug, Default)]
struct Known {
    /// Where its names are.
    networks: Vec<NetworkId>,
    server: Option<Server>,
}

/// Whether names are known in the network of an endpoint. In the default one, as in Docker, nobody has a name: everybody who
/// says nothing of networks is in it.
pub fn has_names(endpoint: &Endpoint) -> bool {
    endpoint.network_name.as_str() != strata_net::network::DEFAULT
}

impl Resolver {
    /// Makes the names of a running container known as its record has them, and what it sees of others.
    pub fn tell(&self, record: &Record) {
        let view = view(record);
        let mut containers = self.lock();
        if view.networks.is_empty() && !containers.contains_key(&record.id) {
            return;
        }
        let known = containers.entry(record.id.clone()).or_default();
        for network in known.networks.iter().filter(|network| !view.networks.contains(network)) {
            self.directory.remove(network, &record.id);
        }
        for endpoint in record.endpoints.iter().filter(|endpoint| has_names(endpoint)) {
            let member = member(record, endpoint);
            self.directory.insert(&endpoint.network, endpoint.network_name.as_str(), &record.id, member);
        }
        known.networks = view.networks.clone();
        if let Some(server) = &known.server {
            server.change(view);
        }
    }

    /// Serves a container whose process is held, unless it is served already.
    pub async fn serve(&self, record: &Record, pid: u32) -> Result<(), Error> {
        self.tell(record);
        if self.lock().get(&record.id).is_some_and(|known| known.server.is_some()) {
            return Ok(());
        }
        let failed = |source: io::Error| Error::Resolver { container: record.name.to_string(), source };
        let open = move || Namespace::of(pid).and_then(Sockets::open);
        let sockets = blocking("opening the resolver", move || Ok(open())).await?.map_err(failed)?;
        let (directory, host) = (self.directory.clone(), self.host.clone());
        let server = Server::start(sockets, view(record), directory, host, &self.limits).map_err(failed)?;
        self.lock().entry(record.id.clone()).or_default().server = Some(server);
        Ok(())
    }

    /// Forgets the names of a container.
    pub fn forget(&self, id: &ContainerId) {
        if let Some(known) = self.lock().get_mut(id) {
            known.networks.drain(..).for_each(|network| self.directory.remove(&network, id));
        }
    }

    /// Forgets a container, and closes what is in its network namespace.
    pub async fn close(&self, id: &ContainerId) {
        self.forget(id);
        let known = self.lock().remove(id);
        if let Some(server) = known.and_then(|known| known.server) {
            server.stop().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, Known>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a container sees.
fn view(record: &Record) -> View {
    let named = record.endpoints.iter().filter(|endpoint| has_names(endpoint));
    View {
        networks: named.map(|endpoint| endpoint.network.clone()).collect(),
        servers: record.spec.resolution.servers.clone(),
        has_way_out: record.endpoints.iter().any(|endpoint| endpoint.is_way_out),
    }
}

/// The names that Docker gives a container: its own, the start of its id, its host name if it was given one, its aliases.
fn member(record: &Record, endpoint: &Endpoint) -> Member {
    let hostname = Some(&record.spec.hostname).filter(|name| !name.is_empty());
    let aliases = endpoint.aliases.iter().chain(hostname).cloned();
    Member {
        name: record.name.to_string(),
        aliases: aliases.chain([record.id.short().to_owned()]).collect(),
        addresses: endpoint.addresses.iter().map(|held| held.address).collect(),
    }
}

#[cfg(test)]
mod tests {
    use strata_net::Held;
    use strata_types::NetworkName;

    use super::*;
    use crate::record::tests::record;

    fn endpoint(number: u8, name: &str, is_way_out: bool) -> Endpoint {
        let address = |text: &str| text.parse().unwrap();
        Endpoint {
            id: String::new(),
            network: NetworkId::from_bytes([number; 32]),
            network_name: NetworkName::parse(name).unwrap(),
            driver: strata_net::Driver::Bridge,
            interface: "eth0".into(),
            host_interface: "v0".into(),
            mac: strata_net::Mac::of(address("10.0.0.2")),
            addresses: vec![Held { address: address("10.0.0.2"), length: 24, gateway: address("10.0.0.1") }],
            link_local: vec![],
            aliases: vec!["www".into()],
            is_way_out,
        }
    }

    #[test]
    fn a_container_has_names_in_its_own_networks_and_none_in_the_default_one() {
        let resolver = Resolver::default();
        let mut web = record(1, "web");
        web.spec.hostname = "box".into();
        web.endpoints = vec![endpoint(1, "bridge", true), endpoint(2, "net", false)];
        resolver.tell(&web);
        let networks = [1, 2].map(|number| NetworkId::from_bytes([number; 32]));
        let is_known = |name: &str, networks: &[NetworkId]| resolver.directory.find(networks, name, |_| true).is_some();

        let short = web.id.short().to_owned();
        for name in ["web", "www", "box", &short] {
            assert!(!is_known(name, &networks[..1]) && is_known(name, &networks[1..]), "{name}");
        }
        assert_eq!(view(&web).networks, networks[1..]);
        web.endpoints.pop();
        resolver.tell(&web);
        assert!(!is_known("web", &networks), "it was disconnected");
    }

    #[test]
    fn only_who_has_a_way_out_has_others_asked() {
        let mut web = record(1, "web");
        web.endpoints = vec![endpoint(2, "vault", false)];
        assert!(!view(&web).has_way_out);
        web.endpoints.push(endpoint(3, "net", true));
        assert!(view(&web).has_way_out);
    }
}
