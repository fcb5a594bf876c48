//! One container in memory: its record, its phase for those who wait, and its monitor while it runs.
//! The record's mutex is held for moments only, never over an await; `lifecycle` puts start, end and removal
//! of one container in a row and is never taken to look at it.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use strata_types::{ContainerId, ContainerName, SecretName, VolumeName};
use tokio::sync::watch;

use crate::{
    error::Error,
    health::Status,
    monitor::Monitor,
    record::{Record, State},
    restart::Pause,
    spec::{Exit, ExitKind, Network},
};

/// One container.
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Held while it is started, ended or removed.
    pub lifecycle: Arc<tokio::sync::Mutex<()>>,
    /// Held while it is frozen or thawed; taken after `lifecycle`, and for moments only.
    pub freezing: tokio::sync::Mutex<()>,
    record: Mutex<Record>,
    monitor: Mutex<Option<Arc<Monitor>>>,
    /// Before its restart policy starts it again.
    pause: Mutex<Pause>,
    /// How many want to start it again at its end.
    restarts: AtomicUsize,
    /// How many are about to start it, whether it has ended yet or not.
    starts: AtomicUsize,
    phase: watch::Sender<Phase>,
}

/// What those who wait want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It has not run since the record was made or read.
    Waiting,
    /// It runs.
    Running,
    /// It has ended; its mounts and cgroup may still be on their way out.
    Ended(Exit),
    /// It is removed.
    Gone(Option<Exit>),
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It does not run.
    NotRunning,
    /// A run of it ends from now on.
    NextExit,
    /// It is removed.
    Removed,
}

/// A container as it is shown.
#[derive(Debug, Clone)]
pub struct View {
    /// Its record.
    pub record: Record,
    /// Path of its log. Empty: there is none that others may read.
    pub log_path: String,
    /// Key of its snapshot.
    pub snapshot_key: String,
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").field("id", &self.id).field("phase", &*self.phase.borrow()).finish_non_exhaustive()
    }
}

impl Container {
    /// A container of a record.
    pub fn new(record: Record) -> Arc<Self> {
        let phase = match (&record.state, &record.exit) {
            (State::Running(_), _) => Phase::Running,
            (State::Exited | State::Restarting, Some(exit)) => Phase::Ended(exit.clone()),
            _ => Phase::Waiting,
        };
        Arc::new(Self {
            id: record.id.clone(),
            lifecycle: Arc::default(),
            freezing: tokio::sync::Mutex::default(),
            record: Mutex::new(record),
            monitor: Mutex::new(None),
            pause: Mutex::default(),
            restarts: AtomicUsize::new(0),
            starts: AtomicUsize::new(0),
            phase: watch::Sender::new(phase),
        })
    }

    /// Its name, which can change.
    pub fn name(&self) -> ContainerName {
        lock(&self.record).name.clone()
    }

    /// A copy of its record.
    pub fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    /// Its state.
    pub fn state(&self) -> State {
        lock(&self.record).state.clone()
    }

    /// Whether it has a process, paused or not.
    pub fn is_running(&self) -> bool {
        matches!(lock(&self.record).state, State::Running(_))
    }

    /// Whether its processes stand still.
    pub fn is_paused(&self) -> bool {
        matches!(&lock(&self.record).state, State::Running(running) if running.is_paused)
    }

    /// Whether it runs, or waits for its restart policy to start it again.
    pub fn is_live(&self) -> bool {
        matches!(lock(&self.record).state, State::Running(_) | State::Restarting)
    }

    /// How long its restart policy waits after a run of this length.
    pub fn pause_after(&self, run: Duration) -> Duration {
        lock(&self.pause).after(run)
    }

    /// Whether a volume is among its mounts.
    pub fn uses(&self, volume: &VolumeName) -> bool {
        lock(&self.record).spec.mounts.iter().any(|mount| mount.source.volume_name() == Some(volume))
    }

    /// The volumes among its mounts, each once.
    pub fn volumes(&self) -> BTreeSet<VolumeName> {
        lock(&self.record).spec.mounts.iter().filter_map(|mount| mount.source.volume_name().cloned()).collect()
    }

    /// Whether it has a secret.
    pub fn has_secret(&self, name: &SecretName) -> bool {
        lock(&self.record).spec.secrets.iter().any(|wanted| wanted.secret == name.as_str())
    }

    /// The names of its secrets, each once.
    pub fn secrets(&self) -> BTreeSet<String> {
        lock(&self.record).spec.secrets.iter().map(|wanted| wanted.secret.clone()).collect()
    }

    /// Whether it shares the network of another one.
    pub fn shares(&self, other: &ContainerId) -> bool {
        matches!(&lock(&self.record).spec.network, Network::Container(id) if id == other.as_str())
    }

    /// Whether it removes itself at its end.
    pub fn is_auto_remove(&self) -> bool {
        lock(&self.record).spec.auto_remove && self.restarts.load(Ordering::Acquire) == 0
    }

    /// Keeps it from removing itself: it is to be started again.
    pub fn keep(&self) -> Kept<'_> {
        self.restarts.fetch_add(1, Ordering::AcqRel);
        Kept(self)
    }

    /// Tells those who follow it that it is about to be started, whether it has ended yet or not.
    pub fn about_to_start(&self) -> Starting<'_> {
        self.starts.fetch_add(1, Ordering::AcqRel);
        Starting(self)
    }

    /// Whether it runs, or is about to run again without anybody asking for it anew. Phases tell when that may have changed.
    pub fn is_to_run(&self) -> bool {
        self.is_live() || self.starts.load(Ordering::Acquire) > 0
    }

    /// Changes the record and returns a copy of it, for the disk.
    pub fn change(&self, change: impl FnOnce(&mut Record)) -> Record {
        let mut record = lock(&self.record);
        change(&mut record);
        record.revision += 1;
        record.clone()
    }

    /// Tells those who wait.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Lets those who wait look again: something else than the phase has changed.
    pub fn touch(&self) {
        self.phase.send_modify(|_| {});
    }

    /// Sees every later phase.
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Its monitor, while it has one.
    pub fn monitor(&self) -> Option<Arc<Monitor>> {
        lock(&self.monitor).clone()
    }

    /// Its monitor, if its process runs.
    pub fn running_monitor(&self) -> Result<Arc<Monitor>, Error> {
        let not_running = || Error::NotRunning { name: self.name().to_string() };
        if !self.is_running() {
            return Err(not_running());
        }
        self.monitor().ok_or_else(not_running)
    }

    /// Its monitor, if its process runs and is not paused.
    pub fn moving_monitor(&self) -> Result<Arc<Monitor>, Error> {
        let monitor = self.running_monitor()?;
        if self.is_paused() { Err(Error::Paused { name: self.name().to_string() }) } else { Ok(monitor) }
    }

    /// Sets or forgets the monitor.
    pub fn set_monitor(&self, monitor: Option<Arc<Monitor>>) {
        *lock(&self.monitor) = monitor;
    }

    /// Waits until it has run and ended.
    pub async fn ended(&self) -> Result<Exit, Error> {
        let not_found = || Error::NotFound { name: self.id.to_string() };
        let is_over = |phase: &Phase| matches!(phase, Phase::Ended(_) | Phase::Gone(_));
        let mut phases = self.phases();
        let phase = phases.wait_for(is_over).await.map_err(|_| not_found())?.clone();
        match phase {
            Phase::Ended(exit) | Phase::Gone(Some(exit)) => Ok(exit),
            _ => Err(not_found()),
        }
    }

    /// Waits for what is asked for; returns how its last run ended.
    pub async fn wait(&self, condition: Condition) -> Exit {
        let last_end = || lock(&self.record).finished_at;
        let before = last_end();
        let is_it = |phase: &Phase| match (condition, phase) {
            (_, Phase::Gone(_)) => true,
            // One that is about to be started again counts as running: as in Docker.
            (Condition::NotRunning, phase) => *phase != Phase::Running && !self.is_live(),
            (Condition::NextExit, Phase::Ended(_)) => last_end() != before,
            _ => false,
        };
        let mut phases = self.phases();
        // The sender lives in `self`.
        let phase = phases.wait_for(is_it).await.map(|phase| phase.clone());
        match phase {
            Ok(Phase::Ended(exit) | Phase::Gone(Some(exit))) => exit,
            _ => Exit::code(0),
        }
    }

    /// Waits until its health check says that it is well; not longer than it can come to that.
    pub async fn healthy(&self) -> Result<(), Error> {
        let mut phases = self.phases();
        let is_settled = |phase: &Phase| self.is_settled(phase);
        // The sender lives in `self`.
        let phase = phases.wait_for(is_settled).await.map(|phase| phase.clone());
        let record = self.record();
        let not = |why: &str| Err(Error::NotHealthy { name: record.name.to_string(), why: why.to_owned() });
        match (phase, record.health.as_ref().map(|health| health.status)) {
            (Ok(Phase::Ended(exit)), _) => not(&format!("it ended, {}", ended_how(&exit))),
            _ if record.check.is_none() => not("it has no health check"),
            (Ok(Phase::Running), Some(Status::Healthy)) => Ok(()),
            (Ok(Phase::Running), _) => not(&format!("its check failed: {}", last_output(&record))),
            (Ok(Phase::Waiting), _) => not("it was not started"),
            (Ok(Phase::Gone(_)) | Err(_), _) => not("it was removed"),
        }
    }

    /// Whether waiting for its health is over.
    fn is_settled(&self, phase: &Phase) -> bool {
        let record = lock(&self.record);
        let status = record.health.as_ref().map(|health| health.status);
        *phase != Phase::Running
            || record.check.is_none()
            || matches!(status, Some(Status::Healthy | Status::Unhealthy))
    }

    /// It should have removed itself and could not: it stays until somebody removes it.
    pub fn stay(&self) {
        lock(&self.record).spec.auto_remove = false;
        self.touch();
    }

    /// Waits until it is removed, or stays.
    pub async fn gone(&self) {
        let mut phases = self.phases();
        // The sender lives in `self`.
        let _ = phases.wait_for(|phase| matches!(phase, Phase::Gone(_)) || !self.is_auto_remove()).await;
    }
}

/// The first line of what the last check wrote.
fn last_output(record: &Record) -> String {
    let last = record.health.as_ref().and_then(|health| health.log.back());
    let line = last.and_then(|probe| probe.output.lines().find(|line| !line.trim().is_empty()));
    line.map_or_else(|| "it said nothing".to_owned(), |line| line.trim().to_owned())
}

fn ended_how(exit: &Exit) -> String {
    match &exit.kind {
        ExitKind::Code(code) => format!("with exit code {code}"),
        ExitKind::Signal(signal) => format!("by signal {signal}"),
        ExitKind::Unknown(why) => format!("and nobody knows how: {why}"),
    }
}

/// Held as long as a container must not remove itself.
#[derive(Debug)]
pub struct Kept<'a>(&'a Container);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.restarts.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Held while a container is about to be started.
#[derive(Debug)]
pub struct Starting<'a>(&'a Container);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.starts.fetch_sub(1, Ordering::AcqRel);
        self.0.touch();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
