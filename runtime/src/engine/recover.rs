//! What a start of this service does with what an earlier one left: half-made and half-removed containers are
//! removed, monitors found again, ended runs cleared up. Nothing here can keep the service from starting:
//! a monitor that does not answer costs two seconds, a store that does not answer is asked again behind.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::join_all;
use strata_net::Endpoint;
use strata_rpc::events::Log;
use strata_types::{ContainerId, SnapshotKey};
use tokio::sync::Notify;

use super::{Engine, blocking, mounts::owner_of};
use crate::{
    config::Config,
    container::{Container, Phase},
    error::Error,
    identity,
    launch::Launcher,
    monitor::{self, Monitor},
    networks::{self, Networks},
    presence::Presence,
    record::{Record, Records, Running, State},
    secret::Secrets,
    signal,
    spec::Exit,
    store::{Listed, Store},
    volume::{Discarded, Volumes},
};

/// How long a monitor may take to answer at the start.
const ANSWER: Duration = Duration::from_secs(2);

/// Between two attempts to reach a monitor, or the store.
const AGAIN: Duration = Duration::from_secs(5);
/// The same, after many.
const LONGEST: Duration = Duration::from_secs(300);

impl Engine {
    /// Opens the root and takes up what is there.
    pub async fn open(
        config: Config,
        store: Arc<dyn Store>,
        launcher: Launcher,
        presence: Presence,
    ) -> Result<Arc<Self>, Error> {
        let records = Arc::new(Records::open(&config.root)?);
        let loaded = records.load()?;
        let was_napping = records.take_nap()?;
        let running = loaded.records.iter().filter(|record| matches!(record.state, State::Running(_)));
        let running: Vec<_> = running.map(networks::survivor).collect();
        let events = Log::default();
        let networks = Networks::open(&config, &launcher, &running, events.clone())?;
        let (volumes, left) = Volumes::open(&config.root, events.clone())?;
        let secrets = Secrets::open(&config.root, events.clone())?;
        let engine = Arc::new(Self {
            config,
            events,
            launcher,
            networks,
            presence,
            records,
            secrets: Arc::new(secrets),
            store,
            table: Default::default(),
            tally: Default::default(),
            unfinished: Notify::new(),
            volumes: Arc::new(volumes),
        });
        // All of them before one is looked at: some share the networks of others.
        let containers: Vec<_> = loaded.records.into_iter().filter_map(|record| engine.know(record)).collect();
        for container in &containers {
            engine.take_up_names(&container.record());
        }
        let networks = engine.networks.clone();
        tokio::spawn(async move { networks.proxy().resume().await });
        join_all(containers.into_iter().map(|container| engine.clone().take_up(container))).await;
        if running.iter().flat_map(|survivor| &survivor.endpoints).any(|endpoint| endpoint.is_way_out) {
            let networks = engine.networks.clone();
            tokio::spawn(async move { networks.lead_out().await });
        }
        tokio::spawn(engine.clone().start_anew(was_napping));
        let sweeper = engine.clone();
        tokio::spawn(async move {
            discard(left).await;
            sweeper.sweep(loaded.damaged.into_iter().collect()).await;
        });
        Ok(engine)
    }

    fn know(&self, record: Record) -> Option<Arc<Container>> {
        let container = Container::new(record);
        let inserted = self.table().insert(&container.id, &container.name(), container.clone());
        let told = |error| tracing::error!(container = %container.id, %error, "a container cannot be taken up");
        inserted.map_err(told).ok().map(|()| container)
    }

    /// Names and ports of a container that runs, unless its end was missed.
    fn take_up_names(&self, record: &Record) {
        if let State::Running(running) = &record.state {
            self.networks.proxy().note(record, &running.init, self.is_served(record));
        }
    }

    async fn take_up(self: Arc<Self>, container: Arc<Container>) {
        let record = container.record();
        match record.state {
            State::Running(running) => return self.take_up_running(container, running).await,
            // Half made; or a run, whose caller is gone with the service that had it; or ended without the time to go.
            State::Creating => drop(container.change(|record| {
                record.state = State::Removing;
                record.removes_volumes = true;
            })),
            State::Created if record.is_run => drop(container.change(|record| record.state = State::Removing)),
            State::Exited if container.is_auto_remove() => {
                drop(container.change(|record| record.state = State::Removing))
            }
            State::Created | State::Exited | State::Restarting | State::Removing => {}
        }
        // A start that was cut off before its record was written has left a cgroup, and perhaps a process in it.
        let (launcher, id) = (self.launcher.clone(), container.id.clone());
        if let Err(error) = blocking("clearing the cgroup", move || launcher.clear(&id)).await {
            tracing::error!(container = %container.id, %error, "cannot clear up after a container that does not run");
        }
    }

    async fn take_up_running(self: Arc<Self>, container: Arc<Container>, running: Running) {
        let first = tokio::time::timeout(ANSWER, self.reconnect(&container, &running)).await;
        let presence = self.presence.enter();
        if let Ok(Ok(None)) = first {
            // Told before anybody can ask; what is left of it is cleared up behind.
            let guard = container.lifecycle.clone().lock_owned().await;
            self.networks.withdraw(&container.id).await;
            let endpoints = self.tell_lost(&container);
            tokio::spawn(async move {
                self.clear_lost(&container, &running, endpoints).await;
                drop((guard, presence));
            });
            return;
        }
        tokio::spawn(async move {
            let mut attempt = first;
            loop {
                match attempt {
                    Ok(Ok(Some(monitor))) => break self.take_over(&container, Arc::new(monitor)).await,
                    Ok(Ok(None)) => {
                        let guard = container.lifecycle.lock().await;
                        self.networks.withdraw(&container.id).await;
                        let endpoints = self.tell_lost(&container);
                        self.clear_lost(&container, &running, endpoints).await;
                        drop(guard);
                        break self.start_again(&container).await;
                    }
                    Ok(Err(error)) => tracing::warn!(container = %container.id, %error, "a monitor is unreachable"),
                    Err(_) => tracing::warn!(container = %container.id, "a monitor is unreachable: it does not answer"),
                }
                if let Some(process) = identity::Process::find(&running.monitor) {
                    let _either = tokio::time::timeout(AGAIN, process.ended()).await;
                }
                attempt = tokio::time::timeout(ANSWER, self.reconnect(&container, &running)).await;
            }
            drop(presence);
        });
    }

    /// Connects to a monitor; `None`: it has ended.
    async fn reconnect(&self, container: &Container, running: &Running) -> Result<Option<Monitor>, Error> {
        match identity::Process::find(&running.monitor) {
            None => Ok(None),
            Some(process) => {
                let (control, exit) = (self.launcher.control(&container.id), self.exit_record(container));
                let packed_log = self.packed_log(&container.record());
                Monitor::reconnect(process, running, container.id.as_str(), &control, &exit, packed_log).await
            }
        }
    }

    fn exit_record(&self, container: &Container) -> PathBuf {
        self.launcher.exit_record(&container.record(), &self.records.dir(&container.id))
    }

    async fn take_over(self: &Arc<Self>, container: &Arc<Container>, monitor: Arc<Monitor>) {
        self.see_whether_paused(container).await;
        container.set_monitor(Some(monitor.clone()));
        container.set_phase(Phase::Running);
        if container.record().is_run {
            // The caller whose stream it hung on is gone with the service that had it.
            let _ended = monitor.signal(signal::KILL);
            if let Err(error) = self.let_go_on(container).await {
                tracing::error!(container = %container.id, %error, "cannot let a paused run go on that is to end");
            }
        }
        self.watch_health(container, &monitor);
        self.watch_memory(container, &monitor);
        self.finish(container, monitor).await;
        self.start_again(container).await;
    }

    /// The monitor has ended without us: its exit record tells how the run did, or nobody can.
    fn tell_lost(&self, container: &Container) -> Vec<Endpoint> {
        let exit = monitor::exit_record_at(&self.exit_record(container));
        self.tell_end(container, &exit.unwrap_or_else(|| Exit::unknown("the monitor was lost")))
    }

    /// Clears up after a lost monitor. The caller holds the container's lifecycle.
    async fn clear_lost(self: &Arc<Self>, container: &Arc<Container>, running: &Running, endpoints: Vec<Endpoint>) {
        if let Some(process) = identity::Process::find(&running.init) {
            self.end_first_process(&container.id, &process).await;
        }
        self.clear(container, endpoints).await;
        let kept = match container.is_auto_remove() {
            true => self.delete_stopped(container).await,
            false => self.write(container.record()).await,
        };
        if let Err(error) = kept {
            tracing::error!(container = %container.id, %error, "cannot record the end of a lost container");
            container.stay();
        }
    }

    /// Finishes removals and gives back snapshots without an owner, as soon as the store can be reached; and again
    /// whenever a removal was not finished.
    async fn sweep(self: Arc<Self>, damaged: HashSet<String>) {
        loop {
            let mut again = AGAIN;
            while let Err(error) = self.sweep_once(&damaged).await {
                tracing::warn!(%error, "cannot sweep yet");
                tokio::time::sleep(again).await;
                again = (again * 2).min(LONGEST);
            }
            self.unfinished.notified().await;
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// One that fails keeps none of the others; the first error is told.
    async fn sweep_once(self: &Arc<Self>, damaged: &HashSet<String>) -> Result<(), Error> {
        let mut result = Ok(());
        for container in self.page("", usize::MAX, true) {
            if container.state() == State::Removing {
                let _guard = container.lifecycle.lock().await;
                result = result.and(self.delete_stopped(&container).await);
            }
        }
        for volume in self.volumes.page("", usize::MAX) {
            self.detach_unused(volume).await;
        }
        result?;
        for snapshot in self.store.list().await? {
            self.sweep_snapshot(&snapshot, damaged).await?;
        }
        Ok(())
    }

    async fn sweep_snapshot(&self, snapshot: &Listed, damaged: &HashSet<String>) -> Result<(), Error> {
        let Ok(key) = SnapshotKey::parse(snapshot.key.as_str()) else { return Ok(()) };
        let is_id = |text: &str| ContainerId::parse(text).is_ok();
        if is_id(&snapshot.holder) && !damaged.contains(&snapshot.holder) {
            match self.find(&snapshot.holder) {
                Ok(container) => {
                    let _guard = container.lifecycle.lock().await;
                    if !container.is_running() {
                        self.store.release(&key, &snapshot.holder).await?;
                    }
                }
                Err(_) => self.store.release(&key, &snapshot.holder).await?,
            }
        }
        if let Some(owner) = owner_of(&snapshot.key)
            && !damaged.contains(owner.as_str())
            && self.find(owner.as_str()).is_err()
        {
            tracing::info!(key = %key, "removing a snapshot whose container is gone");
            self.store.remove(&key, "").await?;
        }
        Ok(())
    }
}

/// Removes what half made and half removed volumes have left.
async fn discard(left: Vec<Discarded>) {
    for one in left {
        if let Err(error) = blocking("removing what is left of a volume", move || one.remove()).await {
            tracing::warn!(%error, "cannot remove what is left of a volume");
        }
    }
}

#[cfg(test)]
mod tests;
