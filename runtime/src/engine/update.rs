//! Other limits for a container: in force at once where it runs, and whenever it is started again; or not at all.

use std::sync::Arc;

use super::{Engine, blocking, change::changeable, whole};
use crate::{
    container::Container,
    error::Error,
    record::{Record, State},
    spec::{Limits, limits::Change},
};

impl Engine {
    /// Changes limits of a container. On failure they are what they were.
    pub async fn update(self: &Arc<Self>, container: Arc<Container>, change: Change) -> Result<(), Error> {
        let engine = self.clone();
        whole("changing limits", async move {
            let _guard = container.lifecycle.lock().await;
            engine.update_whole(&container, change).await
        })
        .await
    }

    async fn update_whole(&self, container: &Container, change: Change) -> Result<(), Error> {
        let record = changeable(container)?;
        let before = record.spec.limits.clone();
        let after = before.with(change, "limits")?;
        if after != before {
            self.apply(&record, &before, &after).await?;
            let written = self.write(container.change(|record| record.spec.limits = after.clone())).await;
            if let Err(error) = written {
                container.change(|record| record.spec.limits = before.clone());
                self.apply(&record, &after, &before).await?;
                return Err(error);
            }
        }
        self.happened(container, "update", []);
        Ok(())
    }

    /// Puts limits in force in a container that runs.
    async fn apply(&self, record: &Record, before: &Limits, after: &Limits) -> Result<(), Error> {
        let State::Running(_) = record.state else { return Ok(()) };
        let (launcher, record) = (self.launcher.clone(), record.clone());
        let (before, after) = (before.clone(), after.clone());
        blocking("changing limits", move || launcher.update(&record, &before, &after)).await
    }
}
