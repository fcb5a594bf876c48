//! Containers that share namespaces of another one. Of the network: whose it is, is settled when they are made; they join it when they
//! start, while the other runs. They keep it when the other ends, and then it has a loopback device only.

use std::sync::Arc;

use strata_net::{Endpoint, Namespace};
use tokio::sync::OwnedMutexGuard;

use super::{Engine, hostname};
use crate::{
    container::Container,
    error::Error,
    identity::Process,
    launch::{Joined, Shared},
    record::{Identity, Record, State},
    spec::{Ipc, Network, Sight, Spec},
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

    /// Settles whose processes and whose shared memory a container uses.
    pub(super) fn settle_isolation(&self, spec: &mut Spec) -> Result<(), Error> {
        if let Sight::Container(text) = &spec.isolation.pid {
            spec.isolation.pid = Sight::Container(self.find(text)?.id.to_string());
        }
        if let Ipc::Container(text) = &spec.isolation.ipc {
            let owner = self.find(text)?.record();
            if owner.spec.isolation.ipc != Ipc::Shareable {
                return Err(not_shareable(&owner));
            }
            spec.isolation.ipc = Ipc::Container(owner.id.to_string());
        }
        if spec.isolation.has_host_name {
            spec.hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        }
        Ok(())
    }

    /// Opens the namespaces of others that a container joins.
    pub(super) fn joined(&self, record: &Record) -> Result<Joined, Error> {
        let mut joined = Joined::default();
        if let Sight::Container(id) = &record.spec.isolation.pid {
            joined.pid = Some(self.namespace(id, "processes", "pid")?.0);
        }
        if let Ipc::Container(id) = &record.spec.isolation.ipc {
            let (namespace, process) = self.namespace(id, "shared memory", "ipc")?;
            joined.ipc = Some(namespace);
            joined.shm = Some(process);
        }
        Ok(joined)
    }

    fn namespace(&self, id: &str, what: &'static str, kind: &str) -> Result<(Namespace, Identity), Error> {
        let owner = self.find(id)?;
        let stopped =
            || Error::Join { what, name: owner.name().to_string(), why: "which is not running: start it first" };
        let State::Running(running) = owner.state() else { return Err(stopped()) };
        let namespace = Namespace::at(format!("/proc/{}/ns/{kind}", running.init.pid)).map_err(|_| stopped())?;
        // Looked for after it was opened: so it is that of this process, and not of a later one with its number.
        Process::find(&running.init).ok_or_else(stopped)?;
        Ok((namespace, running.init))
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

fn not_shareable(owner: &Record) -> Error {
    let why = "which keeps it to itself: make that one with --ipc shareable";
    Error::Join { what: "shared memory", name: owner.name.to_string(), why }
}
