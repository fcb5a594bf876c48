//! Ports of containers that are there already: published and closed without a new start. What was changed is what the next
//! start has.

use std::sync::Arc;

use strata_net::Published;
use strata_types::PortBinding;

use super::{Engine, network::own_networks, whole};
use crate::{
    container::Container,
    error::Error,
    record::{Record, State},
};

impl Engine {
    /// Publishes ports of a container; returns which ports of the host lead to it, if it runs. All of them, or none.
    pub async fn publish_ports(
        self: &Arc<Self>,
        container: Arc<Container>,
        bindings: Vec<PortBinding>,
    ) -> Result<Vec<Published>, Error> {
        let engine = self.clone();
        whole("publishing ports", async move {
            let _guard = container.lifecycle.lock().await;
            engine.publish_whole(&container, bindings).await
        })
        .await
    }

    async fn publish_whole(&self, container: &Container, bindings: Vec<PortBinding>) -> Result<Vec<Published>, Error> {
        let record = container.record();
        own_networks(&record)?;
        check_state(&record)?;
        let published = match record.state {
            State::Running(_) => {
                let endpoints = record.endpoints.clone();
                self.networks.publish_more(&record, bindings.clone(), &endpoints).await?
            }
            _ => Vec::new(),
        };
        let changed = container.change(|record| {
            record.spec.ports.bindings.extend(bindings);
            record.published.extend(published.iter().copied());
        });
        let written = self.write(changed).await;
        if let Err(error) = written {
            self.networks.close_some_ports(&record.id, published).await;
            container.change(|now| {
                now.spec.ports = record.spec.ports;
                now.published = record.published;
            });
            return Err(error);
        }
        Ok(published)
    }

    /// Closes the ports that some bindings name: a port of the container, and if they say so, the address and the port of
    /// the host. Returns which ports of the host were closed. All of them, or none.
    pub async fn unpublish_ports(
        self: &Arc<Self>,
        container: Arc<Container>,
        bindings: Vec<PortBinding>,
    ) -> Result<Vec<Published>, Error> {
        let engine = self.clone();
        whole("closing ports", async move {
            let _guard = container.lifecycle.lock().await;
            engine.unpublish_whole(&container, &bindings).await
        })
        .await
    }

    async fn unpublish_whole(&self, container: &Container, which: &[PortBinding]) -> Result<Vec<Published>, Error> {
        let record = container.record();
        check_state(&record)?;
        let (mut ports, mut left) = (record.spec.ports, record.published.clone());
        for one in which {
            let found = ports.close(&mut left, one);
            if !found {
                return Err(Error::NotPublished { container: record.name.to_string(), port: one.to_string() });
            }
        }
        let closed: Vec<Published> =
            record.published.iter().filter(|published| !left.contains(published)).copied().collect();
        // The record first: after a crash what is open without being in it is closed.
        let changed = container.change(|record| {
            record.spec.ports = ports;
            record.published = left;
        });
        self.write(changed).await?;
        self.networks.close_some_ports(&record.id, closed.clone()).await;
        Ok(closed)
    }
}

fn check_state(record: &Record) -> Result<(), Error> {
    match record.state {
        State::Creating | State::Removing => Err(Error::Removing { id: record.id.to_string() }),
        State::Created | State::Running(_) | State::Exited | State::Restarting => Ok(()),
    }
}
