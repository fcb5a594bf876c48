//! What happened, written down with Docker's names: of containers here, of networks and volumes where they are made.

use std::collections::BTreeMap;

use strata_net::{Endpoint, Network};
use strata_rpc::events::{Kind, Log};

use super::Engine;
use crate::{
    container::Container,
    record::Record,
    spec::{Mount, Propagation, Root, Source},
};

impl Engine {
    /// What has happened and happens.
    pub fn events(&self) -> &Log {
        &self.events
    }

    /// Writes down what happened to a container, by Docker's name for it, and what else is to be known of that. Steps of
    /// builds are nobody's containers.
    pub fn happened<const N: usize>(&self, container: &Container, action: &str, more: [(&str, String); N]) {
        let record = container.record();
        if record.is_run {
            return;
        }
        let mut attributes = record.spec.labels;
        if let Root::Image(image) = record.spec.root {
            attributes.insert("image".to_owned(), image);
        }
        attributes.insert("name".to_owned(), record.name.to_string());
        attributes.extend(more.map(|(key, value)| (key.to_owned(), value)));
        self.events.tell(Kind::Container, action, container.id.to_string(), attributes);
    }

    /// Writes down that a container came to networks, or left them.
    pub(super) fn networked(&self, record: &Record, action: &str, endpoints: &[Endpoint]) {
        for endpoint in endpoints.iter().filter(|_| !record.is_run) {
            // One that is gone cannot be told by its name.
            let Ok(network) = self.networks.find(endpoint.network.as_str()) else { continue };
            let mut attributes = of_network(&network);
            attributes.insert("container".to_owned(), record.id.to_string());
            self.events.tell(Kind::Network, action, network.id.to_string(), attributes);
        }
    }

    /// Writes down that a container has its volumes mounted, or has them no longer.
    pub(super) fn mounted(&self, record: &Record, action: &str, mounts: &[Mount]) {
        for mount in mounts.iter().filter(|_| !record.is_run) {
            let Source::Volume(volume) = &mount.source else { continue };
            let Some(name) = &volume.name else { continue };
            let mut attributes = BTreeMap::from([
                ("container".to_owned(), record.id.to_string()),
                ("driver".to_owned(), "local".to_owned()),
            ]);
            if action == "mount" {
                attributes.insert("destination".to_owned(), mount.target.clone());
                attributes.insert("read/write".to_owned(), (!mount.is_read_only).to_string());
                attributes.insert("propagation".to_owned(), Propagation::default().as_str().to_owned());
            }
            self.events.tell(Kind::Volume, action, name.to_string(), attributes);
        }
    }
}

/// What is to be known of a network.
pub fn of_network(network: &Network) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("name".to_owned(), network.name.to_string()),
        ("type".to_owned(), network.driver.name().to_owned()),
    ])
}
