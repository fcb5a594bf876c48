//! The end of a run: exit status told at once, then monitor, cgroup and snapshot, in this order.
//! A snapshot is free only after the monitor's end (it holds the overlay) and with an empty cgroup.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use strata_net::Endpoint;
use strata_types::ContainerId;

use super::{Engine, blocking, mounts::mounted_snapshots, snapshot_key};
use crate::{
    container::{Container, Phase},
    error::Error,
    identity::Process,
    launch,
    monitor::Monitor,
    signal,
    spec::{Exit, Root},
};

/// How long a monitor may take to close a root file system after it reported the exit.
const MONITOR_END: Duration = Duration::from_secs(60);

impl Engine {
    /// Waits for the end of a running container and clears up after it.
    pub(super) async fn finish(self: &Arc<Self>, container: &Arc<Container>, monitor: Arc<Monitor>) {
        let exit = monitor.exited().await;
        let _guard = container.lifecycle.lock().await;
        // Who hears of the end may want the ports at once.
        self.networks.withdraw(&container.id).await;
        let endpoints = self.tell_end(container, &exit);
        if tokio::time::timeout(MONITOR_END, monitor.ended()).await.is_err() {
            tracing::error!(container = %container.id, "the monitor reported the exit and does not end: killing it");
            monitor.process.signal(9);
            monitor.ended().await;
        }
        self.end_first_process(&container.id, &monitor.init).await;
        self.clear(container, endpoints).await;
        container.set_monitor(None);
        let kept = match container.is_auto_remove() {
            true => self.delete_stopped(container).await,
            false => self.write(container.record()).await,
        };
        if let Err(error) = kept {
            tracing::error!(container = %container.id, %error, "cannot record the end of the container");
            container.stay();
        }
    }

    /// Without a cgroup, what a killed monitor left is known by the first process, whose end is that of all others.
    pub(super) async fn end_first_process(&self, id: &ContainerId, process: &Process) {
        if self.launcher.is_limited() && process.signal(signal::KILL) {
            let (launcher, id) = (self.launcher.clone(), id.clone());
            // Frozen on v1, it would not die.
            if let Err(error) = blocking("thawing the cgroup", move || launcher.thaw(&id)).await {
                tracing::warn!(%error, "cannot thaw what a container has left");
            }
            process.ended().await;
        }
    }

    /// Ends a container in memory and tells everybody. Returns what it had of its networks.
    pub(super) fn tell_end(&self, container: &Container, exit: &Exit) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        container.change(|record| {
            record.finished_at = Some(Timestamp::now());
            record.end(exit.clone());
            endpoints = std::mem::take(&mut record.endpoints);
            record.published.clear();
        });
        self.tally.ended(exit);
        if exit.is_oom_killed {
            self.tell_out_of_memory(container);
        }
        let record = container.record();
        let lasted =
            record.finished_at.zip(record.started_at).map_or(0, |(end, start)| end.duration_since(start).as_secs());
        self.happened(container, "die", [("exitCode", exit.shell_code()), ("execDuration", lasted.to_string())]);
        self.networked(&record, "disconnect", &endpoints);
        self.mounted(&record, "unmount", &record.spec.mounts);
        // Who waits for the end finds it among what happened.
        container.set_phase(Phase::Ended(exit.clone()));
        endpoints
    }

    /// Kills what is left, removes the cgroup, releases a snapshot that stays. What fails is logged and swept later.
    pub(super) async fn clear(&self, container: &Container, endpoints: Vec<Endpoint>) {
        let (launcher, id) = (self.launcher.clone(), container.id.clone());
        if let Err(error) = blocking("clearing the cgroup", move || launcher.clear(&id)).await {
            tracing::error!(container = %container.id, %error, "cannot clear the cgroup of an ended container");
            return;
        }
        self.end_devices(container).await;
        // Its interfaces went with its last process, unless others keep its network namespace.
        self.part(container, endpoints).await;
        self.networks.release(&container.id).await;
        let record = container.record();
        self.detach_volumes(&record).await;
        // The snapshot of a container that removes itself goes with it, in one call.
        let goes = container.is_auto_remove() && matches!(record.spec.root, Root::Image(_));
        let own = (!goes).then(|| snapshot_key(&record));
        for key in own.iter().chain(mounted_snapshots(&record)) {
            if let Err(error) = patiently(|| self.store.release(key, container.id.as_str())).await {
                tracing::warn!(container = %container.id, %error, "cannot release a snapshot of an ended container");
            }
        }
    }

    /// Does what the devices of an ended container want done: hooks, shares of the processor.
    pub(super) async fn end_devices(&self, container: &Container) {
        if !launch::has_devices(&container.record()) {
            return;
        }
        let (launcher, id, dir) = (self.launcher.clone(), container.id.clone(), self.records.dir(&container.id));
        let ended = blocking("running hooks", move || {
            launcher.ended(&dir, &id);
            Ok(())
        });
        if let Err(error) = ended.await {
            tracing::error!(container = %container.id, %error, "cannot run the hooks of an ended container");
        }
    }
}

/// Asks the store; one that is away is asked again for a while.
pub(super) async fn patiently<F>(ask: impl Fn() -> F) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    for wait in [100, 400, 1600] {
        match ask().await {
            Err(Error::StoreUnavailable { .. }) => tokio::time::sleep(Duration::from_millis(wait)).await,
            result => return result,
        }
    }
    ask().await
}
