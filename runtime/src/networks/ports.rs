//! Ports of the host for containers: published at their start, or while they run; closed at their end.

use strata_net::{Endpoint, Owner, Published, Survivor};
use strata_types::{ContainerId, PortBinding};

use super::{Networks, lock};
use crate::{engine::blocking, error::Error, record::Record};

/// A container that ran before this service was started.
pub fn survivor(record: &Record) -> Survivor {
    Survivor { owner: owner(record), endpoints: record.endpoints.clone(), published: record.published.clone() }
}

fn owner(record: &Record) -> Owner {
    Owner { id: record.id.clone(), name: record.name.to_string() }
}

impl Networks {
    /// Publishes the ports of a container that is about to run with these endpoints.
    pub async fn publish(&self, record: &Record, endpoints: &[Endpoint]) -> Result<Vec<Published>, Error> {
        self.publish_more(record, record.spec.ports.wanted(), endpoints).await
    }

    /// Publishes some ports of a container, beside those that it has: all of them, or none.
    pub async fn publish_more(
        &self,
        record: &Record,
        bindings: Vec<PortBinding>,
        endpoints: &[Endpoint],
    ) -> Result<Vec<Published>, Error> {
        if bindings.is_empty() || endpoints.is_empty() {
            return Ok(Vec::new());
        }
        let (owner, endpoints) = (owner(record), endpoints.to_vec());
        let opened = self.with("publishing ports", move |all| all.publish(&owner, &bindings, &endpoints)).await?;
        let published = opened.iter().map(|door| door.published).collect();
        self.proxy.open(&record.id, opened).await;
        Ok(published)
    }

    /// Leads the ports of a running container to where it is reached with these endpoints; those that it has none of yet
    /// are published. Returns what is published.
    pub async fn lead_ports(&self, record: &Record, endpoints: &[Endpoint]) -> Result<Vec<Published>, Error> {
        if !endpoints.iter().any(|endpoint| endpoint.is_way_out) {
            self.close_ports(&record.id).await;
            return Ok(Vec::new());
        }
        if record.published.is_empty() {
            return self.publish(record, endpoints).await;
        }
        let (id, endpoints) = (record.id.clone(), endpoints.to_vec());
        self.with("leading ports", move |all| all.retarget(&id, &endpoints)).await?;
        self.proxy.refresh(&record.id).await;
        Ok(record.published.clone())
    }

    /// Ends names and ports of a container that has ended.
    pub async fn withdraw(&self, id: &ContainerId) {
        self.proxy.forget(id).await;
        self.close_ports(id).await;
    }

    /// Closes all ports of a container; without any there is nothing to do.
    pub async fn close_ports(&self, id: &ContainerId) {
        if self.lock().has_ports(id) {
            self.close_those(id, |_| true).await;
        }
    }

    /// Closes some ports of a container.
    pub async fn close_some_ports(&self, id: &ContainerId, which: Vec<Published>) {
        if !which.is_empty() {
            self.close_those(id, move |published| which.contains(published)).await;
        }
    }

    async fn close_those(&self, id: &ContainerId, is_meant: impl Fn(&Published) -> bool + Send + 'static) {
        let (all, owner) = (self.all.clone(), id.clone());
        let closed = blocking("closing ports", move || Ok(lock(&all).unpublish(&owner, is_meant)?)).await;
        if let Err(error) = closed {
            tracing::error!(error = strata_rpc::fault::chain(&error), "cannot take ports out of the firewall's table");
        }
        self.proxy.refresh(id).await;
    }
}
