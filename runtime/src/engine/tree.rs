//! What is in a container, to be looked at and copied. Of one that runs it is the root of its first process. For any other its
//! mounts are made as for a start, around a process that never executes anything, and go with it.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::{Engine, blocking, finish, hostname, mounts::mounted_snapshots, snapshot_key, whole};
use crate::{
    container::{Container, Phase},
    error::Error,
    files::Root,
    identity::Process,
    launch::{Joined, Prepared},
    monitor::Monitor,
    presence::Present,
    record::{Record, State},
    spec::{Isolation, Network, Spec, TerminalSize},
    store::{Volatile, Writing},
};

/// The tree of a container, as long as this lives.
pub struct Tree {
    /// Its root.
    pub root: Arc<Root>,
    /// What shows it, where the container does not run.
    _stage: Option<Stage>,
}

/// A container that was made and is not started. Dropped, it is taken apart.
struct Stage {
    engine: Arc<Engine>,
    container: Arc<Container>,
    monitor: Option<Arc<Monitor>>,
    guard: Option<OwnedMutexGuard<()>>,
    presence: Option<Present>,
}

impl Engine {
    /// Opens the tree of a container.
    pub async fn tree(self: &Arc<Self>, container: &Arc<Container>) -> Result<Tree, Error> {
        if let Some(root) = running_root(container)? {
            return Ok(Tree { root: Arc::new(root), _stage: None });
        }
        let (engine, container) = (self.clone(), container.clone());
        whole("opening the files of the container", async move { engine.staged_tree(container).await }).await
    }

    async fn staged_tree(self: &Arc<Self>, container: Arc<Container>) -> Result<Tree, Error> {
        let guard = container.lifecycle.clone().lock_owned().await;
        // Somebody may have started it meanwhile.
        if let Some(root) = running_root(&container)? {
            return Ok(Tree { root: Arc::new(root), _stage: None });
        }
        if matches!(container.state(), State::Creating | State::Removing) {
            return Err(Error::Removing { id: container.id.to_string() });
        }
        if matches!(*container.phases().borrow(), Phase::Gone(_)) {
            return Err(Error::NotFound { name: container.id.to_string() });
        }
        let presence = Some(self.presence.enter());
        let (engine, guard) = (self.clone(), Some(guard));
        let mut stage = Stage { engine, container: container.clone(), monitor: None, guard, presence };
        let monitor = self.stage(&container).await?;
        let pid = monitor.init.identity.pid;
        stage.monitor = Some(Arc::new(monitor));
        let root = Root::of(pid, container.name().as_str())?;
        Ok(Tree { root: Arc::new(root), _stage: Some(stage) })
    }

    /// Makes the mounts of a container, and a process that has them.
    async fn stage(&self, container: &Container) -> Result<Monitor, Error> {
        let record = container.record();
        let volatile = Volatile::of(&record.spec);
        let writing = Writing { volatile, limit: record.spec.writable_size_bytes };
        let acquired = self.store.acquire(&snapshot_key(&record), record.id.as_str(), writing).await?;
        let users = self.users(&acquired).await?;
        let mut trees = Vec::new();
        for key in mounted_snapshots(&record) {
            trees.push(self.store.acquire(key, record.id.as_str(), volatile.into()).await?.mount);
        }
        let held = self.hold_volumes(&record).await?;
        let mut located = only_mounts(record);
        self.locate(&mut located)?;
        let job = Prepared {
            hostname: hostname(&located),
            mount: acquired.mount,
            trees,
            users,
            size: TerminalSize::default(),
            dir: self.records.dir(&located.id),
            shared: None,
            joined: Arc::new(Joined::default()),
            record: located,
        };
        let launcher = self.launcher.clone();
        let launch = blocking("making the mounts of the container", move || launcher.launch(&job)).await?;
        let monitor = Monitor::ready(launch).await?;
        drop(held);
        let record = container.change(|record| record.add_mount_points(monitor.mount_points()));
        self.write(record).await?;
        Ok(monitor)
    }

    /// Takes apart what `stage` made, or began to make.
    async fn unstage(self: &Arc<Self>, container: &Container, monitor: Option<Arc<Monitor>>) {
        if let Some(monitor) = monitor {
            let _ended_already = monitor.init.signal(9);
            monitor.exited().await;
            monitor.ended().await;
        }
        let (launcher, id) = (self.launcher.clone(), container.id.clone());
        if let Err(error) = blocking("clearing the cgroup", move || launcher.clear(&id)).await {
            tracing::warn!(container = %container.id, %error, "cannot clear the cgroup of a container that was looked at");
        }
        let record = container.record();
        self.detach_volumes(&record).await;
        for key in std::iter::once(&snapshot_key(&record)).chain(mounted_snapshots(&record)) {
            if let Err(error) = finish::patiently(|| self.store.release(key, container.id.as_str())).await {
                tracing::warn!(container = %container.id, %error, "cannot release a snapshot that was looked at");
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let (engine, container) = (self.engine.clone(), self.container.clone());
        let (monitor, guard, presence) = (self.monitor.take(), self.guard.take(), self.presence.take());
        tokio::spawn(async move {
            engine.unstage(&container, monitor).await;
            drop((guard, presence));
        });
    }
}

/// The root of a container that runs.
fn running_root(container: &Container) -> Result<Option<Root>, Error> {
    let State::Running(running) = container.state() else { return Ok(None) };
    let root = Root::of(running.init.pid, container.name().as_str());
    // Looked for after it was opened: so it is that of this process, and not of a later one with its number.
    match Process::find(&running.init) {
        Some(_) => root.map(Some),
        None => Ok(None),
    }
}

/// A record of which nothing but the mounts is left: no program, no network, no devices, no log.
fn only_mounts(mut record: Record) -> Record {
    let spec = Spec {
        network: Network::None,
        ports: Default::default(),
        cdi_devices: Vec::new(),
        isolation: Isolation::default(),
        has_init: false,
        has_terminal: false,
        has_stdin: false,
        has_no_log: true,
        user: String::new(),
        ..record.spec
    };
    record.spec = spec;
    record.process.args = Vec::new();
    record.process.working_directory = "/".to_owned();
    record.process.user = String::new();
    record.endpoints = Vec::new();
    record
}
