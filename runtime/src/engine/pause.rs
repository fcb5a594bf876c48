//! Standing still: the freezer of a container's cgroup. Who wants it to end lets it go on first: what is frozen on v1 does
//! not even die.

use std::sync::Arc;

use super::{Engine, blocking, whole};
use crate::{
    container::Container,
    error::Error,
    record::{Record, State},
};

impl Engine {
    /// Freezes every process of a container that runs.
    pub async fn pause(self: &Arc<Self>, container: Arc<Container>) -> Result<(), Error> {
        let engine = self.clone();
        whole("pausing the container", async move { engine.pause_whole(&container).await }).await
    }

    async fn pause_whole(&self, container: &Container) -> Result<(), Error> {
        let _guard = container.lifecycle.lock().await;
        let _freezing = container.freezing.lock().await;
        let name = container.name().to_string();
        // Who was killed would take no notice of it any more.
        if container.moving_monitor()?.is_killed() {
            return Err(Error::NotRunning { name });
        }
        let (launcher, id) = (self.launcher.clone(), container.id.clone());
        blocking("freezing the cgroup", move || launcher.freeze(&id, name)).await?;
        if let Err(error) = self.write(container.change(|record| set_paused(record, true))).await {
            self.thaw(container).await?;
            return Err(error);
        }
        self.happened(container, "pause", []);
        Ok(())
    }

    /// Lets the processes of a paused container go on.
    pub async fn unpause(self: &Arc<Self>, container: Arc<Container>) -> Result<(), Error> {
        let engine = self.clone();
        whole("unpausing the container", async move {
            let _guard = container.lifecycle.lock().await;
            let _freezing = container.freezing.lock().await;
            container.running_monitor()?;
            if !container.is_paused() {
                return Err(Error::NotPaused { name: container.name().to_string() });
            }
            engine.thaw(&container).await?;
            engine.write(container.record()).await
        })
        .await
    }

    /// Lets a container go on, if it is paused: it has been told to end.
    pub(super) async fn let_go_on(&self, container: &Container) -> Result<(), Error> {
        let _freezing = container.freezing.lock().await;
        if container.is_paused() { self.thaw(container).await } else { Ok(()) }
    }

    /// Thaws a container that is held so by the caller. The record on disk follows.
    async fn thaw(&self, container: &Container) -> Result<(), Error> {
        let (launcher, id) = (self.launcher.clone(), container.id.clone());
        blocking("thawing the cgroup", move || launcher.thaw(&id)).await?;
        container.change(|record| set_paused(record, false));
        self.happened(container, "unpause", []);
        Ok(())
    }

    /// Sees whether a container that was found again is paused: the record may be older than what was done last.
    pub(super) async fn see_whether_paused(&self, container: &Container) {
        let (launcher, id) = (self.launcher.clone(), container.id.clone());
        match blocking("looking at the cgroup", move || launcher.is_frozen(&id)).await {
            Ok(is_frozen) => drop(container.change(|record| set_paused(record, is_frozen))),
            Err(error) => {
                tracing::warn!(container = %container.id, %error, "cannot see whether a container is paused");
            }
        }
    }
}

fn set_paused(record: &mut Record, is_paused: bool) {
    if let State::Running(running) = &mut record.state {
        running.is_paused = is_paused;
    }
}
