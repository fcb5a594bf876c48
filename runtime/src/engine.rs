//! The containers of this node: create, find, delete. `engine/` holds what happens to one that runs:
//! `start`, `finish` (its end), `stop`, `recover` (after a restart of this service).
//! Work that must not be cut in half runs in tasks of its own, so that a caller who goes away cuts nothing.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use strata_rpc::events::Log;
use strata_types::{ContainerConfig, ContainerId, ContainerName, LabelCondition, SnapshotKey};
use tokio::sync::Notify;

use crate::{
    cdi::Registry,
    config::Config,
    container::{Container, Phase, View},
    error::Error,
    health::Check,
    launch::Launcher,
    logging, names,
    networks::Networks,
    presence::Presence,
    process,
    record::{Durability, Record, Records, State},
    secret::Secrets,
    spec::{Exit, Root, Spec},
    store::{Store, Writing},
    table::Table,
    tally::Tally,
    volume::Volumes,
};

mod again;
mod change;
mod commit;
mod exec;
mod finish;
pub mod happened;
mod health;
mod logs;
mod mounts;
mod network;
mod oom;
mod order;
mod pause;
mod ports;
mod processes;
mod recover;
mod rename;
mod reset;
mod secrets;
mod sharing;
mod start;
mod stop;
mod tree;
mod update;
mod usage;
mod volumes;

pub use commit::Pause;
pub use exec::Exec;
pub use reset::Removed;
pub use tree::Tree;
pub use update::Update;
pub use usage::Sample;
pub use volumes::{Prunable, Pruned};

/// Host names of containers that were given none are this many digits of their id.
const SHORT: usize = 12;

/// How long a container lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is removed, or removes itself at its end.
    Kept,
    /// No longer than the stream of a `Run` call.
    Stream,
}

/// What becomes of the anonymous volumes of a container that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithVolumes {
    /// They go too, unless others use them.
    Yes,
    /// They stay.
    No,
}

/// How many containers there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whose process runs.
    pub running: usize,
    /// Whose processes stand still.
    pub paused: usize,
    /// All others.
    pub stopped: usize,
}

/// All containers and what they need.
pub struct Engine {
    config: Config,
    events: Log,
    launcher: Launcher,
    networks: Networks,
    presence: Presence,
    records: Arc<Records>,
    secrets: Arc<Secrets>,
    store: Arc<dyn Store>,
    table: Mutex<Table<Arc<Container>>>,
    tally: Tally,
    /// Told when a removal was not finished.
    unfinished: Notify,
    volumes: Arc<Volumes>,
}

impl Engine {
    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Finds a container by id, name or unique id prefix.
    pub fn find(&self, text: &str) -> Result<Arc<Container>, Error> {
        self.table().find(text)
    }

    /// A page of containers with ids above `after`; those that neither run nor are started again only if `all`.
    pub fn page(&self, after: &str, size: usize, all: bool) -> Vec<Arc<Container>> {
        let table = self.table();
        table.after(after).filter(|container| all || container.is_live()).take(size).cloned().collect()
    }

    /// Counts containers by what they do.
    pub fn count(&self) -> Counts {
        let mut counts = Counts::default();
        for one in self.table().after("") {
            match (one.is_running(), one.is_paused()) {
                (false, _) => counts.stopped += 1,
                (true, false) => counts.running += 1,
                (true, true) => counts.paused += 1,
            }
        }
        counts
    }

    /// What has happened since this service started, in numbers.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The states of all containers.
    pub fn states(&self) -> Vec<State> {
        self.table().after("").map(|container| container.state()).collect()
    }

    /// The network of containers that do not say: its name, or "none".
    pub fn default_network(&self) -> &str {
        self.networks.default_name()
    }

    /// "1" or "2".
    pub fn cgroup_version(&self) -> &'static str {
        self.launcher.cgroup_version()
    }

    /// The devices of the Container Device Interface that this host has now.
    pub async fn devices(&self) -> Result<Registry, Error> {
        let directories = self.config.file.cdi.spec_dirs.clone();
        blocking("reading CDI spec files", move || Ok(Registry::read(&directories))).await
    }

    /// A container as it is shown.
    pub fn view(&self, container: &Container) -> View {
        let mut record = container.record();
        // A volume that is gone is shown without its place.
        let _ = self.locate(&mut record);
        let log_path = self.shown_log_path(&record);
        let snapshot_key = snapshot_key(&record).to_string();
        View { record, log_path, snapshot_key }
    }

    /// Creates a container.
    pub async fn create(
        self: &Arc<Self>,
        id: Option<ContainerId>,
        name: Option<ContainerName>,
        spec: Spec,
        lifetime: Lifetime,
    ) -> Result<Arc<Container>, Error> {
        let engine = self.clone();
        whole("creating the container", async move { engine.create_whole(id, name, spec, lifetime).await }).await
    }

    async fn create_whole(
        self: &Arc<Self>,
        id: Option<ContainerId>,
        name: Option<ContainerName>,
        mut spec: Spec,
        lifetime: Lifetime,
    ) -> Result<Arc<Container>, Error> {
        spec.network = self.networks.settle(spec.network);
        for attachment in spec.network.attachments() {
            self.networks.known(&attachment.network)?;
        }
        self.settle_shared(&mut spec)?;
        self.settle_isolation(&mut spec)?;
        self.settle_dependencies(name.as_ref(), &mut spec)?;
        spec.ports.check(&spec.network)?;
        if !spec.has_no_log {
            spec.log = logging::settle(spec.log, &self.config.file)?;
        }
        self.launcher.check(&spec)?;
        let id = id.map_or_else(names::new_id, Ok)?;
        self.settle(&id, &mut spec)?;
        self.settle_secrets(&mut spec)?;
        mounts::check_sources(&spec)?;
        let (container, guard) = {
            let mut table = self.table();
            let name = table.free_name(name)?;
            let mut record = Record::creating(id, name, spec);
            record.is_run = lifetime == Lifetime::Stream;
            let container = Container::new(record);
            let guard = container.lifecycle.clone().try_lock_owned().expect("nobody else knows it yet");
            table.insert(&container.id, &container.name(), container.clone())?;
            (container, guard)
        };
        if let Err(error) = self.prepare(&container).await {
            self.undo_create(&container).await;
            return Err(error);
        }
        drop(guard);
        self.happened(&container, "create", []);
        Ok(container)
    }

    /// Record, secrets, snapshot, merged process, volumes, record.
    async fn prepare(&self, container: &Container) -> Result<(), Error> {
        let record = container.record();
        self.write(record.clone()).await?;
        self.check_secrets(&record).await?;
        let (image_id, config) = match &record.spec.root {
            Root::Image(image) => {
                let key = own_key(&record.id);
                let writing = Writing { volatile: mounts::volatile(&record), limit: record.spec.writable_size_bytes };
                let prepared = self.store.prepare(&key, image, record.spec.platform.as_ref(), writing).await?;
                (prepared.image_id, prepared.config)
            }
            Root::Snapshot(_) => (String::new(), ContainerConfig::default()),
        };
        let process = process::merge(&config, &record.spec, &hostname(&record))?;
        let check = Check::merge(&record.spec.health, config.healthcheck.as_ref(), config.shell.as_deref());
        container.change(|record| {
            record.spec.ports.expose(config.exposed_ports.iter());
            for (key, value) in &config.labels {
                record.spec.labels.entry(key.clone()).or_insert_with(|| value.clone());
            }
            record.check = check;
        });
        let added = mounts::of_image(config.volumes.iter(), &record.spec.mounts)?;
        if !added.is_empty() {
            let record = container.change(|record| record.spec.mounts.extend(added));
            self.write(record).await?;
        }
        self.make_sources(container, 0).await?;
        self.fill_volumes(&container.record(), 0).await?;
        let record = container.change(|record| {
            record.state = State::Created;
            record.image_id = image_id;
            record.process = process;
        });
        self.write(record).await
    }

    async fn undo_create(self: &Arc<Self>, container: &Container) {
        let record = container.change(|record| {
            record.state = State::Removing;
            record.removes_volumes = true;
        });
        if let Err(error) = self.erase(&record).await {
            // The record says `creating`: the next start of this service tries again.
            tracing::warn!(container = %container.id, %error, "cannot undo a failed create");
        }
        self.forget(container, None);
    }

    /// Removes a container; one that runs only with `force`.
    pub async fn delete(
        self: &Arc<Self>,
        container: Arc<Container>,
        force: bool,
        volumes: WithVolumes,
    ) -> Result<(), Error> {
        let engine = self.clone();
        whole("removing the container", async move {
            if container.is_live() {
                if !force {
                    return Err(Error::Running { name: container.name().to_string() });
                }
                engine.note_stop(&container).await?;
                engine.cancel_restart(&container).await?;
                engine.kill_and_wait(&container).await?;
            }
            let _guard = container.lifecycle.lock().await;
            if volumes == WithVolumes::Yes {
                container.change(|record| record.removes_volumes = true);
            }
            engine.delete_stopped(&container).await
        })
        .await
    }

    /// Removes a container that does not run. The caller holds its lifecycle.
    async fn delete_stopped(self: &Arc<Self>, container: &Container) -> Result<(), Error> {
        if container.is_running() {
            return Err(Error::Running { name: container.name().to_string() });
        }
        if matches!(*container.phases().borrow(), Phase::Gone(_)) {
            return Ok(());
        }
        let exit = container.record().exit;
        let record = container.change(|record| {
            record.state = State::Removing;
            record.removes_volumes |= record.spec.auto_remove;
        });
        match self.write(record.clone()).await {
            // A full disk must not keep what would make room. After a crash from here on it is removed once more.
            Err(error) if error.is_disk_full() => {
                tracing::warn!(container = %container.id, %error, "removing a container without a note of it");
            }
            written => written?,
        }
        self.erase(&record).await.inspect_err(|_| self.unfinished.notify_one())?;
        // Who waits for the end finds it among what happened.
        self.happened(container, "destroy", []);
        self.forget(container, exit);
        Ok(())
    }

    /// Removes everything that a container has outside of memory; what is gone is no error.
    async fn erase(self: &Arc<Self>, record: &Record) -> Result<(), Error> {
        if let Root::Image(_) = record.spec.root {
            // Held by the container still, if it removes itself or an earlier release did not reach the store.
            let key = own_key(&record.id);
            finish::patiently(|| self.store.remove(&key, record.id.as_str())).await?;
        }
        self.drop_sources(record).await?;
        let (launcher, records, id) = (self.launcher.clone(), self.records.clone(), record.id.clone());
        let erase = move || {
            launcher.sweep(&id)?;
            records.remove(&id)
        };
        match record.durability() {
            Durability::Unsynced => erase(),
            Durability::Synced => blocking("removing the record", erase).await,
        }
    }

    fn forget(&self, container: &Container, exit: Option<Exit>) {
        self.table().remove(&container.id);
        container.set_phase(Phase::Gone(exit));
    }

    /// Removes every container that does not run, was made before a time, and has such labels; returns their ids.
    pub async fn prune(self: &Arc<Self>, before: Option<Timestamp>, labels: &[LabelCondition]) -> Vec<String> {
        let all = self.page("", usize::MAX, true);
        let is_meant = |container: &Arc<Container>| {
            let record = container.record();
            !container.is_live()
                && before.is_none_or(|before| record.created_at < before)
                && labels.iter().all(|condition| condition.holds(&record.spec.labels))
        };
        let mut deleted = Vec::new();
        for container in all.into_iter().filter(is_meant) {
            let id = container.id.to_string();
            match self.delete(container, false, WithVolumes::No).await {
                Ok(()) => deleted.push(id),
                Err(error) => tracing::warn!(container = %id, %error, "cannot prune a container"),
            }
        }
        deleted
    }

    /// Writes a record as durably as its container needs.
    async fn write(&self, record: Record) -> Result<(), Error> {
        match record.durability() {
            // Three system calls into the page cache: cheaper than a change of threads.
            Durability::Unsynced => self.records.write(&record, Durability::Unsynced),
            Durability::Synced => {
                let records = self.records.clone();
                blocking("writing the record", move || records.write(&record, Durability::Synced)).await
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table<Arc<Container>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of the snapshot that a container of an image has.
fn own_key(id: &ContainerId) -> SnapshotKey {
    SnapshotKey::parse(id.as_str()).expect("64 hex digits are a key")
}

/// The snapshot of a container, its own or its caller's.
fn snapshot_key(record: &Record) -> SnapshotKey {
    match &record.spec.root {
        Root::Image(_) => own_key(&record.id),
        Root::Snapshot(key) => key.clone(),
    }
}

/// The host name of a container.
fn hostname(record: &Record) -> String {
    match record.spec.hostname.as_str() {
        "" => record.id.as_str()[..SHORT].to_owned(),
        name => name.to_owned(),
    }
}

/// Runs work to its end, even if the caller goes away.
async fn whole<T: Send + 'static>(
    what: &'static str,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(strata_rpc::spans::carry(work)).await.map_err(|_| Error::Lost { what })?
}

/// Runs blocking work on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Lost { what })?
}
