//! Containers and their networks while they exist: connect, disconnect, and who is in a network.

use std::sync::Arc;

use strata_net::{Attachment, Endpoint, Network, Published};

use super::{Engine, blocking, whole};
use crate::{
    container::Container,
    error::Error,
    record::{Identity, Record, State},
    spec,
};

impl Engine {
    /// The networks.
    pub fn networks(&self) -> &crate::networks::Networks {
        &self.networks
    }

    /// What is not with a new container as it was asked for.
    pub async fn warnings(&self, container: &Container) -> Vec<String> {
        let spec = container.record().spec;
        let network_of = |attachment: &Attachment| self.networks.find(&attachment.network).ok();
        let is_internal = |attachment: &Attachment| network_of(attachment).is_some_and(|network| network.is_internal);
        let is_apart =
            |attachment: &Attachment| network_of(attachment).is_some_and(|network| !network.driver.is_bridge());
        let attachments = spec.network.attachments();
        let shut = match () {
            () if attachments.is_empty() || spec.ports.wanted().is_empty() => None,
            () if attachments.iter().all(is_internal) => {
                Some("ports are not published: nothing comes into the internal networks of the container")
            }
            () if attachments.iter().all(|attachment| is_internal(attachment) || is_apart(attachment)) => {
                Some("ports are not published: the container has addresses of its own, where all its ports are")
            }
            () => None,
        };
        let shut = spec.ports.warning(&spec.network).or(shut).map(str::to_owned);
        let leads_out = attachments.iter().any(|attachment| !is_internal(attachment));
        let alone = if leads_out { self.networks.obstacle().await } else { None };
        let alone = alone.map(|why| format!("the container reaches other containers only: {why}"));
        shut.into_iter().chain(alone).collect()
    }

    /// Running containers in a network, by name.
    pub fn members(&self, network: &Network) -> Vec<(Arc<Container>, Endpoint)> {
        let mut members = Vec::new();
        for container in self.page("", usize::MAX, false) {
            let endpoints = container.record().endpoints;
            let own = endpoints.into_iter().find(|endpoint| endpoint.network == network.id);
            members.extend(own.map(|endpoint| (container, endpoint)));
        }
        members.sort_by_cached_key(|(one, _)| one.name());
        members
    }

    /// Removes the networks that no container uses or wants, if `is_meant`; returns their names.
    pub async fn prune_networks(&self, is_meant: impl Fn(&Network) -> bool) -> Vec<String> {
        let containers = self.page("", usize::MAX, true);
        let wanted: Vec<String> = containers
            .iter()
            .flat_map(|container| container.record().spec.network.attachments().to_vec())
            .filter_map(|attachment| self.networks.find(&attachment.network).ok())
            .map(|network| network.id.to_string())
            .collect();
        let mut deleted = Vec::new();
        for network in self.networks.page("", usize::MAX) {
            if network.is_default() || wanted.iter().any(|id| id == network.id.as_str()) || !is_meant(&network) {
                continue;
            }
            match self.networks.delete(network.id).await {
                Ok(()) => deleted.push(network.name.to_string()),
                Err(error) => tracing::warn!(network = %network.name, %error, "cannot prune a network"),
            }
        }
        deleted
    }

    /// Connects a container to a network; what it has of it if it runs.
    pub async fn connect(
        self: &Arc<Self>,
        container: Arc<Container>,
        attachment: Attachment,
    ) -> Result<Option<Endpoint>, Error> {
        let engine = self.clone();
        whole("connecting the container", async move { engine.connect_whole(&container, attachment).await }).await
    }

    async fn connect_whole(&self, container: &Container, attachment: Attachment) -> Result<Option<Endpoint>, Error> {
        let _guard = container.lifecycle.lock().await;
        let record = container.record();
        let mut attachments = own_networks(&record)?.to_vec();
        let network = self.networks.known(&attachment.network)?;
        if self.position(&attachments, &network).is_some() {
            return Err(Error::Connected { container: record.name.to_string(), network });
        }
        attachments.push(attachment.clone());
        let (endpoint, published) = match &record.state {
            State::Running(running) => {
                let (endpoint, published) = self.connect_running(&record, running.init.pid, attachment).await?;
                (Some(endpoint), published)
            }
            _ => (None, Vec::new()),
        };
        let changed = container.change(|record| {
            record.spec.network = spec::Network::Networks(attachments);
            record.endpoints.extend(endpoint.clone());
            record.published = published;
        });
        self.refresh_names(&record, &changed).await;
        self.networked(&changed, "connect", endpoint.as_slice());
        self.write(changed).await?;
        Ok(endpoint)
    }

    async fn connect_running(
        &self,
        record: &Record,
        pid: u32,
        attachment: Attachment,
    ) -> Result<(Endpoint, Vec<Published>), Error> {
        let mut reserved = self.networks.reserve_more(record, vec![attachment]).await?;
        // Who has a way out keeps it.
        let has_way_out = record.endpoints.iter().any(|endpoint| endpoint.is_way_out);
        reserved.iter_mut().for_each(|(endpoint, _)| endpoint.is_way_out &= !has_way_out);
        let endpoint = reserved[0].0.clone();
        if let Err(error) = self.networks.attach(pid, reserved).await {
            self.networks.give_back(&record.id, &endpoint);
            return Err(error);
        }
        if !endpoint.is_way_out {
            return Ok((endpoint, record.published.clone()));
        }
        self.networks.lead_out().await;
        // Now there is somewhere that its ports can lead.
        let endpoints = [record.endpoints.as_slice(), std::slice::from_ref(&endpoint)].concat();
        match self.networks.lead_ports(record, &endpoints).await {
            Ok(published) => Ok((endpoint, published)),
            Err(error) => {
                let _first_error_is_told = self.networks.detach(record, endpoint, None).await;
                Err(error)
            }
        }
    }

    /// Disconnects a container from a network; one that is not connected is an error unless `force`.
    pub async fn disconnect(
        self: &Arc<Self>,
        container: Arc<Container>,
        network: String,
        force: bool,
    ) -> Result<(), Error> {
        let engine = self.clone();
        whole("disconnecting the container", async move {
            let _guard = container.lifecycle.lock().await;
            match engine.disconnect_whole(&container, &network).await {
                Err(Error::NotConnected { .. }) if force => Ok(()),
                result => result,
            }
        })
        .await
    }

    async fn disconnect_whole(&self, container: &Container, network: &str) -> Result<(), Error> {
        let network = self.networks.find(network)?;
        let record = container.record();
        let mut attachments = own_networks(&record)?.to_vec();
        let Some(index) = self.position(&attachments, network.name.as_str()) else {
            return Err(Error::NotConnected { container: record.name.to_string(), network: network.name.to_string() });
        };
        attachments.remove(index);
        let (mut endpoints, mut published) = (record.endpoints.clone(), record.published.clone());
        if let (State::Running(running), Some(index)) =
            (&record.state, endpoints.iter().position(|endpoint| endpoint.network == network.id))
        {
            let gone = endpoints.remove(index);
            let next = endpoints.iter_mut().find(|other| gone.is_way_out && !self.networks.is_internal(&other.network));
            let way_out = next.map(|other| {
                other.is_way_out = true;
                (running.init.pid, other.clone())
            });
            // Before somebody else gets the address that they lead to.
            published = self.networks.lead_ports(&record, &endpoints).await?;
            self.networks.detach(&record, gone.clone(), way_out).await?;
            self.networked(&record, "disconnect", &[gone]);
        }
        let changed = container.change(|record| {
            record.spec.network = spec::Network::Networks(attachments);
            record.endpoints = endpoints;
            record.published = published;
        });
        self.refresh_names(&record, &changed).await;
        self.write(changed).await
    }

    /// Which of the attachments is that of a network.
    fn position(&self, attachments: &[Attachment], network: &str) -> Option<usize> {
        let is_it = |attachment: &Attachment| match self.networks.find(&attachment.network) {
            Ok(found) => found.name.as_str() == network,
            Err(_) => attachment.network == network,
        };
        attachments.iter().position(is_it)
    }

    /// Makes known to a running container, and of it, what has changed of its networks.
    async fn refresh_names(&self, before: &Record, record: &Record) {
        let State::Running(running) = &record.state else { return };
        let (dir, hostname) = (self.records.dir(&record.id), super::hostname(record));
        let (old, new) = (before.clone(), record.clone());
        let written = blocking("writing /etc/hosts", move || crate::launch::refresh(&dir, &hostname, &old, &new)).await;
        if let Err(error) = written.and(self.serve_names(record, &running.init).await) {
            tracing::warn!(%error, "cannot write the names of a container that was connected or disconnected");
        }
    }

    /// Makes names and ports of a container known, and serves it the names of others if it was told to ask its own server.
    pub(super) async fn serve_names(&self, record: &Record, process: &Identity) -> Result<(), Error> {
        self.networks.proxy().serve(record, process, self.is_served(record)).await
    }

    /// Whether a container was told to ask a server of its own.
    pub(super) fn is_served(&self, record: &Record) -> bool {
        matches!(record.spec.network, spec::Network::Networks(_))
            && crate::launch::has_own_server(&self.records.dir(&record.id))
    }
}

/// The networks of a container; refused where it has none of its own.
pub(super) fn own_networks(record: &Record) -> Result<&[Attachment], Error> {
    let refused = |mode| Err(Error::NetworkMode { container: record.name.to_string(), mode });
    match &record.spec.network {
        spec::Network::Networks(attachments) => Ok(attachments),
        spec::Network::Host => refused("host"),
        spec::Network::None | spec::Network::Default => refused("none"),
        spec::Network::Container(_) => refused("container:…"),
    }
}
