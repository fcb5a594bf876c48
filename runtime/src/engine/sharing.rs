//! Containers that share the network of another one: whose it is, is settled when they are made; they join it when they
//! start, while the other runs. They keep it when the other ends, and then it has a loopback device only.

use std::sync::Arc;

use strata_net::{Endpoint, Namespace};
use tokio::sync::OwnedMutexGuard;

use super::{Engine, hostname};
use crate::{
    container::Container,
    error::Error,
    identity::Process,
    launch::Shared,
    record::{Record, State},
    spec::{Network, Spec},
};

impl Engine {
    /// Settles whose network a container shares, and takes over the names of that one.
    pub(super) fn settle_shared(&self, spec: &mut Spec) -> Result<(), Error> {
        let Network::Container(text) = &spec.network else { return Ok(()) };
        let mut owner = self.find(text)?.record();
        if let Network::Container(id) = &owner.spec.network {
            // That one was settled in the same way: its id is the owner's.
            owner = self.find(id)?.record();
        }
        spec.hostname = hostname(&owner);
        spec.resolution.domainname = owner.spec.resolution.domainname;
        spec.network = Network::Container(owner.id.to_string());
        Ok(())
    }

    /// Opens what a container shares, if it does. The other cannot be cleared up after until the guard is dropped: by then
    /// the record must say that this one runs.
    pub(super) async fn share(&self, record: &Record) -> Result<Option<(Arc<Shared>, OwnedMutexGuard<()>)>, Error> {
        let Network::Container(id) = &record.spec.network else { return Ok(None) };
        let owner = self.find(id)?;
        // Nobody waits the other way round: whose network is shared was there first, and shares none itself.
        let guard = owner.lifecycle.clone().lock_owned().await;
        let stopped = || Error::SharedNotRunning { name: owner.name().to_string() };
        let State::Running(running) = owner.state() else { return Err(stopped()) };
        let namespace = Namespace::of(running.init.pid).map_err(|_| stopped())?;
        // Looked for after it was opened: so it is that of this process, and not of a later one with its number.
        Process::find(&running.init).ok_or_else(stopped)?;
        Ok(Some((Arc::new(Shared { namespace, dir: self.records.dir(&owner.id) }), guard)))
    }

    /// Removes the interfaces of an ended container from a network namespace that others keep: its addresses will be
    /// somebody else's.
    pub(super) async fn part(&self, container: &Container, endpoints: Vec<Endpoint>) {
        let pid_of = |other: &Arc<Container>| match other.state() {
            State::Running(running) if other.shares(&container.id) => Some(running.init.pid),
            _ => None,
        };
        if endpoints.is_empty() {
            return;
        }
        let keeper = self.table().after("").find_map(pid_of);
        let Some(keeper) = keeper else { return };
        if let Err(error) = self.networks.remove(endpoints, keeper).await {
            tracing::error!(container = %container.id, %error, "cannot remove the interfaces of an ended container");
        }
    }
}
