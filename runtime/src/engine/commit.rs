//! What a container wrote, as a layer of the store. One that runs stands still meanwhile, unless that is not wanted; when the
//! caller goes away, it goes on as soon as the layer is made.

use std::sync::Arc;

use super::{Engine, blocking, snapshot_key, whole};
use crate::{container::Container, error::Error, record::State};

/// Whether a container that runs stands still while it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// It does.
    Yes,
    /// It goes on.
    No,
}

impl Engine {
    /// Makes a layer, held by this lease, of what a container wrote. Returns its id.
    pub async fn commit(
        self: &Arc<Self>,
        container: Arc<Container>,
        lease: String,
        pause: Pause,
    ) -> Result<String, Error> {
        let engine = self.clone();
        whole("committing the container", async move { engine.commit_whole(&container, &lease, pause).await }).await
    }

    async fn commit_whole(&self, container: &Container, lease: &str, pause: Pause) -> Result<String, Error> {
        let _guard = container.lifecycle.lock().await;
        let record = container.record();
        if matches!(record.state, State::Creating | State::Removing) {
            return Err(Error::Removing { id: record.id.to_string() });
        }
        // One that is paused stands still already, and goes on when somebody says so.
        let _freezing = container.freezing.lock().await;
        let stands_still = pause == Pause::Yes && container.is_running() && !container.is_paused();
        if stands_still {
            let (launcher, id, name) = (self.launcher.clone(), record.id.clone(), record.name.to_string());
            blocking("freezing the cgroup", move || launcher.freeze(&id, name)).await?;
        }
        let copied = self.store.copy(&snapshot_key(&record), lease, &record.mount_points).await;
        if stands_still {
            let (launcher, id) = (self.launcher.clone(), record.id.clone());
            blocking("thawing the cgroup", move || launcher.thaw(&id)).await?;
        }
        let layer = copied?;
        self.happened(container, "commit", []);
        Ok(layer)
    }
}
