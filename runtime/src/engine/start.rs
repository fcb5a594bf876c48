//! From a record to a running process: snapshot, cgroup, plan, monitor, record, go.
//! What fails is undone in reverse; the first error is the one that is told.

use std::sync::Arc;

use jiff::Timestamp;
use strata_net::Endpoint;

use super::{Engine, blocking, hostname, mounts::mounted_snapshots, snapshot_key, whole};
use crate::{
    container::{Container, Phase},
    error::Error,
    health::Health,
    launch::{self, Prepared, Users},
    monitor::Monitor,
    record::{Record, Running, State},
    spec::{Exit, TerminalSize},
    store::{Acquired, Volatile, Writing},
    stream::{Attachment, Wish},
    tree::{self, Found},
};

/// Who wants a container to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Somebody. What its restart policy counted is forgotten.
    Hand,
    /// Its restart policy: it is to wait for that still.
    Policy,
}

impl Engine {
    /// Starts a container that does not run, and those first that it requires. With a wish, attaches before the process
    /// can say anything.
    pub async fn start(
        self: &Arc<Self>,
        container: &Arc<Container>,
        size: TerminalSize,
        wish: Option<Wish>,
    ) -> Result<Option<Attachment>, Error> {
        let (engine, container) = (self.clone(), container.clone());
        whole("starting the container", async move { engine.start_for(&container, size, wish, Cause::Hand).await })
            .await
    }

    /// Starts a container, and those first that it requires.
    pub(super) async fn start_for(
        self: &Arc<Self>,
        container: &Arc<Container>,
        size: TerminalSize,
        wish: Option<Wish>,
        cause: Cause,
    ) -> Result<Option<Attachment>, Error> {
        if !container.is_running() {
            self.start_required(container).await?;
        }
        self.start_alone(container, size, wish, cause).await
    }

    pub(super) async fn start_alone(
        self: &Arc<Self>,
        container: &Arc<Container>,
        size: TerminalSize,
        wish: Option<Wish>,
        cause: Cause,
    ) -> Result<Option<Attachment>, Error> {
        let guard = container.lifecycle.lock().await;
        match container.state() {
            state if cause == Cause::Policy && state != State::Restarting => return Ok(None),
            State::Running(_) => {
                container.moving_monitor()?;
                drop(guard);
                return self.attach(container, wish).await;
            }
            State::Removing | State::Creating => return Err(Error::Removing { id: container.id.to_string() }),
            State::Created | State::Exited | State::Restarting => {}
        }
        if matches!(*container.phases().borrow(), Phase::Gone(_)) {
            return Err(Error::NotFound { name: container.id.to_string() });
        }
        let presence = self.presence.enter();
        let record = container.record();
        match self.launch(container, &record, size, wish, cause).await {
            Ok((monitor, attachment)) => {
                let record = container.record();
                self.networked(&record, "connect", &record.endpoints);
                self.mounted(&record, "mount", &record.spec.mounts);
                self.watch_health(container, &monitor);
                self.watch_memory(container, &monitor);
                self.tally.started(cause == Cause::Policy);
                self.happened(container, "start", []);
                let (engine, container) = (self.clone(), container.clone());
                tokio::spawn(strata_rpc::spans::carry(async move {
                    engine.finish(&container, monitor).await;
                    engine.start_again(&container).await;
                    drop(presence);
                }));
                Ok(attachment)
            }
            Err(error) => {
                self.undo_start(container, &record, &error).await;
                Err(error)
            }
        }
    }

    /// Attaches to a running container, if that is wished.
    pub async fn attach(&self, container: &Container, wish: Option<Wish>) -> Result<Option<Attachment>, Error> {
        match wish {
            None => Ok(None),
            Some(wish) => Ok(Some(container.moving_monitor()?.attach(wish).await?)),
        }
    }

    async fn launch(
        &self,
        container: &Container,
        record: &Record,
        size: TerminalSize,
        wish: Option<Wish>,
        cause: Cause,
    ) -> Result<(Arc<Monitor>, Option<Attachment>), Error> {
        let volatile = Volatile::of(&record.spec);
        let writing = Writing { volatile, limit: record.spec.writable_size_bytes };
        let acquired = self.store.acquire(&snapshot_key(record), record.id.as_str(), writing).await?;
        let users = self.users(&acquired).await?;
        let mut trees = Vec::new();
        for key in mounted_snapshots(record) {
            trees.push(self.store.acquire(key, record.id.as_str(), volatile.into()).await?.mount);
        }
        let held = self.hold_volumes(record).await?;
        let (shared, owner) = self.share(record).await?.unzip();
        let joined = Arc::new(self.joined(record)?);
        let reserved = self.networks.reserve(record).await?;
        let endpoints: Vec<Endpoint> = reserved.iter().map(|(endpoint, _)| endpoint.clone()).collect();
        if endpoints.iter().any(|endpoint| endpoint.is_way_out) {
            self.networks.lead_out().await;
        }
        let published = self.networks.publish(record, &endpoints).await?;
        let mut located = Record { endpoints: endpoints.clone(), ..record.clone() };
        self.locate(&mut located)?;
        self.reveal(&mut located).await?;
        let job = Prepared {
            record: located,
            hostname: hostname(record),
            mount: acquired.mount,
            trees,
            users,
            size,
            dir: self.records.dir(&record.id),
            shared: shared.clone(),
            joined: joined.clone(),
        };
        let launcher = self.launcher.clone();
        let launch = blocking("preparing the container", move || launcher.launch(&job)).await?;
        if record.is_run && record.spec.is_volatile {
            // A step of a build is seldom the last one.
            self.launcher.make_ahead();
        }
        let monitor = Arc::new(Monitor::ready(launch).await?);
        // It has joined what it shares: the paths that it was told are good no longer.
        drop((shared, joined));
        let pid = monitor.init.identity.pid;
        self.networks.attach(pid, reserved).await?;
        let attached = Record { endpoints: endpoints.clone(), ..record.clone() };
        self.serve_names(&attached, &monitor.init.identity).await?;
        let points = monitor.mount_points();
        let record = container.change(|record| {
            let (init, monitor) = (monitor.init.identity.clone(), monitor.process.identity.clone());
            record.state = State::Running(Running::new(init, monitor));
            record.started_at = Some(Timestamp::now());
            record.exit = None;
            record.is_out_of_memory = false;
            record.health = record.check.as_ref().map(|_| Health::default());
            record.endpoints = endpoints;
            record.published = published;
            record.add_mount_points(points);
            if cause == Cause::Hand {
                record.is_stopped_by_hand = false;
                record.restart_count = 0;
            }
        });
        // From here on they are in use by a container that runs.
        drop((held, owner));
        // The record must name the processes before the container's own code runs.
        self.write(record).await?;
        let attachment = match wish {
            Some(wish) => Some(monitor.attach(wish).await?),
            None => None,
        };
        monitor.start().await?;
        self.tell_devices(container, &monitor).await?;
        container.set_monitor(Some(monitor.clone()));
        container.set_phase(Phase::Running);
        Ok((monitor, attachment))
    }

    /// Lets the hooks run that the devices of a container want when its program runs; one that fails ends the container.
    async fn tell_devices(&self, container: &Container, monitor: &Monitor) -> Result<(), Error> {
        if !launch::has_devices(&container.record()) {
            return Ok(());
        }
        let (launcher, dir) = (self.launcher.clone(), self.records.dir(&container.id));
        let pid = monitor.init.identity.pid;
        let told = blocking("running hooks", move || launcher.started(&dir, pid)).await;
        if told.is_err() {
            // It may have ended by itself.
            let _ended = monitor.signal(9);
            monitor.exited().await;
            monitor.ended().await;
        }
        told
    }

    /// Gives back what a failed start took. The record keeps its former state and gets the exit code.
    async fn undo_start(self: &Arc<Self>, container: &Container, before: &Record, error: &Error) {
        let launcher = self.launcher.clone();
        let id = container.id.clone();
        if let Err(error) = blocking("undoing a start", move || launcher.clear(&id)).await {
            tracing::warn!(container = %container.id, %error, "cannot clear the cgroup of a failed start");
        }
        self.end_devices(container).await;
        self.networks.withdraw(&container.id).await;
        self.networks.release(&container.id).await;
        self.detach_volumes(before).await;
        for key in std::iter::once(&snapshot_key(before)).chain(mounted_snapshots(before)) {
            if let Err(error) = self.store.release(key, container.id.as_str()).await {
                tracing::warn!(container = %container.id, %error, "cannot release a snapshot of a failed start");
            }
        }
        container.set_monitor(None);
        let exit = Exit::code(error.exit_code());
        let record = container.change(|record| {
            record.started_at = before.started_at;
            match before.state {
                State::Restarting => record.end(exit.clone()),
                _ => {
                    record.state = before.state.clone();
                    record.exit = Some(exit.clone());
                }
            }
            record.endpoints.clear();
            record.published.clear();
        });
        let auto_remove = record.spec.auto_remove;
        let kept = if auto_remove { self.delete_stopped(container).await } else { self.write(record).await };
        if let Err(error) = kept {
            tracing::warn!(container = %container.id, %error, "cannot record a failed start");
        }
        if !auto_remove {
            container.set_phase(Phase::Ended(exit));
        }
    }

    /// Reads passwd and group as the container will see them.
    pub(super) async fn users(&self, acquired: &Acquired) -> Result<Users, Error> {
        Ok(Users { passwd: self.user_file(acquired, "passwd").await?, group: self.user_file(acquired, "group").await? })
    }

    async fn user_file(&self, acquired: &Acquired, file: &str) -> Result<Vec<u8>, Error> {
        let limit = strata_oci::user::MAX_FILE_BYTES as u64;
        let mount = &acquired.mount;
        let trees = mount.upper.iter().chain(&mount.lowers).map(|path| path.as_path());
        match tree::look_up(trees, "etc", file, limit) {
            Found::Bytes(bytes) => Ok(bytes),
            Found::Nothing => Ok(Vec::new()),
            Found::Unsure => {
                let bytes = self.store.read_file(&acquired.layers, &format!("/etc/{file}")).await?;
                Ok(bytes.unwrap_or_default())
            }
        }
    }
}
